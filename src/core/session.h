/*
 * What client and server sessions share: the messages that keep stream and path alive, the choice of path, and the
 * sizes. Sans-I/O: messages and time come in, messages go out through ops, sg_session_next_timeout tells when to call
 * tick. Associations and keys are the caller's (src/server, src/client). A session may outlive its stream, and have
 * a new one.
 */
#ifndef SG_CORE_SESSION_H
#define SG_CORE_SESSION_H

#include "core/control.h"
#include "core/path.h"
#include "core/pmtu.h"
#include "core/reason.h"
#include "core/record.h"

enum {
    SG_SESSION_PING_MS = 15000,
    SG_SESSION_PINGS_MAX = 3,
    SG_SESSION_DOUBT_MS = 1500, /* after UDP fell silent the stream has so long to show that it lives */
};

struct sg_session;

/* How a session reaches the world; ctx is the caller's. No call may free the session. */
struct sg_session_ops {
    /* Writes a whole control message. */
    void (*send_stream)(void *ctx, const struct sg_msg *msg);
    /* Seals and sends a session message to addr (client: to the server; addr is NULL), padded so that the record has
     * record_bytes (0: no padding). */
    void (*send_udp)(void *ctx, const struct sg_path_addr *addr, const struct sg_msg *msg, size_t record_bytes);
    /* The longest UDP payload that the kernel believes the path can carry, 0 if it does not say. */
    size_t (*kernel_max)(void *ctx, const struct sg_path_addr *addr);
    /* Which path datagrams take has changed. */
    void (*on_route)(void *ctx);
    /* Client: UDP is silent, and the stream does not answer either. */
    void (*on_doubt)(void *ctx);
    sg_random_fn *random;
};

enum sg_route { SG_ROUTE_STREAM, SG_ROUTE_UDP };

struct sg_session {
    enum sg_role role;
    const struct sg_session_ops *ops;
    void *ctx;

    /* the stream's pulse */
    bool has_stream;
    uint64_t stream_in_ms;
    uint64_t ping_ms;  /* when the last unanswered PING left */
    uint64_t doubt_ms; /* when the stream is doubted, SG_NEVER: it is not */
    unsigned pings;

    /* the path */
    uint32_t n; /* in force */
    uint8_t choice;
    struct sg_server_path server_path; /* role server */
    struct sg_client_path client_path; /* role client */
    struct sg_pmtu pmtu;
    uint32_t next_id; /* of probes */
    uint64_t udp_out_ms;
    uint64_t keepalive_ms; /* client: how long without sending on UDP; 0: none */
};

/* How a record arrived, for the path rules. */
struct sg_arrival {
    const struct sg_path_addr *addr; /* server only; NULL at the client */
    size_t record_bytes;
    bool newest;   /* highest counter of the sender id that was first verified last */
    bool datagram; /* it carried one, no session message */
};

void sg_session_init(struct sg_session *session, enum sg_role role, const struct sg_session_ops *ops, void *ctx,
                     uint64_t now_ms);

/* The client begins to look for a UDP path. */
void sg_session_start_path(struct sg_session *session, uint64_t now_ms);
/* The client's machine has another address. */
void sg_session_moved(struct sg_session *session, uint64_t now_ms);

/* There is a stream (again): at first there is one. */
void sg_session_stream_new(struct sg_session *session, uint64_t now_ms);
/* The stream has ended, and the session goes on without one. The client asks by UDP at once whether that carries. */
void sg_session_stream_lost(struct sg_session *session, uint64_t now_ms);
/* Any byte came from the stream. */
void sg_session_stream_alive(struct sg_session *session, uint64_t now_ms);

/* A control message: true if it was the session's (PING, PONG, PATH), false if it is the caller's to handle. */
bool sg_session_on_stream(struct sg_session *session, const struct sg_msg *msg, uint64_t now_ms);

/* Records opened, whatever was in them, of one run: the server looks at where they came from, the client knows that the
 * path carries. After sg_session_on_message; of arrival addr and what follows record_bytes count, true if it is so of
 * any of them. */
void sg_session_on_record(struct sg_session *session, const struct sg_arrival *arrival, uint64_t now_ms);

/* A record of a session message opened. NONE if it was consumed, else why it is dropped. */
enum sg_reason sg_session_on_message(struct sg_session *session, const uint8_t *plaintext, size_t len,
                                     const struct sg_arrival *arrival, uint64_t now_ms);

/* Which way a datagram whose record would have record_bytes goes. By UDP it counts as sent. */
enum sg_route sg_session_route(struct sg_session *session, size_t record_bytes, uint64_t now_ms);

/*
 * Whether a record of so many bytes is sent by the stream for its length alone: UDP works, and it is known how long a
 * record may be there.
 */
bool sg_session_is_oversized(const struct sg_session *session, size_t record_bytes);

/* True if the server may send UDP at all: to whom is session->server_path.current. */
bool sg_session_on_udp(const struct sg_session *session);

/* Does what is due. NONE, or TIMEOUT when the stream is dead and the session must end. */
SG_MUST_CHECK enum sg_reason sg_session_tick(struct sg_session *session, uint64_t now_ms);
uint64_t sg_session_next_timeout(const struct sg_session *session);

/*
 * For send_udp: the message as a record in room, which has SG_RECORD_MAX bytes, padded so that it has record_bytes (0:
 * no padding). Returns its length; 0 if it could not be sealed.
 */
size_t sg_session_seal(struct sg_sender *sender, const struct sg_msg *msg, size_t record_bytes, uint8_t *room);

#endif
