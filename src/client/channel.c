/* The keys and the control stream of a channel, as the client has it. */
#include "client/channel.h"

#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <sodium.h>

#include "client/oversize.h"
#include "client/uplink_state.h"
#include "core/keys.h"
#include "core/plaintext.h"
#include "net/clock.h"
#include "net/control_stream.h"
#include "net/finish.h"
#include "net/key_limits.h"
#include "net/tls.h"

static enum sg_err make_keys(struct sg_uplink_channel *channel, const struct sg_open_reply *reply)
{
    struct sg_uplink *uplink = channel->uplink;
    uint8_t secret[SG_KEY_BYTES];
    struct sg_direction_keys keys;
    struct sg_limits limits = sg_limits_in_force();
    limits.max_senders = reply->max_senders < SG_SENDERS_MAX ? reply->max_senders : SG_SENDERS_MAX;
    enum sg_err err = sg_tls_export(channel->bev, channel->id, reply->suite, secret);
    if (err == SG_OK)
        err = sg_keys_derive(secret, &keys);
    if (err == SG_OK)
        err = sg_sender_init(&channel->sender, uplink->arena, uplink->aead, channel->suite, keys.c2s, channel->id,
                             &limits, sg_uplink_random, NULL);
    if (err == SG_OK)
        err = sg_receiver_init(&channel->receiver, uplink->arena, uplink->aead, channel->suite, keys.s2c, channel->id,
                               &limits);
    memcpy(channel->pass_key, keys.pass, sizeof channel->pass_key);
    sg_keys_wipe(&keys);
    return err;
}

/* --- the control stream --- */

static void on_stream_message(struct sg_uplink *uplink, const struct sg_msg *msg, uint64_t now_ms)
{
    if (msg->type == SG_MSG_DATAGRAM) {
        uplink->down.received++;
        uplink->down.streamed++;
        uplink->down.received_bytes += msg->datagram.len;
        if (msg->datagram.len > SG_UDP_PAYLOAD_MAX + SG_PLAINTEXT_HEADER_MAX) {
            sg_ledger_drop(&uplink->down, SG_REASON_TOO_BIG);
            return;
        }
        sg_oversize_note(uplink, SG_OVERSIZE_DOWN, msg->datagram.bytes, msg->datagram.len);
        struct sg_delivery alone = {0};
        uint8_t *room = sg_udp_tx_room(&uplink->back, msg->datagram.len);
        memcpy(room, msg->datagram.bytes, msg->datagram.len);
        sg_flow_deliver(uplink, room, msg->datagram.len, &alone, now_ms);
        sg_udp_tx_flush(&uplink->back);
    } else if (msg->type == SG_MSG_CLOSED) {
        for (unsigned i = 0; i < msg->numbers.count; i++)
            sg_flow_closed(uplink, sg_msg_number(msg, i));
    } else if (msg->type == SG_MSG_REFUSED) {
        sg_flow_refused(uplink, msg, now_ms);
    } else if (msg->type == SG_MSG_RENEW) {
        sg_uplink_renew(uplink, now_ms);
    } else if (msg->type == SG_MSG_DRAIN) {
        sg_uplink_leave(uplink, msg->seconds);
    }
}

static void on_stream(struct bufferevent *bev, void *ctx)
{
    struct sg_uplink_channel *channel = ctx;
    struct sg_uplink *uplink = channel->uplink;
    struct evbuffer *input = bufferevent_get_input(bev);
    uint64_t now_ms = sg_now_ms();
    struct sg_msg msg;
    size_t taken = 0;
    enum sg_err err = SG_OK;

    if (channel == uplink->channel)
        sg_session_stream_alive(&uplink->session, now_ms);
    while ((err = sg_control_stream_next(bev, SG_ROLE_SERVER, &msg, &taken)) == SG_OK || err == SG_ERR_UNSUPPORTED) {
        if (err == SG_OK && msg.type == SG_MSG_CLOSE) {
            sg_uplink_closed(channel, msg.reason);
            return;
        }
        if (err == SG_OK && !sg_session_on_stream(&uplink->session, &msg, now_ms))
            on_stream_message(uplink, &msg, now_ms);
        evbuffer_drain(input, taken);
    }
    if (err != SG_ERR_AGAIN || sg_control_stream_is_stuck(bev)) {
        sg_uplink_broken(channel);
        return;
    }
    sg_uplink_arm(uplink, now_ms);
}

static void on_stream_written(struct bufferevent *bev, void *ctx)
{
    struct sg_uplink_channel *channel = ctx;
    struct sg_uplink *uplink = channel->uplink;
    if (channel == uplink->channel)
        sg_control_stream_pump(bev, &uplink->waiting, &uplink->up, sg_now_ms());
}

static void on_stream_end(struct bufferevent *bev, short what, void *ctx)
{
    char text[SG_TLS_TEXT_MAX] = "closed by the server";
    if (!(what & BEV_EVENT_EOF))
        (void)sg_tls_error_text(bev, what, text);
    sg_uplink_stream_ended(ctx, text);
}

/* --- making and ending --- */

struct sg_uplink_channel *sg_uplink_channel_new(struct sg_uplink *uplink, struct bufferevent *bev,
                                                const struct sg_open_reply *reply, enum sg_err *err)
{
    struct sg_uplink_channel *channel = calloc(1, sizeof *channel);
    *err = SG_ERR_NOMEM;
    if (!channel)
        return NULL;
    channel->uplink = uplink;
    channel->bev = bev;
    memcpy(channel->id, reply->channel_id, sizeof channel->id);
    channel->suite = sg_aead_find(reply->suite, SG_BACKEND_AUTO);
    *err = channel->suite ? make_keys(channel, reply) : SG_ERR_UNSUPPORTED;
    if (*err != SG_OK) {
        channel->bev = NULL; /* stays the caller's */
        sg_uplink_channel_free(channel, SG_REASON_NONE);
        return NULL;
    }
    return channel;
}

void sg_uplink_channel_start(struct sg_uplink_channel *channel)
{
    bufferevent_set_timeouts(channel->bev, NULL, NULL);
    sg_control_stream_start(channel->bev);
    bufferevent_setcb(channel->bev, on_stream, on_stream_written, on_stream_end, channel);
    on_stream(channel->bev, channel);
}

void sg_uplink_channel_end_stream(struct sg_uplink_channel *channel, enum sg_reason reason)
{
    struct bufferevent *bev = channel->bev;
    channel->bev = NULL;
    sg_finish_for(bev, reason);
}

void sg_uplink_channel_free(struct sg_uplink_channel *channel, enum sg_reason reason)
{
    if (!channel)
        return;
    sg_uplink_channel_end_stream(channel, reason);
    sg_sender_dispose(&channel->sender);
    sg_receiver_dispose(&channel->receiver);
    sodium_memzero(channel->pass_key, sizeof channel->pass_key);
    free(channel);
}
