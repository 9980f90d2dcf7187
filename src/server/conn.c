/*
 * Connections before their request. Whatever they do, they have ten seconds in all and count against caps, in all and
 * per address; nothing is answered that policy does not allow.
 */
#include "server/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sodium.h>

#include "core/socks5.h"
#include "net/clock.h"
#include "net/finish.h"
#include "net/inbox.h"
#include "net/log.h"
#include "net/log_text.h"
#include "net/sockaddr.h"
#include "net/tls.h"
#include "net/tls_gate.h"
#include "server/admission.h"
#include "server/auth.h"
#include "server/cert_users.h"
#include "server/channel_conn.h"
#include "server/config.h"
#include "server/conn_state.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/usage.h"
#include "server/users.h"
#include "server/worker.h"

enum { FIRST_BYTE_TLS = 0x16, FIRST_BYTE_SOCKS5 = 0x05 };

void sg_conn_free(struct sg_conn *conn)
{
    *conn->link = conn->next;
    if (conn->next)
        conn->next->link = conn->link;
    conn->worker->conn_count--;
    if (conn->ticket)
        sg_admission_leave(conn->worker->server->admission, conn->ticket);
    if (conn->job)
        sg_auth_cancel(conn->job);
    if (conn->first_byte)
        event_free(conn->first_byte);
    if (conn->handshake)
        sg_tls_gate_cancel(conn->handshake);
    if (conn->deadline)
        event_free(conn->deadline);
    if (conn->finishing)
        sg_finish_cancel(conn->finishing);
    if (conn->bev)
        bufferevent_free(conn->bev);
    if (conn->fd >= 0)
        close(conn->fd);
    free(conn);
}

void sg_conns_free_all(struct sg_worker *worker)
{
    for (struct sg_conn *conn = worker->conns, *next = NULL; conn; conn = next) {
        next = conn->next;
        sg_conn_free(conn);
    }
}

static void on_finished(void *ctx)
{
    struct sg_conn *conn = ctx;
    conn->finishing = NULL;
    sg_conn_free(conn);
}

void sg_conn_finish(struct sg_conn *conn)
{
    struct bufferevent *bev = conn->bev;
    conn->bev = NULL;
    event_del(conn->deadline);
    conn->finishing = sg_finish_then(bev, on_finished, conn);
    if (!conn->finishing)
        sg_conn_free(conn);
}

/* --- SOCKS5 --- */

static void work_on_input(struct sg_conn *conn);

/* Nothing is said: "wrong" would make a client with the right password give up. */
static void drop_busy(struct sg_conn *conn)
{
    conn->worker->refused_busy++;
    sg_conn_free(conn);
}

/* The verdict on user and password, now or later. */
static void on_verdict(void *ctx, const struct sg_auth_result *result)
{
    struct sg_conn *conn = ctx;
    uint8_t bytes[SG_SOCKS5_REPLY_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    conn->job = NULL;
    if (result->busy) {
        drop_busy(conn);
        return;
    }
    conn->is_known = result->good;
    conn->is_external = result->good && result->is_external;
    if (conn->is_external) {
        memcpy(conn->user, result->user, sizeof conn->user);
        conn->groups = result->groups;
    }
    enum sg_socks5_event event = sg_socks5_server_auth_result(&conn->socks, result->good, &w);
    bufferevent_write(conn->bev, bytes, sg_wbuf_len(&w));
    if (event == SG_SOCKS5_SEND_REPLY) {
        bufferevent_enable(conn->bev, EV_READ);
        work_on_input(conn);
        return;
    }
    char text[SG_ENDPOINT_TEXT_MAX];
    sg_log_endpoint(&conn->peer, text);
    if (result->names_user)
        sg_log_event(SG_LOG_WARN, "auth_failed",
                     SG_LOG_FIELDS(sg_log_word("client", text), sg_log_word("user", conn->user),
                                   sg_log_word("cause", result->why)),
                     "credentials of %s refused from %s: %s", conn->user, text, result->why);
    else
        sg_log_event(SG_LOG_WARN, "auth_failed",
                     SG_LOG_FIELDS(sg_log_word("client", text), sg_log_word("cause", result->why)),
                     "credentials refused from %s: %s", text, result->why);
    conn->worker->refused_auth++;
    sg_conn_finish(conn);
}

/* True if the verdict is still to come, or has come and conn may be gone. */
static void check_login(struct sg_conn *conn)
{
    size_t len = conn->socks.user_len;
    memset(conn->user, 0, sizeof conn->user);
    if (len <= SG_USER_NAME_MAX)
        memcpy(conn->user, conn->socks.user, len);
    char session_user[SG_USER_NAME_MAX + 1];
    bool has_session = sg_admission_known_user(conn->worker->server->admission, conn->ticket, session_user);
    struct sg_auth_request request = {
        .policy = conn->worker->policy,
        .inbox = conn->worker->inbox,
        .user = conn->user,
        .password = conn->socks.password,
        .password_len = conn->socks.password_len,
        .peer = conn->peer.ip,
        .is_in_session = has_session && strcmp(session_user, conn->user) == 0,
    };
    struct sg_auth_result result;
    switch (sg_auth_check(conn->worker->server->auth, &request, on_verdict, conn, &result, &conn->job)) {
    case SG_AUTH_DONE:
        on_verdict(conn, &result);
        return;
    case SG_AUTH_BUSY:
        drop_busy(conn);
        return;
    case SG_AUTH_LATER:
        bufferevent_disable(conn->bev, EV_READ); /* no more is held than what came with the password */
        return;
    }
}

static void start_tls(struct sg_conn *conn);

static void upgrade_to_tls(struct sg_conn *conn, const uint8_t *reply, size_t len)
{
    /* the reply goes out in the clear by itself: a fresh socket always has room for two bytes */
    int fd = bufferevent_getfd(conn->bev);
    if (evbuffer_get_length(bufferevent_get_input(conn->bev)) > 0 ||
        send(fd, reply, len, MSG_NOSIGNAL) != (ssize_t)len) {
        sg_conn_free(conn);
        return;
    }
    bufferevent_disable(conn->bev, EV_READ | EV_WRITE);
    bufferevent_setfd(conn->bev, -1);
    bufferevent_free(conn->bev);
    conn->bev = NULL;
    conn->fd = fd;
    conn->upgraded = true;
    start_tls(conn);
}

/* Whether the request, malformed or not, is for a channel, where there are channels. */
static bool asked_for_channel(const struct sg_conn *conn)
{
    return conn->socks.command == SG_SOCKS5_CMD_CHANNEL && conn->is_tls &&
           sg_tls_alpn(conn->bev) == SG_TLS_ALPN_SEALGRAM;
}

/* What a message asks for. True if there may be another one to work on. */
static bool act(struct sg_conn *conn, enum sg_socks5_event event, const uint8_t *reply, size_t reply_len)
{
    switch (event) {
    case SG_SOCKS5_NEED_MORE:
        return false;
    case SG_SOCKS5_SEND_REPLY:
        bufferevent_write(conn->bev, reply, reply_len);
        return true;
    case SG_SOCKS5_UPGRADE_TLS:
        upgrade_to_tls(conn, reply, reply_len);
        return false;
    case SG_SOCKS5_AUTH_NEEDED:
        check_login(conn);
        return false;
    case SG_SOCKS5_REQUEST:
        sg_conn_serve_request(conn);
        return false;
    case SG_SOCKS5_FAILED:
        if (!conn->is_tls && conn->socks.reason == SG_REASON_NOT_OFFERED)
            conn->worker->refused_first++;
        bufferevent_write(conn->bev, reply, reply_len);
        if (asked_for_channel(conn))
            sg_channel_conn_refuse_block(conn->bev, conn->socks.reason);
        sg_conn_finish(conn);
        return false;
    }
    return false;
}

/* One message of the input, which may be a password: no copy of it is left. True as act says. */
static bool work_on_message(struct sg_conn *conn)
{
    uint8_t message[SG_SOCKS5_INPUT_MAX];
    uint8_t reply[SG_SOCKS5_REPLY_MAX];
    struct evbuffer *input = bufferevent_get_input(conn->bev);
    struct sg_wbuf w = sg_wbuf_init(reply, sizeof reply);
    size_t have = evbuffer_get_length(input);
    size_t len = have < sizeof message ? have : sizeof message;
    size_t consumed = 0;
    uint8_t *bytes = len > 0 ? evbuffer_pullup(input, (ev_ssize_t)len) : NULL;
    if (!bytes)
        return false;
    memcpy(message, bytes, len);
    enum sg_socks5_event event = sg_socks5_server_input(&conn->socks, message, len, &consumed, &w);
    sodium_memzero(bytes, consumed);
    evbuffer_drain(input, consumed);
    bool more = act(conn, event, reply, sg_wbuf_len(&w));
    sodium_memzero(message, sizeof message);
    return more;
}

static void work_on_input(struct sg_conn *conn)
{
    while (work_on_message(conn)) {
        /* greeting, credentials and request may come in one flight */
    }
}

static void on_input(struct bufferevent *bev, void *ctx)
{
    (void)bev;
    work_on_input(ctx);
}

/* --- TLS --- */

/* The methods that this connection may use inside TLS. */
static unsigned methods_in_tls(const struct sg_conn *conn)
{
    bool nobody_needed = conn->is_known || conn->worker->policy->config->allow_anyone;
    return SG_SOCKS5_MAY_PASSWORD | (nobody_needed ? SG_SOCKS5_MAY_NONE : 0);
}

/* False: it is gone. */
static bool prepare_socks(struct sg_conn *conn)
{
    char name[SG_TLS_NAME_MAX + 1];
    conn->worker->tls_handshakes++;
    sg_histogram_add(&conn->worker->handshake_us, sg_now_us() - conn->tls_began_us);
    if (sg_cert_users_find(&conn->worker->policy->config->cert_users, conn->bev, name) &&
        sg_users_has_kind(conn->worker->policy->users, name, SG_USER_CERTIFICATE)) {
        memcpy(conn->user, name, sizeof conn->user);
        conn->is_known = true;
    }
    if (!conn->upgraded) {
        sg_socks5_server_init(&conn->socks, methods_in_tls(conn));
        return true;
    }
    if (sg_socks5_server_tls_started(&conn->socks, conn->is_known) == SG_OK)
        return true;
    conn->worker->refused_auth++;
    sg_conn_free(conn);
    return false;
}

static void log_end(const struct sg_conn *conn, const char *cause)
{
    char peer[SG_ENDPOINT_TEXT_MAX];
    sg_log_endpoint(&conn->peer, peer);
    sg_log_event(SG_LOG_DEBUG, "connection_end",
                 SG_LOG_FIELDS(sg_log_word("client", peer), sg_log_word("cause", cause)),
                 "connection from %s ended: %s", peer, cause);
}

static void on_event(struct bufferevent *bev, short what, void *ctx)
{
    struct sg_conn *conn = ctx;
    if (conn->is_tls && !(what & BEV_EVENT_EOF)) {
        char text[SG_TLS_TEXT_MAX];
        (void)sg_tls_error_text(bev, what, text);
        log_end(conn, text);
    }
    sg_conn_free(conn);
}

static void enable(struct sg_conn *conn)
{
    bufferevent_setcb(conn->bev, on_input, NULL, on_event, conn);
    if (bufferevent_enable(conn->bev, EV_READ | EV_WRITE) != 0)
        sg_conn_free(conn);
}

static bool on_hello(void *ctx, const uint8_t *pass, size_t len, struct sg_tls_start *start)
{
    struct sg_conn *conn = ctx;
    struct sg_admission *admission = conn->worker->server->admission;
    bool may = sg_admission_hello(admission, conn->ticket, pass, len, sg_now_us(), start);
    conn->worker->refused_caps += !may;
    return may;
}

static void on_handshake(void *ctx, struct bufferevent *bev, const char *text)
{
    struct sg_conn *conn = ctx;
    conn->handshake = NULL;
    conn->bev = bev;
    if (!bev) {
        log_end(conn, text);
        sg_conn_free(conn);
    } else if (prepare_socks(conn)) {
        enable(conn);
    }
}

static void start_tls(struct sg_conn *conn)
{
    static const struct sg_tls_entry_ops ops = {.hello = on_hello, .done = on_handshake};
    struct sg_worker *worker = conn->worker;
    int fd = conn->fd;
    conn->fd = -1;
    conn->is_tls = true;
    conn->tls_began_us = sg_now_us();
    conn->handshake = sg_tls_gate_enter(worker->gate, worker->policy->tls, fd, &ops, conn);
    if (!conn->handshake)
        sg_conn_free(conn);
}

/* SOCKS5 in the clear: the upgrade is always offered, plain methods only where policy allows them. */
static void start_plain(struct sg_conn *conn)
{
    const struct sg_config *config = conn->worker->policy->config;
    int fd = conn->fd;
    unsigned may = SG_SOCKS5_MAY_TLS_PASSWORD;
    if (config->client_ca)
        may |= SG_SOCKS5_MAY_TLS_NONE;
    if (sg_conn_is_listed(config->plain_socks, config->plain_socks_count, &conn->peer.ip))
        may |= config->allow_anyone ? SG_SOCKS5_MAY_PASSWORD | SG_SOCKS5_MAY_NONE : SG_SOCKS5_MAY_PASSWORD;
    sg_socks5_server_init(&conn->socks, may);
    conn->bev = bufferevent_socket_new(conn->worker->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!conn->bev) {
        sg_conn_free(conn);
        return;
    }
    conn->fd = -1;
    enable(conn);
}

/* Who speaks in the clear shows no pass. */
static void start_plain_if_there_is_room(struct sg_conn *conn)
{
    struct sg_tls_start start;
    if (sg_admission_hello(conn->worker->server->admission, conn->ticket, NULL, 0, sg_now_us(), &start)) {
        start_plain(conn);
        return;
    }
    conn->worker->refused_caps++;
    sg_conn_free(conn);
}

/* --- the first byte --- */

static void pass_fd(struct sg_worker *worker, int fd, uint64_t accepted_ms);

/* SOCKS5 in the clear: its datagrams, if it has any, arrive at worker 0. */
static void pass_on(struct sg_conn *conn)
{
    int fd = conn->fd;
    conn->fd = -1;
    pass_fd(conn->worker, fd, conn->accepted_ms);
    sg_conn_free(conn);
}

static void on_first_byte(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_conn *conn = ctx;
    uint8_t byte = 0;
    (void)what;
    ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        event_add(conn->first_byte, NULL);
        return;
    }
    event_free(conn->first_byte);
    conn->first_byte = NULL;
    if (got == 1 && byte == FIRST_BYTE_TLS) {
        start_tls(conn);
    } else if (got == 1 && byte == FIRST_BYTE_SOCKS5 && conn->worker->index != 0) {
        pass_on(conn);
    } else if (got == 1 && byte == FIRST_BYTE_SOCKS5) {
        start_plain_if_there_is_room(conn);
    } else {
        conn->worker->refused_first += got == 1;
        sg_conn_free(conn);
    }
}

static void on_deadline(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_conn *conn = ctx;
    (void)fd;
    (void)what;
    conn->worker->refused_deadline++;
    sg_conn_free(conn);
}

/* Another host has fewer, and needs the place. */
static void on_displaced(void *ctx)
{
    struct sg_conn *conn = ctx;
    conn->worker->displaced++;
    sg_conn_free(conn);
}

static bool may_begin(struct sg_conn *conn)
{
    const struct sg_worker *worker = conn->worker;
    if (sg_usage_total(worker->server->usage, SG_USAGE_CONNECTION) < worker->policy->config->limits.connections)
        conn->ticket = sg_admission_enter(worker->server->admission, &conn->peer.ip, worker->inbox, on_displaced, conn);
    return conn->ticket != NULL;
}

/* Takes over fd, whose time is limited since it was accepted. */
static void start_conn(struct sg_worker *worker, int fd, uint64_t accepted_ms)
{
    uint64_t limit_ms = (uint64_t)worker->policy->config->limits.handshake_seconds * 1000;
    uint64_t gone_ms = sg_now_ms() - accepted_ms;
    uint64_t left_ms = gone_ms < limit_ms ? limit_ms - gone_ms : 0;
    struct timeval limit = {.tv_sec = (time_t)(left_ms / 1000), .tv_usec = (suseconds_t)(left_ms % 1000 * 1000)};
    struct sg_conn *conn = calloc(1, sizeof *conn);
    if (!conn) {
        close(fd);
        return;
    }
    conn->worker = worker;
    conn->fd = fd;
    conn->accepted_ms = accepted_ms;
    conn->peer = sg_socket_peer(fd);
    if (!may_begin(conn)) {
        worker->refused_caps++;
        close(fd);
        free(conn);
        return;
    }
    conn->local = sg_socket_local(fd);
    conn->next = worker->conns;
    conn->link = &worker->conns;
    if (conn->next)
        conn->next->link = &conn->next;
    worker->conns = conn;
    worker->conn_count++;
    conn->first_byte = event_new(worker->base, fd, EV_READ, on_first_byte, conn);
    conn->deadline = evtimer_new(worker->base, on_deadline, conn);
    if (!conn->first_byte || !conn->deadline || event_add(conn->first_byte, NULL) != 0 ||
        evtimer_add(conn->deadline, &limit) != 0)
        sg_conn_free(conn);
}

/* A connection that goes on at worker 0, before a byte of it was read. */
struct passed {
    struct sg_letter letter;
    struct sg_worker *to;
    int fd;
    uint64_t accepted_ms;
};

static void take_passed(void *ctx)
{
    struct passed passed = *(struct passed *)ctx;
    free(ctx);
    if (passed.to->closed)
        close(passed.fd);
    else
        start_conn(passed.to, passed.fd, passed.accepted_ms);
}

static void pass_fd(struct sg_worker *worker, int fd, uint64_t accepted_ms)
{
    struct passed *passed = malloc(sizeof *passed);
    if (!passed) {
        close(fd);
        return;
    }
    *passed = (struct passed){.to = worker->server->workers[0], .fd = fd, .accepted_ms = accepted_ms};
    passed->letter = (struct sg_letter){.fn = take_passed, .ctx = passed};
    sg_inbox_post(passed->to->inbox, &passed->letter);
}

void sg_conn_accept(struct sg_worker *worker, int fd)
{
    const struct sg_config *config = worker->policy->config;
    struct sg_endpoint peer = sg_socket_peer(fd);
    worker->accepted++;
    /* who may ask for a plain association must do so where its datagrams arrive */
    if (worker->index != 0 && sg_conn_is_listed(config->plain_udp, config->plain_udp_count, &peer.ip))
        pass_fd(worker, fd, sg_now_ms());
    else
        start_conn(worker, fd, sg_now_ms());
}
