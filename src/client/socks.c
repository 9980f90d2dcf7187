/*
 * Local SOCKS5: one small object for each application's connection until it turns into a tunnel or ends. What cannot be
 * served now is answered at once: an application that waits is worse off than one that knows.
 */
#include "client/socks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sodium.h>

#include "client/client.h"
#include "client/tunnel.h"
#include "client/uplink.h"
#include "core/socks5.h"
#include "net/finish.h"
#include "net/listener.h"
#include "net/log.h"
#include "net/service.h"
#include "net/sockaddr.h"

enum {
    REQUEST_LIMIT_S = 10, /* from accept to a whole request */
    FOREIGN_MAX = 4,
    INPUT_MAX = 64 * 1024, /* what an application may send before its answer */
};

struct socks_listener {
    struct socks_listener *next;
    struct sg_listener *listener;
};

/* An application's connection. */
struct app {
    struct app *next, **link;
    struct sg_client *client;
    struct bufferevent *bev;
    struct event *limit;
    struct sg_flow *flow; /* after UDP ASSOCIATE: the connection is the association's life */
    struct sg_endpoint local, peer;
    struct sg_socks5_server socks;
};

struct sg_socks_server {
    struct socks_listener *listeners;
    struct app *apps;
    const char *foreign[FOREIGN_MAX]; /* other protocols that were spoken here, and logged */
    unsigned foreign_count;
};

/* Unlinks and frees; gives the bufferevent back, which the caller now owns. */
static struct bufferevent *release_app(struct app *app)
{
    struct bufferevent *bev = app->bev;
    *app->link = app->next;
    if (app->next)
        app->next->link = app->link;
    if (app->flow)
        sg_flow_release(app->flow);
    event_free(app->limit);
    bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
    free(app);
    return bev;
}

static void end_app(struct app *app)
{
    app->client->connection_count--;
    bufferevent_free(release_app(app));
}

/* Ends it once what was written has left. */
static void finish_app(struct app *app)
{
    app->client->connection_count--;
    sg_finish(release_app(app));
}

static void on_limit(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    end_app(ctx);
}

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)bev;
    (void)what;
    end_app(ctx);
}

static void write_reply(struct app *app, uint8_t rep, const struct sg_endpoint *bound)
{
    uint8_t bytes[SG_SOCKS5_REPLY_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_socks5_reply_encode(&w, rep, bound);
    bufferevent_write(app->bev, bytes, sg_wbuf_len(&w));
}

static void refuse(struct app *app, uint8_t rep)
{
    write_reply(app, rep, NULL);
    finish_app(app);
}

/* After UDP ASSOCIATE nothing more is said on the connection; what comes is thrown away. */
static void on_idle_input(struct bufferevent *bev, void *ctx)
{
    (void)ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    evbuffer_drain(input, evbuffer_get_length(input));
}

static void start_association(struct app *app)
{
    struct sg_endpoint bound;
    enum sg_err err =
        sg_flow_associate(app->client->uplink, &app->local, &app->peer, &app->socks.target, &app->flow, &bound);
    if (err != SG_OK) {
        sg_log(SG_LOG_INFO, "UDP association of a local application failed: %s", sg_err_text(err));
        refuse(app, SG_SOCKS5_REP_GENERAL);
        return;
    }
    event_del(app->limit);
    bufferevent_setcb(app->bev, on_idle_input, NULL, on_end, app);
    write_reply(app, SG_SOCKS5_REP_SUCCEEDED, &bound);
    on_idle_input(app->bev, app);
}

static void start_tunnel(struct app *app)
{
    struct sg_client *client = app->client;
    struct sg_target target = app->socks.target;
    uint8_t name[sizeof app->socks.name];
    uint8_t command = app->socks.command;
    memcpy(name, app->socks.name, sizeof name);
    if (target.atyp == SG_ATYP_NAME)
        target.name = name;
    sg_tunnel_start(client, release_app(app), command, &target);
}

static void act(struct app *app)
{
    uint8_t command = app->socks.command;
    bool tunnel = command == SG_SOCKS5_CMD_CONNECT || command == SG_SOCKS5_CMD_BIND;
    if (!tunnel && command != SG_SOCKS5_CMD_UDP_ASSOCIATE)
        refuse(app, SG_SOCKS5_REP_COMMAND);
    else if (!sg_uplink_is_up(app->client->uplink))
        refuse(app, SG_SOCKS5_REP_GENERAL);
    else if (tunnel)
        start_tunnel(app);
    else
        start_association(app);
}

static bool text_equal(const uint8_t *bytes, size_t len, const char *text)
{
    return len == strlen(text) && sodium_memcmp(bytes, text, len) == 0;
}

static bool check_login(const struct app *app)
{
    const struct sg_client_options *options = app->client->options;
    bool user = text_equal(app->socks.user, app->socks.user_len, options->socks_user);
    bool password = text_equal(app->socks.password, app->socks.password_len, options->socks_password);
    return user && password;
}

/* The first of each kind is worth a line: a browser that is set to the wrong kind of proxy tries for hours. */
static void tell_foreign(struct app *app, const uint8_t *bytes, size_t len)
{
    struct sg_socks_server *server = app->client->socks;
    const char *what = sg_socks5_other_protocol(bytes, len);
    char peer[SG_ENDPOINT_TEXT_MAX], local[SG_ENDPOINT_TEXT_MAX];
    bool is_new = true;
    for (unsigned i = 0; i < server->foreign_count && is_new; i++)
        is_new = strcmp(server->foreign[i], what) != 0;
    if (is_new && server->foreign_count < FOREIGN_MAX)
        server->foreign[server->foreign_count++] = what;
    sg_endpoint_format(&app->peer, peer);
    sg_endpoint_format(&app->local, local);
    sg_log_event(is_new ? SG_LOG_WARN : SG_LOG_DEBUG, "not_socks5",
                 SG_LOG_FIELDS(sg_log_word("application", peer), sg_log_word("protocol", what)),
                 "an application at %s speaks %s to %s, which takes SOCKS5 only: set its proxy to socks5h://%s", peer,
                 what, local, local);
}

/* One step of the state machine; true when there may be another. The app may be gone when it returns false. */
static bool step(struct app *app)
{
    struct evbuffer *input = bufferevent_get_input(app->bev);
    uint8_t bytes[SG_SOCKS5_INPUT_MAX];
    uint8_t reply[SG_SOCKS5_REPLY_MAX];
    struct sg_wbuf w = sg_wbuf_init(reply, sizeof reply);
    size_t consumed = 0;
    ev_ssize_t have = evbuffer_copyout(input, bytes, sizeof bytes);
    bool greets = app->socks.state == SG_SOCKS5_AT_GREETING;
    enum sg_socks5_event event = sg_socks5_server_input(&app->socks, bytes, have > 0 ? (size_t)have : 0, &consumed, &w);
    if (event == SG_SOCKS5_AUTH_NEEDED)
        event = sg_socks5_server_auth_result(&app->socks, check_login(app), &w);
    if (event == SG_SOCKS5_FAILED && greets && bytes[0] != SG_SOCKS5_VERSION)
        tell_foreign(app, bytes, have > 0 ? (size_t)have : 0);
    evbuffer_drain(input, consumed);
    sodium_memzero(bytes, sizeof bytes);
    if (sg_wbuf_len(&w) > 0)
        bufferevent_write(app->bev, reply, sg_wbuf_len(&w));
    switch (event) {
    case SG_SOCKS5_SEND_REPLY:
        return true;
    case SG_SOCKS5_NEED_MORE:
        return false;
    case SG_SOCKS5_REQUEST:
        act(app);
        return false;
    case SG_SOCKS5_FAILED:
    case SG_SOCKS5_UPGRADE_TLS: /* not among the methods that may be chosen here */
    case SG_SOCKS5_AUTH_NEEDED:
        finish_app(app);
        return false;
    }
    return false;
}

static void on_input(struct bufferevent *bev, void *ctx)
{
    (void)bev;
    while (step(ctx))
        continue;
}

/* Takes over fd. */
static struct app *new_app(struct sg_client *client, int fd)
{
    const struct timeval limit = {.tv_sec = REQUEST_LIMIT_S};
    struct app *app = calloc(1, sizeof *app);
    if (!app) {
        close(fd);
        return NULL;
    }
    app->client = client;
    app->local = sg_socket_local(fd);
    app->peer = sg_socket_peer(fd);
    app->limit = evtimer_new(client->base, on_limit, app);
    app->bev = bufferevent_socket_new(client->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!app->bev)
        close(fd);
    if (app->limit && app->bev && evtimer_add(app->limit, &limit) == 0)
        return app;
    if (app->limit)
        event_free(app->limit);
    if (app->bev)
        bufferevent_free(app->bev);
    free(app);
    return NULL;
}

static void on_accept(void *ctx, int fd)
{
    struct sg_client *client = ctx;
    if (client->connection_count >= client->connection_limit) {
        sg_log(SG_LOG_WARN, "too many local connections (%zu): one was refused", client->connection_count);
        close(fd);
        return;
    }
    struct app *app = new_app(client, fd);
    if (!app)
        return;
    client->connection_count++;
    struct sg_socks_server *server = client->socks;
    app->link = &server->apps;
    app->next = server->apps;
    if (app->next)
        app->next->link = &app->next;
    server->apps = app;
    sg_socks5_server_init(&app->socks, client->options->socks_user ? SG_SOCKS5_MAY_PASSWORD : SG_SOCKS5_MAY_NONE);
    bufferevent_setcb(app->bev, on_input, NULL, on_end, app);
    bufferevent_setwatermark(app->bev, EV_READ, 0, INPUT_MAX);
    if (bufferevent_enable(app->bev, EV_READ | EV_WRITE) != 0)
        end_app(app);
}

bool sg_socks_listen(struct sg_client *client, const struct sg_endpoint *listen, struct sg_endpoint *bound)
{
    struct socks_listener *listener = calloc(1, sizeof *listener);
    if (!client->socks)
        client->socks = calloc(1, sizeof *client->socks);
    if (!listener || !client->socks) {
        free(listener);
        errno = ENOMEM;
        return false;
    }
    int passed = sg_service_take(SG_SERVICE_STREAM, listen, client->index);
    listener->listener = sg_listener_new(client->base, listen, passed, client->share, bound, on_accept, client);
    if (!listener->listener) {
        free(listener);
        return false;
    }
    listener->next = client->socks->listeners;
    client->socks->listeners = listener;
    return true;
}

void sg_socks_free(struct sg_client *client)
{
    struct sg_socks_server *server = client->socks;
    if (!server)
        return;
    for (struct app *app = server->apps, *next = NULL; app; app = next) {
        next = app->next;
        end_app(app);
    }
    while (server->listeners) {
        struct socks_listener *listener = server->listeners;
        server->listeners = listener->next;
        sg_listener_free(listener->listener);
        free(listener);
    }
    free(server);
    client->socks = NULL;
}
