/*
 * A user's session on the server: its channels, its associations, its path. channel_conn.c makes it from an
 * authenticated connection; datapath.c gives it records; renewal.c gives it other channels; it ends by
 * sg_server_session_close.
 */
#ifndef SG_SERVER_SESSION_H
#define SG_SERVER_SESSION_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "core/assoc.h"
#include "core/plaintext.h"
#include "core/session.h"
#include "core/squeue.h"
#include "core/block.h"
#include "server/channel.h"
#include "server/channel_conn.h"
#include "server/names.h"
#include "server/outbound.h"
#include "server/session_log.h"

struct sg_datapath;

/* One sealed association. */
struct sg_server_assoc {
    struct sg_assoc_node node; /* first: the table hands out nodes */
    struct sg_server_session *session;
    struct sg_outbound outbound;
    bool oversize_told; /* that answers are too long for a record was logged */
};

/* When channels come and go (renewal.c). SG_NEVER: not at all. */
struct sg_renewal {
    uint64_t other_ends_ms; /* pending or old */
    uint64_t grace_ends_ms; /* the session, for want of a stream */
    uint64_t resumed_ms;    /* the last RESUME */
    bool asked;             /* the client has RENEW */
};

struct sg_server_session {
    struct sg_datapath *datapath;
    uint32_t index;         /* in the datapath's sessions */
    struct sg_handover who; /* user, credential, usage, addresses of the last connection; bev is NULL */
    uint8_t handle[SG_HANDLE_BYTES];
    struct sg_server_channel *current; /* the newest that the client confirmed: what we send goes by it */
    struct sg_server_channel *pending; /* not confirmed yet; never beside old */
    struct sg_server_channel *old;     /* still opens what was under way when current took over */
    struct sg_renewal renewal;
    struct sg_permits permits;
    struct sg_session core;
    struct sg_assoc_table assocs;
    struct sg_squeue waiting;
    struct sg_names names;
    struct event timer;
    uint64_t armed_ms;
    struct sg_session_counts counts; /* what goes wrong with a datagram counts here beside the ledger */

    /* CLOSED for numbers that were not open: at most one message per 100 ms */
    uint32_t closed[SG_CONTROL_NUMBERS_MAX]; /* number n at n % SG_CONTROL_NUMBERS_MAX, 0: none */
    unsigned closed_count;
    uint64_t closed_ms;
    uint64_t refused_ms;
};

/*
 * Opens a session for an authenticated connection, its first channel confirmed: sends nothing yet. On failure the
 * reason, and *out is NULL; who stays the caller's. On success it is the session's, but for bev, the channel's.
 */
enum sg_reason sg_server_session_open(struct sg_datapath *datapath, const struct sg_handover *who, uint16_t suite,
                                      struct sg_server_session **out);

/*
 * Ends a session: CLOSE(reason) on the stream if that still works (reason NONE: it does not), keys wiped, sockets
 * closed, all freed.
 */
void sg_server_session_close(struct sg_server_session *session, enum sg_reason reason);

/* A control message. NONE, or why the channel that brought it must end: NORMAL if the client said CLOSE. */
enum sg_reason sg_server_session_message(struct sg_server_session *session, const struct sg_msg *msg, uint64_t now_ms);

/* Moves waiting datagrams into the stream as far as it takes them. */
void sg_server_session_pump(struct sg_server_session *session, uint64_t now_ms);

/* Sets the timer to the earliest of what is due; call after anything that may have made that earlier. */
void sg_server_session_arm(struct sg_server_session *session, uint64_t now_ms);

/* REFUSED to the client, at most one per 100 ms. */
void sg_server_session_refuse(struct sg_server_session *session, uint32_t number, enum sg_refused_scope scope,
                              enum sg_reason reason, const struct sg_target *target, uint64_t now_ms);

/* A number that the client holds for open is not: it will be told. */
void sg_server_session_note_closed(struct sg_server_session *session, uint32_t number);

/* --- association.c --- */

/*
 * Works off the plaintext of one record (association not 0), in place. Flush the datapath's out
 * afterwards. before: zeroed for the first of those that are worked off at a time, then the same for all of them; so
 * what is decided about one holds for those that follow it on the same way.
 */
void sg_server_session_up(struct sg_server_session *session, uint8_t *plaintext, size_t len,
                          struct sg_plaintext_memo *before, uint64_t now_ms);

/* The same with a DATAGRAM message, flushed. */
void sg_server_session_up_by_stream(struct sg_server_session *session, const struct sg_msg *msg, uint64_t now_ms);

/* A datagram whose target has an address: now, if name is not NULL. True if it goes there. */
bool sg_server_session_forward(struct sg_server_session *session, uint32_t number, const struct sg_target *name,
                               const struct sg_endpoint *target, uint8_t *data, size_t len, uint64_t now_ms);

/* Ends an association and frees it: its sockets, its number and its part of what the user may have. */
void sg_server_assoc_close(struct sg_server_assoc *assoc);

/* --- renewal.c --- */

/* Whether a RESUME with this handle, by this user with this credential, means this session. */
bool sg_server_session_is(const struct sg_server_session *session, const uint8_t handle[static SG_HANDLE_BYTES],
                          const struct sg_handover *who);

/*
 * RESUME: a further channel, pending, in the place of another that was pending or old. NONE, or why not; bev stays the
 * caller's then. who's user and usage stay the caller's in any case.
 */
enum sg_reason sg_server_session_resume(struct sg_server_session *session, const struct sg_handover *who,
                                        uint16_t suite, struct sg_server_channel **out, uint64_t now_ms);

/* The client has the channel's keys: it said so, or a record of it opened. From now on we send by it. */
void sg_server_session_confirm(struct sg_server_session *session, struct sg_server_channel *channel, uint64_t now_ms);

/*
 * A stream ended, or must end for a reason (NONE: it is broken). Without one the session lives on for its grace time;
 * what CLOSE or a broken protocol on the newest stream ends is the session. True if the session is gone.
 */
bool sg_server_session_stream_ended(struct sg_server_session *session, struct sg_server_channel *channel,
                                    enum sg_reason reason, uint64_t now_ms);

/* Ends the channel beside the current one, if there is one. */
void sg_server_renewal_end_other(struct sg_server_session *session);

/* Does what is due. NONE, or why the session must end. */
SG_MUST_CHECK enum sg_reason sg_server_renewal_tick(struct sg_server_session *session, uint64_t now_ms);
uint64_t sg_server_renewal_next_timeout(const struct sg_server_session *session);

#endif
