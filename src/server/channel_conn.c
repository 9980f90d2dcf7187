/*
 * The TCP side of a session: from the request for CHANNEL to the control stream. First the block of the request must
 * arrive. A connection that resumes a session goes to the worker that has it. It is answered with a channel, or refused
 * with a reason; from then on the connection carries messages until either side ends it.
 */
#include "server/channel_conn.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "core/block.h"
#include "core/socks5.h"
#include "net/clock.h"
#include "net/control_stream.h"
#include "net/inbox.h"
#include "net/tls_move.h"
#include "server/config.h"
#include "server/datapath.h"
#include "server/leaving.h"
#include "server/policy.h"
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

/* It is a session now, or will never be one: who, its slot included, is the caller's. */
static void free_opening(struct sg_opening *opening)
{
    *opening->link = opening->next;
    if (opening->next)
        opening->next->link = opening->link;
    if (opening->deadline)
        event_free(opening->deadline);
    free(opening);
}

/* Ends a connection that does not become a session's: flushed first, unless reason is NONE (it is broken). */
static void end_connection(struct sg_handover *who, enum sg_reason reason)
{
    sg_leave(who->bev, who->usage, SG_USAGE_CONNECTION, reason);
    who->bev = NULL;
    who->usage = NULL;
}

static void end_opening(struct sg_opening *opening, enum sg_reason reason)
{
    struct sg_handover who = opening->who;
    free_opening(opening);
    end_connection(&who, reason);
}

void sg_channel_conns_free_all(struct sg_worker *worker)
{
    for (struct sg_opening *opening = worker->openings, *next = NULL; opening; opening = next) {
        next = opening->next;
        end_opening(opening, SG_REASON_NONE);
    }
}

/* --- the control stream --- */

static void on_stream_end(struct bufferevent *bev, short what, void *ctx)
{
    struct sg_server_channel *channel = ctx;
    (void)bev;
    (void)what;
    (void)sg_server_session_stream_ended(channel->session, channel, SG_REASON_NONE, sg_now_ms());
}

static void on_stream_written(struct bufferevent *bev, void *ctx)
{
    struct sg_server_channel *channel = ctx;
    (void)bev;
    if (channel == channel->session->current)
        sg_server_session_pump(channel->session, sg_now_ms());
}

/* A message of a channel's stream. NONE, or why the stream must end. */
static enum sg_reason take_message(struct sg_server_channel *channel, const struct sg_msg *msg, uint64_t now_ms)
{
    struct sg_server_session *session = channel->session;
    if (channel != session->pending)
        return sg_server_session_message(session, msg, now_ms);
    if (msg->type != SG_MSG_CONFIRM)
        return SG_REASON_PROTOCOL;
    sg_server_session_confirm(session, channel, now_ms);
    return SG_REASON_NONE;
}

static void on_stream(struct bufferevent *bev, void *ctx)
{
    struct sg_server_channel *channel = ctx;
    struct sg_server_session *session = channel->session;
    struct evbuffer *input = bufferevent_get_input(bev);
    uint64_t now_ms = sg_now_ms();
    struct sg_msg msg;
    size_t taken = 0;
    enum sg_err err = SG_OK;

    if (channel == session->current)
        sg_session_stream_alive(&session->core, now_ms);
    while ((err = sg_control_stream_next(bev, SG_ROLE_CLIENT, &msg, &taken)) == SG_OK || err == SG_ERR_UNSUPPORTED) {
        enum sg_reason reason = err == SG_OK ? take_message(channel, &msg, now_ms) : SG_REASON_NONE;
        evbuffer_drain(input, taken);
        if (reason != SG_REASON_NONE) {
            (void)sg_server_session_stream_ended(session, channel, reason, now_ms);
            return;
        }
    }
    /* a client that sends but never reads must not make us hold its answers */
    if (err != SG_ERR_AGAIN || sg_control_stream_is_stuck(bev)) {
        (void)sg_server_session_stream_ended(session, channel, SG_REASON_PROTOCOL, now_ms);
        return;
    }
    sg_server_session_arm(session, now_ms);
}

/* --- the answer to the block --- */

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

void sg_channel_conn_refuse_block(struct bufferevent *bev, enum sg_reason reason)
{
    uint8_t bytes[64];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_open_refusal_encode(&w, (uint16_t)reason);
    bufferevent_write(bev, bytes, sg_wbuf_len(&w));
}

void sg_channel_conn_refuse(const struct sg_handover *who, enum sg_reason reason)
{
    struct sg_endpoint none = {0};
    write_reply(who->bev, SG_SOCKS5_REP_GENERAL, &none, NULL, reason);
    sg_session_log_refused(who, reason);
}

/* Refuses, and ends the connection. */
static void refuse(struct sg_handover *who, enum sg_reason reason)
{
    sg_channel_conn_refuse(who, reason);
    end_connection(who, reason);
}

static uint16_t choose_suite(const struct sg_open_request *request)
{
    for (unsigned i = 0; i < request->suite_count; i++)
        if (sg_aead_find(request->suites[i], SG_BACKEND_AUTO))
            return request->suites[i];
    return 0;
}

static void accept_channel(struct sg_server_channel *channel, enum sg_resumed resumed)
{
    const struct sg_server_session *session = channel->session;
    const struct sg_worker *worker = session->datapath->worker;
    const struct sg_config *config = worker->policy->config;
    struct sg_open_reply reply = {
        .suite = sg_aead_id(channel->suite),
        .max_senders = (uint16_t)worker->server->key_limits.max_senders,
        .max_associations = sg_usage_most(session->who.usage, SG_USAGE_ASSOCIATION),
        .assoc_idle_s = (uint32_t)(session->assocs.ordinary.idle_ms / 1000),
        .dns_idle_s = (uint32_t)(session->assocs.dns.idle_ms / 1000),
        .renew_s = (uint32_t)(channel->told.renew_ms / 1000),
        .grace_s = (uint32_t)(channel->told.grace_ms / 1000),
        .resumed = (uint8_t)resumed,
    };
    memcpy(reply.channel_id, channel->id, sizeof reply.channel_id);
    memcpy(reply.handle, session->handle, sizeof reply.handle);
    struct sg_endpoint endpoint = sg_config_advertised(config, &session->who.local.ip);
    struct bufferevent *bev = channel->bev;
    write_reply(bev, SG_SOCKS5_REP_SUCCEEDED, &endpoint, &reply, SG_REASON_NONE);
    bufferevent_setcb(bev, on_stream, on_stream_written, on_stream_end, channel);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
    on_stream(bev, channel);
}

static enum sg_reason open_session(struct sg_worker *worker, struct sg_handover *who, uint16_t suite,
                                   struct sg_server_channel **out)
{
    struct sg_server_session *session = NULL;
    enum sg_reason reason = sg_server_session_open(worker->datapath, who, suite, &session);
    if (reason != SG_REASON_NONE)
        return reason;
    *out = session->current;
    sg_session_log_start(session);
    return SG_REASON_NONE;
}

/* An authenticated connection said all that it wants: on the worker that it belongs to. */
static void answer(struct sg_worker *worker, struct sg_handover *who, const struct sg_open_request *request)
{
    bool resumes = request->verb == SG_VERB_RESUME;
    struct sg_server_session *session = resumes ? sg_datapath_session(worker->datapath, request->handle) : NULL;
    struct sg_server_channel *channel = NULL;
    uint16_t suite = choose_suite(request);
    enum sg_reason reason = SG_REASON_SUITE;
    bool kept = session && sg_server_session_is(session, request->handle, who);
    if (!kept && atomic_load(&worker->server->draining)) {
        refuse(who, SG_REASON_DRAINING);
        return;
    }
    if (suite != 0)
        reason = kept ? sg_server_session_resume(session, who, suite, &channel, sg_now_ms())
                      : open_session(worker, who, suite, &channel);
    if (reason != SG_REASON_NONE) {
        refuse(who, reason);
        return;
    }
    sg_usage_give(who->usage, SG_USAGE_CONNECTION); /* a session has a slot of its own kind */
    if (kept)
        sg_usage_release(who->usage); /* or else it is the new session's */
    accept_channel(channel, !resumes ? 0 : kept ? SG_RESUMED_KEPT : SG_RESUMED_LOST);
}

/* --- a session that another worker has --- */

/* A connection on its way to another worker. */
struct visit {
    struct sg_letter letter;
    struct sg_worker *from, *to;
    struct sg_handover who;
    struct sg_open_request request;
    struct sg_tls_parcel *parcel;
};

static void end_visit(struct visit *visit)
{
    if (visit->parcel)
        sg_tls_parcel_free(visit->parcel);
    sg_leave(NULL, visit->who.usage, SG_USAGE_CONNECTION, SG_REASON_NONE);
    free(visit);
}

static void arrive(void *ctx)
{
    struct visit *visit = ctx;
    struct sg_worker *worker = visit->to;
    struct sg_handover who = visit->who;
    struct sg_open_request request = visit->request;
    if (worker->closed) {
        end_visit(visit);
        return;
    }
    who.bev = sg_tls_attach(worker->base, visit->parcel);
    visit->parcel = NULL;
    if (!who.bev) {
        end_visit(visit);
        return;
    }
    free(visit);
    if (sg_policy_user_valid(worker->policy, who.user, who.credential_digest))
        answer(worker, &who, &request);
    else
        refuse(&who, SG_REASON_UNAUTHORIZED);
}

static void on_detached(void *ctx, struct sg_tls_parcel *parcel)
{
    struct visit *visit = ctx;
    visit->parcel = parcel;
    if (visit->from->closed) /* the others' inboxes may be gone */
        end_visit(visit);
    else
        sg_inbox_post(visit->to->inbox, &visit->letter);
}

static void send_to(struct sg_worker *from, struct sg_worker *to, struct sg_handover *who,
                    const struct sg_open_request *request)
{
    struct visit *visit = calloc(1, sizeof *visit);
    if (visit) {
        *visit = (struct visit){
            .letter = {.fn = arrive, .ctx = visit}, .from = from, .to = to, .who = *who, .request = *request};
        visit->who.bev = NULL;
        if (sg_tls_detach(who->bev, on_detached, visit))
            return;
    }
    free(visit);
    end_connection(who, SG_REASON_NONE);
}

/* --- before it --- */

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
    evbuffer_drain(input, (size_t)(r.pos - bytes));
    struct sg_worker *worker = opening->worker;
    const struct sg_server *server = worker->server;
    struct sg_handover who = opening->who;
    free_opening(opening);
    if (err != SG_OK)
        refuse(&who, SG_REASON_PROTOCOL);
    else if (request.verb == SG_VERB_RESUME && request.handle[0] != worker->index &&
             request.handle[0] < server->worker_count)
        send_to(worker, server->workers[request.handle[0]], &who, &request);
    else
        answer(worker, &who, &request);
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
    const struct timeval limit = {.tv_sec = (time_t)worker->policy->config->limits.handshake_seconds};
    struct sg_handover who = *handover;
    struct sg_opening *opening = calloc(1, sizeof *opening);
    if (!opening) {
        refuse(&who, SG_REASON_BUSY);
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
