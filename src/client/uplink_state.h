/*
 * The state that uplink.c (session with the server), attempt.c (getting channels), channel.c (having them), datapath.c
 * (records) and flow.c (local applications) share. Nobody else includes this.
 */
#ifndef SG_CLIENT_UPLINK_STATE_H
#define SG_CLIENT_UPLINK_STATE_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "client/channel.h"
#include "client/uplink.h"
#include "core/arena.h"
#include "core/assoc.h"
#include "core/block.h"
#include "core/plaintext.h"
#include "core/session.h"
#include "core/squeue.h"
#include "net/udp.h"

struct bufferevent;
struct sg_addr_watch;
struct sg_forward;
struct sg_server_conn;

enum { SG_FORWARD_BUCKETS = 1024 };

enum sg_attempt_state {
    SG_ATTEMPT_NONE,
    SG_ATTEMPT_WAITS,    /* for its time */
    SG_ATTEMPT_UNDERWAY, /* TCP, TLS, authentication, OPEN or RESUME */
};

/* How a channel is got: the first of a session, or a further one. */
struct sg_attempt {
    enum sg_attempt_state state;
    bool resumes;
    size_t server; /* of the client's list */
    struct sg_server_conn *conn;
    struct bufferevent *bev; /* while the reply's block is awaited */
    uint8_t rep;             /* reply code whose block is awaited */
    struct sg_endpoint bound, peer;
    uint64_t started_ms;    /* the last one */
    uint64_t retry_ms;      /* when it waits */
    unsigned failures;      /* in a row */
    unsigned unknown_count; /* how often no server knew the credentials */
    char last_error[768];
};

/* One association of a local application: a UDP ASSOCIATE (own socket), or one source address at a forward. */
struct sg_flow {
    struct sg_assoc_node node; /* first; in the table only if numbered */
    bool numbered;
    uint64_t refused_until_ms; /* the server refused it: back off */
    struct sg_uplink *uplink;
    struct sg_endpoint app; /* where answers go; port 0: not latched yet */
    struct sg_ip app_local; /* forwards: the address it sent to */
    struct sg_forward *forward;
    struct sg_flow *next, **link; /* in the uplink's list (ASSOCIATE) or the forward's bucket */
    int fd;                       /* own socket (ASSOCIATE), else -1 */
    uint8_t oversize_told;        /* which classes of sizes were logged (oversize.c) */
    uint32_t lost;                /* of its datagrams, by the kernel */
    struct event readable;
};

struct sg_forward {
    struct sg_forward *next;
    struct sg_uplink *uplink;
    int fd;
    uint32_t lost; /* by the kernel */
    struct event readable;
    uint8_t target[SG_ADDR_MAX_BYTES]; /* encoded */
    size_t target_len;
    uint16_t target_port;
    bool datagram_only;
    uint8_t hash_key[SG_ENDPOINT_KEY_BYTES];   /* random: whoever reaches it chooses its source */
    struct sg_flow *flows[SG_FORWARD_BUCKETS]; /* by source */
};

/* Plaintexts that are to be sent together, in memory of the uplink's out. */
struct sg_outgoing {
    struct sg_record records[SG_UDP_BATCH]; /* each with its plaintext at bytes + 25, and its length */
    size_t data_len[SG_UDP_BATCH];
    uint8_t dscp[SG_UDP_BATCH]; /* of the application's datagrams */
    unsigned count;
    bool datagram_only;                 /* none of them by the stream */
    uint8_t *room;                      /* for the next */
    const struct sg_udp_packet *before; /* the last that was taken, or NULL: what holds for it holds for its like */
    struct sg_flow *flow;               /* its */
    size_t header_len;                  /* its SOCKS header's */
};

struct sg_uplink {
    struct sg_client *client;
    struct event_base *base;
    struct event timer;
    uint64_t armed_ms;
    struct sg_attempt attempt;
    bool was_up;
    bool told_ready;

    /* the session */
    struct sg_arena *arena;
    struct sg_aead_ctx *aead;
    struct sg_uplink_channel *channel; /* the newest: what we send goes by it; NULL: there is no session */
    struct sg_uplink_channel *old;     /* still opens what was under way when channel took over, or NULL */
    struct sg_open_reply limits;       /* of the newest */
    size_t server;                     /* of the client's list: who has the session */
    bool leaves;                       /* for another of the list: this one goes out of service */
    struct sg_endpoint bound, peer;
    uint64_t renew_ms, old_ends_ms; /* SG_NEVER: not at all */
    uint64_t grace_ends_ms;         /* when a session without a stream ends */
    struct sg_session session;
    struct sg_assoc_table assocs;
    uint32_t next_number;
    struct sg_squeue waiting;
    int udp_fd;
    uint32_t udp_lost; /* by the kernel */
    struct event udp_readable;
    uint64_t up_since_ms, channel_since_ms;
    uint64_t alive_ms; /* next ALIVE */
    bool warned_udp;
    struct sg_addr_watch *addresses; /* or NULL: the system does not tell of changes */
    uint64_t sessions_opened, sessions_resumed, channels_renewed;

    /* the applications */
    struct sg_flow *flows; /* of UDP ASSOCIATE */
    struct sg_forward *forwards;

    struct sg_udp_rx rx;
    struct sg_udp_tx back; /* to applications; sent before the next batch is received */
    struct sg_udp_tx out;  /* to the server, from any number of applications; sent by sg_uplink_send_out */
    struct event send_out;
    bool send_out_pending;
    struct sg_ledger up;   /* from applications to the server */
    struct sg_ledger down; /* from the server to applications */
};

/* What was found out about a plaintext that came; holds for those after it with the same header. */
struct sg_delivery {
    struct sg_plaintext_memo header;
    struct sg_flow *flow; /* if the header has a length */
};

/*
 * flow.c, for uplink.c: a plaintext came for an association. Flush back afterwards. before: zeroed for the first of
 * those that are worked off at a time, then the same for all of them.
 */
void sg_flow_deliver(struct sg_uplink *uplink, uint8_t *plaintext, size_t len, struct sg_delivery *before,
                     uint64_t now_ms);
/* The server says that a number is closed, or refused (back off). */
void sg_flow_closed(struct sg_uplink *uplink, uint32_t number);
void sg_flow_refused(struct sg_uplink *uplink, const struct sg_msg *msg, uint64_t now_ms);
/* The session is gone: flows lose their numbers, those of forwards end. */
void sg_flow_session_lost(struct sg_uplink *uplink);
/* Idle ones lose their number (the server's clock runs alike). */
void sg_flow_expire(struct sg_uplink *uplink, uint64_t now_ms);
/* Encodes the numbers of all UDP ASSOCIATE flows into ALIVE messages on the stream. */
void sg_flow_send_alive(struct sg_uplink *uplink, uint64_t now_ms);
void sg_flow_free_all(struct sg_uplink *uplink);

/* datapath.c, for uplink.c: the UDP socket towards the server, and what core/session.c asks of us. */
extern const struct sg_session_ops sg_uplink_session_ops;
bool sg_uplink_open_udp(struct sg_uplink *uplink);
void sg_uplink_close_udp(struct sg_uplink *uplink);
/* Whether a socket that is opened now would have another address. */
bool sg_uplink_udp_has_moved(const struct sg_uplink *uplink);
void sg_uplink_random(void *ctx, uint8_t *out, size_t len);

/*
 * What was added to out leaves when the sockets that are readable now were worked off, so that datagrams of several
 * applications share a send.
 */
void sg_uplink_send_out(struct sg_uplink *uplink);
void sg_uplink_flush_out(struct sg_uplink *uplink);

/* attempt.c: an attempt starts now; is to start in a while, longer after each failure; ends. */
void sg_attempt_start(struct sg_uplink *uplink);
void sg_attempt_schedule(struct sg_uplink *uplink);
void sg_attempt_cancel(struct sg_uplink *uplink);
/* uplink.c: one succeeded. Takes the channel over. */
void sg_uplink_got_channel(struct sg_uplink *uplink, struct sg_uplink_channel *channel,
                           const struct sg_open_reply *reply);

/* uplink.c, for channel.c: the server said CLOSE; it broke the protocol; the stream ended. All may free the channel. */
void sg_uplink_closed(struct sg_uplink_channel *channel, enum sg_reason reason);
void sg_uplink_broken(struct sg_uplink_channel *channel);
void sg_uplink_stream_ended(struct sg_uplink_channel *channel, const char *why);
/* It is time for another channel. */
void sg_uplink_renew(struct sg_uplink *uplink, uint64_t now_ms);
/* The server goes out of service: another of the list is better, as soon as it has opened a session. */
void sg_uplink_leave(struct sg_uplink *uplink, uint32_t seconds);
/* The stream does not answer. */
void sg_uplink_doubt(struct sg_uplink *uplink);
/* Whether datagrams have a way to go. */
bool sg_uplink_is_carrying(const struct sg_uplink *uplink);

/* uplink.c, for datapath.c and flow.c. */
void sg_uplink_tell_ready(struct sg_uplink *uplink, const char *path);
void sg_uplink_write(struct sg_uplink *uplink, const struct sg_msg *msg);
/* datapath.c: plaintexts go up, sealed in one batch, or by the stream. */
void sg_uplink_send(struct sg_uplink *uplink, const struct sg_outgoing *out, uint64_t now_ms);
void sg_uplink_arm(struct sg_uplink *uplink, uint64_t now_ms);
/* Datagrams want to go: a waiting reconnect is brought forward. */
void sg_uplink_wake(struct sg_uplink *uplink, uint64_t now_ms);

#endif
