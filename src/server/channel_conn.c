/*
 * The TCP side of a session: from the request for CHANNEL to the control stream. First the block of the request must
 * arrive; it is answered with a channel, or refused with a reason; from then on the connection carries messages until
 * either side ends it.
 */
#include "server/channel_conn.h"

#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "core/block.h"
#include "core/socks5.h"
#include "net/clock.h"
#include "net/control_stream.h"
#include "net/finish.h"
#include "net/log.h"
#include "server/config.h"
#include "server/datapath.h"
#include "server/server.h"
#include "server/session.h"
#include "server/usage.h"
#include "server/worker.h"

/* A connection whose block has not arrived yet. It counts among its user's connections, and has one deadline. */
struct sg_opening {
    struct sg_opening *next, **link;
    struct sg_worker *worker;
    struct sg_handover who;
    struct event *deadline;
};

/* It is a session now, or will never be one: who is the caller's. */
static void free_opening(struct sg_opening *opening)
{
    *opening->link = opening->next;
    if (opening->next)
        opening->next->link = opening->link;
    if (opening->deadline)
        event_free(opening->deadline);
    free(opening);
}

static void end_opening(struct sg_opening *opening, enum sg_reason reason)
{
    struct sg_handover who = opening->who;
    free_opening(opening);
    sg_handover_end(&who, SG_USAGE_CONNECTION, reason);
}

void sg_channel_conns_free_all(struct sg_worker *worker)
{
    for (struct sg_opening *opening = worker->openings, *next = NULL; opening; opening = next) {
        next = opening->next;
        end_opening(opening, SG_REASON_NONE);
    }
}

/* A connection that is being finished, and still counts. */
struct leaving {
    struct sg_usage *usage;
    enum sg_usage_kind slot;
};

static void leave(struct sg_usage *usage, enum sg_usage_kind slot)
{
    sg_usage_give(usage, slot);
    sg_usage_release(usage);
}

static void on_gone(void *ctx)
{
    struct leaving leaving = *(struct leaving *)ctx;
    free(ctx);
    leave(leaving.usage, leaving.slot);
}

/* True if the slot is given back later. */
static bool finish_counted(const struct sg_handover *who, enum sg_usage_kind slot)
{
    struct leaving *leaving = malloc(sizeof *leaving);
    if (!leaving) {
        bufferevent_free(who->bev);
        return false;
    }
    *leaving = (struct leaving){.usage = who->usage, .slot = slot};
    if (sg_finish_then(who->bev, on_gone, leaving))
        return true;
    free(leaving);
    return false;
}

void sg_handover_end(struct sg_handover *who, enum sg_usage_kind slot, enum sg_reason reason)
{
    bool later = false;
    if (who->bev && reason == SG_REASON_NONE)
        bufferevent_free(who->bev);
    else if (who->bev && reason == SG_REASON_SHUTDOWN)
        sg_finish_now(who->bev);
    else if (who->bev)
        later = finish_counted(who, slot);
    if (!later)
        leave(who->usage, slot);
    who->bev = NULL;
    who->usage = NULL;
}

static void on_stream_end(struct bufferevent *bev, short what, void *ctx)
{
    struct sg_server_session *session = ctx;
    (void)bev;
    (void)what;
    sg_server_session_close(session, SG_REASON_NONE);
}

static void on_stream_written(struct bufferevent *bev, void *ctx)
{
    struct sg_server_session *session = ctx;
    (void)bev;
    sg_server_session_pump(session, sg_now_ms());
}

static void on_stream(struct bufferevent *bev, void *ctx)
{
    struct sg_server_session *session = ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    uint64_t now_ms = sg_now_ms();
    struct sg_msg msg;
    size_t taken = 0;
    enum sg_err err = SG_OK;

    sg_session_stream_alive(&session->core, now_ms);
    while ((err = sg_control_stream_next(bev, SG_ROLE_CLIENT, &msg, &taken)) == SG_OK || err == SG_ERR_UNSUPPORTED) {
        enum sg_reason reason = err == SG_OK ? sg_server_session_message(session, &msg, now_ms) : SG_REASON_NONE;
        evbuffer_drain(input, taken);
        if (reason != SG_REASON_NONE) {
            sg_server_session_close(session, reason);
            return;
        }
    }
    /* a client that sends but never reads must not make us hold its answers */
    if (err != SG_ERR_AGAIN || sg_control_stream_is_stuck(bev)) {
        sg_server_session_close(session, SG_REASON_PROTOCOL);
        return;
    }
    sg_server_session_arm(session, now_ms);
}

static void write_reply(struct bufferevent *bev, uint8_t rep, const struct sg_endpoint *bound,
                        const struct sg_open_reply *reply, enum sg_reason reason)
{
    uint8_t bytes[512];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_socks5_reply_encode(&w, rep, bound);
    if (reply)
        sg_open_reply_encode(&w, reply);
    else
        sg_open_refusal_encode(&w, (uint16_t)reason);
    bufferevent_write(bev, bytes, sg_wbuf_len(&w));
}

void sg_channel_conn_refuse(struct bufferevent *bev, const char *user, uint8_t rep, enum sg_reason reason)
{
    struct sg_endpoint none = {0};
    write_reply(bev, rep, &none, NULL, reason);
    sg_log(SG_LOG_INFO, "session of %s refused: %s", user, sg_reason_text(reason));
}

static void refuse_open(struct sg_opening *opening, uint8_t rep, enum sg_reason reason)
{
    sg_channel_conn_refuse(opening->who.bev, opening->who.user, rep, reason);
    end_opening(opening, reason);
}

static uint16_t choose_suite(const struct sg_open_request *request)
{
    for (unsigned i = 0; i < request->suite_count; i++)
        if (sg_aead_find(request->suites[i], SG_BACKEND_AUTO))
            return request->suites[i];
    return 0;
}

static void accept_open(struct sg_opening *opening, const struct sg_open_request *request)
{
    struct sg_worker *worker = opening->worker;
    const struct sg_config *config = worker->server->config;
    struct sg_server_session *session = NULL;
    uint16_t suite = choose_suite(request);
    if (suite == 0) {
        refuse_open(opening, SG_SOCKS5_REP_GENERAL, SG_REASON_SUITE);
        return;
    }
    enum sg_reason reason = sg_server_session_open(worker->datapath, &opening->who, suite, &session);
    if (reason != SG_REASON_NONE) {
        refuse_open(opening, SG_SOCKS5_REP_GENERAL, reason);
        return;
    }
    struct sg_open_reply reply = {
        .suite = suite,
        .max_senders = (uint16_t)worker->server->key_limits.max_senders,
        .max_associations = sg_usage_most(opening->who.usage, SG_USAGE_ASSOCIATION),
        .assoc_idle_s = (uint32_t)(config->timeouts.association_ms / 1000),
        .dns_idle_s = (uint32_t)(config->timeouts.dns_ms / 1000),
    };
    memcpy(reply.channel_id, session->channel_id, sizeof reply.channel_id);
    memcpy(reply.handle, session->handle, sizeof reply.handle);
    struct sg_endpoint endpoint = sg_config_advertised(config, &opening->who.local.ip);
    struct bufferevent *bev = opening->who.bev;
    write_reply(bev, SG_SOCKS5_REP_SUCCEEDED, &endpoint, &reply, SG_REASON_NONE);
    sg_log(SG_LOG_INFO, "session of %s opened: %s", session->who.user, session->suite->name);
    sg_usage_give(opening->who.usage, SG_USAGE_CONNECTION); /* the session has a slot of its own kind */
    free_opening(opening);

    bufferevent_setcb(bev, on_stream, on_stream_written, on_stream_end, session);
    on_stream(bev, session);
}

static void on_block(struct bufferevent *bev, void *ctx)
{
    struct sg_opening *opening = ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    uint8_t bytes[SG_BLOCK_MAX];
    ev_ssize_t have = evbuffer_copyout(input, bytes, sizeof bytes);
    struct sg_open_request request;
    struct sg_rbuf r = sg_rbuf_init(bytes, have > 0 ? (size_t)have : 0);
    enum sg_err err = sg_open_request_decode(&r, &request);
    if (err == SG_ERR_AGAIN)
        return;
    if (err != SG_OK) {
        refuse_open(opening, SG_SOCKS5_REP_GENERAL, SG_REASON_PROTOCOL);
        return;
    }
    evbuffer_drain(input, (size_t)(r.pos - bytes));
    if (request.verb != SG_VERB_OPEN)
        refuse_open(opening, SG_SOCKS5_REP_COMMAND, SG_REASON_NOT_OFFERED);
    else
        accept_open(opening, &request);
}

static void on_block_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)bev;
    (void)what;
    end_opening(ctx, SG_REASON_NONE);
}

static void on_deadline(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    end_opening(ctx, SG_REASON_NONE);
}

void sg_channel_conn_start(struct sg_worker *worker, const struct sg_handover *handover)
{
    const struct timeval limit = {.tv_sec = worker->server->config->limits.handshake_seconds};
    struct sg_handover who = *handover;
    struct sg_opening *opening = calloc(1, sizeof *opening);
    if (!opening) {
        sg_channel_conn_refuse(who.bev, who.user, SG_SOCKS5_REP_GENERAL, SG_REASON_BUSY);
        sg_handover_end(&who, SG_USAGE_CONNECTION, SG_REASON_BUSY);
        return;
    }
    *opening = (struct sg_opening){.next = worker->openings, .link = &worker->openings, .worker = worker, .who = who};
    if (opening->next)
        opening->next->link = &opening->next;
    worker->openings = opening;
    opening->deadline = evtimer_new(worker->base, on_deadline, opening);
    if (!opening->deadline || evtimer_add(opening->deadline, &limit) != 0) {
        end_opening(opening, SG_REASON_NONE);
        return;
    }
    bufferevent_set_timeouts(who.bev, NULL, NULL);
    bufferevent_setcb(who.bev, on_block, NULL, on_block_end, opening);
    bufferevent_enable(who.bev, EV_READ | EV_WRITE);
    on_block(who.bev, opening);
}
