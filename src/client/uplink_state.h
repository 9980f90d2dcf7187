/*
 * The state that uplink.c (session with the server) and flow.c (local applications) share. Nobody else includes this.
 */
#ifndef SG_CLIENT_UPLINK_STATE_H
#define SG_CLIENT_UPLINK_STATE_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "client/uplink.h"
#include "core/arena.h"
#include "core/assoc.h"
#include "core/block.h"
#include "core/record.h"
#include "core/session.h"
#include "core/squeue.h"
#include "net/udp.h"

struct bufferevent;
struct sg_addr_watch;
struct sg_forward;
struct sg_server_conn;

enum { SG_FORWARD_BUCKETS = 1024 };

enum sg_uplink_state {
    SG_UPLINK_WAITING,    /* for the next attempt */
    SG_UPLINK_CONNECTING, /* TCP, TLS, authentication, OPEN under way */
    SG_UPLINK_UP,         /* a channel is open */
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
    struct event readable;
};

struct sg_forward {
    struct sg_forward *next;
    struct sg_uplink *uplink;
    int fd;
    struct event readable;
    uint8_t target[SG_ADDR_MAX_BYTES]; /* encoded */
    size_t target_len;
    uint16_t target_port;
    struct sg_flow *flows[SG_FORWARD_BUCKETS]; /* by source */
};

struct sg_uplink {
    struct sg_client *client;
    struct event_base *base;
    enum sg_uplink_state state;
    struct event timer;
    uint64_t armed_ms;

    /* connecting */
    struct sg_server_conn *conn;
    struct bufferevent *bev; /* the control stream; while the reply's block is awaited too */
    uint8_t rep;             /* reply code whose block is awaited */
    struct sg_endpoint bound, peer;
    uint64_t attempt_ms; /* of the last attempt */
    uint64_t retry_ms;   /* when WAITING: next attempt */
    unsigned failures;   /* in a row */
    bool was_up;
    bool told_ready;
    char last_error[256];

    /* the session */
    struct sg_arena *arena;
    struct sg_aead_ctx *aead;
    const struct sg_aead *suite;
    struct sg_open_reply limits;
    struct sg_sender sender;
    struct sg_receiver receiver;
    struct sg_session session;
    struct sg_assoc_table assocs;
    uint32_t next_number;
    struct sg_squeue waiting;
    int udp_fd;
    struct event udp_readable;
    uint64_t up_since_ms;
    uint64_t alive_ms; /* next ALIVE */
    bool warned_udp;
    struct sg_addr_watch *addresses; /* or NULL: the system does not tell of changes */
    uint64_t sessions_opened;

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

/* flow.c, for uplink.c: a plaintext came for an association. Flush back afterwards. */
void sg_flow_deliver(struct sg_uplink *uplink, uint8_t *plaintext, size_t len, uint64_t now_ms);
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

/* uplink.c, for datapath.c and flow.c. */
void sg_uplink_tell_ready(struct sg_uplink *uplink, const char *path);
void sg_uplink_write(struct sg_uplink *uplink, const struct sg_msg *msg);
/*
 * datapath.c: plaintexts go up, sealed in one batch, or by the stream. Each record has its plaintext at bytes + 25,
 * len its length.
 */
void sg_uplink_send(struct sg_uplink *uplink, struct sg_record *plaintexts, const size_t *data_len, unsigned count,
                    uint64_t now_ms);
void sg_uplink_arm(struct sg_uplink *uplink, uint64_t now_ms);
/* Datagrams want to go: a waiting reconnect is brought forward. */
void sg_uplink_wake(struct sg_uplink *uplink, uint64_t now_ms);

#endif
