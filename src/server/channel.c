/* Slots, ids and keys of channels. What is done with the streams stands in channel_conn.c. */
#include "server/channel.h"

#include <stdlib.h>
#include <string.h>

#include <event2/bufferevent.h>

#include "core/keys.h"
#include "core/wbuf.h"
#include "net/control_stream.h"
#include "net/finish.h"
#include "net/sockaddr.h"
#include "net/tls.h"
#include "server/admission.h"
#include "server/datapath.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/session.h"
#include "server/worker.h"

static bool is_free(const struct sg_datapath *datapath, uint32_t slot)
{
    return !datapath->slots[slot];
}

static bool take_slot(struct sg_datapath *datapath, struct sg_server_channel *channel)
{
    uint32_t slot = sg_datapath_draw_free(datapath, is_free, datapath->slot_count);
    if (slot == datapath->slot_count)
        return false;
    datapath->slots[slot] = channel;
    channel->slot = slot;
    return true;
}

/*
 * Channel id: worker (1 byte), slot (3 bytes), 4 random bytes. The slot is drawn, so that the ids on the wire tell
 * nobody how many channels there were, and in which order.
 */
static void draw_id(struct sg_server_channel *channel)
{
    const struct sg_datapath *datapath = channel->session->datapath;
    struct sg_wbuf w = sg_wbuf_init(channel->id, 4);
    sg_wbuf_u8(&w, (uint8_t)datapath->worker->index);
    sg_wbuf_u24(&w, channel->slot);
    sg_datapath_random(NULL, channel->id + 4, 4);
}

static enum sg_err make_keys(struct sg_server_channel *channel)
{
    struct sg_datapath *datapath = channel->session->datapath;
    const struct sg_server *server = datapath->worker->server;
    uint8_t secret[SG_KEY_BYTES];
    struct sg_direction_keys keys;
    enum sg_err err = sg_tls_export(channel->bev, channel->id, sg_aead_id(channel->suite), secret);
    if (err == SG_OK)
        err = sg_keys_derive(secret, &keys);
    if (err == SG_OK)
        err = sg_sender_init(&channel->sender, server->arena, datapath->aead, channel->suite, keys.s2c, channel->id,
                             &server->key_limits, sg_datapath_random, NULL);
    if (err == SG_OK)
        err = sg_receiver_init(&channel->receiver, server->arena, datapath->aead, channel->suite, keys.c2s, channel->id,
                               &server->key_limits);
    if (err == SG_OK) {
        const struct sg_endpoint peer = sg_socket_peer(bufferevent_getfd(channel->bev));
        channel->pass = sg_admission_pass_new(server->admission, channel->id, keys.pass, &peer.ip,
                                              sg_session_user(channel->session));
    }
    sg_keys_wipe(&keys);
    return err;
}

struct sg_server_channel *sg_server_channel_new(struct sg_server_session *session, struct bufferevent *bev,
                                                uint16_t suite, uint64_t now_ms)
{
    struct sg_server_channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return NULL;
    channel->session = session;
    channel->suite = sg_aead_find(suite, SG_BACKEND_AUTO);
    channel->opened_ms = now_ms;
    channel->told = session->datapath->worker->policy->config->timeouts;
    if (!take_slot(session->datapath, channel)) {
        free(channel);
        return NULL;
    }
    draw_id(channel);
    channel->bev = bev;
    if (make_keys(channel) == SG_OK) {
        sg_control_stream_start(bev);
        return channel;
    }
    channel->bev = NULL; /* stays the caller's */
    sg_server_channel_free(channel, SG_REASON_NONE);
    return NULL;
}

void sg_server_channel_end_stream(struct sg_server_channel *channel, enum sg_reason reason)
{
    struct bufferevent *bev = channel->bev;
    channel->bev = NULL;
    sg_finish_for(bev, reason);
}

void sg_server_channel_free(struct sg_server_channel *channel, enum sg_reason reason)
{
    if (!channel)
        return;
    sg_server_channel_end_stream(channel, reason);
    sg_admission_pass_free(channel->session->datapath->worker->server->admission, channel->pass);
    sg_sender_dispose(&channel->sender);
    sg_receiver_dispose(&channel->receiver);
    channel->session->datapath->slots[channel->slot] = NULL;
    free(channel);
}

void sg_server_channel_write(struct sg_server_channel *channel, const struct sg_msg *msg)
{
    if (channel->bev)
        sg_control_stream_write(channel->bev, msg);
}
