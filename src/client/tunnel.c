/*
 * A tunnel's life: the application waits (its connection is not read, so early data stays where it is), the server
 * answers, the answer is passed on as it is, then both connections are relayed. A TCP forward is a CONNECT without
 * the SOCKS part on the application's side: what would be an error reply is a reset there.
 *
 * An application may go away while it waits, and costs the others nothing then. A reset is the end of its tunnel; so is
 * the end of its input, for BIND. For CONNECT that may be a half-close, after which the application still wants to hear
 * the target: its tunnel has its turn when no other waits.
 */
#include "client/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sodium.h>

#include "client/client.h"
#include "client/server_conn.h"
#include "client/uplink.h"
#include "core/socks5.h"
#include "net/clock.h"
#include "net/finish.h"
#include "net/keepalive.h"
#include "net/listener.h"
#include "net/log.h"
#include "net/log_text.h"
#include "net/relay.h"
#include "net/service.h"

enum {
    BIND_LIMIT_S = 150, /* more than the server's 120, whose answer tells more */
    LOGINS_MAX = 48,    /* at a time: less than what a server lets one address have, 64 */
    GIVE_UP_MS = 20000, /* no server was found that lets it in */
    RETRY_FIRST_MS = 100,
    RETRY_MAX_MS = 2000,
};

struct sg_tunnel {
    struct sg_tunnel *next, **link;
    struct sg_client *client;
    bool speaks_socks;
    bool is_bind;
    struct bufferevent *app;
    struct bufferevent *far;                    /* to the server: while BIND waits for its second reply */
    struct sg_server_conn *conn;                /* while the server's first reply is awaited */
    struct sg_tunnel_queue *queue;              /* before that; NULL: it is in none */
    struct sg_tunnel *waits_next, **waits_link; /* there */
    struct event *timer;                        /* until then: it gives up, or tries again */
    uint64_t gives_up_ms;
    unsigned tries;
    struct sg_target target;
    uint8_t name[UINT8_MAX]; /* of the target */
    struct sg_relay *relay;  /* then */
    struct event *look;      /* after the application, from its turn to the relay */
    struct sg_socks5_client second;
};

struct sg_tunnel_forward {
    struct sg_tunnel_forward *next;
    struct sg_client *client;
    const struct sg_target *target; /* of the options */
    struct sg_listener *listener;
};

/* --- the end --- */

static void leave_queue(struct sg_tunnel *tunnel)
{
    if (!tunnel->queue)
        return;
    *tunnel->waits_link = tunnel->waits_next;
    if (tunnel->waits_next)
        tunnel->waits_next->waits_link = tunnel->waits_link;
    else
        tunnel->queue->end = tunnel->waits_link;
    tunnel->queue = NULL;
}

/* Frees what is still there; both ends are gone or given away. */
static void free_tunnel(struct sg_tunnel *tunnel)
{
    leave_queue(tunnel);
    if (tunnel->timer)
        event_free(tunnel->timer);
    *tunnel->link = tunnel->next;
    if (tunnel->next)
        tunnel->next->link = tunnel->link;
    if (tunnel->conn)
        sg_server_conn_cancel(tunnel->conn);
    if (tunnel->look)
        event_free(tunnel->look);
    if (tunnel->relay)
        sg_relay_free(tunnel->relay);
    if (tunnel->far)
        bufferevent_free(tunnel->far);
    if (tunnel->app)
        bufferevent_free(tunnel->app);
    tunnel->client->connection_count--;
    tunnel->client->tunnel_count--;
    free(tunnel);
}

static void write_reply(struct sg_tunnel *tunnel, uint8_t rep, const struct sg_endpoint *bound)
{
    uint8_t bytes[SG_SOCKS5_REPLY_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    if (!tunnel->speaks_socks)
        return;
    sg_socks5_reply_encode(&w, rep, bound);
    bufferevent_write(tunnel->app, bytes, sg_wbuf_len(&w));
}

/* No connection: a SOCKS application gets the code, any other a reset instead of an end that looks like success. */
static void refuse(struct sg_tunnel *tunnel, uint8_t rep)
{
    if (tunnel->speaks_socks) {
        write_reply(tunnel, rep, NULL);
        sg_finish(tunnel->app);
        tunnel->app = NULL;
    } else {
        static const struct linger reset = {.l_onoff = 1};
        setsockopt(bufferevent_getfd(tunnel->app), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    free_tunnel(tunnel);
}

/* --- the relay --- */

static void on_relay_end(void *ctx)
{
    struct sg_tunnel *tunnel = ctx;
    tunnel->relay = NULL;
    free_tunnel(tunnel);
}

static void start_relay(struct sg_tunnel *tunnel, struct bufferevent *far)
{
    struct bufferevent *app = tunnel->app;
    event_free(tunnel->look);
    tunnel->look = NULL;
    tunnel->app = NULL;
    tunnel->relay = sg_relay_start(app, far, tunnel->client->options->relay_idle_ms, on_relay_end, tunnel);
    if (!tunnel->relay)
        free_tunnel(tunnel);
}

/* --- BIND: between the two replies --- */

static void on_second_reply(struct bufferevent *far, void *ctx)
{
    struct sg_tunnel *tunnel = ctx;
    struct evbuffer *input = bufferevent_get_input(far);
    uint8_t bytes[SG_SOCKS5_INPUT_MAX];
    size_t consumed = 0;
    ev_ssize_t have = evbuffer_copyout(input, bytes, sizeof bytes);
    enum sg_socks5_client_event event =
        sg_socks5_client_input(&tunnel->second, bytes, have > 0 ? (size_t)have : 0, &consumed);
    evbuffer_drain(input, consumed);
    if (event == SG_SOCKS5_CLIENT_NEED_MORE)
        return;
    if (event != SG_SOCKS5_CLIENT_REPLY || tunnel->second.rep != 0) {
        refuse(tunnel, event == SG_SOCKS5_CLIENT_REPLY ? tunnel->second.rep : SG_SOCKS5_REP_GENERAL);
        return;
    }
    struct sg_endpoint peer = sg_target_endpoint(&tunnel->second.bound);
    write_reply(tunnel, SG_SOCKS5_REP_SUCCEEDED, &peer);
    bufferevent_setcb(far, NULL, NULL, NULL, NULL);
    bufferevent_set_timeouts(far, NULL, NULL);
    tunnel->far = NULL;
    start_relay(tunnel, far);
}

static void on_far_event(struct bufferevent *far, short what, void *ctx)
{
    (void)far;
    refuse(ctx, what & BEV_EVENT_TIMEOUT ? SG_SOCKS5_REP_TIMED_OUT : SG_SOCKS5_REP_GENERAL);
}

/* Takes over far. An application that goes away while it waits takes the listening port at the server with it. */
static void await_second_reply(struct sg_tunnel *tunnel, struct bufferevent *far)
{
    static const struct timeval limit = {.tv_sec = BIND_LIMIT_S};
    tunnel->far = far;
    sg_socks5_client_expect_second(&tunnel->second);
    bufferevent_set_timeouts(far, &limit, NULL);
    bufferevent_setcb(far, on_second_reply, NULL, on_far_event, tunnel);
    on_second_reply(far, tunnel); /* it may have come with the first */
}

/* --- the way to the first reply --- */

static void set_timer(struct sg_tunnel *tunnel, uint64_t at_ms)
{
    uint64_t now_ms = sg_now_ms();
    uint64_t wait_ms = at_ms > now_ms ? at_ms - now_ms : 0;
    struct timeval wait = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
    evtimer_add(tunnel->timer, &wait);
}

static void enter(struct sg_tunnel_queue *queue, struct sg_tunnel *tunnel)
{
    tunnel->queue = queue;
    tunnel->waits_next = NULL;
    tunnel->waits_link = queue->end;
    *queue->end = tunnel;
    queue->end = &tunnel->waits_next;
}

static void join_queue(struct sg_tunnel *tunnel)
{
    enter(&tunnel->client->waiting, tunnel);
    set_timer(tunnel, tunnel->gives_up_ms);
    sg_tunnel_wake(tunnel->client);
}

/* False: its time is over. */
static bool try_later(struct sg_tunnel *tunnel)
{
    uint32_t delay_ms = (uint32_t)RETRY_FIRST_MS << (tunnel->tries < 5 ? tunnel->tries : 5);
    if (delay_ms > RETRY_MAX_MS)
        delay_ms = RETRY_MAX_MS;
    uint64_t at_ms = sg_now_ms() + delay_ms / 2 + randombytes_uniform(delay_ms / 2 + 1);
    tunnel->tries++;
    if (at_ms >= tunnel->gives_up_ms)
        return false;
    set_timer(tunnel, at_ms);
    return true;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_tunnel *tunnel = ctx;
    (void)fd;
    (void)what;
    if (!tunnel->queue) {
        join_queue(tunnel);
        return;
    }
    sg_log_event(SG_LOG_WARN, "connect_failed", NULL,
                 "a connection of a local application waited %d s for the server to take it, and was refused",
                 GIVE_UP_MS / 1000);
    refuse(tunnel, SG_SOCKS5_REP_GENERAL);
}

/* An application shows at most the number of the reply, and the user of a forward sees no more than a reset. */
static void tell_refused(const struct sg_tunnel *tunnel, uint8_t rep)
{
    char target[SG_TARGET_TEXT_MAX];
    sg_log_target(&tunnel->target, target);
    sg_log_event(SG_LOG_INFO, "connect_refused",
                 SG_LOG_FIELDS(sg_log_word("target", target), sg_log_word("reason", sg_socks5_rep_name(rep))),
                 "server refused a %s %s: %s", tunnel->is_bind ? "BIND for" : "connection to", target,
                 sg_socks5_rep_text(rep));
}

static void on_reply(void *ctx, const struct sg_server_conn_result *result)
{
    struct sg_tunnel *tunnel = ctx;
    tunnel->conn = NULL;
    if (result->turned_away && try_later(tunnel))
        return;
    if (!result->ok) {
        if (result->answered)
            tell_refused(tunnel, result->rep);
        else
            sg_log_event(SG_LOG_WARN, "connect_failed", NULL, "%s", result->text);
        if (result->bev)
            sg_finish(result->bev);
        refuse(tunnel, result->rep);
        return;
    }
    struct sg_endpoint bound = result->bound;
    if (tunnel->is_bind && sg_ip_is_unspecified(&bound.ip)) /* "where you reached me" is of use only to us */
        bound.ip = result->peer.ip;
    write_reply(tunnel, SG_SOCKS5_REP_SUCCEEDED, &bound);
    if (tunnel->is_bind)
        await_second_reply(tunnel, result->bev);
    else
        start_relay(tunnel, result->bev);
}

/* Whether nobody is there any more who wants the tunnel. */
static bool is_left(const struct sg_tunnel *tunnel, enum sg_peer_state app)
{
    return app == SG_PEER_GONE || (app == SG_PEER_ENDED && tunnel->is_bind);
}

static void on_look(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_tunnel *tunnel = ctx;
    (void)fd;
    (void)what;
    if (is_left(tunnel, sg_peer_state(bufferevent_getfd(tunnel->app))))
        free_tunnel(tunnel);
}

static void begin(struct sg_tunnel *tunnel)
{
    static const struct timeval look = {.tv_sec = 1};
    struct sg_client *client = tunnel->client;
    uint8_t command = tunnel->is_bind ? SG_SOCKS5_CMD_BIND : SG_SOCKS5_CMD_CONNECT;
    leave_queue(tunnel);
    evtimer_del(tunnel->timer);
    if (!tunnel->look)
        tunnel->look = event_new(client->base, -1, EV_PERSIST, on_look, tunnel);
    if (tunnel->look && event_add(tunnel->look, &look) == 0)
        tunnel->conn = sg_server_conn_start(client, command, &tunnel->target, NULL, 0, on_reply, tunnel);
    if (!tunnel->conn)
        refuse(tunnel, SG_SOCKS5_REP_GENERAL);
}

static void on_turn(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_client *client = ctx;
    struct sg_tunnel *tunnel;
    (void)fd;
    (void)what;
    while (client->logins < LOGINS_MAX &&
           (tunnel = client->waiting.first ? client->waiting.first : client->waiting_ended.first)) {
        enum sg_peer_state app = sg_peer_state(bufferevent_getfd(tunnel->app));
        if (is_left(tunnel, app)) {
            free_tunnel(tunnel);
        } else if (app == SG_PEER_ENDED && tunnel->queue == &client->waiting) {
            leave_queue(tunnel);
            enter(&client->waiting_ended, tunnel);
        } else {
            begin(tunnel);
        }
    }
}

bool sg_tunnels_init(struct sg_client *client)
{
    client->waiting.end = &client->waiting.first;
    client->waiting_ended.end = &client->waiting_ended.first;
    client->tunnel_turn = evtimer_new(client->base, on_turn, client);
    return client->tunnel_turn != NULL;
}

void sg_tunnel_wake(struct sg_client *client)
{
    event_active(client->tunnel_turn, EV_TIMEOUT, 0);
}

/* Takes over app. */
static void open_tunnel(struct sg_client *client, struct bufferevent *app, bool speaks_socks, uint8_t cmd,
                        const struct sg_target *target)
{
    struct sg_tunnel *tunnel = calloc(1, sizeof *tunnel);
    if (!tunnel) {
        client->connection_count--;
        bufferevent_free(app);
        return;
    }
    *tunnel = (struct sg_tunnel){.client = client,
                                 .speaks_socks = speaks_socks,
                                 .is_bind = cmd == SG_SOCKS5_CMD_BIND,
                                 .app = app,
                                 .gives_up_ms = sg_now_ms() + GIVE_UP_MS,
                                 .target = *target,
                                 .link = &client->tunnels,
                                 .next = client->tunnels};
    if (tunnel->next)
        tunnel->next->link = &tunnel->next;
    client->tunnels = tunnel;
    client->tunnel_count++;
    client->tunnels_opened++;
    bufferevent_setcb(app, NULL, NULL, NULL, NULL);
    bufferevent_disable(app, EV_READ);
    if (target->atyp == SG_ATYP_NAME) {
        memcpy(tunnel->name, target->name, target->name_len);
        tunnel->target.name = tunnel->name;
    }
    tunnel->timer = evtimer_new(client->base, on_timer, tunnel);
    if (tunnel->timer)
        join_queue(tunnel);
    else
        refuse(tunnel, SG_SOCKS5_REP_GENERAL);
}

void sg_tunnel_start(struct sg_client *client, struct bufferevent *app, uint8_t cmd, const struct sg_target *target)
{
    open_tunnel(client, app, true, cmd, target);
}

/* --- forwards --- */

static void on_accept(void *ctx, int fd)
{
    struct sg_tunnel_forward *forward = ctx;
    struct sg_client *client = forward->client;
    struct bufferevent *app = NULL;
    if (client->connection_count < client->connection_limit && sg_uplink_is_up(client->uplink))
        app = bufferevent_socket_new(client->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!app) {
        static const struct linger reset = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
        return;
    }
    client->connection_count++;
    open_tunnel(client, app, false, SG_SOCKS5_CMD_CONNECT, forward->target);
}

bool sg_tunnel_listen(struct sg_client *client, const struct sg_endpoint *listen, const struct sg_target *target,
                      struct sg_endpoint *bound)
{
    struct sg_tunnel_forward *made = calloc(1, sizeof *made);
    if (!made) {
        errno = ENOMEM;
        return false;
    }
    made->client = client;
    made->target = target;
    int passed = sg_service_take(SG_SERVICE_STREAM, listen, client->index);
    made->listener = sg_listener_new(client->base, listen, passed, client->share, bound, on_accept, made);
    if (!made->listener) {
        free(made);
        return false;
    }
    made->next = client->tcp_forwards;
    client->tcp_forwards = made;
    return true;
}

void sg_tunnel_free_all(struct sg_client *client)
{
    for (struct sg_tunnel *tunnel = client->tunnels, *next = NULL; tunnel; tunnel = next) {
        next = tunnel->next;
        free_tunnel(tunnel);
    }
    while (client->tcp_forwards) {
        struct sg_tunnel_forward *forward = client->tcp_forwards;
        client->tcp_forwards = forward->next;
        sg_listener_free(forward->listener);
        free(forward);
    }
    if (client->tunnel_turn)
        event_free(client->tunnel_turn);
    client->tunnel_turn = NULL;
}
