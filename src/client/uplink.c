/*
 * The session with the server: it begins with a channel, carries plaintexts both ways, gets further channels while it
 * lives (renewal, or a connection that was lost), and ends. While there is no session datagrams are dropped as
 * no_session: nothing ever leaves in the clear.
 */
#include "client/uplink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/bufferevent.h>
#include <jansson.h>
#include <sodium.h>

#include "client/client.h"
#include "client/uplink_state.h"
#include "core/plaintext.h"
#include "net/addr_watch.h"
#include "net/clock.h"
#include "net/control_stream.h"
#include "net/ledger_json.h"
#include "net/log.h"
#include "net/sockaddr.h"

enum {
    STEADY_MS = 10000,       /* a session that lasted so long was a success */
    STEADY_STREAM_MS = 3000, /* and so was a connection */
    ASSOC_IDLE_S = 120,      /* where the server does not say */
    DNS_IDLE_S = 17,
    UDP_PATIENCE_MS = 3000,
    ALIVE_MS = 60000,
    OLD_MS = 10000, /* an old channel still opens */
    ARENA_SLOTS = 64,
};

/* The number of the session's server, if its invite is in the list no more. */
static const size_t not_listed = SIZE_MAX;

/* --- sending --- */

void sg_uplink_write(struct sg_uplink *uplink, const struct sg_msg *msg)
{
    if (uplink->channel && uplink->channel->bev)
        sg_control_stream_write(uplink->channel->bev, msg);
}

void sg_uplink_tell_ready(struct sg_uplink *uplink, const char *path)
{
    if (uplink->told_ready)
        return;
    uplink->told_ready = true;
    sg_client_on_ready(uplink->client, path);
}

/* --- the end of a session --- */

/* reason NONE: the stream is broken, nothing can be said. */
static void end_session(struct sg_uplink *uplink, enum sg_reason reason)
{
    if (uplink->attempt.state == SG_ATTEMPT_UNDERWAY && uplink->attempt.resumes)
        sg_attempt_cancel(uplink);
    if (reason != SG_REASON_NONE) {
        struct sg_msg msg = {.type = SG_MSG_CLOSE};
        msg.reason = (uint16_t)reason;
        sg_uplink_write(uplink, &msg);
    }
    sg_flow_session_lost(uplink);
    sg_control_stream_discard(&uplink->waiting, &uplink->up);
    sg_assoc_table_dispose(&uplink->assocs);
    sg_uplink_close_udp(uplink);
    sg_uplink_channel_free(uplink->old, reason);
    sg_uplink_channel_free(uplink->channel, reason);
    uplink->old = uplink->channel = NULL;
    uplink->leaves = false;
    uplink->renew_ms = uplink->old_ends_ms = uplink->grace_ends_ms = SG_NEVER;
}

static void lose_session(struct sg_uplink *uplink, enum sg_reason said, const char *why)
{
    sg_log_event(SG_LOG_WARN, "session_end", NULL, "session with the server ended: %s; connecting again", why);
    if (sg_now_ms() - uplink->up_since_ms >= STEADY_MS)
        uplink->attempt.failures = 0; /* else a server that opens and ends sessions would be tried without a pause */
    end_session(uplink, said);
    if (uplink->attempt.state == SG_ATTEMPT_NONE)
        sg_attempt_schedule(uplink);
}

void sg_uplink_closed(struct sg_uplink_channel *channel, enum sg_reason reason)
{
    struct sg_uplink *uplink = channel->uplink;
    if (channel == uplink->channel)
        lose_session(uplink, SG_REASON_NORMAL, sg_reason_text(reason));
    else
        sg_uplink_channel_end_stream(channel, SG_REASON_NORMAL);
}

void sg_uplink_broken(struct sg_uplink_channel *channel)
{
    struct sg_uplink *uplink = channel->uplink;
    if (channel == uplink->channel)
        lose_session(uplink, SG_REASON_PROTOCOL, "it broke the protocol");
    else
        sg_uplink_channel_end_stream(channel, SG_REASON_NONE);
}

void sg_uplink_stream_ended(struct sg_uplink_channel *channel, const char *why)
{
    struct sg_uplink *uplink = channel->uplink;
    uint64_t now_ms = sg_now_ms();
    if (channel != uplink->channel) {
        sg_uplink_channel_end_stream(channel, SG_REASON_NONE);
        return;
    }
    if (uplink->limits.grace_s == 0) {
        lose_session(uplink, SG_REASON_NONE, why);
        return;
    }
    sg_log_event(SG_LOG_WARN, "connection_lost", NULL, "connection to the server lost: %s; connecting again", why);
    sg_uplink_channel_end_stream(channel, SG_REASON_NONE);
    sg_session_stream_lost(&uplink->session, now_ms);
    uplink->grace_ends_ms = now_ms + (uint64_t)uplink->limits.grace_s * 1000;
    if (now_ms - uplink->channel_since_ms >= STEADY_STREAM_MS)
        uplink->attempt.failures = 0;
    if (uplink->attempt.state == SG_ATTEMPT_NONE)
        sg_attempt_schedule(uplink);
    sg_uplink_arm(uplink, now_ms);
}

/* --- its channels --- */

/* A little before the interval is over, and not all clients at once. */
static void schedule_renewal(struct sg_uplink *uplink, uint64_t now_ms)
{
    uint64_t interval_ms = (uint64_t)uplink->limits.renew_s * 1000;
    uplink->renew_ms =
        interval_ms == 0 ? SG_NEVER : now_ms + interval_ms - randombytes_uniform((uint32_t)(interval_ms / 10 + 1));
}

static void begin_session(struct sg_uplink *uplink, struct sg_uplink_channel *channel, uint64_t now_ms)
{
    uint64_t idle_s = uplink->limits.assoc_idle_s ? uplink->limits.assoc_idle_s : ASSOC_IDLE_S;
    uint64_t dns_idle_s = uplink->limits.dns_idle_s ? uplink->limits.dns_idle_s : DNS_IDLE_S;
    uint64_t hash_key = 0;
    randombytes_buf(&hash_key, sizeof hash_key);
    uplink->channel = channel;
    if (sg_assoc_table_init(&uplink->assocs, hash_key, idle_s * 1000, dns_idle_s * 1000) != SG_OK) {
        lose_session(uplink, SG_REASON_NORMAL, "out of memory");
        return;
    }
    sg_log_event(SG_LOG_INFO, "session_start", SG_LOG_FIELDS(sg_log_word("suite", channel->suite->name)),
                 "session opened: %s", channel->suite->name);
    uplink->was_up = true;
    uplink->next_number = 1;
    uplink->up_since_ms = now_ms;
    uplink->alive_ms = now_ms + ALIVE_MS;
    uplink->sessions_opened++;
    sg_session_init(&uplink->session, SG_ROLE_CLIENT, &sg_uplink_session_ops, uplink, now_ms);
    if (sg_uplink_open_udp(uplink)) {
        sg_session_start_path(&uplink->session, now_ms);
        enum sg_reason reason = sg_session_tick(&uplink->session, now_ms); /* the first probe leaves now */
        (void)reason;
    }
}

/* The session goes on: the server learns by CONFIRM that we have the keys, and what is under way still opens. */
static void renew_session(struct sg_uplink *uplink, struct sg_uplink_channel *channel, bool moved, uint64_t now_ms)
{
    struct sg_msg confirm = {.type = SG_MSG_CONFIRM};
    bool had_stream = uplink->channel->bev != NULL;
    sg_uplink_channel_free(uplink->old, SG_REASON_NORMAL);
    uplink->old = uplink->channel;
    uplink->old_ends_ms = now_ms + OLD_MS;
    uplink->channel = channel;
    uplink->grace_ends_ms = SG_NEVER;
    uplink->alive_ms = now_ms; /* the server says which associations have ended meanwhile */
    if (had_stream)
        uplink->channels_renewed++;
    else
        uplink->sessions_resumed++;
    sg_log_event(had_stream ? SG_LOG_DEBUG : SG_LOG_INFO, had_stream ? "session_renewed" : "session_resumed",
                 SG_LOG_FIELDS(sg_log_word("suite", channel->suite->name)), "session %s: %s",
                 had_stream ? "renewed" : "resumed", channel->suite->name);
    sg_uplink_write(uplink, &confirm);
    sg_session_stream_new(&uplink->session, now_ms);
    if (!moved)
        return;
    sg_uplink_close_udp(uplink);
    if (sg_uplink_open_udp(uplink))
        sg_session_moved(&uplink->session, now_ms);
}

void sg_uplink_got_channel(struct sg_uplink *uplink, struct sg_uplink_channel *channel,
                           const struct sg_open_reply *reply)
{
    uint64_t now_ms = sg_now_ms();
    const struct sg_attempt *attempt = &uplink->attempt;
    bool moved =
        !sg_endpoint_equal(&uplink->bound, &attempt->bound) || !sg_ip_equal(&uplink->peer.ip, &attempt->peer.ip);
    if (uplink->channel && reply->resumed != SG_RESUMED_KEPT) {
        if (uplink->leaves)
            sg_log_event(SG_LOG_INFO, "session_end", NULL,
                         uplink->server == not_listed
                             ? "session ended: its invite is not in the file any more, and another has one"
                             : "session with the server that drains ended: another has one");
        else
            sg_log_event(SG_LOG_WARN, "session_end", NULL,
                         "session with the server ended: the server does not have it any more");
        end_session(uplink, SG_REASON_NORMAL);
    }
    uplink->limits = *reply;
    uplink->bound = attempt->bound;
    uplink->peer = attempt->peer;
    uplink->server = attempt->server;
    uplink->channel_since_ms = now_ms;
    uplink->leaves = false;
    schedule_renewal(uplink, now_ms);
    if (uplink->channel)
        renew_session(uplink, channel, moved, now_ms);
    else
        begin_session(uplink, channel, now_ms);
    if (uplink->channel == channel)
        sg_uplink_channel_start(channel);
}

void sg_uplink_leave(struct sg_uplink *uplink, uint32_t seconds)
{
    bool can_leave = uplink->client->servers->count > 1;
    sg_log_event(SG_LOG_WARN, "server_drains", SG_LOG_FIELDS(sg_log_number("seconds", seconds)),
                 "the server goes out of service within %u s: %s", seconds,
                 can_leave ? "going to the next of the list" : "there is no other in the list");
    if (!can_leave || uplink->leaves)
        return;
    uplink->leaves = true;
    if (uplink->attempt.state == SG_ATTEMPT_UNDERWAY)
        sg_attempt_cancel(uplink); /* of a renewal */
    sg_attempt_start(uplink);
}

static bool same_invite(const struct sg_invite *a, const struct sg_invite *b)
{
    return strcmp(a->user, b->user) == 0 && strcmp(a->host, b->host) == 0 && a->port == b->port &&
           a->has_pin == b->has_pin && memcmp(a->pin, b->pin, sizeof a->pin) == 0 &&
           sodium_memcmp(a->password, b->password, sizeof a->password) == 0;
}

/* Where the invite of the session stands in another list. */
static size_t find_own(const struct sg_uplink *uplink, const struct sg_client_servers *servers)
{
    const struct sg_client_servers *now = uplink->client->servers;
    for (size_t i = 0; uplink->channel && uplink->server != not_listed && i < servers->count; i++)
        if (same_invite(&now->list[uplink->server].invite, &servers->list[i].invite))
            return i;
    return not_listed;
}

void sg_uplink_use_servers(struct sg_uplink *uplink, struct sg_client_servers *servers)
{
    struct sg_client *client = uplink->client;
    struct sg_attempt *attempt = &uplink->attempt;
    bool was_trying = attempt->state != SG_ATTEMPT_NONE;
    size_t own = find_own(uplink, servers);
    sg_attempt_cancel(uplink);
    sg_client_servers_release(client->servers);
    client->servers = servers;
    client->current = own == not_listed ? 0 : own;
    attempt->failures = attempt->unknown_count = 0;
    if (uplink->channel) {
        uplink->server = own;
        uplink->leaves = uplink->leaves || own == not_listed;
    }
    if (was_trying || !uplink->channel || own == not_listed)
        sg_attempt_start(uplink);
}

void sg_uplink_doubt(struct sg_uplink *uplink)
{
    if (uplink->limits.grace_s == 0)
        return;
    sg_log(SG_LOG_DEBUG, "neither UDP nor the connection to the server answers");
    if (uplink->attempt.state == SG_ATTEMPT_NONE)
        sg_attempt_start(uplink);
}

void sg_uplink_renew(struct sg_uplink *uplink, uint64_t now_ms)
{
    if (uplink->limits.renew_s == 0 || now_ms >= uplink->renew_ms)
        return;
    uplink->renew_ms = now_ms;
    sg_uplink_arm(uplink, now_ms);
}

bool sg_uplink_is_carrying(const struct sg_uplink *uplink)
{
    return uplink->channel && (uplink->channel->bev || sg_session_on_udp(&uplink->session));
}

bool sg_uplink_show_pass(struct sg_uplink *uplink, const struct sg_client_server *server,
                         uint8_t out[static SG_PASS_BYTES])
{
    struct sg_uplink_channel *channel = uplink->channel;
    const struct sg_client_servers *servers = uplink->client->servers;
    if (!channel || uplink->server >= servers->count || server != &servers->list[uplink->server])
        return false;
    sg_pass_show(channel->id, channel->pass_key, channel->passes++, out);
    return true;
}

bool sg_uplink_is_up(struct sg_uplink *uplink)
{
    bool up = sg_uplink_is_carrying(uplink);
    if (!up)
        sg_uplink_wake(uplink, sg_now_ms());
    return up;
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
    sg_log_event(SG_LOG_WARN, "udp_blocked", NULL,
                 "no answer from %s by UDP within 3 s: datagrams travel inside TLS; does a firewall block UDP port %u?",
                 text, server.port);
    sg_uplink_tell_ready(uplink, "stream");
}

static void tick_channels(struct sg_uplink *uplink, uint64_t now_ms)
{
    if (now_ms >= uplink->old_ends_ms) {
        sg_uplink_channel_free(uplink->old, SG_REASON_NORMAL);
        uplink->old = NULL;
        uplink->old_ends_ms = SG_NEVER;
    }
    if (now_ms >= uplink->renew_ms && uplink->attempt.state == SG_ATTEMPT_NONE)
        sg_attempt_start(uplink);
}

static void tick_session(struct sg_uplink *uplink, uint64_t now_ms)
{
    enum sg_reason reason = sg_session_tick(&uplink->session, now_ms);
    if (reason != SG_REASON_NONE)
        sg_uplink_stream_ended(uplink->channel, sg_reason_text(reason));
    if (!uplink->channel)
        return;
    if (uplink->next_number >= UINT32_MAX - 1) {
        lose_session(uplink, SG_REASON_NORMAL, "its association numbers are used up");
        return;
    }
    if (now_ms >= uplink->grace_ends_ms && uplink->attempt.state != SG_ATTEMPT_UNDERWAY) {
        lose_session(uplink, SG_REASON_NONE, "it could not be resumed in time");
        return;
    }
    tick_channels(uplink, now_ms);
    if (!uplink->warned_udp && now_ms >= uplink->up_since_ms + UDP_PATIENCE_MS)
        give_up_waiting_for_udp(uplink);
    if (now_ms >= uplink->alive_ms) {
        uplink->alive_ms = now_ms + ALIVE_MS;
        sg_flow_send_alive(uplink, now_ms);
    }
    sg_flow_expire(uplink, now_ms);
    sg_control_stream_pump(uplink->channel->bev, &uplink->waiting, &uplink->up, now_ms);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_uplink *uplink = ctx;
    uint64_t now_ms = sg_now_ms();
    (void)fd;
    (void)what;
    uplink->armed_ms = SG_NEVER;
    if (uplink->channel)
        tick_session(uplink, now_ms);
    if (uplink->attempt.state == SG_ATTEMPT_WAITS && now_ms >= uplink->attempt.retry_ms)
        sg_attempt_start(uplink);
    sg_uplink_arm(uplink, now_ms);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_timeout(const struct sg_uplink *uplink)
{
    const struct sg_attempt *attempt = &uplink->attempt;
    uint64_t next = attempt->state == SG_ATTEMPT_WAITS ? attempt->retry_ms : SG_NEVER;
    if (!uplink->channel)
        return next;
    next = earlier(next, sg_session_next_timeout(&uplink->session));
    next = earlier(next, sg_assoc_next_timeout(&uplink->assocs));
    next = earlier(next, uplink->alive_ms);
    next = earlier(next, uplink->old_ends_ms);
    if (!uplink->channel->bev) /* no stream takes them out */
        next = earlier(next, sg_squeue_next_timeout(&uplink->waiting));
    if (attempt->state == SG_ATTEMPT_NONE)
        next = earlier(next, uplink->renew_ms);
    if (attempt->state != SG_ATTEMPT_UNDERWAY)
        next = earlier(next, uplink->grace_ends_ms);
    if (!uplink->warned_udp)
        next = earlier(next, uplink->up_since_ms + UDP_PATIENCE_MS);
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

/* --- another network --- */

/* Whether the address that the stream goes out by is not ours any more. */
static bool has_left(const struct sg_uplink_channel *channel)
{
    struct sg_endpoint local = {0};
    if (channel->bev)
        local = sg_socket_local(bufferevent_getfd(channel->bev));
    return local.ip.family != 0 && !sg_addr_is_own(&local.ip);
}

/*
 * The UDP socket keeps the address that it was connected from, so it is made anew; the server learns of it by a probe.
 * A stream whose address is gone would be noticed only when the server has not answered for a minute.
 */
static void on_addresses(void *ctx)
{
    struct sg_uplink *uplink = ctx;
    uint64_t now_ms = sg_now_ms();
    sg_uplink_wake(uplink, now_ms);
    if (uplink->channel && has_left(uplink->channel))
        sg_uplink_stream_ended(uplink->channel, "this machine has left the network that it went through");
    if (!uplink->channel)
        return;
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
    uplink->armed_ms = uplink->renew_ms = uplink->old_ends_ms = uplink->grace_ends_ms = SG_NEVER;
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
    uplink->addresses = sg_addr_watch_new(uplink->base, SG_WATCH_ADDRESSES, on_addresses, uplink);
    if (!uplink->addresses && client->index == 0)
        sg_log_event(SG_LOG_WARN, "no_netlink", NULL,
                     "netlink is not to be had (%s): another network of this machine is noticed only once the server "
                     "falls silent",
                     strerror(errno));
    if (!locked)
        sg_log_event(SG_LOG_WARN, "memory_not_locked", NULL,
                     "keys cannot be locked in memory: raise the limit of locked memory (ulimit -l)");
    return uplink;
}

void sg_uplink_start(struct sg_uplink *uplink)
{
    sg_attempt_start(uplink);
}

void sg_uplink_free(struct sg_uplink *uplink)
{
    if (!uplink)
        return;
    sg_attempt_cancel(uplink);
    if (uplink->channel)
        end_session(uplink, SG_REASON_SHUTDOWN);
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

enum { IPV4_BYTES = 4, IPV6_BYTES = 16, ATYP_AND_PORT_BYTES = 3 };

/* The longest datagram for a target of so many address bytes that travels in one record. */
static json_t *datagram_max(const struct sg_uplink *uplink, unsigned address_bytes)
{
    return json_integer(uplink->session.pmtu.record_max -
                        (int)(SG_RECORD_OVERHEAD + SG_ASSOC_BYTES + ATYP_AND_PORT_BYTES + address_bytes));
}

void sg_uplink_status(const struct sg_uplink *uplink, struct json_t *status)
{
    bool has = uplink->channel != NULL, up = sg_uplink_is_carrying(uplink);
    const char *path = !up ? "none" : sg_session_on_udp(&uplink->session) ? "udp" : "stream";
    json_object_set_new(status, "session", json_string(up ? "up" : "down"));
    json_object_set_new(status, "path", json_string(path));
    json_object_set_new(status, "stream", json_string(has && uplink->channel->bev ? "up" : "down"));
    json_object_set_new(status, "suite", has ? json_string(uplink->channel->suite->name) : json_null());
    json_object_set_new(status, "record_max", json_integer(has ? uplink->session.pmtu.record_max : 0));
    bool on_udp = up && sg_session_on_udp(&uplink->session);
    json_object_set_new(status, "datagram_max_ipv4", on_udp ? datagram_max(uplink, IPV4_BYTES) : json_null());
    json_object_set_new(status, "datagram_max_ipv6", on_udp ? datagram_max(uplink, IPV6_BYTES) : json_null());
    json_object_set_new(status, "associations", json_integer(has ? (json_int_t)uplink->assocs.count : 0));
    json_object_set_new(status, "sessions_opened", json_integer((json_int_t)uplink->sessions_opened));
    json_object_set_new(status, "channels_renewed", json_integer((json_int_t)uplink->channels_renewed));
    json_object_set_new(status, "sessions_resumed", json_integer((json_int_t)uplink->sessions_resumed));
    json_object_set_new(status, "up", sg_ledger_json(&uplink->up));
    json_object_set_new(status, "down", sg_ledger_json(&uplink->down));
}
