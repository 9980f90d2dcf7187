/*
 * A channel of the client: one TLS connection to the server, which is its control stream, and the keys that were
 * exported from it. A session has one, and for some seconds after a renewal the one before (uplink.c).
 */
#ifndef SG_CLIENT_CHANNEL_H
#define SG_CLIENT_CHANNEL_H

#include "core/block.h"
#include "core/reason.h"
#include "core/record.h"

struct bufferevent;
struct sg_uplink;

struct sg_uplink_channel {
    struct sg_uplink *uplink;
    struct bufferevent *bev; /* the control stream; NULL: it has ended, and the keys live on */
    uint8_t id[SG_CHANNEL_ID_BYTES];
    const struct sg_aead *suite;
    struct sg_sender sender;
    struct sg_receiver receiver;
    uint8_t pass_key[SG_KEY_BYTES];
    uint64_t passes; /* that were shown */
};

/*
 * Makes one from the connection that brought this reply, and takes that over on success. NULL: *err is NOMEM, FULL,
 * CRYPTO, or UNSUPPORTED (a suite that was not offered).
 */
struct sg_uplink_channel *sg_uplink_channel_new(struct sg_uplink *uplink, struct bufferevent *bev,
                                                const struct sg_open_reply *reply, enum sg_err *err);
/* Its stream is read from now on; that may end the session. */
void sg_uplink_channel_start(struct sg_uplink_channel *channel);

/*
 * Wipes the keys, and ends the connection, if there still is one: NONE at once (it is broken), SHUTDOWN with what the
 * kernel takes now, all else in good order. Accepts NULL.
 */
void sg_uplink_channel_free(struct sg_uplink_channel *channel, enum sg_reason reason);
/* Ends the connection alone. */
void sg_uplink_channel_end_stream(struct sg_uplink_channel *channel, enum sg_reason reason);

#endif
