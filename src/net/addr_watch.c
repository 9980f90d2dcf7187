/*
 * A netlink socket in the groups of addresses, and of routes. That there was a message about an address is enough; of
 * routes, which may change without end on a router, those of other machines do not matter.
 */
#include "net/addr_watch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "net/udp.h"

enum { MESSAGE_BYTES = 16 * 1024 };

struct sg_addr_watch {
    int fd;
    struct event *readable, *settled;
    sg_addr_watch_fn *fn;
    void *ctx;
};

/* Whether one of the messages may be about an address of this machine. */
static bool matters(struct nlmsghdr *message, size_t len)
{
    for (unsigned left = (unsigned)len; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
        const struct rtmsg *route = NLMSG_DATA(message);
        bool is_route = message->nlmsg_type == RTM_NEWROUTE || message->nlmsg_type == RTM_DELROUTE;
        if (!is_route || message->nlmsg_len < NLMSG_LENGTH(sizeof *route) || route->rtm_type != RTN_UNICAST)
            return true;
    }
    return false;
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    static const struct timeval quiet = {.tv_usec = 100000};
    struct sg_addr_watch *watch = ctx;
    union {
        struct nlmsghdr head;
        char bytes[MESSAGE_BYTES];
    } packet;
    bool changed = false;
    ssize_t got = 0;
    (void)what;
    while ((got = recv(fd, &packet, sizeof packet, MSG_DONTWAIT)) > 0)
        changed |= matters(&packet.head, (size_t)got);
    changed |= got < 0 && errno == ENOBUFS; /* some were lost */
    if (changed && !evtimer_pending(watch->settled, NULL))
        evtimer_add(watch->settled, &quiet);
}

static void on_settled(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_addr_watch *watch = ctx;
    (void)fd;
    (void)what;
    watch->fn(watch->ctx);
}

static int open_netlink(enum sg_addr_watch_what what)
{
    uint32_t routes = what == SG_WATCH_OWN_ROUTES ? RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE : 0;
    const struct sockaddr_nl groups = {.nl_family = AF_NETLINK,
                                       .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | routes};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&groups, sizeof groups) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

struct sg_addr_watch *sg_addr_watch_new(struct event_base *base, enum sg_addr_watch_what what, sg_addr_watch_fn *fn,
                                        void *ctx)
{
    int fd = open_netlink(what);
    if (fd < 0)
        return NULL;
    struct sg_addr_watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        close(fd);
        errno = ENOMEM;
        return NULL;
    }
    *watch = (struct sg_addr_watch){.fd = fd, .fn = fn, .ctx = ctx};
    watch->settled = evtimer_new(base, on_settled, watch);
    watch->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, watch);
    if (!watch->settled || !watch->readable || event_add(watch->readable, NULL) != 0) {
        sg_addr_watch_free(watch);
        errno = ENOMEM;
        return NULL;
    }
    return watch;
}

void sg_addr_watch_free(struct sg_addr_watch *watch)
{
    if (!watch)
        return;
    if (watch->readable)
        event_free(watch->readable);
    if (watch->settled)
        event_free(watch->settled);
    close(watch->fd);
    free(watch);
}

bool sg_addr_is_own(const struct sg_ip *ip)
{
    const struct sg_endpoint any_port = {.ip = *ip};
    int fd = sg_udp_open(&any_port, 0);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}
