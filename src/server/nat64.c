/* One look-up at a time; while one is under way a further question is the same one. */
#include "server/nat64.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "net/resolver.h"
#include "net/sockaddr.h"

enum { AGAIN_SECONDS = 600 };

static const char known_name[] = "ipv4only.arpa";

struct sg_nat64_watch {
    const struct sg_resolver *resolver;
    struct sg_resolve *resolve; /* NULL: nothing is asked */
    struct event *timer;
    sg_nat64_fn *fn;
    void *ctx;
};

/* A network without IPv6 has nobody to translate for. */
static bool has_ipv6(void)
{
    struct ifaddrs *list = NULL;
    bool found = false;
    if (getifaddrs(&list) != 0)
        return false;
    for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
        struct sockaddr_storage ss = {0};
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET6)
            continue;
        memcpy(&ss, i->ifa_addr, sizeof(struct sockaddr_in6));
        struct sg_ip ip = sg_sockaddr_endpoint(&ss).ip;
        const char *class = sg_guard_class(&ip);
        found = !class || (strcmp(class, "loopback") != 0 && strcmp(class, "link_local") != 0);
    }
    freeifaddrs(list);
    return found;
}

static void on_answer(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count)
{
    struct sg_nat64_watch *watch = ctx;
    struct sg_nat64 found = {0};
    watch->resolve = NULL;
    for (size_t i = 0; i < count && found.count < SG_GUARD_NAT64_MAX; i++)
        found.count += sg_guard_nat64_of(&ips[i], &found.prefixes[found.count]);
    if (err == SG_OK)
        watch->fn(watch->ctx, &found);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    static const struct timeval again = {.tv_sec = AGAIN_SECONDS};
    struct sg_nat64_watch *watch = ctx;
    (void)fd;
    (void)what;
    if (!watch->resolve && has_ipv6())
        watch->resolve = sg_resolver_start(watch->resolver, NULL, known_name, strlen(known_name), on_answer, watch);
    evtimer_add(watch->timer, &again);
}

void sg_nat64_watch_ask(struct sg_nat64_watch *watch)
{
    static const struct timeval at_once;
    evtimer_add(watch->timer, &at_once);
}

struct sg_nat64_watch *sg_nat64_watch_new(struct event_base *base, const struct sg_resolver *resolver, sg_nat64_fn *fn,
                                          void *ctx)
{
    struct sg_nat64_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    *watch = (struct sg_nat64_watch){.resolver = resolver, .fn = fn, .ctx = ctx};
    watch->timer = evtimer_new(base, on_timer, watch);
    if (!watch->timer) {
        free(watch);
        return NULL;
    }
    sg_nat64_watch_ask(watch);
    return watch;
}

void sg_nat64_watch_free(struct sg_nat64_watch *watch)
{
    if (!watch)
        return;
    sg_resolve_cancel(watch->resolve);
    event_free(watch->timer);
    free(watch);
}
