/*
 * Two byte streams joined. Each leg's input moves to the other's output without copying; back-pressure stops reading.
 *
 * An end is passed on from the event loop: it may have come before the legs were joined, and both ends together end
 * the relay, which must not happen while it is being started.
 */
#include "net/relay.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "net/clock.h"
#include "net/tls.h"

/* Reading stops at BUFFERED_STOP: one more read may still come, so that no more than 256 KiB are held. */
enum { BUFFERED_STOP = (256 - 32) * 1024, BUFFERED_LOW = 64 * 1024, IDLE_MS = 3600 * 1000 };

struct leg {
    struct bufferevent *bev;
    bool input_ended;  /* its peer will send no more */
    bool output_ended; /* we told its peer so */
};

struct sg_relay {
    struct leg legs[2];
    struct event *idle;
    struct event *ended; /* activated when a leg's input has ended */
    uint64_t active_ms;
    sg_relay_fn *fn;
    void *ctx;
};

static struct leg *other(struct sg_relay *relay, const struct leg *leg)
{
    return leg == &relay->legs[0] ? &relay->legs[1] : &relay->legs[0];
}

static struct leg *leg_of(struct sg_relay *relay, const struct bufferevent *bev)
{
    return relay->legs[0].bev == bev ? &relay->legs[0] : &relay->legs[1];
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
    for (unsigned i = 0; i < 2; i++)
        if (relay->legs[i].bev)
            bufferevent_free(relay->legs[i].bev);
    if (relay->idle)
        event_free(relay->idle);
    if (relay->ended)
        event_free(relay->ended);
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

/* Passes the end of the other leg's input on, once all of it was written. True if the relay is over and gone. */
static bool pass_end(struct sg_relay *relay, struct leg *to)
{
    const struct leg *from = other(relay, to);
    bool drained = evbuffer_get_length(bufferevent_get_output(to->bev)) == 0 &&
                   evbuffer_get_length(bufferevent_get_input(from->bev)) == 0;
    if (from->input_ended && !to->output_ended && drained && sg_tls_close_write(to->bev)) {
        shutdown(bufferevent_getfd(to->bev), SHUT_WR);
        to->output_ended = true;
    }
    if (!relay->legs[0].output_ended || !relay->legs[1].output_ended)
        return false;
    finish(relay);
    return true;
}

/* Moves what came on a leg to the other, and stops reading while the other has enough. */
static void move_input(struct sg_relay *relay, struct leg *from)
{
    struct bufferevent *to = other(relay, from)->bev;
    relay->active_ms = sg_now_ms();
    bufferevent_write_buffer(to, bufferevent_get_input(from->bev));
    if (evbuffer_get_length(bufferevent_get_output(to)) >= BUFFERED_STOP)
        bufferevent_disable(from->bev, EV_READ);
}

static void on_read(struct bufferevent *bev, void *ctx)
{
    struct sg_relay *relay = ctx;
    move_input(relay, leg_of(relay, bev));
}

static void on_written(struct bufferevent *bev, void *ctx)
{
    struct sg_relay *relay = ctx;
    struct leg *to = leg_of(relay, bev);
    struct leg *from = other(relay, to);
    relay->active_ms = sg_now_ms();
    if (!from->input_ended)
        bufferevent_enable(from->bev, EV_READ);
    (void)pass_end(relay, to);
}

static void on_event(struct bufferevent *bev, short what, void *ctx)
{
    struct sg_relay *relay = ctx;
    struct leg *from = leg_of(relay, bev);
    if (!(what & BEV_EVENT_EOF)) {
        arm_reset(other(relay, from)->bev);
        finish(relay);
        return;
    }
    from->input_ended = true;
    bufferevent_disable(bev, EV_READ);
    /* libevent stops writing too when TLS says close_notify: the other direction is still open */
    bufferevent_enable(bev, EV_WRITE);
    event_active(relay->ended, 0, 0);
}

static void on_ended(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_relay *relay = ctx;
    (void)fd;
    (void)what;
    for (unsigned i = 0; i < 2; i++) {
        struct leg *from = &relay->legs[i];
        if (from->input_ended) {
            move_input(relay, from);
            if (pass_end(relay, other(relay, from)))
                return;
        }
    }
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

static bool make_events(struct sg_relay *relay, struct event_base *base)
{
    static const struct timeval idle = {.tv_sec = IDLE_MS / 1000};
    relay->idle = evtimer_new(base, on_idle, relay);
    relay->ended = event_new(base, -1, 0, on_ended, relay);
    return relay->idle && relay->ended && evtimer_add(relay->idle, &idle) == 0;
}

static void start_leg(struct sg_relay *relay, struct leg *leg)
{
    struct bufferevent *bev = leg->bev;
    bufferevent_set_timeouts(bev, NULL, NULL);
    bufferevent_setcb(bev, on_read, on_written, on_event, relay);
    bufferevent_setwatermark(bev, EV_READ, 0, 0);
    bufferevent_setwatermark(bev, EV_WRITE, BUFFERED_LOW, 0);
    /* an end that came while nobody relayed yet is not told again */
    leg->input_ended = sg_tls_input_ended(bev);
    bufferevent_enable(bev, leg->input_ended ? EV_WRITE : EV_READ | EV_WRITE);
    if (leg->input_ended)
        event_active(relay->ended, 0, 0);
}

struct sg_relay *sg_relay_start(struct bufferevent *a, struct bufferevent *b, sg_relay_fn *fn, void *ctx)
{
    struct sg_relay *relay = calloc(1, sizeof *relay);
    if (!relay) {
        bufferevent_free(a);
        bufferevent_free(b);
        return NULL;
    }
    *relay = (struct sg_relay){.legs = {{.bev = a}, {.bev = b}}, .fn = fn, .ctx = ctx};
    if (!make_events(relay, bufferevent_get_base(a))) {
        dispose(relay);
        return NULL;
    }
    start_leg(relay, &relay->legs[0]);
    start_leg(relay, &relay->legs[1]);
    move_input(relay, &relay->legs[0]);
    move_input(relay, &relay->legs[1]);
    return relay;
}
