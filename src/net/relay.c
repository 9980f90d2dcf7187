/*
 * Two byte streams joined. The bufferevents own sockets and TLS, but libevent no longer reads and writes: it would take
 * 4 KiB at a time (2.1.12), and a record or two of TLS. What a leg gives goes to the other at once, through a buffer of
 * the thread; only what the other does not take is kept, and reading waits until it is gone.
 *
 * A leg that fails has still to be read to its end, and what it said has to reach the other leg's peer before the reset
 * does: closing with a reset throws away what the kernel has not sent. So the relay waits for the acknowledgement.
 *
 * All moving is done by events, so that a relay cannot end while it is being started.
 */
#include "net/relay.h"

#include <stdlib.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "net/clock.h"
#include "net/relay_leg.h"

enum {
    READ_BYTES = 64 * 1024,      /* at a time: four records of TLS */
    TURN_BYTES = 4 * READ_BYTES, /* then others have their turn */
    UNSENT_MAX =
        2 * READ_BYTES,   /* of TLS, before its peer's input waits: sealed data, and answers to changes of keys */
    CHECK_MS = 30 * 1000, /* of legs that leave what was sent unanswered */
    POLL_MIN_MS = 5,      /* for an acknowledgement, of which no event tells; each time twice as long */
    POLL_MAX_MS = 250,
};

struct leg {
    struct sg_relay *relay;
    struct sg_leg io;
    struct evbuffer *waiting; /* until this leg takes it */
    struct event *readable, *writable;
    struct event *pause; /* until the shaper lets it be read again, or others had their turn */
    bool has_dropped;    /* what waited when the output broke */
};

struct sg_relay {
    struct leg legs[2];
    struct event *timer;
    uint64_t active_ms, idle_ms;          /* when something moved last; how long nothing may */
    unsigned poll_ms;                     /* 0: no acknowledgement is waited for */
    bool had_last_turn;                   /* the last leg that could be read was read once more */
    const struct sg_relay_shaper *shaper; /* or NULL */
    void *shaper_ctx;
    sg_relay_fn *fn;
    void *ctx;
};

static struct leg *other(const struct leg *leg)
{
    return &leg->relay->legs[leg == &leg->relay->legs[0]];
}

/* What has to go out on a leg before more is read for it. */
static size_t waiting(const struct leg *leg)
{
    return evbuffer_get_length(leg->waiting) + sg_leg_unsent(&leg->io);
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
        bufferevent_free(leg->io.bev);
    }
    if (relay->timer)
        event_free(relay->timer);
    free(relay);
}

static void finish(struct sg_relay *relay)
{
    sg_relay_fn *fn = relay->fn;
    void *ctx = relay->ctx;
    dispose(relay);
    fn(ctx);
}

static void arm_resets(const struct sg_relay *relay)
{
    sg_leg_arm_reset(&relay->legs[0].io);
    sg_leg_arm_reset(&relay->legs[1].io);
}

void sg_relay_free(struct sg_relay *relay)
{
    if (!relay)
        return;
    arm_resets(relay);
    dispose(relay);
}

/* What was there for the other leg was taken, and what TLS owes to this one's peer is not too much. */
static bool may_read(const struct leg *from)
{
    return from->io.input == SG_LEG_OPEN && waiting(other(from)) == 0 && sg_leg_unsent(&from->io) <= UNSENT_MAX;
}

/* Reading a leg goes on, if nothing holds it back. */
static void resume(struct leg *from)
{
    if (!may_read(from) || event_pending(from->readable, EV_READ, NULL) || evtimer_pending(from->pause, NULL))
        return;
    event_add(from->readable, NULL);
    event_active(from->readable, EV_READ, 0);
}

/* --- the end --- */

static void set_timer(struct sg_relay *relay, uint64_t ms)
{
    const struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    evtimer_add(relay->timer, &tv);
}

/* The leg's input is over, and all of it was written to the other leg, its end too. */
static bool is_passed_on(const struct leg *from)
{
    const struct leg *to = other(from);
    return from->io.input != SG_LEG_OPEN && waiting(to) == 0 &&
           (from->io.input == SG_LEG_BROKEN || to->io.output != SG_LEG_OPEN);
}

/* A leg that failed leaves nothing more to do in good order: what it said was written, and what it could be told. */
static bool is_lost(const struct leg *leg)
{
    return (leg->io.input == SG_LEG_BROKEN || leg->io.output == SG_LEG_BROKEN) && is_passed_on(leg) &&
           waiting(leg) == 0;
}

/* What the other leg has received by now may still be told to one that only its peer has ended. */
static bool wants_last_turn(struct leg *lost)
{
    struct leg *to = other(lost);
    if (lost->relay->had_last_turn || lost->io.output == SG_LEG_BROKEN || to->io.input != SG_LEG_OPEN)
        return false;
    lost->relay->had_last_turn = true;
    event_active(to->readable, EV_READ, 0);
    return true;
}

static void poll_again(struct sg_relay *relay)
{
    unsigned ms = 2 * relay->poll_ms;
    relay->poll_ms = ms < POLL_MIN_MS ? POLL_MIN_MS : ms < POLL_MAX_MS ? ms : POLL_MAX_MS;
    set_timer(relay, relay->poll_ms);
}

/* An output broke: what waited for it is void, and what its peer said before is read, though nothing else is. */
static void drop_waiting(struct leg *leg)
{
    leg->has_dropped = true;
    evbuffer_drain(leg->waiting, evbuffer_get_length(leg->waiting));
    resume(leg);
    resume(other(leg));
}

/* What follows for a leg from what has changed, short of the end of all. */
static void arrange(struct leg *leg)
{
    if (other(leg)->io.input == SG_LEG_ENDED && leg->io.output == SG_LEG_OPEN && waiting(leg) == 0)
        (void)sg_leg_end(&leg->io);
    if (leg->io.output == SG_LEG_BROKEN && !leg->has_dropped)
        drop_waiting(leg);
    if (sg_leg_unsent(&leg->io) > 0 || (waiting(leg) > 0 && !leg->io.needs_input))
        event_add(leg->writable, NULL);
    if (leg->io.input == SG_LEG_OPEN && !may_read(leg))
        event_del(leg->readable);
}

/*
 * To be called after each change, last: passes ends on once all that came before was written, and ends the relay when
 * nothing is left to do. True if it is over and gone.
 */
static bool settle(struct sg_relay *relay)
{
    struct leg *legs = relay->legs;
    arrange(&legs[0]);
    arrange(&legs[1]);
    if (legs[0].io.output == SG_LEG_ENDED && legs[1].io.output == SG_LEG_ENDED && waiting(&legs[0]) == 0 &&
        waiting(&legs[1]) == 0) {
        finish(relay);
        return true;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (!is_lost(&legs[i]))
            continue;
        if (wants_last_turn(&legs[i]) || !sg_leg_is_delivered(&legs[!i].io)) {
            poll_again(relay);
            return false;
        }
        sg_leg_arm_reset(&legs[!i].io);
        finish(relay);
        return true;
    }
    return false;
}

/* --- moving --- */

/* Bytes for a leg with nothing waiting; what it does not take now waits. */
static void put(struct leg *to, const uint8_t *bytes, size_t len)
{
    size_t n = sg_leg_write(&to->io, bytes, len);
    if (n < len && evbuffer_add(to->waiting, bytes + n, len - n) != 0)
        to->io.output = SG_LEG_BROKEN;
}

/* How much may be read from a leg now, at most READ_BYTES. 0: its reading waits, or the relay is over and gone. */
static size_t ask_shaper(struct leg *from)
{
    struct sg_relay *relay = from->relay;
    uint32_t wait_ms = 0;
    size_t room = relay->shaper->room(relay->shaper_ctx, from == &relay->legs[1], &wait_ms);
    if (room > 0)
        return room < READ_BYTES ? room : READ_BYTES;
    const struct timeval tv = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000) * 1000};
    if (wait_ms == SG_RELAY_OVER || evtimer_add(from->pause, &tv) != 0) {
        sg_relay_fn *fn = relay->fn;
        void *ctx = relay->ctx;
        sg_relay_free(relay);
        fn(ctx);
        return 0;
    }
    event_del(from->readable);
    return 0;
}

static void on_look(evutil_socket_t fd, short what, void *ctx)
{
    struct leg *leg = ctx;
    (void)fd;
    (void)what;
    sg_leg_look(&leg->io);
    (void)settle(leg->relay);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx);

/*
 * A leg's input is over: from now on it is watched for a reset. What has ended is readable for ever, so the events have
 * to be of the kind that tells of changes, and libevent wants both of a socket to be of one kind.
 */
static void watch_end(struct leg *leg)
{
    struct event_base *base = event_get_base(leg->readable);
    bool is_writing = event_pending(leg->writable, EV_WRITE, NULL);
    event_del(leg->readable);
    event_del(leg->writable);
    event_assign(leg->readable, base, leg->io.fd, EV_READ | EV_ET | EV_PERSIST, on_look, leg);
    event_assign(leg->writable, base, leg->io.fd, EV_WRITE | EV_ET, on_writable, leg);
    event_add(leg->readable, NULL);
    if (is_writing)
        event_add(leg->writable, NULL);
}

/* One turn: moves what a leg has to the other while that takes it. */
static void move(struct leg *from)
{
    static _Thread_local uint8_t bytes[READ_BYTES];
    static const struct timeval next_turn;
    struct sg_relay *relay = from->relay;
    struct leg *to = other(from);
    size_t n, moved = 0, size = READ_BYTES;
    do {
        if (relay->shaper && (size = ask_shaper(from)) == 0)
            return;
        n = sg_leg_read(&from->io, bytes, size);
        if (from->io.needs_input)
            event_active(from->writable, EV_WRITE, 0);
        if (n > 0) {
            relay->active_ms = sg_now_ms();
            put(to, bytes, n);
        }
        moved += n;
        if (relay->shaper)
            relay->shaper->pay(relay->shaper_ctx, from == &relay->legs[1], n);
    } while (n == size && moved < TURN_BYTES && may_read(from) && (to->io.output != SG_LEG_BROKEN || to->has_dropped));
    if (from->io.input != SG_LEG_OPEN)
        watch_end(from);
    else if (from->io.has_more && may_read(from))
        evtimer_add(from->pause, &next_turn); /* what TLS holds does not make its socket readable */
    (void)settle(relay);
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
    if (!may_read(from))
        return; /* reading goes on when what waits was written */
    event_add(from->readable, NULL);
    move(from);
}

/* Writes what waits for a leg, as far as it takes it. */
static void write_waiting(struct leg *leg)
{
    size_t len, n = 1;
    sg_leg_flush(&leg->io);
    while (n > 0 && leg->io.output != SG_LEG_BROKEN && (len = evbuffer_get_length(leg->waiting)) > 0) {
        size_t part = len < READ_BYTES ? len : READ_BYTES;
        const uint8_t *bytes = evbuffer_pullup(leg->waiting, (ev_ssize_t)part);
        if (!bytes) {
            leg->io.output = SG_LEG_BROKEN;
            return;
        }
        n = sg_leg_write(&leg->io, bytes, part);
        evbuffer_drain(leg->waiting, n);
        if (n > 0)
            leg->relay->active_ms = sg_now_ms();
    }
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    struct leg *to = ctx;
    struct leg *from = other(to);
    write_waiting(to);
    resume(to);
    if (may_read(from) && !evtimer_pending(from->pause, NULL)) {
        event_add(from->readable, NULL);
        move(from);
    } else {
        (void)settle(to->relay);
    }
}

/* An error that libevent saw before the legs were joined. */
static void on_event(struct bufferevent *bev, short what, void *ctx)
{
    struct sg_relay *relay = ctx;
    struct leg *leg = &relay->legs[relay->legs[1].io.bev == bev];
    if (what & BEV_EVENT_EOF)
        return; /* is read once more */
    leg->io.output = SG_LEG_BROKEN;
    if (what & BEV_EVENT_READING)
        leg->io.input = SG_LEG_BROKEN;
    (void)settle(relay);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_relay *relay = ctx;
    (void)fd;
    (void)what;
    uint64_t now_ms = sg_now_ms();
    uint64_t idle_ms = now_ms > relay->active_ms ? now_ms - relay->active_ms : 0;
    for (unsigned i = 0; i < 2; i++)
        if (sg_leg_is_deserted(&relay->legs[i].io))
            sg_leg_fail(&relay->legs[i].io);
    if (idle_ms >= relay->idle_ms) {
        arm_resets(relay);
        finish(relay);
    } else if (!settle(relay) && !evtimer_pending(relay->timer, NULL)) {
        set_timer(relay, relay->idle_ms - idle_ms < CHECK_MS ? relay->idle_ms - idle_ms : CHECK_MS);
    }
}

/* Takes a leg from libevent: its reading and writing stop, what it had not written yet waits. */
static bool take_leg(struct leg *leg)
{
    struct bufferevent *bev = leg->io.bev;
    struct event_base *base = bufferevent_get_base(bev);
    bufferevent_setcb(bev, NULL, NULL, on_event, leg->relay);
    if (!sg_leg_take(&leg->io, bev))
        return false;
    leg->waiting = evbuffer_new();
    leg->pause = evtimer_new(base, on_pause_end, leg);
    leg->readable = event_new(base, leg->io.fd, EV_READ | EV_PERSIST, on_readable, leg);
    leg->writable = event_new(base, leg->io.fd, EV_WRITE, on_writable, leg);
    struct evbuffer *output = bufferevent_get_output(bev);
    evbuffer_unfreeze(output, 1); /* a bufferevent guards its output's front */
    return leg->waiting && leg->readable && leg->writable && leg->pause &&
           evbuffer_add_buffer(leg->waiting, output) == 0;
}

/* Joins the legs: what a leg gave to libevent waits for the other; the first turn comes when that was written. */
static bool join(struct sg_relay *relay)
{
    for (unsigned i = 0; i < 2; i++) {
        struct leg *to = &relay->legs[i];
        if (evbuffer_add_buffer(to->waiting, bufferevent_get_input(other(to)->io.bev)) != 0)
            return false;
        event_active(to->writable, EV_WRITE, 0);
    }
    return true;
}

struct sg_relay *sg_relay_start(struct bufferevent *a, struct bufferevent *b, uint64_t idle_ms, sg_relay_fn *fn,
                                void *ctx)
{
    struct sg_relay *relay = calloc(1, sizeof *relay);
    if (!relay) {
        bufferevent_free(a);
        bufferevent_free(b);
        return NULL;
    }
    *relay = (struct sg_relay){.legs = {{.relay = relay, .io = {.bev = a}}, {.relay = relay, .io = {.bev = b}}},
                               .fn = fn,
                               .ctx = ctx,
                               .active_ms = sg_now_ms(),
                               .idle_ms = idle_ms};
    relay->timer = evtimer_new(bufferevent_get_base(a), on_timer, relay);
    if (!relay->timer || !take_leg(&relay->legs[0]) || !take_leg(&relay->legs[1]) || !join(relay)) {
        dispose(relay);
        return NULL;
    }
    set_timer(relay, idle_ms < CHECK_MS ? idle_ms : CHECK_MS);
    return relay;
}

void sg_relay_shape(struct sg_relay *relay, const struct sg_relay_shaper *shaper, void *ctx)
{
    relay->shaper = shaper;
    relay->shaper_ctx = ctx;
    for (unsigned i = 0; i < 2; i++) {
        size_t early = waiting(&relay->legs[!i]);
        if (early > 0)
            shaper->pay(ctx, i == 1, early);
    }
}
