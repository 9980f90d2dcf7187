/* A TCP listener over evconnlistener. */
#include "net/listener.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/listener.h>

#include "net/clock.h"
#include "net/log.h"
#include "net/sockaddr.h"

enum { BACKLOG = 1024, PAUSE_MS = 100, LOG_EVERY_MS = 10 * 1000 };

struct sg_listener {
    struct evconnlistener *listener;
    struct event *resume;
    uint64_t logged_ms; /* 0: never */
    sg_accept_fn *fn;
    void *ctx;
};

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *addr, int len, void *ctx)
{
    struct sg_listener *l = ctx;
    int on = 1;
    (void)listener;
    (void)addr;
    (void)len;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    l->fn(l->ctx, fd);
}

/* Out of descriptors: what exists goes on, and a connection in the backlog waits until one is free. */
static void on_error(struct evconnlistener *listener, void *ctx)
{
    static const struct timeval pause = {.tv_usec = PAUSE_MS * 1000};
    struct sg_listener *l = ctx;
    int error = EVUTIL_SOCKET_ERROR();
    uint64_t now_ms = sg_now_ms();
    if (l->logged_ms == 0 || now_ms - l->logged_ms >= LOG_EVERY_MS) {
        sg_log_event(SG_LOG_WARN, "accept_paused", NULL, "cannot accept connections for the moment: %s",
                     strerror(error));
        l->logged_ms = now_ms;
    }
    evconnlistener_disable(listener);
    evtimer_add(l->resume, &pause);
}

static void on_resume(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_listener *l = ctx;
    (void)fd;
    (void)what;
    evconnlistener_enable(l->listener);
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

struct sg_listener *sg_listener_adopt(struct event_base *base, int fd, sg_accept_fn *fn, void *ctx)
{
    struct sg_listener *l = calloc(1, sizeof *l);
    if (!l)
        goto failed;
    l->fn = fn;
    l->ctx = ctx;
    l->resume = evtimer_new(base, on_resume, l);
    l->listener = evconnlistener_new(base, on_accept, l, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (!l->listener || !l->resume)
        goto failed;
    evconnlistener_set_error_cb(l->listener, on_error);
    return l;
failed:
    if (!l || !l->listener)
        close(fd);
    sg_listener_free(l);
    errno = ENOMEM;
    return NULL;
}

struct sg_listener *sg_listener_new(struct event_base *base, const struct sg_endpoint *at, enum sg_share share,
                                    struct sg_endpoint *bound, sg_accept_fn *fn, void *ctx)
{
    int fd = take_address(at, share);
    if (fd < 0)
        return NULL;
    *bound = sg_socket_local(fd);
    return sg_listener_adopt(base, fd, fn, ctx);
}

void sg_listener_free(struct sg_listener *listener)
{
    if (!listener)
        return;
    if (listener->resume)
        event_free(listener->resume);
    if (listener->listener)
        evconnlistener_free(listener->listener);
    free(listener);
}
