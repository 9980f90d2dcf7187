/*
 * A user's session on the server: its channel and keys, its control stream, its associations. channel_conn.c makes it
 * from an authenticated connection; datapath.c gives it records; it ends by sg_server_session_close.
 */
#ifndef SG_SERVER_SESSION_H
#define SG_SERVER_SESSION_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "core/assoc.h"
#include "core/record.h"
#include "core/session.h"
#include "core/squeue.h"
#include "server/channel_conn.h"
#include "server/outbound.h"

struct bufferevent;
struct sg_datapath;
struct sg_name_wait;

/* One sealed association. */
struct sg_server_assoc {
    struct sg_assoc_node node; /* first: the table hands out nodes */
    struct sg_server_session *session;
    struct sg_outbound outbound;
};

struct sg_server_session {
    struct sg_datapath *datapath;
    uint32_t slot;
    struct sg_handover who; /* user, credential, usage, addresses; bev is the control stream */
    uint8_t channel_id[8];
    uint8_t handle[16];
    const struct sg_aead *suite;
    struct sg_sender sender;
    struct sg_receiver receiver;
    struct sg_session core;
    struct sg_assoc_table assocs;
    struct sg_squeue waiting;
    struct sg_name_wait *names; /* look-ups under way */
    unsigned name_count;
    size_t name_bytes; /* of the datagrams that wait in them */
    struct event timer;
    uint64_t armed_ms;

    /* CLOSED for numbers that were not open: at most one message per 100 ms */
    uint32_t closed[SG_CONTROL_NUMBERS_MAX]; /* number n at n % SG_CONTROL_NUMBERS_MAX, 0: none */
    unsigned closed_count;
    uint64_t closed_ms;
    uint64_t refused_ms;
};

/*
 * Opens a session for an authenticated connection: sends nothing yet. On failure the reason, and *out is NULL; who
 * stays the caller's.
 */
enum sg_reason sg_server_session_open(struct sg_datapath *datapath, const struct sg_handover *who, uint16_t suite,
                                      struct sg_server_session **out);

/*
 * Ends a session: CLOSE(reason) on the stream if that still works (reason NONE: it does not), keys wiped, sockets
 * closed, all freed.
 */
void sg_server_session_close(struct sg_server_session *session, enum sg_reason reason);

/*
 * Works off the plaintext of one record or DATAGRAM message (association not 0), in place. Flush the datapath's out
 * afterwards.
 */
void sg_server_session_up(struct sg_server_session *session, uint8_t *plaintext, size_t len, uint64_t now_ms);

/* A control message. NONE, or why the session must end. */
enum sg_reason sg_server_session_message(struct sg_server_session *session, const struct sg_msg *msg, uint64_t now_ms);

/* Moves waiting datagrams into the stream as far as it takes them. */
void sg_server_session_pump(struct sg_server_session *session, uint64_t now_ms);

/* Sets the timer to the earliest of what is due; call after anything that may have made that earlier. */
void sg_server_session_arm(struct sg_server_session *session, uint64_t now_ms);

/* A datagram whose target has an address now (from names.c). */
void sg_server_session_forward(struct sg_server_session *session, uint32_t number, const struct sg_target *name,
                               const struct sg_endpoint *target, uint8_t *data, size_t len, uint64_t now_ms);

/* REFUSED to the client, at most one per 100 ms. */
void sg_server_session_refuse(struct sg_server_session *session, uint32_t number, enum sg_refused_scope scope,
                              enum sg_reason reason, const struct sg_target *target, uint64_t now_ms);

#endif
