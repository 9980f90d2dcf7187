/*
 * One connection to the server: resolve, dial, TLS, and greeting, credentials, request and extra bytes in one flight.
 * What fails before the server's reply is told in one line that names the server; nothing is ever said outside TLS.
 */
#include "client/server_conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sodium.h>

#include "client/advice.h"
#include "client/client.h"
#include "client/tunnel.h"
#include "client/uplink.h"
#include "core/socks5.h"
#include "net/dial.h"
#include "net/invite.h"
#include "net/log.h"
#include "net/resolver.h"
#include "net/sockaddr.h"
#include "net/tls.h"

enum {
    WHOLE_LIMIT_S = 20,
    PROGRESS_LIMIT_S = 10,
    SLOW_S = 3,
    PATIENCE_S = 1,      /* with a look-up, where addresses are known anyway */
    TARGET_LIMIT_S = 60, /* once authenticated: the server may have slow addresses to try */
    SERVER_TEXT_MAX = 300,
    TEXT_MAX = 768,
    /* The stream is what is left when UDP is not: it must not fall into the black hole that long packets fall into. */
    CHANNEL_MSS = 1220, /* what a path of IPv6 has at least */
};

struct sg_server_conn {
    struct sg_client *client;
    struct sg_client_servers *servers; /* with the one */
    struct sg_client_server *server;
    sg_server_conn_fn *fn;
    void *ctx;
    struct sg_resolve *resolve;
    struct sg_ip_list found; /* by the look-up */
    struct event *patience;  /* with it */
    struct sg_dial *dial;
    bool by_known; /* it goes to addresses of before, or of the invite: they may be another's by now */
    struct bufferevent *bev;
    struct event *limit; /* of the whole */
    struct event *slow;  /* of a session's: when it is time to say what is waited for */
    const char *stage;   /* what is waited for */
    uint8_t command;
    bool is_unknown; /* the server does not know the credentials */
    bool is_counted; /* among the client's logins */
    bool is_in;      /* authenticated: the server is at work for us */
    struct sg_endpoint peer;
    struct sg_socks5_client socks;
    size_t flight_len;
    uint8_t flight[]; /* with the password: wiped when sent */
};

/* It is not among those any more that the server counts as unauthenticated: another may take its place. */
static void end_login(struct sg_server_conn *conn)
{
    if (!conn->is_counted)
        return;
    conn->is_counted = false;
    conn->client->logins--;
    sg_tunnel_wake(conn->client);
}

static void free_conn(struct sg_server_conn *conn)
{
    end_login(conn);
    if (conn->resolve)
        sg_resolve_cancel(conn->resolve);
    if (conn->dial)
        sg_dial_cancel(conn->dial);
    if (conn->bev)
        bufferevent_free(conn->bev);
    if (conn->limit)
        event_free(conn->limit);
    if (conn->slow)
        event_free(conn->slow);
    sg_client_servers_release(conn->servers);
    if (conn->patience)
        event_free(conn->patience);
    sodium_memzero(conn->flight, conn->flight_len);
    free(conn);
}

/*
 * The session's attempts choose the server: after one that failed the next of the list is tried. CONNECT and BIND go
 * where the session is.
 */
static void note_outcome(struct sg_server_conn *conn, bool failed, bool final)
{
    struct sg_client *client = conn->client;
    if (conn->command != SG_SOCKS5_CMD_CHANNEL)
        return;
    conn->server->refused = final;
    conn->server->is_unknown = final && conn->is_unknown;
    if (failed && &client->servers->list[client->current] == conn->server)
        client->current = (client->current + 1) % client->servers->count;
}

static bool all_refused(const struct sg_client *client)
{
    for (size_t i = 0; i < client->servers->count; i++)
        if (!client->servers->list[i].refused)
            return false;
    return true;
}

/* "server HOST:PORT" */
static void name_server(const struct sg_invite *invite, char out[static SERVER_TEXT_MAX])
{
    snprintf(out, SERVER_TEXT_MAX, strchr(invite->host, ':') ? "server [%s]:%u" : "server %s:%u", invite->host,
             invite->port);
}

static bool is_one_unknown(const struct sg_client *client)
{
    for (size_t i = 0; i < client->servers->count; i++)
        if (client->servers->list[i].is_unknown)
            return true;
    return false;
}

/* Nothing came of it. */
enum failure {
    FAILED,
    TURNED_AWAY, /* by a server that is there, before it looked at who we are: it may have had no room */
    FINAL,       /* trying this server again does not help */
};

static void fail(struct sg_server_conn *conn, enum failure failure, const char *cause)
{
    const bool final = failure == FINAL;
    char server[SERVER_TEXT_MAX], text[TEXT_MAX];
    name_server(&conn->server->invite, server);
    snprintf(text, sizeof text, "%s: %s", server, cause);
    note_outcome(conn, true, final);
    struct sg_server_conn_result result = {
        .rep = SG_SOCKS5_REP_GENERAL,
        .fatal = final && all_refused(conn->client),
        .may_be_new = final && is_one_unknown(conn->client),
        .turned_away = failure == TURNED_AWAY,
        .peer = conn->peer,
        .text = text,
    };
    sg_server_conn_fn *fn = conn->fn;
    void *ctx = conn->ctx;
    free_conn(conn);
    fn(ctx, &result);
}

/* --- inside TLS --- */

/* The addresses at which a session was opened are kept: the one that was good first. */
static void remember_addresses(const struct sg_server_conn *conn)
{
    struct sg_client_server *server = conn->server;
    struct sg_known_server known = {.port = server->invite.port};
    struct sg_ip ip;
    if (server->is_fixed || sg_ip_parse(server->invite.host, &ip) == SG_OK)
        return;
    sg_ip_list_add(&known.addresses, &conn->peer.ip);
    const struct sg_ip_list *others = conn->found.count > 0 ? &conn->found : &server->known;
    for (size_t i = 0; i < others->count; i++)
        sg_ip_list_add(&known.addresses, &others->ips[i]);
    if (sg_ip_list_equal(&known.addresses, &server->known) && server->is_kept)
        return;
    server->known = known.addresses;
    server->is_kept = true;
    memcpy(known.host, server->invite.host, sizeof known.host);
    if (conn->client->index == 0 && conn->client->known_path &&
        sg_known_servers_save(conn->client->known_path, &known) != SG_OK)
        sg_log(SG_LOG_DEBUG, "%s: %s", conn->client->known_path, strerror(errno));
}

static void succeed(struct sg_server_conn *conn)
{
    if (conn->command == SG_SOCKS5_CMD_CHANNEL && conn->socks.rep == 0)
        remember_addresses(conn);
    struct bufferevent *bev = conn->bev;
    struct sg_server_conn_result result = {
        .ok = conn->socks.rep == 0,
        .rep = conn->socks.rep,
        .answered = true,
        .bound = sg_target_endpoint(&conn->socks.bound),
        .peer = conn->peer,
        .bev = bev,
        .text = sg_socks5_rep_text(conn->socks.rep),
    };
    note_outcome(conn, conn->socks.rep != 0, false);
    conn->client->waited_for = NULL;
    conn->bev = NULL;
    bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
    bufferevent_set_timeouts(bev, NULL, NULL);
    sg_server_conn_fn *fn = conn->fn;
    void *ctx = conn->ctx;
    free_conn(conn);
    fn(ctx, &result);
}

/*
 * Authenticated, and a target is being connected to: the server's answer, also that it timed out, is worth more than
 * ours. Once: a part of the answer gives it no further time.
 */
static void be_patient(struct sg_server_conn *conn)
{
    static const struct timeval target = {.tv_sec = TARGET_LIMIT_S};
    if (conn->is_in)
        return;
    conn->is_in = true;
    end_login(conn);
    if (conn->command != SG_SOCKS5_CMD_CONNECT)
        return;
    bufferevent_set_timeouts(conn->bev, NULL, NULL);
    evtimer_add(conn->limit, &target);
}

static void on_input(struct bufferevent *bev, void *ctx)
{
    struct sg_server_conn *conn = ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    uint8_t bytes[SG_SOCKS5_INPUT_MAX];
    size_t consumed = 0;
    ev_ssize_t have = evbuffer_copyout(input, bytes, sizeof bytes);
    enum sg_socks5_client_event event =
        sg_socks5_client_input(&conn->socks, bytes, have > 0 ? (size_t)have : 0, &consumed);
    evbuffer_drain(input, consumed);
    switch (event) {
    case SG_SOCKS5_CLIENT_NEED_MORE:
        if (conn->socks.state == SG_SOCKS5_CLIENT_AT_REPLY)
            be_patient(conn);
        return;
    case SG_SOCKS5_CLIENT_REPLY:
        succeed(conn);
        return;
    case SG_SOCKS5_CLIENT_METHOD_REFUSED:
        fail(conn, FINAL, sg_socks5_client_text(event));
        return;
    case SG_SOCKS5_CLIENT_PASSWORD_REFUSED:
        conn->is_unknown = true;
        fail(conn, FINAL, sg_advice_login(&conn->server->invite));
        return;
    case SG_SOCKS5_CLIENT_MALFORMED:
        fail(conn, FAILED, sg_socks5_client_text(event));
        return;
    }
}

/* Only a proven server sees the credentials: the flight waits for the end of the handshake. */
static void on_handshake(struct sg_server_conn *conn)
{
    conn->client->tls_handshakes++;
    if (sg_tls_alpn(conn->bev) != SG_TLS_ALPN_SEALGRAM) {
        fail(conn, FINAL, "no common application protocol (ALPN sealgram/1)");
        return;
    }
    conn->stage = "the answer to the login";
    bool sent = bufferevent_write(conn->bev, conn->flight, conn->flight_len) == 0;
    sodium_memzero(conn->flight, conn->flight_len);
    if (!sent)
        fail(conn, FAILED, "out of memory");
}

static void on_event(struct bufferevent *bev, short what, void *ctx)
{
    struct sg_server_conn *conn = ctx;
    char text[SG_TLS_TEXT_MAX];
    if (what & BEV_EVENT_CONNECTED) {
        on_handshake(conn);
        return;
    }
    bool final = sg_tls_error_text(bev, what, text);
    if (final && conn->by_known) {
        conn->server->known.count = 0; /* somebody else is there: only a look-up tells where the server is */
        fail(conn, FAILED, text);
        return;
    }
    bool may_be_full = !conn->is_in && !(what & BEV_EVENT_TIMEOUT);
    fail(conn, final ? FINAL : may_be_full ? TURNED_AWAY : FAILED, text);
}

/* --- before it --- */

static void dial(struct sg_server_conn *conn, const struct sg_ip_list *to, bool by_known);

static void on_dialled(void *ctx, int fd, int error)
{
    static const struct timeval progress = {.tv_sec = PROGRESS_LIMIT_S};
    struct sg_server_conn *conn = ctx;
    conn->dial = NULL;
    if (fd < 0 && conn->by_known && conn->resolve) {
        conn->by_known = false; /* the look-up may find others */
        return;
    }
    if (fd < 0) {
        char text[SG_ADVICE_MAX];
        sg_advice_dial(error, conn->server->invite.port, text);
        fail(conn, FAILED, text);
        return;
    }
    conn->stage = "the TLS handshake (is a Sealgram server at this port?)";
    conn->peer = sg_socket_peer(fd);
    struct sg_client *client = conn->client;
    uint8_t pass[SG_PASS_BYTES];
    bool has_pass = sg_uplink_show_pass(client->uplink, conn->server, pass);
    conn->bev = sg_tls_connect(client->base, conn->server->tls, fd, conn->server->invite.host, has_pass ? pass : NULL,
                               sizeof pass);
    if (!conn->bev) {
        fail(conn, FAILED, "out of memory");
        return;
    }
    bufferevent_setcb(conn->bev, on_input, NULL, on_event, conn);
    bufferevent_set_timeouts(conn->bev, &progress, &progress);
    if (bufferevent_enable(conn->bev, EV_READ | EV_WRITE) != 0)
        fail(conn, FAILED, "out of memory");
}

static void dial(struct sg_server_conn *conn, const struct sg_ip_list *to, bool by_known)
{
    int mss = conn->command == SG_SOCKS5_CMD_CHANNEL ? CHANNEL_MSS : 0;
    conn->stage = "a TCP connection (does a firewall drop packets to this port?)";
    conn->by_known = by_known;
    conn->dial =
        sg_dial_start(conn->client->base, to->ips, to->count, conn->server->invite.port, mss, on_dialled, conn);
}

/*
 * What was looked up goes before what was known. Where a connection to a known address exists already, TLS says whether
 * it is the server.
 */
static void on_resolved(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count)
{
    struct sg_server_conn *conn = ctx;
    conn->resolve = NULL;
    evtimer_del(conn->patience);
    for (size_t i = 0; i < count && err == SG_OK; i++)
        sg_ip_list_add(&conn->found, &ips[i]);
    if (conn->bev || (conn->dial && conn->found.count == 0))
        return;
    if (conn->found.count == 0 && conn->server->known.count == 0) {
        fail(conn, FAILED,
             "name does not resolve (is it written right, and does this machine's name server "
             "know it?)");
        return;
    }
    if (conn->dial)
        sg_dial_cancel(conn->dial);
    bool by_known = conn->found.count == 0;
    dial(conn, by_known ? &conn->server->known : &conn->found, by_known);
    if (!conn->dial)
        fail(conn, FAILED, "out of memory");
}

/* The name server may lie behind this very session. */
static void on_impatient(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_server_conn *conn = ctx;
    (void)fd;
    (void)what;
    if (conn->server->known.count > 0)
        dial(conn, &conn->server->known, true);
}

/* Starts to find out where the server is. False: memory is short. */
static bool find_server(struct sg_server_conn *conn)
{
    static const struct timeval patience = {.tv_sec = PATIENCE_S};
    const char *host = conn->server->invite.host;
    if (conn->server->is_fixed) {
        dial(conn, &conn->server->known, false);
        return conn->dial != NULL;
    }
    conn->patience = evtimer_new(conn->client->base, on_impatient, conn);
    if (!conn->patience || evtimer_add(conn->patience, &patience) != 0)
        return false;
    conn->resolve = sg_resolver_start(&conn->client->resolver, NULL, host, strlen(host), on_resolved, conn);
    return conn->resolve != NULL;
}

static void on_limit(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    struct sg_server_conn *conn = ctx;
    char text[TEXT_MAX];
    snprintf(text, sizeof text, "no answer in time; the last that was waited for was %s", conn->stage);
    fail(conn, FAILED, text);
}

/* A program that says nothing leaves its user to guess. One line for each thing that is waited for, until it came. */
static void on_slow(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_server_conn *conn = ctx;
    struct sg_client *client = conn->client;
    char server[SERVER_TEXT_MAX];
    (void)fd;
    (void)what;
    name_server(&conn->server->invite, server);
    bool repeated = client->waited_for && strcmp(client->waited_for, conn->stage) == 0;
    client->waited_for = conn->stage;
    sg_log_event(repeated ? SG_LOG_DEBUG : SG_LOG_INFO, "connect_slow", NULL, "%s: still waiting for %s", server,
                 conn->stage);
}

static bool prepare(struct sg_server_conn *conn, uint8_t cmd, const struct sg_target *target, const uint8_t *extra,
                    size_t extra_len)
{
    const struct timeval whole = {.tv_sec = WHOLE_LIMIT_S}, slow = {.tv_sec = SLOW_S};
    struct sg_wbuf w = sg_wbuf_init(conn->flight, conn->flight_len);
    const struct sg_invite *invite = &conn->server->invite;
    bool has_password = invite->password[0] != '\0'; /* else a certificate says who we are */
    if (sg_socks5_client_flight(&conn->socks, &w, has_password ? invite->user : NULL,
                                has_password ? invite->password : NULL, cmd, target) != SG_OK)
        return false;
    sg_wbuf_bytes(&w, extra, extra_len);
    if (!sg_wbuf_ok(&w))
        return false;
    conn->flight_len = sg_wbuf_len(&w);
    conn->stage = "a name server to say the address";
    conn->limit = evtimer_new(conn->client->base, on_limit, conn);
    if (!conn->limit || evtimer_add(conn->limit, &whole) != 0)
        return false;
    if (cmd != SG_SOCKS5_CMD_CHANNEL)
        return true;
    conn->slow = evtimer_new(conn->client->base, on_slow, conn);
    return conn->slow && evtimer_add(conn->slow, &slow) == 0;
}

struct sg_server_conn *sg_server_conn_start(struct sg_client *client, uint8_t cmd, const struct sg_target *target,
                                            const uint8_t *extra, size_t extra_len, sg_server_conn_fn *fn, void *ctx)
{
    size_t room = SG_SOCKS5_FLIGHT_MAX + extra_len;
    struct sg_server_conn *conn = calloc(1, sizeof *conn + room);
    if (!conn)
        return NULL;
    conn->client = client;
    conn->servers = client->servers;
    conn->servers->refs++;
    conn->server = &conn->servers->list[client->current];
    conn->fn = fn;
    conn->ctx = ctx;
    conn->flight_len = room;
    conn->command = cmd;
    if (cmd != SG_SOCKS5_CMD_CHANNEL) {
        conn->is_counted = true;
        client->logins++;
    }
    if (!prepare(conn, cmd, target, extra, extra_len)) {
        free_conn(conn);
        return NULL;
    }
    if (!find_server(conn)) {
        free_conn(conn);
        return NULL;
    }
    return conn;
}

/* To a server that connects to a target a mere end says that it should go on: the application may have half-closed. */
void sg_server_conn_cancel(struct sg_server_conn *conn)
{
    static const struct linger reset = {.l_onoff = 1};
    if (!conn)
        return;
    if (conn->bev)
        (void)setsockopt(bufferevent_getfd(conn->bev), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    free_conn(conn);
}
