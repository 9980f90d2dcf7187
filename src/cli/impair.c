/*
 * The bad network. Each client address gets a socket of its own towards the server, as at a NAT. Whatever is done to a
 * datagram is drawn from one generator, so that a seed gives the same faults to the same sequence of datagrams.
 */
#include "cli/impair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <jansson.h>

#include "net/dial.h"
#include "net/listener.h"
#include "net/relay.h"
#include "net/sockaddr.h"
#include "net/udp.h"

enum {
    FLOWS_MAX = 64,
    PORT_TRIES = 100,
    HOLD_MIN_MS = 2,
    HOLD_SPAN_MS = 30,
    REPLAY_MIN_MS = 100,
    REPLAY_SPAN_MS = 300
};

/* One client address. */
struct flow {
    struct flow *next;
    struct sg_impair *impair;
    struct sg_endpoint client;
    int fd; /* connected to the server */
    struct event readable;
};

/* A datagram that leaves later. */
struct held {
    struct held *next, **link;
    struct flow *flow;
    bool up;
    struct event timer;
    size_t len;
    uint8_t bytes[];
};

/* A TCP connection that is passed through. */
struct through {
    struct through *next, **link;
    struct sg_impair *impair;
    struct bufferevent *client;
    struct sg_dial *dial;
    struct sg_relay *relay;
};

struct sg_impair {
    struct event_base *base;
    struct sg_impair_options options;
    uint64_t random;
    bool is_calm;
    struct sg_listener *listener;
    int fd;
    struct event readable;
    struct sg_udp_rx rx;
    struct flow *flows;
    unsigned flow_count;
    struct held *held;
    struct through *through;
    struct sg_impair_ledger up, down;
    uint64_t tcp_clear;
};

/* xorshift64*: for faults, not for secrets */
static uint64_t draw(struct sg_impair *impair)
{
    impair->random ^= impair->random >> 12;
    impair->random ^= impair->random << 25;
    impair->random ^= impair->random >> 27;
    return impair->random * UINT64_C(2685821657736338717) >> 16;
}

static bool happens(struct sg_impair *impair, unsigned per_mille)
{
    bool yes = draw(impair) % 1000 < per_mille;
    return yes && !impair->is_calm;
}

/* --- UDP --- */

static void forward(struct flow *flow, bool up, const uint8_t *bytes, size_t len)
{
    struct sg_impair *impair = flow->impair;
    struct sockaddr_storage ss;
    socklen_t ss_len = sg_sockaddr_from(&flow->client, &ss);
    ssize_t sent = up ? send(flow->fd, bytes, len, MSG_DONTWAIT)
                      : sendto(impair->fd, bytes, len, MSG_DONTWAIT, (struct sockaddr *)&ss, ss_len);
    struct sg_impair_ledger *ledger = up ? &impair->up : &impair->down;
    if (sent >= 0)
        ledger->forwarded++;
    else
        ledger->lost++; /* a full buffer or a server that is away: lost as in any network */
}

static void free_held(struct held *held)
{
    *held->link = held->next;
    if (held->next)
        held->next->link = held->link;
    event_del(&held->timer);
    free(held);
}

static void on_held(evutil_socket_t fd, short what, void *ctx)
{
    struct held *held = ctx;
    (void)fd;
    (void)what;
    forward(held->flow, held->up, held->bytes, held->len);
    free_held(held);
}

static void forward_later(struct flow *flow, bool up, const uint8_t *bytes, size_t len, unsigned wait_ms)
{
    struct sg_impair *impair = flow->impair;
    struct timeval tv = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000) * 1000};
    struct held *held = malloc(sizeof *held + len);
    if (!held) {
        forward(flow, up, bytes, len);
        return;
    }
    held->flow = flow;
    held->up = up;
    held->len = len;
    memcpy(held->bytes, bytes, len);
    held->next = impair->held;
    held->link = &impair->held;
    if (held->next)
        held->next->link = &held->next;
    impair->held = held;
    evtimer_assign(&held->timer, impair->base, on_held, held);
    evtimer_add(&held->timer, &tv);
}

static bool has_marker(const struct sg_impair *impair, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < impair->options.marker_count; i++)
        if (memmem(bytes, len, impair->options.markers[i], SG_IMPAIR_MARKER_BYTES))
            return true;
    return false;
}

/* Every fault is drawn for every datagram, so that the sequence of draws does not depend on the rates. */
static void impair_datagram(struct flow *flow, bool up, uint8_t *bytes, size_t len)
{
    struct sg_impair *impair = flow->impair;
    const struct sg_impair_options *o = &impair->options;
    struct sg_impair_ledger *ledger = up ? &impair->up : &impair->down;
    bool lost = happens(impair, o->loss), corrupted = happens(impair, o->corrupt);
    bool duplicated = happens(impair, o->duplicate), replayed = happens(impair, o->replay);
    bool reordered = happens(impair, o->reorder);
    unsigned bit = (unsigned)(draw(impair) % (len * 8 + 1));
    unsigned hold_ms = HOLD_MIN_MS + (unsigned)(draw(impair) % HOLD_SPAN_MS);
    unsigned replay_ms = REPLAY_MIN_MS + (unsigned)(draw(impair) % REPLAY_SPAN_MS);

    ledger->received++;
    ledger->clear += has_marker(impair, bytes, len);
    if (o->seen)
        o->seen(o->ctx, up, bytes, len);
    if (lost) {
        ledger->lost++;
        return;
    }
    if (corrupted && bit < len * 8) {
        ledger->corrupted++;
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        forward(flow, up, bytes, len);
        return;
    }
    if (reordered) {
        ledger->reordered++;
        forward_later(flow, up, bytes, len, hold_ms);
    } else {
        forward(flow, up, bytes, len);
    }
    if (duplicated) {
        ledger->duplicated++;
        forward(flow, up, bytes, len);
    }
    if (replayed) {
        ledger->replayed++;
        forward_later(flow, up, bytes, len, replay_ms);
    }
}

static void on_server_datagrams(evutil_socket_t fd, short what, void *ctx)
{
    struct flow *flow = ctx;
    struct sg_impair *impair = flow->impair;
    (void)what;
    unsigned count = 0;
    (void)sg_udp_recv(&impair->rx, fd);
    while ((count = sg_udp_next(&impair->rx)) > 0)
        for (unsigned i = 0; i < count; i++)
            impair_datagram(flow, false, impair->rx.packets[i].bytes, impair->rx.packets[i].len);
}

static struct flow *make_flow(struct sg_impair *impair, const struct sg_endpoint *client)
{
    struct sg_endpoint any = {.ip.family = impair->options.to.ip.family};
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(&impair->options.to, &ss);
    struct flow *flow = impair->flow_count < FLOWS_MAX ? calloc(1, sizeof *flow) : NULL;
    if (!flow)
        return NULL;
    flow->fd = sg_udp_open(&any, SG_UDP_BIG);
    if (flow->fd < 0 || connect(flow->fd, (struct sockaddr *)&ss, len) != 0) {
        if (flow->fd >= 0)
            close(flow->fd);
        free(flow);
        return NULL;
    }
    flow->impair = impair;
    flow->client = *client;
    flow->next = impair->flows;
    impair->flows = flow;
    impair->flow_count++;
    event_assign(&flow->readable, impair->base, flow->fd, EV_READ | EV_PERSIST, on_server_datagrams, flow);
    event_add(&flow->readable, NULL);
    return flow;
}

static void take_from_client(struct sg_impair *impair, const struct sg_udp_packet *packet)
{
    struct flow *flow = impair->flows;
    while (flow && !sg_endpoint_equal(&flow->client, &packet->from->peer))
        flow = flow->next;
    if (!flow)
        flow = make_flow(impair, &packet->from->peer);
    if (flow)
        impair_datagram(flow, true, packet->bytes, packet->len);
}

static void on_client_datagrams(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_impair *impair = ctx;
    unsigned count = 0;
    (void)what;
    (void)sg_udp_recv(&impair->rx, fd);
    while ((count = sg_udp_next(&impair->rx)) > 0)
        for (unsigned i = 0; i < count; i++)
            take_from_client(impair, &impair->rx.packets[i]);
}

/* --- TCP --- */

static void free_through(struct through *through)
{
    *through->link = through->next;
    if (through->next)
        through->next->link = through->link;
    if (through->dial)
        sg_dial_cancel(through->dial);
    if (through->relay)
        sg_relay_free(through->relay);
    if (through->client)
        bufferevent_free(through->client);
    free(through);
}

/* Looks through what was just added, and the bytes before it that a marker could begin in. */
static void on_tcp_bytes(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *ctx)
{
    struct sg_impair *impair = ctx;
    if (info->n_added == 0)
        return;
    size_t from = info->orig_size > SG_IMPAIR_MARKER_BYTES - 1 ? info->orig_size - (SG_IMPAIR_MARKER_BYTES - 1) : 0;
    struct evbuffer_ptr start;
    if (evbuffer_ptr_set(buffer, &start, from, EVBUFFER_PTR_SET) != 0)
        return;
    for (size_t i = 0; i < impair->options.marker_count; i++) {
        struct evbuffer_ptr found =
            evbuffer_search(buffer, (const char *)impair->options.markers[i], SG_IMPAIR_MARKER_BYTES, &start);
        impair->tcp_clear += found.pos >= 0;
    }
}

static void on_relay_end(void *ctx)
{
    struct through *through = ctx;
    through->relay = NULL;
    free_through(through);
}

static void on_dialled(void *ctx, int fd, int error)
{
    struct through *through = ctx;
    struct bufferevent *client = through->client;
    (void)error;
    through->dial = NULL;
    struct bufferevent *server =
        fd < 0 ? NULL : bufferevent_socket_new(through->impair->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!server) {
        if (fd >= 0)
            close(fd);
        free_through(through);
        return;
    }
    evbuffer_add_cb(bufferevent_get_input(client), on_tcp_bytes, through->impair);
    evbuffer_add_cb(bufferevent_get_input(server), on_tcp_bytes, through->impair);
    through->client = NULL;
    through->relay = sg_relay_start(client, server, SG_RELAY_IDLE_S * 1000, on_relay_end, through);
    if (!through->relay)
        free_through(through);
}

static void on_accept(void *ctx, int fd)
{
    struct sg_impair *impair = ctx;
    struct through *through = calloc(1, sizeof *through);
    if (!through) {
        close(fd);
        return;
    }
    through->impair = impair;
    through->next = impair->through;
    through->link = &impair->through;
    if (through->next)
        through->next->link = &through->next;
    impair->through = through;
    through->client = bufferevent_socket_new(impair->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (through->client)
        through->dial =
            sg_dial_start(impair->base, &impair->options.to.ip, 1, impair->options.to.port, 0, on_dialled, through);
    if (!through->dial)
        free_through(through);
}

/* --- start and end --- */

/* One port number for both: with port 0 the kernel's choice for TCP must be free for UDP too. */
static bool open_both(struct sg_impair *impair, struct sg_endpoint *bound)
{
    for (unsigned i = 0; i < PORT_TRIES; i++) {
        impair->listener =
            sg_listener_new(impair->base, &impair->options.listen, -1, SG_ALONE, bound, on_accept, impair);
        if (!impair->listener)
            return false;
        impair->fd = sg_udp_open(bound, SG_UDP_BIG);
        if (impair->fd >= 0)
            return true;
        int error = errno;
        sg_listener_free(impair->listener);
        impair->listener = NULL;
        errno = error;
        if (impair->options.listen.port != 0)
            return false;
    }
    return false;
}

struct sg_impair *sg_impair_new(struct event_base *base, const struct sg_impair_options *options,
                                struct sg_endpoint *bound)
{
    struct sg_impair *impair = calloc(1, sizeof *impair);
    if (!impair)
        return NULL;
    impair->base = base;
    impair->options = *options;
    impair->random = options->seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    impair->fd = -1;
    if (sg_udp_rx_init(&impair->rx) != SG_OK || !open_both(impair, bound)) {
        int error = errno;
        sg_impair_free(impair);
        errno = error;
        return NULL;
    }
    event_assign(&impair->readable, base, impair->fd, EV_READ | EV_PERSIST, on_client_datagrams, impair);
    event_add(&impair->readable, NULL);
    return impair;
}

void sg_impair_free(struct sg_impair *impair)
{
    if (!impair)
        return;
    for (struct held *held = impair->held, *next; held; held = next) {
        next = held->next;
        free_held(held);
    }
    for (struct through *through = impair->through, *next; through; through = next) {
        next = through->next;
        free_through(through);
    }
    for (struct flow *flow = impair->flows, *next; flow; flow = next) {
        next = flow->next;
        event_del(&flow->readable);
        close(flow->fd);
        free(flow);
    }
    sg_listener_free(impair->listener);
    if (impair->fd >= 0) {
        event_del(&impair->readable);
        close(impair->fd);
    }
    sg_udp_rx_dispose(&impair->rx);
    free(impair);
}

void sg_impair_calm(struct sg_impair *impair)
{
    impair->is_calm = true;
}

void sg_impair_ledgers(const struct sg_impair *impair, struct sg_impair_ledger *up, struct sg_impair_ledger *down,
                       uint64_t *tcp_clear)
{
    *up = impair->up;
    *down = impair->down;
    *tcp_clear = impair->tcp_clear;
}

static json_t *ledger_json(const struct sg_impair_ledger *ledger)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "received", (json_int_t)ledger->received, "forwarded",
                     (json_int_t)ledger->forwarded, "lost", (json_int_t)ledger->lost, "corrupted",
                     (json_int_t)ledger->corrupted, "duplicated", (json_int_t)ledger->duplicated, "replayed",
                     (json_int_t)ledger->replayed, "reordered", (json_int_t)ledger->reordered, "clear",
                     (json_int_t)ledger->clear);
}

struct json_t *sg_impair_json(const struct sg_impair *impair)
{
    return json_pack("{s:o,s:o,s:I}", "up", ledger_json(&impair->up), "down", ledger_json(&impair->down), "tcp_clear",
                     (json_int_t)impair->tcp_clear);
}
