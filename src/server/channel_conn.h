/*
 * The hand-over between TCP and the data path: connections (conn.c) authenticate and read the request; a request for
 * CHANNEL goes to sg_channel_conn_start, a plain UDP ASSOCIATE to sg_plain_assoc_start. Both belong to the data path.
 */
#ifndef SG_SERVER_CHANNEL_CONN_H
#define SG_SERVER_CHANNEL_CONN_H

#include "core/addr.h"
#include "core/reason.h"

struct bufferevent;
struct sg_worker;
struct sg_usage;

/*
 * An authenticated connection that is given away. bev has no callbacks any more, reading is enabled, and its input
 * holds what the client sent after the request. user is the name; usage a counted reference that the receiver
 * releases (sg_usage_release). Both addresses are of the TCP connection.
 */
struct sg_handover {
    struct bufferevent *bev;
    char user[65];
    uint8_t credential_digest[32];
    struct sg_usage *usage;
    struct sg_endpoint peer;
    struct sg_endpoint local;
};

/* The client asked for CHANNEL (0xE8) with ALPN sealgram/1: takes over bev and usage in any case. */
void sg_channel_conn_start(struct sg_worker *worker, const struct sg_handover *handover);

/* Ends the connections that asked for one and did not say more yet. */
void sg_channel_conns_free_all(struct sg_worker *worker);

/*
 * Ends a connection that does not become a session's: flushed first, unless reason is NONE (it is broken). Releases
 * usage.
 */
void sg_channel_conn_end(struct sg_handover *who, enum sg_reason reason);

/*
 * The client asked for UDP ASSOCIATE and policy allows plain UDP from it: takes over bev and usage in any case,
 * replies.
 */
void sg_plain_assoc_start(struct sg_worker *worker, const struct sg_handover *handover,
                          const struct sg_target *request);

#endif
