/*
 * Attempts to get a channel: connect, OPEN or RESUME, the reply's block; after a failure again, later and later. While
 * the session lives they are made beside it.
 */
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <sodium.h>

#include "client/client.h"
#include "client/server_conn.h"
#include "client/uplink_state.h"
#include "core/socks5.h"
#include "net/clock.h"
#include "net/log.h"

enum {
    RETRY_FIRST_MS = 200,
    RETRY_MAX_MS = 2000,       /* so that a restarted server is found within seconds */
    RETRY_LATE_MAX_MS = 30000, /* one that stays away for a minute or more */
    RETRY_LATE_AFTER = 30,
    RETRY_UNSTEADY = 4,   /* failures that a session is worth which does not last: RETRY_MAX_MS */
    WAKE_AFTER_MS = 1000, /* between attempts that applications bring forward */
    UNKNOWN_AGAIN = 2,    /* attempts with an invite that a server may be about to learn of: it was just made */
    UNKNOWN_FAILURES = 3, /* what its refusal is worth: the next attempt comes a second later, and is no guessing */
};

/* While a session can be resumed, an attempt is made every two seconds: the server keeps it for its grace alone. */
static uint64_t retry_delay_ms(const struct sg_uplink *uplink)
{
    const struct sg_attempt *attempt = &uplink->attempt;
    bool is_late = attempt->failures > RETRY_LATE_AFTER && !uplink->channel;
    uint64_t limit = is_late ? RETRY_LATE_MAX_MS : RETRY_MAX_MS;
    unsigned doublings = attempt->failures < 10 ? attempt->failures : 10;
    uint64_t delay = (uint64_t)RETRY_FIRST_MS << doublings;
    if (delay > limit)
        delay = limit;
    return delay / 2 + randombytes_uniform((uint32_t)(delay / 2 + 1)); /* jitter: many clients, one restart */
}

void sg_attempt_schedule(struct sg_uplink *uplink)
{
    struct sg_attempt *attempt = &uplink->attempt;
    uint64_t now_ms = sg_now_ms();
    attempt->state = SG_ATTEMPT_WAITS;
    attempt->retry_ms = now_ms + retry_delay_ms(uplink);
    attempt->failures++;
    sg_uplink_arm(uplink, now_ms);
}

static void log_failure(struct sg_attempt *attempt, const char *text)
{
    bool repeated = strcmp(text, attempt->last_error) == 0;
    sg_log_event(repeated ? SG_LOG_DEBUG : SG_LOG_WARN, "connect_failed", NULL, "%s; trying again", text);
    snprintf(attempt->last_error, sizeof attempt->last_error, "%s", text);
}

static void fail(struct sg_uplink *uplink, const char *text)
{
    if (uplink->attempt.bev)
        bufferevent_free(uplink->attempt.bev);
    uplink->attempt.bev = NULL;
    log_failure(&uplink->attempt, text);
    sg_attempt_schedule(uplink);
}

/* A channel is there: what comes after it is a fresh row of attempts. */
static void succeed(struct sg_uplink *uplink, const struct sg_open_reply *reply)
{
    struct sg_attempt *attempt = &uplink->attempt;
    enum sg_err err = SG_OK;
    struct sg_uplink_channel *channel = sg_uplink_channel_new(uplink, attempt->bev, reply, &err);
    if (!channel) {
        fail(uplink, sg_err_text(err));
        return;
    }
    attempt->bev = NULL;
    attempt->state = SG_ATTEMPT_NONE;
    if (attempt->failures > RETRY_UNSTEADY)
        attempt->failures = RETRY_UNSTEADY;
    attempt->last_error[0] = '\0';
    sg_uplink_got_channel(uplink, channel, reply);
}

static void on_block(struct bufferevent *bev, void *ctx)
{
    struct sg_uplink *uplink = ctx;
    struct sg_attempt *attempt = &uplink->attempt;
    struct evbuffer *input = bufferevent_get_input(bev);
    uint8_t bytes[SG_BLOCK_MAX];
    ev_ssize_t have = evbuffer_copyout(input, bytes, sizeof bytes);
    struct sg_rbuf r = sg_rbuf_init(bytes, have > 0 ? (size_t)have : 0);
    struct sg_open_reply reply;
    enum sg_err err = sg_open_reply_decode(&r, attempt->rep != 0, &reply);
    if (err == SG_ERR_AGAIN)
        return;
    if (err != SG_OK || (attempt->rep == 0 && (reply.resumed != 0) != attempt->resumes)) {
        fail(uplink, "the server's reply does not follow the protocol");
        return;
    }
    evbuffer_drain(input, (size_t)(r.pos - bytes));
    if (attempt->rep != 0) {
        char text[160];
        snprintf(text, sizeof text, "the server refused a session: %s", sg_reason_text(reply.reason));
        fail(uplink, text);
        return;
    }
    succeed(uplink, &reply);
}

static void on_block_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)bev;
    (void)what;
    fail(ctx, "the server ended the connection before a session was open");
}

/* A server that does not know an invite may be about to read of it: one refusal alone is not believed. */
static bool tries_again(struct sg_uplink *uplink, const struct sg_server_conn_result *result)
{
    struct sg_attempt *attempt = &uplink->attempt;
    if (!result->may_be_new || attempt->unknown_count >= UNKNOWN_AGAIN)
        return false;
    attempt->unknown_count++;
    if (attempt->failures < UNKNOWN_FAILURES)
        attempt->failures = UNKNOWN_FAILURES;
    sg_log(SG_LOG_DEBUG, "%s; trying again", result->text);
    sg_attempt_schedule(uplink);
    return true;
}

static void on_reply(void *ctx, const struct sg_server_conn_result *result)
{
    static const struct timeval limit = {.tv_sec = 10};
    struct sg_uplink *uplink = ctx;
    struct sg_attempt *attempt = &uplink->attempt;
    attempt->conn = NULL;
    if (!result->answered) {
        if (result->fatal && !uplink->was_up && tries_again(uplink, result))
            return;
        if (result->fatal && !uplink->was_up) {
            sg_client_on_fatal(uplink->client, result->text);
            return;
        }
        fail(uplink, result->text);
        return;
    }
    attempt->bev = result->bev;
    attempt->rep = result->rep;
    attempt->bound = result->bound;
    attempt->peer = result->peer;
    bufferevent_set_timeouts(attempt->bev, &limit, &limit);
    bufferevent_setcb(attempt->bev, on_block, NULL, on_block_end, uplink);
    on_block(attempt->bev, uplink);
}

void sg_attempt_start(struct sg_uplink *uplink)
{
    struct sg_client *client = uplink->client;
    struct sg_attempt *attempt = &uplink->attempt;
    uint8_t bytes[SG_BLOCK_MAX];
    struct sg_open_request request = {.verb = SG_VERB_OPEN, .agent = "sealgram " SG_VERSION};
    struct sg_target none = {.atyp = SG_ATYP_IPV4, .ip.family = 4};
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);

    if (uplink->leaves && client->current == uplink->server)
        client->current = (client->current + 1) % client->servers->count;
    else if (!uplink->leaves && sg_uplink_is_carrying(uplink)) /* else any server of the list is better than none */
        client->current = uplink->server;
    /* the handle is between that server and us */
    attempt->resumes = uplink->channel && !uplink->leaves && client->current == uplink->server &&
                       (uplink->limits.grace_s > 0 || uplink->limits.renew_s > 0);
    if (attempt->resumes) {
        request.verb = SG_VERB_RESUME;
        request.has_handle = true;
        memcpy(request.handle, uplink->limits.handle, sizeof request.handle);
    }
    request.suite_count = SG_SUITE_COUNT;
    sg_aead_preference(request.suites);
    sg_open_request_encode(&w, &request);
    attempt->state = SG_ATTEMPT_UNDERWAY;
    attempt->started_ms = sg_now_ms();
    attempt->server = client->current;
    attempt->conn =
        sg_server_conn_start(client, SG_SOCKS5_CMD_CHANNEL, &none, bytes, sg_wbuf_len(&w), on_reply, uplink);
    sodium_memzero(bytes, sizeof bytes);
    sodium_memzero(&request, sizeof request);
    if (!attempt->conn)
        fail(uplink, "out of memory");
}

void sg_attempt_cancel(struct sg_uplink *uplink)
{
    struct sg_attempt *attempt = &uplink->attempt;
    if (attempt->conn)
        sg_server_conn_cancel(attempt->conn);
    attempt->conn = NULL;
    if (attempt->bev)
        bufferevent_free(attempt->bev);
    attempt->bev = NULL;
    attempt->state = SG_ATTEMPT_NONE;
}

void sg_uplink_wake(struct sg_uplink *uplink, uint64_t now_ms)
{
    struct sg_attempt *attempt = &uplink->attempt;
    if (attempt->state != SG_ATTEMPT_WAITS)
        return;
    uint64_t soonest = attempt->started_ms + WAKE_AFTER_MS;
    if (soonest >= attempt->retry_ms)
        return;
    attempt->retry_ms = soonest > now_ms ? soonest : now_ms;
    sg_uplink_arm(uplink, now_ms);
}
