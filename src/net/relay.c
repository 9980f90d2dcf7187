/*
 * Two byte streams joined. The bufferevents own sockets and TLS, but libevent no longer reads and writes: it would take
 * 4 KiB at a time (2.1.12), and a record or two of TLS. What a leg gives goes to the other at once, through a buffer of
 * the thread; only what the other does not take is kept, and reading waits until it is gone.
 *
 * All moving is done by events, so that a relay cannot end while it is being started.
 */
#include "net/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>

#include "net/clock.h"
#include "net/tls.h"

enum {
    READ_BYTES = 64 * 1024,      /* at a time: four records of TLS */
    TURN_BYTES = 4 * READ_BYTES, /* then others have their turn */
    IDLE_MS = 3600 * 1000,
};

struct leg {
    struct sg_relay *relay;
    struct bufferevent *bev;
    SSL *ssl;                 /* or NULL */
    struct evbuffer *waiting; /* for room in this leg's socket */
    struct event *readable, *writable;
    struct event *pause; /* until the shaper lets it be read again; NULL: never waited */
    bool input_ended;    /* its peer will send no more */
    bool output_ended;   /* we told its peer so */
    bool needs_input;    /* TLS writes no more before it was read */
    bool needs_room;     /* TLS is not read any more before it could write */
};

struct sg_relay {
    struct leg legs[2];
    struct event *idle;
    uint64_t active_ms;
    const struct sg_relay_shaper *shaper; /* or NULL */
    void *shaper_ctx;
    sg_relay_fn *fn;
    void *ctx;
};

static struct leg *other(const struct leg *leg)
{
    return &leg->relay->legs[leg == &leg->relay->legs[0]];
}

/* The next close of the socket sends RST: the peer must not take what it has for all there was. */
static void arm_reset(struct bufferevent *bev)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    int fd = bufferevent_getfd(bev);
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void dispose(struct sg_relay *relay)
{
    for (unsigned i = 0; i < 2; i++) {
        struct leg *leg = &relay->legs[i];
        if (leg->readable)
            event_free(leg->readable);
        if (leg->writable)
            event_free(leg->writable);
        if (leg->pause)
            event_free(leg->pause);
        if (leg->waiting)
            evbuffer_free(leg->waiting);
        bufferevent_free(leg->bev);
    }
    if (relay->idle)
        event_free(relay->idle);
    free(relay);
}

static void finish(struct sg_relay *relay)
{
    sg_relay_fn *fn = relay->fn;
    void *ctx = relay->ctx;
    dispose(relay);
    fn(ctx);
}

void sg_relay_free(struct sg_relay *relay)
{
    if (!relay)
        return;
    arm_reset(relay->legs[0].bev);
    arm_reset(relay->legs[1].bev);
    dispose(relay);
}

/* A leg that failed takes the other with it. */
static void fail(struct leg *leg)
{
    arm_reset(other(leg)->bev);
    finish(leg->relay);
}

/* Passes the end of the other leg's input on, once all of it was written. True if the relay is over and gone. */
static bool pass_end(struct leg *to)
{
    struct sg_relay *relay = to->relay;
    if (other(to)->input_ended && !to->output_ended && evbuffer_get_length(to->waiting) == 0 &&
        sg_tls_close_write(to->bev)) {
        shutdown(bufferevent_getfd(to->bev), SHUT_WR);
        to->output_ended = true;
    }
    if (!relay->legs[0].output_ended || !relay->legs[1].output_ended)
        return false;
    finish(relay);
    return true;
}

/* Up to size bytes from a leg: their number, fewer if it has no more now or has ended; -1 if it failed. */
static ssize_t read_leg(struct leg *leg, uint8_t bytes[static READ_BYTES], size_t size)
{
    if (leg->ssl)
        return sg_tls_read(leg->ssl, bytes, size, &leg->input_ended);
    ssize_t n = recv(bufferevent_getfd(leg->bev), bytes, size, MSG_DONTWAIT);
    leg->input_ended = n == 0;
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* As many of the bytes as a leg takes now: their number; -1 if it failed. */
static ssize_t write_leg(struct leg *leg, const uint8_t *bytes, size_t len)
{
    if (leg->ssl)
        return sg_tls_write(leg->ssl, bytes, len);
    ssize_t n = send(bufferevent_getfd(leg->bev), bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* Writing to a leg goes on when it can. False if it never will. */
static bool await_room(struct leg *leg)
{
    leg->needs_input = leg->ssl && sg_tls_wants_input(leg->ssl);
    return leg->needs_input ? !leg->input_ended : event_add(leg->writable, NULL) == 0;
}

/* Bytes for a leg with nothing waiting; what it does not take now waits. False if the leg failed. */
static bool put(struct leg *to, const uint8_t *bytes, size_t len)
{
    ssize_t n = write_leg(to, bytes, len);
    if (n < 0)
        return false;
    size_t rest = len - (size_t)n;
    return rest == 0 ||
           (evbuffer_add(to->waiting, bytes + n, rest) == 0 && await_room(to) && event_del(other(to)->readable) == 0);
}

static void on_pause_end(evutil_socket_t fd, short what, void *ctx);

/* How much may be read from a leg now, at most READ_BYTES. 0: its reading waits, or the relay is over and gone. */
static size_t ask_shaper(struct leg *from)
{
    struct sg_relay *relay = from->relay;
    uint32_t wait_ms = 0;
    size_t room = relay->shaper->room(relay->shaper_ctx, from == &relay->legs[1], &wait_ms);
    if (room > 0)
        return room < READ_BYTES ? room : READ_BYTES;
    const struct timeval tv = {.tv_sec = wait_ms / 1000, .tv_usec = (suseconds_t)(wait_ms % 1000) * 1000};
    if (wait_ms != SG_RELAY_OVER && !from->pause)
        from->pause = evtimer_new(bufferevent_get_base(from->bev), on_pause_end, from);
    if (wait_ms == SG_RELAY_OVER || !from->pause || evtimer_add(from->pause, &tv) != 0) {
        sg_relay_fn *fn = relay->fn;
        void *ctx = relay->ctx;
        sg_relay_free(relay);
        fn(ctx);
        return 0;
    }
    event_del(from->readable);
    return 0;
}

/* One turn: moves what a leg has to the other while that takes it. */
static void move(struct leg *from)
{
    static _Thread_local uint8_t bytes[READ_BYTES];
    struct leg *to = other(from);
    ssize_t n = 0;
    size_t moved = 0, size = READ_BYTES;
    do {
        if (from->relay->shaper && (size = ask_shaper(from)) == 0)
            return;
        n = read_leg(from, bytes, size);
        if (n > 0)
            from->relay->active_ms = sg_now_ms();
        if (from->needs_input)
            event_active(from->writable, EV_WRITE, 0);
        if (n < 0 || (n > 0 && !put(to, bytes, (size_t)n))) {
            fail(n < 0 ? from : to);
            return;
        }
        moved += (size_t)n;
        if (from->relay->shaper)
            from->relay->shaper->pay(from->relay->shaper_ctx, from == &from->relay->legs[1], (size_t)n);
    } while ((size_t)n == size && moved < TURN_BYTES && evbuffer_get_length(to->waiting) == 0);
    if ((size_t)n < size && !from->input_ended && from->ssl && sg_tls_wants_room(from->ssl)) {
        from->needs_room = true;
        event_del(from->readable);
        event_add(from->writable, NULL);
    }
    if (from->input_ended) {
        event_del(from->readable);
        (void)pass_end(to);
    } else if ((size_t)n == size && evbuffer_get_length(to->waiting) == 0) {
        event_active(from->readable, EV_READ, 0); /* what TLS holds does not make its socket readable */
    }
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    move(ctx);
}

static void on_pause_end(evutil_socket_t fd, short what, void *ctx)
{
    struct leg *from = ctx;
    (void)fd;
    (void)what;
    if (evbuffer_get_length(other(from)->waiting) > 0)
        return; /* reading goes on when that was written */
    event_add(from->readable, NULL);
    move(from);
}

/* Writes what waits for room. False if the leg failed. */
static bool write_waiting(struct leg *leg)
{
    size_t len;
    while ((len = evbuffer_get_length(leg->waiting)) > 0) {
        size_t part = len < READ_BYTES ? len : READ_BYTES;
        const uint8_t *bytes = evbuffer_pullup(leg->waiting, (ev_ssize_t)part);
        ssize_t n = bytes ? write_leg(leg, bytes, part) : -1;
        if (n < 0)
            return false;
        if (n == 0)
            return await_room(leg);
        evbuffer_drain(leg->waiting, (size_t)n);
        leg->relay->active_ms = sg_now_ms();
    }
    return true;
}

/* Reading a leg goes on, unless the other has to take first what was read before. */
static void resume(struct leg *from)
{
    if (evbuffer_get_length(other(from)->waiting) > 0)
        return;
    event_add(from->readable, NULL);
    event_active(from->readable, EV_READ, 0);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    struct leg *to = ctx;
    struct leg *from = other(to);
    to->needs_input = false;
    if (!write_waiting(to)) {
        fail(to);
        return;
    }
    if (to->needs_room) {
        to->needs_room = false;
        resume(to);
    }
    if (evbuffer_get_length(to->waiting) > 0 || pass_end(to) || from->input_ended)
        return;
    event_add(from->readable, NULL);
    move(from);
}

static struct leg *leg_of(struct sg_relay *relay, const struct bufferevent *bev)
{
    return &relay->legs[relay->legs[1].bev == bev];
}

/* close_notify found no room before, and may now. */
static void on_room(struct bufferevent *bev, void *ctx)
{
    (void)pass_end(leg_of(ctx, bev));
}

/* An error that libevent saw before the legs were joined. */
static void on_event(struct bufferevent *bev, short what, void *ctx)
{
    if (!(what & BEV_EVENT_EOF))
        fail(leg_of(ctx, bev));
}

static void on_idle(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_relay *relay = ctx;
    (void)fd;
    (void)what;
    uint64_t idle_ms = sg_now_ms() - relay->active_ms;
    if (idle_ms >= IDLE_MS) {
        arm_reset(relay->legs[0].bev);
        arm_reset(relay->legs[1].bev);
        finish(relay);
        return;
    }
    struct timeval tv = {.tv_sec = (time_t)((IDLE_MS - idle_ms) / 1000 + 1)};
    evtimer_add(relay->idle, &tv);
}

/* Takes a leg from libevent: its reading and writing stop, what it had not written yet waits. */
static bool take_leg(struct leg *leg)
{
    struct event_base *base = bufferevent_get_base(leg->bev);
    int fd = bufferevent_getfd(leg->bev);
    bufferevent_set_timeouts(leg->bev, NULL, NULL);
    bufferevent_setcb(leg->bev, NULL, on_room, on_event, leg->relay);
    bufferevent_disable(leg->bev, EV_READ | EV_WRITE);
    leg->ssl = sg_tls_take(leg->bev);
    leg->waiting = evbuffer_new();
    leg->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, leg);
    leg->writable = event_new(base, fd, EV_WRITE, on_writable, leg);
    struct evbuffer *output = bufferevent_get_output(leg->bev);
    evbuffer_unfreeze(output, 1); /* a bufferevent guards its output's front */
    return leg->waiting && leg->readable && leg->writable && evbuffer_add_buffer(leg->waiting, output) == 0;
}

/* Joins the legs: what a leg gave to libevent waits for the other; the first turn comes when that was written. */
static bool join(struct sg_relay *relay)
{
    for (unsigned i = 0; i < 2; i++) {
        struct leg *to = &relay->legs[i];
        if (evbuffer_add_buffer(to->waiting, bufferevent_get_input(other(to)->bev)) != 0)
            return false;
        event_active(to->writable, EV_WRITE, 0);
    }
    return true;
}

struct sg_relay *sg_relay_start(struct bufferevent *a, struct bufferevent *b, sg_relay_fn *fn, void *ctx)
{
    static const struct timeval idle = {.tv_sec = IDLE_MS / 1000};
    struct sg_relay *relay = calloc(1, sizeof *relay);
    if (!relay) {
        bufferevent_free(a);
        bufferevent_free(b);
        return NULL;
    }
    *relay = (struct sg_relay){.legs = {{.relay = relay, .bev = a}, {.relay = relay, .bev = b}},
                               .fn = fn,
                               .ctx = ctx,
                               .active_ms = sg_now_ms()};
    relay->idle = evtimer_new(bufferevent_get_base(a), on_idle, relay);
    if (!relay->idle || evtimer_add(relay->idle, &idle) != 0 || !take_leg(&relay->legs[0]) ||
        !take_leg(&relay->legs[1]) || !join(relay)) {
        dispose(relay);
        return NULL;
    }
    return relay;
}

void sg_relay_shape(struct sg_relay *relay, const struct sg_relay_shaper *shaper, void *ctx)
{
    relay->shaper = shaper;
    relay->shaper_ctx = ctx;
    for (unsigned i = 0; i < 2; i++) {
        size_t early = evbuffer_get_length(relay->legs[!i].waiting);
        if (early > 0)
            shaper->pay(ctx, i == 1, early);
    }
}
