/* Happy eyeballs over a list of addresses that a resolver sorted. */
#include "net/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "net/clock.h"
#include "net/keepalive.h"
#include "net/resolver.h"
#include "net/sockaddr.h"

enum { NEXT_MS = 250, WHOLE_MS = 20000 };

struct attempt {
    struct sg_dial *dial;
    struct event *writable;
    int fd; /* -1: over */
    bool is_first;
};

struct sg_dial {
    struct event_base *base;
    struct sg_ip ips[SG_RESOLVE_MAX_IPS];
    struct attempt attempts[SG_RESOLVE_MAX_IPS];
    size_t count;
    size_t started;
    size_t pending;
    uint16_t port;
    int mss;
    int first_error;
    uint64_t deadline_ms;
    struct event *timer;
    sg_dial_fn *fn;
    void *ctx;
};

static void free_attempt(struct attempt *attempt)
{
    if (attempt->writable)
        event_free(attempt->writable);
    attempt->writable = NULL;
    if (attempt->fd >= 0)
        close(attempt->fd);
    attempt->fd = -1;
}

void sg_dial_cancel(struct sg_dial *dial)
{
    for (size_t i = 0; i < dial->started; i++)
        free_attempt(&dial->attempts[i]);
    if (dial->timer)
        event_free(dial->timer);
    free(dial);
}

static void finish(struct sg_dial *dial, int fd, int error)
{
    sg_dial_fn *fn = dial->fn;
    void *ctx = dial->ctx;
    sg_dial_cancel(dial);
    fn(ctx, fd, error);
}

/* The order of addresses: as sorted, but with the families in turn, so that one broken family costs little. */
static void interleave(struct sg_dial *dial, const struct sg_ip *ips, size_t count)
{
    bool taken[SG_RESOLVE_MAX_IPS] = {false};
    uint8_t family = count > 0 ? ips[0].family : 4;
    while (dial->count < count) {
        size_t pick = count;
        for (size_t i = 0; i < count && pick == count; i++)
            if (!taken[i] && ips[i].family == family)
                pick = i;
        for (size_t i = 0; i < count && pick == count; i++)
            if (!taken[i])
                pick = i;
        taken[pick] = true;
        dial->ips[dial->count++] = ips[pick];
        family = ips[pick].family == 4 ? 6 : 4;
    }
}

static void note_failure(struct attempt *attempt, int error)
{
    if (attempt->is_first)
        attempt->dial->first_error = error;
    free_attempt(attempt);
    attempt->dial->pending--;
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
    struct attempt *attempt = ctx;
    struct sg_dial *dial = attempt->dial;
    static const struct timeval at_once;
    int error = 0;
    socklen_t len = sizeof error;
    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0) {
        attempt->fd = -1; /* it is the callback's now */
        finish(dial, fd, 0);
        return;
    }
    note_failure(attempt, error);
    evtimer_add(dial->timer, &at_once);
}

/* Begins the next attempt; false if it failed at once. */
static bool start_next(struct sg_dial *dial)
{
    struct attempt *attempt = &dial->attempts[dial->started];
    struct sg_endpoint to = {.ip = dial->ips[dial->started], .port = dial->port};
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(&to, &ss);
    int on = 1;
    *attempt = (struct attempt){.dial = dial, .is_first = dial->started == 0};
    dial->started++;
    dial->pending++;
    attempt->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (attempt->fd < 0)
        goto failed;
    (void)setsockopt(attempt->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sg_keepalive_set(attempt->fd);
    if (dial->mss > 0)
        (void)setsockopt(attempt->fd, IPPROTO_TCP, TCP_MAXSEG, &dial->mss, sizeof dial->mss);
    if (connect(attempt->fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS)
        goto failed;
    attempt->writable = event_new(dial->base, attempt->fd, EV_WRITE, on_writable, attempt);
    if (!attempt->writable || event_add(attempt->writable, NULL) != 0) {
        errno = ENOMEM;
        goto failed;
    }
    return true;
failed:
    note_failure(attempt, errno);
    return false;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_dial *dial = ctx;
    (void)fd;
    (void)what;
    uint64_t now_ms = sg_now_ms();
    if (now_ms >= dial->deadline_ms) {
        finish(dial, -1, dial->started > 0 && dial->first_error != 0 ? dial->first_error : ETIMEDOUT);
        return;
    }
    while (dial->started < dial->count && !start_next(dial)) {
        /* what fails at once costs no waiting */
    }
    if (dial->pending == 0) {
        finish(dial, -1, dial->first_error != 0 ? dial->first_error : EHOSTUNREACH);
        return;
    }
    uint64_t left_ms = dial->deadline_ms - now_ms;
    uint64_t wait_ms = dial->started < dial->count && NEXT_MS < left_ms ? NEXT_MS : left_ms;
    struct timeval tv = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
    evtimer_add(dial->timer, &tv);
}

struct sg_dial *sg_dial_start(struct event_base *base, const struct sg_ip *ips, size_t count, uint16_t port, int mss,
                              sg_dial_fn *fn, void *ctx)
{
    static const struct timeval at_once;
    struct sg_dial *dial = calloc(1, sizeof *dial);
    if (!dial)
        return NULL;
    dial->base = base;
    dial->port = port;
    dial->mss = mss;
    dial->fn = fn;
    dial->ctx = ctx;
    dial->deadline_ms = sg_now_ms() + WHOLE_MS;
    interleave(dial, ips, count < SG_RESOLVE_MAX_IPS ? count : SG_RESOLVE_MAX_IPS);
    dial->timer = evtimer_new(base, on_timer, dial);
    if (!dial->timer || evtimer_add(dial->timer, &at_once) != 0) {
        sg_dial_cancel(dial);
        return NULL;
    }
    return dial;
}
