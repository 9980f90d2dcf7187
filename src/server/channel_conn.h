/*
 * The hand-over between TCP and the data path: connections (conn.c) authenticate and read the request; a request for
 * CHANNEL goes to sg_channel_conn_start, a plain UDP ASSOCIATE to sg_plain_assoc_start. Both belong to the data path.
 */
#ifndef SG_SERVER_CHANNEL_CONN_H
#define SG_SERVER_CHANNEL_CONN_H

#include "core/addr.h"
#include "core/reason.h"

struct bufferevent;
struct sg_usage;
struct sg_worker;

/*
 * An authenticated connection that is given away. bev has no callbacks any more, reading is enabled, and its input
 * holds what the client sent after the request. user is the name; usage a counted reference, of which a slot was taken
 * for the connection: the receiver ends with sg_leave, or gives back and releases. Both addresses are of the TCP
 * connection.
 */
struct sg_handover {
    struct bufferevent *bev;
    char user[65];
    uint8_t credential_digest[32];
    struct sg_usage *usage;
    struct sg_endpoint peer;
    struct sg_endpoint local;
};

/*
 * The client asked for CHANNEL (0xE8) with ALPN sealgram/1: takes over bev, usage and its slot, a connection, in any
 * case.
 */
void sg_channel_conn_start(struct sg_worker *worker, const struct sg_handover *handover);

/* Ends the connections that asked for one and did not say more yet. */
void sg_channel_conns_free_all(struct sg_worker *worker);

/* Writes the block that follows a reply that is not 00: every answer to CHANNEL has one. */
void sg_channel_conn_refuse_block(struct bufferevent *bev, enum sg_reason reason);

/* Writes the refusal of a channel; the connection stays the caller's. */
void sg_channel_conn_refuse(const struct sg_handover *who, enum sg_reason reason);

/*
 * The client asked for UDP ASSOCIATE and policy allows plain UDP from it: takes over bev, usage and its slot, an
 * association, in any case, replies.
 */
void sg_plain_assoc_start(struct sg_worker *worker, const struct sg_handover *handover,
                          const struct sg_target *request);

#endif
