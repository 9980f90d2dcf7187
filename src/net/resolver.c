/*
 * c-ares on libevent: it tells which sockets to watch and when to be called again. Answers are handed over by a timer
 * of no delay, so that a callback never runs inside the start of its look-up, and a cancelled one never at all.
 */
#include "net/resolver.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include <ares.h>
#include <event2/event.h>

#include "net/sockaddr.h"

enum { WATCHES = 16, TRY_TIMEOUT_MS = 2000, TRIES = 3 };

struct watch {
    struct event *event;
    ares_socket_t fd;
};

struct sg_resolver {
    struct event_base *base;
    ares_channel channel;
    bool has_channel;
    struct watch watches[WATCHES];
    struct event *timer;
    struct sg_resolve *pending;
};

struct sg_resolve {
    struct sg_resolver *resolver;
    struct sg_resolve *next, **link;
    sg_resolve_fn *fn; /* NULL: cancelled, c-ares still holds it */
    void *ctx;
    struct event *deliver;
    bool answered; /* c-ares does not hold it any more */
    enum sg_err err;
    struct sg_ip ips[SG_RESOLVE_MAX_IPS];
    size_t count;
};

static void free_resolve(struct sg_resolve *resolve)
{
    *resolve->link = resolve->next;
    if (resolve->next)
        resolve->next->link = resolve->link;
    if (resolve->deliver)
        event_free(resolve->deliver);
    free(resolve);
}

static void set_timer(struct sg_resolver *resolver)
{
    struct timeval tv;
    struct timeval limit = {.tv_sec = 1};
    struct timeval *next = ares_timeout(resolver->channel, &limit, &tv);
    if (next)
        evtimer_add(resolver->timer, next);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_resolver *resolver = ctx;
    (void)fd;
    (void)what;
    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    if (resolver->pending)
        set_timer(resolver);
}

static void on_socket(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_resolver *resolver = ctx;
    ares_process_fd(resolver->channel, what & EV_READ ? fd : ARES_SOCKET_BAD, what & EV_WRITE ? fd : ARES_SOCKET_BAD);
}

static void on_socket_state(void *ctx, ares_socket_t fd, int readable, int writable)
{
    struct sg_resolver *resolver = ctx;
    struct watch *slot = NULL;
    for (unsigned i = 0; i < WATCHES; i++) {
        struct watch *w = &resolver->watches[i];
        if (w->event && w->fd == fd) {
            event_free(w->event);
            w->event = NULL;
        }
        if (!w->event && !slot)
            slot = w;
    }
    if (!slot || (!readable && !writable))
        return; /* a socket that is not watched times out and is tried again */
    short what = (short)(EV_PERSIST | (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
    slot->fd = fd;
    slot->event = event_new(resolver->base, fd, what, on_socket, resolver);
    if (slot->event)
        event_add(slot->event, NULL);
}

struct sg_resolver *sg_resolver_new(struct event_base *base)
{
    struct sg_resolver *resolver = calloc(1, sizeof *resolver);
    if (!resolver)
        return NULL;
    resolver->base = base;
    struct ares_options options = {
        .timeout = TRY_TIMEOUT_MS, .tries = TRIES, .sock_state_cb = on_socket_state, .sock_state_cb_data = resolver};
    resolver->timer = evtimer_new(base, on_timer, resolver);
    if (!resolver->timer || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS ||
        ares_init_options(&resolver->channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB) !=
            ARES_SUCCESS) {
        sg_resolver_free(resolver);
        return NULL;
    }
    resolver->has_channel = true;
    return resolver;
}

void sg_resolver_free(struct sg_resolver *resolver)
{
    if (!resolver)
        return;
    for (struct sg_resolve *r = resolver->pending; r; r = r->next)
        r->fn = NULL;
    if (resolver->has_channel) {
        ares_destroy(resolver->channel); /* calls back for each pending look-up: those free themselves */
        ares_library_cleanup();
    }
    for (struct sg_resolve *r = resolver->pending, *next = NULL; r; r = next) {
        next = r->next;
        free_resolve(r);
    }
    for (unsigned i = 0; i < WATCHES; i++)
        if (resolver->watches[i].event)
            event_free(resolver->watches[i].event);
    if (resolver->timer)
        event_free(resolver->timer);
    free(resolver);
}

static void on_deliver(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_resolve *resolve = ctx;
    struct sg_resolve answer = *resolve;
    (void)fd;
    (void)what;
    free_resolve(resolve);
    answer.fn(answer.ctx, answer.err, answer.ips, answer.count);
}

static void deliver_later(struct sg_resolve *resolve)
{
    static const struct timeval at_once;
    resolve->answered = true;
    evtimer_add(resolve->deliver, &at_once);
}

static void on_answer(void *ctx, int status, int timeouts, struct ares_addrinfo *result)
{
    struct sg_resolve *resolve = ctx;
    (void)timeouts;
    for (struct ares_addrinfo_node *n = result ? result->nodes : NULL; n; n = n->ai_next) {
        struct sockaddr_storage ss = {0};
        if (resolve->count == SG_RESOLVE_MAX_IPS || (size_t)n->ai_addrlen > sizeof ss)
            break;
        memcpy(&ss, n->ai_addr, n->ai_addrlen);
        struct sg_ip ip = sg_sockaddr_endpoint(&ss).ip;
        if (ip.family != 0)
            resolve->ips[resolve->count++] = ip;
    }
    if (result)
        ares_freeaddrinfo(result);
    resolve->err = status == ARES_SUCCESS && resolve->count > 0 ? SG_OK : SG_ERR_NOT_FOUND;
    if (resolve->fn)
        deliver_later(resolve);
    else
        free_resolve(resolve);
}

struct sg_resolve *sg_resolver_start(struct sg_resolver *resolver, const char *name, size_t len, sg_resolve_fn *fn,
                                     void *ctx)
{
    char text[256];
    struct sg_resolve *resolve = calloc(1, sizeof *resolve);
    if (!resolve)
        return NULL;
    resolve->deliver = evtimer_new(resolver->base, on_deliver, resolve);
    if (!resolve->deliver) {
        free(resolve);
        return NULL;
    }
    resolve->resolver = resolver;
    resolve->fn = fn;
    resolve->ctx = ctx;
    resolve->next = resolver->pending;
    resolve->link = &resolver->pending;
    if (resolve->next)
        resolve->next->link = &resolve->next;
    resolver->pending = resolve;

    if (len == 0 || len >= sizeof text) {
        resolve->err = SG_ERR_NOT_FOUND;
        deliver_later(resolve);
        return resolve;
    }
    memcpy(text, name, len);
    text[len] = '\0';
    if (!sg_name_tidy(text)) {
        resolve->err = SG_ERR_NOT_FOUND;
        deliver_later(resolve);
        return resolve;
    }
    if (sg_ip_parse(text, &resolve->ips[0]) == SG_OK) {
        resolve->count = 1;
        resolve->err = SG_OK;
        deliver_later(resolve);
        return resolve;
    }
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    ares_getaddrinfo(resolver->channel, text, NULL, &hints, on_answer, resolve);
    set_timer(resolver);
    return resolve;
}

void sg_resolve_cancel(struct sg_resolve *resolve)
{
    if (!resolve)
        return;
    resolve->fn = NULL;
    if (resolve->answered)
        free_resolve(resolve);
}
