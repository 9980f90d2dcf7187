/*
 * A TCP listener. libevent's own takes connections for as long as there are any: a flood of them would hold up all that
 * the loop has to do beside.
 */
#include "net/listener.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "net/clock.h"
#include "net/keepalive.h"
#include "net/log.h"
#include "net/sockaddr.h"

enum { BACKLOG = 1024, PAUSE_MS = 100, LOG_EVERY_MS = 10 * 1000, ACCEPTS_A_TURN = 16 };

struct sg_listener {
    int fd;
    struct event *readable;
    struct event *resume;
    bool is_accepting; /* and is freed when that is over, if it ended meanwhile */
    bool has_ended;
    uint64_t logged_ms; /* 0: never */
    sg_accept_fn *fn;
    void *ctx;
};

/* Out of descriptors: what exists goes on, and a connection in the backlog waits until one is free. */
static void pause_for(struct sg_listener *l, int error)
{
    static const struct timeval pause = {.tv_usec = PAUSE_MS * 1000};
    uint64_t now_ms = sg_now_ms();
    if (l->logged_ms == 0 || now_ms - l->logged_ms >= LOG_EVERY_MS) {
        sg_log_event(SG_LOG_WARN, "accept_paused", NULL, "cannot accept connections for the moment: %s",
                     strerror(error));
        l->logged_ms = now_ms;
    }
    event_del(l->readable);
    evtimer_add(l->resume, &pause);
}

/* What accept says of a connection that is gone already, or of its network (accept(2)), and not of the listener. */
static bool is_of_connection(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EOPNOTSUPP:
        return true;
    default:
        return false;
    }
}

static void on_readable(evutil_socket_t listening, short what, void *ctx)
{
    struct sg_listener *l = ctx;
    int on = 1;
    (void)what;
    l->is_accepting = true;
    for (unsigned i = 0; i < ACCEPTS_A_TURN && !l->has_ended; i++) { /* the rest wait for the loop's next turn */
        int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && is_of_connection(errno))
            continue;
        if (fd < 0) {
            if (errno != EAGAIN)
                pause_for(l, errno);
            break;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        l->fn(l->ctx, fd);
    }
    l->is_accepting = false;
    if (l->has_ended)
        free(l);
}

static void on_resume(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_listener *l = ctx;
    (void)fd;
    (void)what;
    event_add(l->readable, NULL);
}

static int open_socket(const struct sg_endpoint *at, bool shared)
{
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(at, &ss);
    int on = 1;
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) ||
        (at->ip.family == 6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
        bind(fd, (struct sockaddr *)&ss, len) != 0 || listen(fd, BACKLOG) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* A shared address hides that another program has it: so the first asks for it alone for a moment. */
static int take_address(const struct sg_endpoint *at, enum sg_share share)
{
    if (share == SG_SHARED_FIRST && at->port != 0) {
        int fd = open_socket(at, false);
        if (fd < 0)
            return -1;
        close(fd);
    }
    return open_socket(at, share != SG_ALONE);
}

static struct sg_listener *accept_on(struct event_base *base, int fd, sg_accept_fn *fn, void *ctx)
{
    struct sg_listener *l = calloc(1, sizeof *l);
    if (!l) {
        close(fd);
        errno = ENOMEM;
        return NULL;
    }
    *l = (struct sg_listener){.fd = fd, .fn = fn, .ctx = ctx};
    sg_keepalive_set(fd); /* what it accepts has it too */
    l->resume = evtimer_new(base, on_resume, l);
    l->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, l);
    if (l->resume && l->readable && event_add(l->readable, NULL) == 0)
        return l;
    sg_listener_free(l);
    errno = ENOMEM;
    return NULL;
}

struct sg_listener *sg_listener_new(struct event_base *base, const struct sg_endpoint *at, int passed,
                                    enum sg_share share, struct sg_endpoint *bound, sg_accept_fn *fn, void *ctx)
{
    int fd = passed >= 0 ? passed : take_address(at, share);
    if (fd < 0)
        return NULL;
    *bound = sg_socket_local(fd);
    return accept_on(base, fd, fn, ctx);
}

void sg_listener_free(struct sg_listener *listener)
{
    if (!listener)
        return;
    if (listener->resume)
        event_free(listener->resume);
    if (listener->readable)
        event_free(listener->readable);
    close(listener->fd);
    listener->has_ended = true;
    if (!listener->is_accepting)
        free(listener);
}
