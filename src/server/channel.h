/*
 * A channel on the server: one TLS connection, the keys that were exported from it, and the slot by which records find
 * it. A session has one, and two for the seconds of a renewal (renewal.c).
 */
#ifndef SG_SERVER_CHANNEL_H
#define SG_SERVER_CHANNEL_H

#include "core/record.h"
#include "core/reason.h"
#include "server/config.h"

struct bufferevent;
struct sg_datapath;
struct sg_msg;
struct sg_pass;
struct sg_server_session;

struct sg_server_channel {
    struct sg_server_session *session;
    struct bufferevent *bev; /* the control stream; NULL: it has ended, and the keys live on */
    uint8_t id[8];
    uint32_t slot;
    const struct sg_aead *suite;
    struct sg_sender sender;
    struct sg_receiver receiver;
    struct sg_pass *pass; /* what its client shows in further connections; NULL: memory was short */
    uint64_t opened_ms;
    struct sg_timeouts told; /* to the client; a reload changes what is told to those after it */
};

/*
 * Makes one for a session from an authenticated TLS connection, which it takes over on success: id, keys, and a slot of
 * the datapath. NULL when slots or memory for keys are short.
 */
struct sg_server_channel *sg_server_channel_new(struct sg_server_session *session, struct bufferevent *bev,
                                                uint16_t suite, uint64_t now_ms);

/*
 * Wipes the keys, gives the slot back, and ends the connection, if there still is one: NONE at once (it is broken),
 * SHUTDOWN with what the kernel takes now, all else in good order. Accepts NULL.
 */
void sg_server_channel_free(struct sg_server_channel *channel, enum sg_reason reason);

/* Ends the connection alone. */
void sg_server_channel_end_stream(struct sg_server_channel *channel, enum sg_reason reason);

/* Writes a message, if the stream lives. */
void sg_server_channel_write(struct sg_server_channel *channel, const struct sg_msg *msg);

#endif
