/*
 * The client's start and end: open the local listeners, connect, say `ready`, run until a signal, and end in good
 * order.
 */
#include "client/client.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <event2/event.h>
#include <jansson.h>

#include "client/socks.h"
#include "client/tunnel.h"
#include "client/uplink.h"
#include "net/finish.h"
#include "net/invite.h"
#include "net/log.h"
#include "net/resolver.h"
#include "net/status_socket.h"
#include "net/tls.h"

enum {
    FLUSH_S = 3,         /* for CLOSE and close_notify to leave: more than sg_finish takes */
    RESERVED_FILES = 64, /* of the limit of open files, for everything but local connections */
    FILES_PER_CONNECTION = 2,
    CONNECTIONS_MAX = 16384,
};

bool sg_client_is_local(const struct sg_ip *ip)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    return (ip->family == 4 && ip->bytes[0] == 127) || (ip->family == 6 && memcmp(ip->bytes, loopback6, 16) == 0);
}

/* --- what the uplink tells --- */

static void stop(struct sg_client *client, int exit_code)
{
    client->exit_code = exit_code;
    event_base_loopbreak(client->base);
}

void sg_client_on_ready(struct sg_client *client, const char *path)
{
    printf("ready%s path=%s\n", client->announce ? client->announce : "", path);
    if (fflush(stdout) != 0)
        sg_log(SG_LOG_WARN, "cannot write to standard output: %s", strerror(errno));
}

void sg_client_on_fatal(struct sg_client *client, const char *text)
{
    sg_log(SG_LOG_ERROR, "%s", text);
    stop(client, 1);
}

static void announce(struct sg_client *client, const char *what, const struct sg_endpoint *bound)
{
    char text[SG_ENDPOINT_TEXT_MAX];
    const char *before = client->announce ? client->announce : "";
    char *longer = NULL;
    sg_endpoint_format(bound, text);
    if (asprintf(&longer, "%s %s%s", before, what, text) < 0)
        return;
    free(client->announce);
    client->announce = longer;
}

/* --- start --- */

/* Each local connection takes a file, and one more to the server: take what the system allows. */
static void raise_file_limit(struct sg_client *client)
{
    struct rlimit limit = {.rlim_cur = 1024, .rlim_max = 1024};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        rlim_t soft = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            limit.rlim_cur = soft;
    }
    rlim_t usable = limit.rlim_cur > 2 * RESERVED_FILES ? limit.rlim_cur - RESERVED_FILES : RESERVED_FILES;
    usable /= FILES_PER_CONNECTION;
    client->connection_limit = usable < CONNECTIONS_MAX ? (size_t)usable : CONNECTIONS_MAX;
}

static bool make_servers(struct sg_client *client)
{
    const struct sg_client_options *options = client->options;
    char text[SG_TLS_TEXT_MAX];
    client->servers = calloc(options->invite_count, sizeof *client->servers);
    if (!client->servers)
        return false;
    for (size_t i = 0; i < options->invite_count; i++) {
        const struct sg_invite *invite = &options->invites[i];
        struct sg_tls_client_options tls = {.has_pin = invite->has_pin,
                                            .ca_file = options->ca_file,
                                            .certificate = options->certificate,
                                            .key = options->key};
        memcpy(tls.pin, invite->pin, sizeof tls.pin);
        client->servers[i].invite = invite;
        client->servers[i].tls = sg_tls_client_ctx(&tls, text);
        client->server_count = i + 1;
        if (!client->servers[i].tls) {
            sg_log(SG_LOG_ERROR, "%s", text);
            return false;
        }
    }
    return true;
}

static bool listen_failed(const struct sg_endpoint *listen, const char *option)
{
    char text[SG_ENDPOINT_TEXT_MAX];
    int error = errno;
    sg_endpoint_format(listen, text);
    sg_log(SG_LOG_ERROR, "cannot listen on %s (%s): %s", text, option, strerror(error));
    return false;
}

static bool open_listeners(struct sg_client *client)
{
    const struct sg_client_options *options = client->options;
    struct sg_endpoint bound;
    for (size_t i = 0; i < options->socks_count; i++) {
        if (!sg_socks_listen(client, &options->socks[i], &bound))
            return listen_failed(&options->socks[i], "--socks");
        announce(client, "socks=", &bound);
    }
    for (size_t i = 0; i < options->forward_count; i++) {
        const struct sg_client_forward *forward = &options->forwards[i];
        bool good = forward->udp
                        ? sg_uplink_add_forward(client->uplink, &forward->listen, &forward->target, &bound) == SG_OK
                        : sg_tunnel_listen(client, forward, &bound);
        if (!good)
            return listen_failed(&forward->listen, "--forward");
        announce(client, forward->udp ? "forward=udp:" : "forward=tcp:", &bound);
    }
    return true;
}

static json_t *make_status(void *ctx)
{
    struct sg_client *client = ctx;
    json_t *status = json_object();
    if (!status)
        return NULL;
    const struct sg_invite *invite = client->servers[client->current].invite;
    json_object_set_new(status, "role", json_string("client"));
    json_object_set_new(status, "version", json_string(SG_VERSION));
    json_object_set_new(status, "server", json_sprintf("%s:%u", invite->host, invite->port));
    json_object_set_new(status, "user", json_string(invite->user));
    json_object_set_new(status, "tls_handshakes", json_integer((json_int_t)client->tls_handshakes));
    json_object_set_new(status, "tunnels", json_integer((json_int_t)client->tunnel_count));
    json_object_set_new(status, "tunnels_opened", json_integer((json_int_t)client->tunnels_opened));
    json_object_set_new(status, "local_connections", json_integer((json_int_t)client->connection_count));
    sg_uplink_status(client->uplink, status);
    return status;
}

static bool open_status(struct sg_client *client)
{
    const char *path = client->options->status_socket;
    if (!path)
        return true;
    client->status = sg_status_socket_new(client->base, path, make_status, client);
    if (!client->status)
        sg_log(SG_LOG_ERROR, "cannot listen on %s (--status-socket): %s", path, strerror(errno));
    return client->status != NULL;
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    (void)what;
    sg_log(SG_LOG_INFO, "%s: ending", number == SIGINT ? "SIGINT" : "SIGTERM");
    stop(ctx, 0);
}

static bool catch_signals(struct sg_client *client)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)sigaction(SIGPIPE, &ignore, NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        client->signals[i] = evsignal_new(client->base, numbers[i], on_signal, client);
        if (!client->signals[i] || event_add(client->signals[i], NULL) != 0)
            return false;
    }
    return true;
}

static bool start(struct sg_client *client)
{
    raise_file_limit(client);
    client->base = event_base_new();
    client->resolver = client->base ? sg_resolver_new(client->base) : NULL;
    if (!client->resolver || !catch_signals(client)) {
        sg_log(SG_LOG_ERROR, "cannot set up the event loop");
        return false;
    }
    if (!make_servers(client))
        return false;
    client->uplink = sg_uplink_new(client);
    if (!client->uplink) {
        sg_log(SG_LOG_ERROR, "cannot set up the session: %s", strerror(errno));
        return false;
    }
    return open_listeners(client) && open_status(client);
}

/* --- end --- */

static void on_flush_limit(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(ctx);
}

/* What was handed to the loop for a good end (CLOSE, close_notify) gets a moment to leave. */
static void flush(struct sg_client *client)
{
    static const struct timeval limit = {.tv_sec = FLUSH_S};
    struct event *timer = evtimer_new(client->base, on_flush_limit, client->base);
    if (timer && evtimer_add(timer, &limit) == 0) {
        while (event_base_get_num_events(client->base, EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE) > 1) {
            if (event_base_loop(client->base, EVLOOP_ONCE) != 0 || event_base_got_break(client->base))
                break;
        }
    }
    if (timer)
        event_free(timer);
}

static void dispose(struct sg_client *client)
{
    sg_status_socket_free(client->status);
    sg_socks_free(client);
    sg_tunnel_free_all(client);
    sg_uplink_free(client->uplink);
    sg_resolver_free(client->resolver);
    for (size_t i = 0; i < 2; i++)
        if (client->signals[i])
            event_free(client->signals[i]);
    if (client->base) {
        flush(client);
        sg_finish_rest();
        event_base_free(client->base);
    }
    for (size_t i = 0; i < client->server_count; i++)
        SSL_CTX_free(client->servers[i].tls);
    free(client->servers);
    free(client->announce);
}

int sg_client_run(const struct sg_client_options *options)
{
    struct sg_client client = {.options = options, .exit_code = 1};
    if (start(&client)) {
        sg_uplink_start(client.uplink);
        event_base_dispatch(client.base);
    }
    dispose(&client);
    return client.exit_code;
}
