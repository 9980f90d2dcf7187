/*
 * The session with the server: connect, open a channel, carry plaintexts both ways, notice the end, connect again.
 * While there is no channel datagrams are dropped as no_session: nothing ever leaves in the clear.
 */
#include "client/uplink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <jansson.h>
#include <sodium.h>

#include "client/client.h"
#include "client/server_conn.h"
#include "client/uplink_state.h"
#include "core/datagram.h"
#include "core/keys.h"
#include "core/plaintext.h"
#include "core/socks5.h"
#include "net/addr_watch.h"
#include "net/clock.h"
#include "net/control_stream.h"
#include "net/finish.h"
#include "net/ledger_json.h"
#include "net/key_limits.h"
#include "net/log.h"
#include "net/sockaddr.h"
#include "net/tls.h"

enum {
    RETRY_FIRST_MS = 200,
    RETRY_MAX_MS = 2000,       /* so that a restarted server is found within seconds */
    RETRY_LATE_MAX_MS = 30000, /* one that stays away for a minute or more */
    RETRY_LATE_AFTER = 30,
    RETRY_UNSTEADY = 4, /* failures that a session is worth which does not last: RETRY_MAX_MS */
    STEADY_MS = 10000,  /* one that lasted so long was a success */
    ASSOC_IDLE_S = 120, /* where the server does not say */
    DNS_IDLE_S = 17,
    WAKE_AFTER_MS = 1000, /* between attempts that applications bring forward */
    UDP_PATIENCE_MS = 3000,
    ALIVE_MS = 60000,
    ARENA_SLOTS = 64,
};

/* --- sending --- */

void sg_uplink_write(struct sg_uplink *uplink, const struct sg_msg *msg)
{
    if (uplink->state == SG_UPLINK_UP)
        sg_control_stream_write(uplink->bev, msg);
}

void sg_uplink_tell_ready(struct sg_uplink *uplink, const char *path)
{
    if (uplink->told_ready)
        return;
    uplink->told_ready = true;
    sg_client_on_ready(uplink->client, path);
}

/* --- the end of a session, and the next attempt --- */

static uint64_t retry_delay_ms(const struct sg_uplink *uplink)
{
    uint64_t limit = uplink->failures > RETRY_LATE_AFTER ? RETRY_LATE_MAX_MS : RETRY_MAX_MS;
    unsigned doublings = uplink->failures < 10 ? uplink->failures : 10;
    uint64_t delay = (uint64_t)RETRY_FIRST_MS << doublings;
    if (delay > limit)
        delay = limit;
    return delay / 2 + randombytes_uniform((uint32_t)(delay / 2 + 1)); /* jitter: many clients, one restart */
}

static void schedule_retry(struct sg_uplink *uplink)
{
    uint64_t now_ms = sg_now_ms();
    uplink->state = SG_UPLINK_WAITING;
    uplink->retry_ms = now_ms + retry_delay_ms(uplink);
    uplink->failures++;
    sg_uplink_arm(uplink, now_ms);
}

static void log_failure(struct sg_uplink *uplink, const char *text)
{
    bool repeated = strcmp(text, uplink->last_error) == 0;
    sg_log(repeated ? SG_LOG_DEBUG : SG_LOG_WARN, "%s; trying again", text);
    snprintf(uplink->last_error, sizeof uplink->last_error, "%s", text);
}

/* Ends the session that is up; reason NONE: the stream is broken, nothing can be said. */
static void end_session(struct sg_uplink *uplink, enum sg_reason reason)
{
    if (reason != SG_REASON_NONE) {
        struct sg_msg msg = {.type = SG_MSG_CLOSE};
        msg.reason = (uint16_t)reason;
        sg_uplink_write(uplink, &msg);
    }
    sg_flow_session_lost(uplink);
    sg_control_stream_discard(&uplink->waiting, &uplink->up);
    sg_assoc_table_dispose(&uplink->assocs);
    sg_sender_dispose(&uplink->sender);
    sg_receiver_dispose(&uplink->receiver);
    sg_uplink_close_udp(uplink);
    if (reason == SG_REASON_NONE)
        bufferevent_free(uplink->bev);
    else if (reason == SG_REASON_SHUTDOWN)
        sg_finish_now(uplink->bev);
    else
        sg_finish(uplink->bev);
    uplink->bev = NULL;
    uplink->state = SG_UPLINK_WAITING;
}

static void lose_session(struct sg_uplink *uplink, enum sg_reason said, const char *why)
{
    sg_log(SG_LOG_WARN, "session with the server ended: %s; connecting again", why);
    if (sg_now_ms() - uplink->up_since_ms >= STEADY_MS)
        uplink->failures = 0; /* else a server that opens and ends sessions would be tried without a pause */
    end_session(uplink, said);
    schedule_retry(uplink);
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
        uint8_t *room = sg_udp_tx_room(&uplink->back, msg->datagram.len);
        memcpy(room, msg->datagram.bytes, msg->datagram.len);
        sg_flow_deliver(uplink, room, msg->datagram.len, now_ms);
        sg_udp_tx_flush(&uplink->back);
    } else if (msg->type == SG_MSG_CLOSED) {
        for (unsigned i = 0; i < msg->numbers.count; i++)
            sg_flow_closed(uplink, sg_msg_number(msg, i));
    } else if (msg->type == SG_MSG_REFUSED) {
        sg_flow_refused(uplink, msg, now_ms);
    }
}

static void on_stream(struct bufferevent *bev, void *ctx)
{
    struct sg_uplink *uplink = ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    uint64_t now_ms = sg_now_ms();
    struct sg_msg msg;
    size_t taken = 0;
    enum sg_err err = SG_OK;

    sg_session_stream_alive(&uplink->session, now_ms);
    while ((err = sg_control_stream_next(bev, SG_ROLE_SERVER, &msg, &taken)) == SG_OK || err == SG_ERR_UNSUPPORTED) {
        if (err == SG_OK && msg.type == SG_MSG_CLOSE) {
            lose_session(uplink, SG_REASON_NORMAL, sg_reason_text(msg.reason));
            return;
        }
        if (err == SG_OK && !sg_session_on_stream(&uplink->session, &msg, now_ms))
            on_stream_message(uplink, &msg, now_ms);
        evbuffer_drain(input, taken);
    }
    if (err != SG_ERR_AGAIN || sg_control_stream_is_stuck(bev)) {
        lose_session(uplink, SG_REASON_PROTOCOL, "it broke the protocol");
        return;
    }
    sg_uplink_arm(uplink, now_ms);
}

static void on_stream_written(struct bufferevent *bev, void *ctx)
{
    struct sg_uplink *uplink = ctx;
    sg_control_stream_pump(bev, &uplink->waiting, &uplink->up, sg_now_ms());
}

static void on_stream_end(struct bufferevent *bev, short what, void *ctx)
{
    char text[SG_TLS_TEXT_MAX] = "closed by the server";
    if (!(what & BEV_EVENT_EOF))
        (void)sg_tls_error_text(bev, what, text);
    lose_session(ctx, SG_REASON_NONE, text);
}

/* --- opening --- */

static enum sg_err make_keys(struct sg_uplink *uplink)
{
    uint8_t secret[SG_KEY_BYTES];
    struct sg_direction_keys keys;
    const uint8_t *id = uplink->limits.channel_id;
    struct sg_limits limits = sg_limits_in_force();
    limits.max_senders = uplink->limits.max_senders < SG_SENDERS_MAX ? uplink->limits.max_senders : SG_SENDERS_MAX;
    uplink->suite = sg_aead_find(uplink->limits.suite, SG_BACKEND_AUTO);
    if (!uplink->suite)
        return SG_ERR_UNSUPPORTED;
    enum sg_err err = sg_tls_export(uplink->bev, id, uplink->limits.suite, secret);
    if (err == SG_OK)
        err = sg_keys_derive(secret, &keys);
    if (err == SG_OK)
        err = sg_sender_init(&uplink->sender, uplink->arena, uplink->aead, uplink->suite, keys.c2s, id, &limits,
                             sg_uplink_random, NULL);
    if (err == SG_OK)
        err = sg_receiver_init(&uplink->receiver, uplink->arena, uplink->aead, uplink->suite, keys.s2c, id, &limits);
    sg_keys_wipe(&keys);
    return err;
}

static void fail_attempt(struct sg_uplink *uplink, const char *text)
{
    if (uplink->bev)
        bufferevent_free(uplink->bev);
    uplink->bev = NULL;
    log_failure(uplink, text);
    schedule_retry(uplink);
}

static void session_up(struct sg_uplink *uplink)
{
    uint64_t now_ms = sg_now_ms();
    uint64_t idle_s = uplink->limits.assoc_idle_s ? uplink->limits.assoc_idle_s : ASSOC_IDLE_S;
    uint64_t dns_idle_s = uplink->limits.dns_idle_s ? uplink->limits.dns_idle_s : DNS_IDLE_S;
    uint64_t hash_key = 0;
    randombytes_buf(&hash_key, sizeof hash_key);
    enum sg_err err = sg_assoc_table_init(&uplink->assocs, hash_key, idle_s * 1000, dns_idle_s * 1000);
    if (err == SG_OK)
        err = make_keys(uplink);
    if (err != SG_OK) {
        sg_sender_dispose(&uplink->sender);
        sg_receiver_dispose(&uplink->receiver);
        sg_assoc_table_dispose(&uplink->assocs);
        fail_attempt(uplink, sg_err_text(err));
        return;
    }
    sg_log(SG_LOG_INFO, "session opened: %s", uplink->suite->name);
    uplink->state = SG_UPLINK_UP;
    uplink->was_up = true;
    if (uplink->failures > RETRY_UNSTEADY)
        uplink->failures = RETRY_UNSTEADY;
    uplink->last_error[0] = '\0';
    uplink->next_number = 1;
    uplink->up_since_ms = now_ms;
    uplink->alive_ms = now_ms + ALIVE_MS;
    uplink->sessions_opened++;
    bufferevent_set_timeouts(uplink->bev, NULL, NULL);
    bufferevent_setcb(uplink->bev, on_stream, on_stream_written, on_stream_end, uplink);
    sg_session_init(&uplink->session, SG_ROLE_CLIENT, &sg_uplink_session_ops, uplink, now_ms);
    if (sg_uplink_open_udp(uplink)) {
        sg_session_start_path(&uplink->session, now_ms);
        enum sg_reason reason = sg_session_tick(&uplink->session, now_ms); /* the first probe leaves now */
        (void)reason;
    }
    on_stream(uplink->bev, uplink);
}

static void on_block(struct bufferevent *bev, void *ctx)
{
    struct sg_uplink *uplink = ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    uint8_t bytes[SG_BLOCK_MAX];
    ev_ssize_t have = evbuffer_copyout(input, bytes, sizeof bytes);
    struct sg_rbuf r = sg_rbuf_init(bytes, have > 0 ? (size_t)have : 0);
    enum sg_err err = sg_open_reply_decode(&r, uplink->rep != 0, &uplink->limits);
    if (err == SG_ERR_AGAIN)
        return;
    if (err != SG_OK) {
        fail_attempt(uplink, "the server's reply does not follow the protocol");
        return;
    }
    evbuffer_drain(input, (size_t)(r.pos - bytes));
    if (uplink->rep != 0) {
        char text[160];
        snprintf(text, sizeof text, "the server refused a session: %s", sg_reason_text(uplink->limits.reason));
        fail_attempt(uplink, text);
        return;
    }
    session_up(uplink);
}

static void on_block_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)bev;
    (void)what;
    fail_attempt(ctx, "the server ended the connection before a session was open");
}

static void on_reply(void *ctx, const struct sg_server_conn_result *result)
{
    static const struct timeval limit = {.tv_sec = 10};
    struct sg_uplink *uplink = ctx;
    uplink->conn = NULL;
    if (!result->answered) {
        if (result->fatal && !uplink->was_up) {
            sg_client_on_fatal(uplink->client, result->text);
            return;
        }
        fail_attempt(uplink, result->text);
        return;
    }
    uplink->bev = result->bev;
    uplink->rep = result->rep;
    uplink->bound = result->bound;
    uplink->peer = result->peer;
    bufferevent_set_timeouts(uplink->bev, &limit, &limit);
    bufferevent_setcb(uplink->bev, on_block, NULL, on_block_end, uplink);
    on_block(uplink->bev, uplink);
}

static void start_attempt(struct sg_uplink *uplink)
{
    uint8_t bytes[SG_BLOCK_MAX];
    struct sg_open_request request = {.verb = SG_VERB_OPEN, .agent = "sealgram " SG_VERSION};
    struct sg_target none = {.atyp = SG_ATYP_IPV4, .ip.family = 4};
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);

    request.suite_count = SG_SUITE_COUNT;
    sg_aead_preference(request.suites);
    sg_open_request_encode(&w, &request);
    uplink->state = SG_UPLINK_CONNECTING;
    uplink->attempt_ms = sg_now_ms();
    uplink->conn =
        sg_server_conn_start(uplink->client, SG_SOCKS5_CMD_CHANNEL, &none, bytes, sg_wbuf_len(&w), on_reply, uplink);
    if (!uplink->conn)
        fail_attempt(uplink, "out of memory");
}

/* --- time --- */

static void give_up_waiting_for_udp(struct sg_uplink *uplink)
{
    uplink->warned_udp = true;
    if (sg_session_on_udp(&uplink->session))
        return;
    struct sg_endpoint server = uplink->bound;
    char text[SG_ENDPOINT_TEXT_MAX];
    if (sg_ip_is_unspecified(&server.ip))
        server.ip = uplink->peer.ip;
    if (server.port == 0)
        server.port = uplink->peer.port;
    sg_endpoint_format(&server, text);
    sg_log(SG_LOG_WARN,
           "no answer from %s by UDP within 3 s: datagrams travel inside TLS; does a firewall block UDP port %u?", text,
           server.port);
    sg_uplink_tell_ready(uplink, "stream");
}

static void tick_session(struct sg_uplink *uplink, uint64_t now_ms)
{
    enum sg_reason reason = sg_session_tick(&uplink->session, now_ms);
    if (reason != SG_REASON_NONE) {
        lose_session(uplink, reason, sg_reason_text(reason));
        return;
    }
    if (uplink->next_number >= UINT32_MAX - 1) {
        lose_session(uplink, SG_REASON_NORMAL, "its association numbers are used up");
        return;
    }
    if (!uplink->warned_udp && now_ms >= uplink->up_since_ms + UDP_PATIENCE_MS)
        give_up_waiting_for_udp(uplink);
    if (now_ms >= uplink->alive_ms) {
        uplink->alive_ms = now_ms + ALIVE_MS;
        sg_flow_send_alive(uplink, now_ms);
    }
    sg_flow_expire(uplink, now_ms);
    sg_control_stream_pump(uplink->bev, &uplink->waiting, &uplink->up, now_ms);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_uplink *uplink = ctx;
    uint64_t now_ms = sg_now_ms();
    (void)fd;
    (void)what;
    uplink->armed_ms = SG_NEVER;
    if (uplink->state == SG_UPLINK_UP)
        tick_session(uplink, now_ms);
    else if (uplink->state == SG_UPLINK_WAITING && now_ms >= uplink->retry_ms)
        start_attempt(uplink);
    sg_uplink_arm(uplink, now_ms);
}

static uint64_t next_timeout(const struct sg_uplink *uplink)
{
    if (uplink->state == SG_UPLINK_WAITING)
        return uplink->retry_ms;
    if (uplink->state != SG_UPLINK_UP)
        return SG_NEVER;
    uint64_t next = sg_session_next_timeout(&uplink->session);
    uint64_t assocs = sg_assoc_next_timeout(&uplink->assocs);
    if (assocs < next)
        next = assocs;
    if (uplink->alive_ms < next)
        next = uplink->alive_ms;
    if (!uplink->warned_udp && uplink->up_since_ms + UDP_PATIENCE_MS < next)
        next = uplink->up_since_ms + UDP_PATIENCE_MS;
    return next;
}

void sg_uplink_arm(struct sg_uplink *uplink, uint64_t now_ms)
{
    uint64_t next = next_timeout(uplink);
    if (next >= uplink->armed_ms)
        return;
    uplink->armed_ms = next;
    uint64_t wait_ms = next > now_ms ? next - now_ms : 0;
    struct timeval tv = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
    evtimer_add(&uplink->timer, &tv);
}

void sg_uplink_wake(struct sg_uplink *uplink, uint64_t now_ms)
{
    if (uplink->state != SG_UPLINK_WAITING)
        return;
    uint64_t soonest = uplink->attempt_ms + WAKE_AFTER_MS;
    if (soonest >= uplink->retry_ms)
        return;
    uplink->retry_ms = soonest > now_ms ? soonest : now_ms;
    sg_uplink_arm(uplink, now_ms);
}

bool sg_uplink_is_up(struct sg_uplink *uplink)
{
    if (uplink->state != SG_UPLINK_UP)
        sg_uplink_wake(uplink, sg_now_ms());
    return uplink->state == SG_UPLINK_UP;
}

/* --- another network --- */

/*
 * The UDP socket keeps the address that it was connected from, so it is made anew; the server learns of it by a probe.
 * A stream whose address is gone would be noticed only when the server has not answered for a minute.
 */
static void on_addresses(void *ctx)
{
    struct sg_uplink *uplink = ctx;
    uint64_t now_ms = sg_now_ms();
    if (uplink->state != SG_UPLINK_UP) {
        sg_uplink_wake(uplink, now_ms);
        return;
    }
    struct sg_endpoint local = sg_socket_local(bufferevent_getfd(uplink->bev));
    if (!sg_addr_is_own(&local.ip)) {
        lose_session(uplink, SG_REASON_NONE, "this machine has left the network that it went through");
        return;
    }
    if (uplink->udp_fd >= 0 && !sg_uplink_udp_has_moved(uplink))
        return;
    sg_uplink_close_udp(uplink);
    if (sg_uplink_open_udp(uplink))
        sg_session_moved(&uplink->session, now_ms);
    sg_uplink_arm(uplink, now_ms);
}

/* --- start, end, status --- */

static void on_send_out(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    sg_uplink_flush_out(ctx);
}

struct sg_uplink *sg_uplink_new(struct sg_client *client)
{
    bool locked = true;
    struct sg_uplink *uplink = calloc(1, sizeof *uplink);
    if (!uplink)
        return NULL;
    uplink->client = client;
    uplink->base = client->base;
    uplink->udp_fd = -1;
    uplink->armed_ms = SG_NEVER;
    uplink->aead = sg_aead_ctx_new();
    uplink->arena = sg_arena_new(ARENA_SLOTS, &locked);
    evtimer_assign(&uplink->timer, uplink->base, on_timer, uplink);
    event_assign(&uplink->send_out, uplink->base, -1, 0, on_send_out, uplink);
    if (!uplink->aead || !uplink->arena || sg_udp_rx_init(&uplink->rx) != SG_OK ||
        sg_udp_tx_init(&uplink->out) != SG_OK || sg_udp_tx_init(&uplink->back) != SG_OK) {
        sg_uplink_free(uplink);
        errno = ENOMEM;
        return NULL;
    }
    uplink->addresses = sg_addr_watch_new(uplink->base, on_addresses, uplink);
    if (!locked)
        sg_log(SG_LOG_WARN, "keys cannot be locked in memory: raise the limit of locked memory (ulimit -l)");
    return uplink;
}

void sg_uplink_start(struct sg_uplink *uplink)
{
    start_attempt(uplink);
}

void sg_uplink_free(struct sg_uplink *uplink)
{
    if (!uplink)
        return;
    if (uplink->conn)
        sg_server_conn_cancel(uplink->conn);
    if (uplink->state == SG_UPLINK_UP)
        end_session(uplink, SG_REASON_SHUTDOWN);
    else if (uplink->bev)
        bufferevent_free(uplink->bev);
    sg_addr_watch_free(uplink->addresses);
    event_del(&uplink->timer);
    event_del(&uplink->send_out);
    sg_flow_free_all(uplink);
    sg_udp_rx_dispose(&uplink->rx);
    sg_udp_tx_dispose(&uplink->out);
    sg_udp_tx_dispose(&uplink->back);
    sg_aead_ctx_free(uplink->aead);
    sg_arena_free(uplink->arena);
    free(uplink);
}

void sg_uplink_status(const struct sg_uplink *uplink, struct json_t *status)
{
    bool up = uplink->state == SG_UPLINK_UP;
    const char *path = !up ? "none" : sg_session_on_udp(&uplink->session) ? "udp" : "stream";
    json_object_set_new(status, "session", json_string(up ? "up" : "down"));
    json_object_set_new(status, "path", json_string(path));
    json_object_set_new(status, "suite", up ? json_string(uplink->suite->name) : json_null());
    json_object_set_new(status, "record_max", json_integer(up ? uplink->session.pmtu.record_max : 0));
    json_object_set_new(status, "associations", json_integer(up ? (json_int_t)uplink->assocs.count : 0));
    json_object_set_new(status, "sessions_opened", json_integer((json_int_t)uplink->sessions_opened));
    json_object_set_new(status, "up", sg_ledger_json(&uplink->up));
    json_object_set_new(status, "down", sg_ledger_json(&uplink->down));
}
