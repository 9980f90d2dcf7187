/*
 * A channel of c-ares reads its files once. So there is a channel for each state of the files, and for each opinion
 * about which name servers are silent: look-ups begin on the newest, and one that is replaced ends with its last
 * look-up.
 *
 * A silent name server costs its wait once. c-ares before 1.32 asks the servers in the order of the file whatever
 * happened before; here the one that did not answer where another did is moved to the end (with `rotate`, where there
 * is no order, it is left out), and asked again now and then by a look-up that nobody waits for.
 */
#include "net/dns.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include <ares.h>
#include <event2/event.h>

#include "net/clock.h"
#include "net/dns_pairs.h"
#include "net/log.h"
#include "net/resolv_conf.h"
#include "net/sockaddr.h"

enum { SILENT_MAX = 8, PROBE_MS = 15000 };

/* A socket of a channel. */
struct watch {
    struct watch *next;
    struct event *event;
    ares_socket_t fd;
    struct sg_ip server;
    uint64_t heard_ms; /* 0: nothing yet */
};

struct channel {
    struct channel *next;
    struct sg_dns *dns;
    ares_channel ares;
    struct sg_dns_pairs *pairs;
    struct event *timer;
    struct watch *watches;
    unsigned pending; /* look-ups */
};

struct sg_dns {
    struct event_base *base;
    struct sg_resolv_stamp stamp;
    struct sg_resolv_options options;
    uint64_t serial;
    struct channel *current;
    struct channel *retired; /* with look-ups that began before */
    struct sg_ip silent[SILENT_MAX];
    unsigned silent_count;
    bool reorder;      /* the current channel does not know of them */
    uint64_t probe_ms; /* when to ask them again; 0: they are being asked */
};

struct look_up {
    struct channel *channel;
    sg_dns_fn *fn; /* NULL: a probe */
    void *ctx;
    uint64_t started_ms;
};

/* --- sockets and time of a channel --- */

static void end_watch(struct watch **link)
{
    struct watch *watch = *link;
    *link = watch->next;
    if (watch->event)
        event_free(watch->event);
    free(watch);
}

static void free_channel(struct channel *channel)
{
    if (channel->ares)
        ares_destroy(channel->ares); /* calls back for each look-up, and closes the sockets */
    while (channel->watches)
        end_watch(&channel->watches);
    sg_dns_pairs_free(channel->pairs);
    if (channel->timer)
        event_free(channel->timer);
    free(channel);
}

/* After c-ares was called: a replaced channel ends with its last look-up. */
static void settle(struct channel *channel)
{
    struct timeval tv, limit = {.tv_sec = 1};
    if (channel->pending > 0 || channel == channel->dns->current) {
        struct timeval *next = channel->pending > 0 ? ares_timeout(channel->ares, &limit, &tv) : NULL;
        if (next)
            evtimer_add(channel->timer, next);
        return;
    }
    struct channel **link = &channel->dns->retired;
    while (*link != channel)
        link = &(*link)->next;
    *link = channel->next;
    free_channel(channel);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct channel *channel = ctx;
    (void)fd;
    (void)what;
    ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    settle(channel);
}

static void on_given_up(void *ctx)
{
    struct channel *channel = ctx;
    ares_socket_t fd;
    while ((fd = sg_dns_pairs_next(channel->pairs)) != ARES_SOCKET_BAD)
        ares_process_fd(channel->ares, fd, ARES_SOCKET_BAD);
    settle(channel);
}

static void on_socket(evutil_socket_t fd, short what, void *ctx)
{
    struct channel *channel = ctx;
    for (struct watch *w = channel->watches; w && what & EV_READ; w = w->next)
        if (w->fd == fd)
            w->heard_ms = sg_now_ms();
    ares_process_fd(channel->ares, what & EV_READ ? fd : ARES_SOCKET_BAD, what & EV_WRITE ? fd : ARES_SOCKET_BAD);
    settle(channel);
}

static struct watch **find_watch(struct channel *channel, ares_socket_t fd)
{
    struct watch **link = &channel->watches;
    while (*link && (*link)->fd != fd)
        link = &(*link)->next;
    return link;
}

static struct watch *new_watch(struct channel *channel, ares_socket_t fd)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    watch->fd = fd;
    watch->next = channel->watches;
    channel->watches = watch;
    return watch;
}

/* A socket that is not watched, as memory is short, times out and is tried again. */
static void on_socket_state(void *ctx, ares_socket_t fd, int readable, int writable)
{
    struct channel *channel = ctx;
    struct watch **link = find_watch(channel, fd);
    short what = (short)(EV_PERSIST | (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
    if (!readable && !writable) {
        if (*link)
            end_watch(link);
        return;
    }
    struct watch *watch = *link ? *link : new_watch(channel, fd);
    if (!watch)
        return;
    if (watch->event)
        event_free(watch->event);
    watch->event = event_new(channel->dns->base, fd, what, on_socket, channel);
    if (watch->event)
        event_add(watch->event, NULL);
    if (watch->server.family == 0)
        watch->server = sg_socket_peer(fd).ip;
}

/* --- silent servers --- */

static void all_speak(struct sg_dns *dns)
{
    dns->reorder = dns->reorder || dns->silent_count > 0;
    dns->silent_count = 0;
}

enum chosen { THOSE_THAT_SPEAK_FIRST, THOSE_THAT_SPEAK, SILENT_ONES };

#if ARES_VERSION < 0x012000
static bool is_silent(const struct sg_dns *dns, const struct sg_ip *server)
{
    for (unsigned i = 0; i < dns->silent_count; i++)
        if (sg_ip_equal(&dns->silent[i], server))
            return true;
    return false;
}

/* Whether anything came from the server since then, on any of its sockets. */
static bool was_heard(const struct channel *channel, const struct sg_ip *server, uint64_t since_ms)
{
    for (const struct watch *w = channel->watches; w; w = w->next)
        if (w->heard_ms >= since_ms && sg_ip_equal(&w->server, server))
            return true;
    return false;
}

/* A look-up was answered, after some server had let its time pass. */
static void note_silence(const struct channel *channel, uint64_t since_ms)
{
    struct sg_dns *dns = channel->dns;
    for (const struct watch *w = channel->watches; w; w = w->next) {
        if (w->server.family == 0 || was_heard(channel, &w->server, since_ms) || is_silent(dns, &w->server) ||
            dns->silent_count == SILENT_MAX)
            continue;
        if (dns->silent_count == 0)
            dns->probe_ms = sg_now_ms() + PROBE_MS;
        dns->silent[dns->silent_count++] = w->server;
        dns->reorder = true;
    }
}

static struct sg_ip server_ip(const struct ares_addr_port_node *node)
{
    struct sg_ip ip = {.family = node->family == AF_INET6 ? 6 : 4};
    memcpy(ip.bytes, &node->addr, ip.family == 6 ? 16 : 4);
    return sg_ip_unmap(&ip);
}

/* Gives a fresh channel the chosen ones of its name servers. False: it keeps those of the file, in their order. */
static bool choose_servers(const struct sg_dns *dns, ares_channel ares, enum chosen chosen)
{
    struct ares_addr_port_node *all = NULL, *lists[2] = {NULL, NULL}, **ends[2] = {&lists[0], &lists[1]};
    bool has_scope = false;
    if (ares_get_servers_ports(ares, &all) != ARES_SUCCESS)
        return false;
    for (struct ares_addr_port_node *node = all, *next = NULL; node; node = next) {
        struct sg_ip ip = server_ip(node);
        has_scope = has_scope || (ip.family == 6 && ip.bytes[0] == 0xfe && (ip.bytes[1] & 0xc0) == 0x80);
        next = node->next;
        bool silent = is_silent(dns, &ip);
        node->next = NULL;
        *ends[silent] = node;
        ends[silent] = &node->next;
    }
    /* a link-local address would lose its interface: then all stays as the file has it */
    bool good = !has_scope && lists[1] && (lists[0] || chosen == SILENT_ONES);
    if (good && chosen == THOSE_THAT_SPEAK_FIRST) {
        *ends[0] = lists[1];
        lists[1] = NULL;
    }
    good = good && ares_set_servers_ports(ares, lists[chosen == SILENT_ONES]) == ARES_SUCCESS;
    ares_free_data(lists[0]);
    ares_free_data(lists[1]);
    return good;
}
#else
/* c-ares does all of it. */

static void note_silence(const struct channel *channel, uint64_t since_ms)
{
    (void)channel;
    (void)since_ms;
}

static bool choose_servers(const struct sg_dns *dns, ares_channel ares, enum chosen chosen)
{
    (void)dns;
    (void)ares;
    (void)chosen;
    return false;
}
#endif

/* --- channels --- */

/* c-ares would wait for its writer. */
static bool has_pipe(const struct sg_resolv_stamp *stamp)
{
    for (size_t i = 0; i < SG_RESOLV_FILES; i++)
        if (i != SG_RESOLV_HOSTS && stamp->files[i].is_pipe)
            return true;
    return false;
}

/* NULL: memory is short, or there is a pipe. */
static struct channel *new_channel(struct sg_dns *dns, int tries)
{
    static char dns_only[] = "b";
    if (has_pipe(&dns->stamp))
        return NULL;
    struct channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return NULL;
    struct ares_options options = {.timeout = dns->options.timeout_ms,
                                   .tries = tries,
                                   .lookups = dns_only,
                                   .sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = channel};
    channel->dns = dns;
    channel->timer = evtimer_new(dns->base, on_timer, channel);
    channel->pairs = sg_dns_pairs_new(dns->base, on_given_up, channel);
    int used = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    used |= dns->stamp.files[SG_RESOLV_HOSTS].is_pipe ? ARES_OPT_LOOKUPS : 0;
    if (channel->timer && channel->pairs && ares_init_options(&channel->ares, &options, used) == ARES_SUCCESS) {
        ares_set_socket_functions(channel->ares, &sg_dns_pairs_functions, channel->pairs);
        return channel;
    }
    channel->ares = NULL;
    free_channel(channel);
    return NULL;
}

/* Look-ups begin on this one from now on. */
static void turn_to(struct sg_dns *dns, struct channel *channel)
{
    struct channel *before = dns->current;
    dns->current = channel;
    dns->reorder = false;
    dns->serial++;
    if (!before)
        return;
    before->next = dns->retired;
    dns->retired = before;
    settle(before);
}

static bool replace_channel(struct sg_dns *dns)
{
    struct channel *channel = new_channel(dns, dns->options.tries);
    if (!channel)
        return false;
    if (dns->silent_count > 0)
        (void)choose_servers(dns, channel->ares, dns->options.rotates ? THOSE_THAT_SPEAK : THOSE_THAT_SPEAK_FIRST);
    turn_to(dns, channel);
    return true;
}

uint64_t sg_dns_refresh(struct sg_dns *dns)
{
    struct sg_resolv_stamp stamp;
    sg_resolv_stamp(&stamp);
    if (sg_resolv_stamp_equal(&stamp, &dns->stamp)) {
        if (dns->reorder)
            (void)replace_channel(dns);
        return dns->serial;
    }
    dns->stamp = stamp;
    bool readable = sg_resolv_options_read(&dns->options) == SG_OK;
    int error = errno;
    dns->silent_count = 0;
    if (!readable || !replace_channel(dns))
        sg_log_event(SG_LOG_WARN, "name_servers_unchanged", NULL,
                     "/etc/resolv.conf has changed and cannot be used: %s; the name servers of before stay",
                     has_pipe(&stamp) ? "a pipe is in its place"
                     : readable       ? "out of memory"
                                      : strerror(error));
    else
        sg_log_event(SG_LOG_INFO, "name_servers_changed", NULL,
                     "/etc/resolv.conf or another file of the resolver has changed and is read again");
    return dns->serial;
}

struct sg_dns *sg_dns_new(struct event_base *base)
{
    struct sg_dns *dns = calloc(1, sizeof *dns);
    if (!dns)
        return NULL;
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
        free(dns);
        return NULL;
    }
    dns->base = base;
    sg_resolv_stamp(&dns->stamp);
    if (sg_resolv_options_read(&dns->options) == SG_OK && replace_channel(dns))
        return dns;
    sg_dns_free(dns);
    return NULL;
}

void sg_dns_free(struct sg_dns *dns)
{
    if (!dns)
        return;
    if (dns->current)
        free_channel(dns->current);
    for (struct channel *channel = dns->retired, *next = NULL; channel; channel = next) {
        next = channel->next;
        free_channel(channel);
    }
    ares_library_cleanup();
    free(dns);
}

/* --- look-ups --- */

/* The silent ones were asked again: one that says anything at all counts as any other from now on. */
static void end_probe(struct sg_dns *dns, int status)
{
    if (dns->silent_count > 0 && status != ARES_ETIMEOUT && status != ARES_EDESTRUCTION && status != ARES_ECONNREFUSED)
        all_speak(dns);
    dns->probe_ms = sg_now_ms() + PROBE_MS;
}

/* Whether the servers know the answer, whatever it is. */
static bool is_answer(int status)
{
    return status == ARES_SUCCESS || status == ARES_ENODATA || status == ARES_ENOTFOUND;
}

/* The first addresses in their order. Where there are more than there is room for, half of it is for each family. */
static size_t take_addresses(const struct ares_addrinfo_node *nodes, struct sg_ip ips[static SG_DNS_MAX_IPS])
{
    size_t have[2] = {0}, room[2], taken[2] = {0}, count = 0;
    for (const struct ares_addrinfo_node *n = nodes; n; n = n->ai_next)
        have[n->ai_family == AF_INET6]++;
    for (int i = 0; i < 2; i++)
        room[i] = SG_DNS_MAX_IPS - (have[!i] < SG_DNS_MAX_IPS / 2 ? have[!i] : SG_DNS_MAX_IPS / 2);
    for (const struct ares_addrinfo_node *n = nodes; n && count < SG_DNS_MAX_IPS; n = n->ai_next) {
        struct sockaddr_storage ss = {0};
        if ((size_t)n->ai_addrlen > sizeof ss || taken[n->ai_family == AF_INET6] == room[n->ai_family == AF_INET6])
            continue;
        memcpy(&ss, n->ai_addr, n->ai_addrlen);
        ips[count] = sg_sockaddr_endpoint(&ss).ip;
        taken[n->ai_family == AF_INET6]++;
        count += ips[count].family != 0;
    }
    return count;
}

static void on_answer(void *ctx, int status, int timeouts, struct ares_addrinfo *result)
{
    struct look_up *look_up = ctx;
    struct channel *channel = look_up->channel;
    struct sg_ip ips[SG_DNS_MAX_IPS];
    size_t count = take_addresses(result ? result->nodes : NULL, ips);
    if (result)
        ares_freeaddrinfo(result);
    channel->pending--;
    if (!look_up->fn) {
        end_probe(channel->dns, status);
    } else {
        if (timeouts > 0 && is_answer(status) && channel == channel->dns->current)
            note_silence(channel, look_up->started_ms);
        if (status == ARES_ETIMEOUT && channel->dns->options.rotates)
            all_speak(channel->dns); /* or rather none does: those that were left out have their turn */
        look_up->fn(look_up->ctx, status == ARES_SUCCESS && count > 0 ? SG_OK : SG_ERR_NOT_FOUND, ips, count);
    }
    free(look_up);
}

static void start(struct channel *channel, const char *name, sg_dns_fn *fn, void *ctx)
{
    const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct look_up *look_up = calloc(1, sizeof *look_up);
    if (!look_up) {
        if (fn)
            fn(ctx, SG_ERR_NOT_FOUND, NULL, 0);
        return;
    }
    *look_up = (struct look_up){.channel = channel, .fn = fn, .ctx = ctx, .started_ms = sg_now_ms()};
    channel->pending++;
    ares_getaddrinfo(channel->ares, name, NULL, &hints, on_answer, look_up);
    settle(channel);
}

/* Asks the silent servers what is asked anyway. */
static void probe(struct sg_dns *dns, const char *name)
{
    dns->probe_ms = 0;
    struct channel *channel = new_channel(dns, 1);
    if (!channel || !choose_servers(dns, channel->ares, SILENT_ONES)) {
        if (channel)
            free_channel(channel);
        dns->probe_ms = sg_now_ms() + PROBE_MS;
        return;
    }
    channel->next = dns->retired;
    dns->retired = channel;
    start(channel, name, NULL, NULL);
}

void sg_dns_ask(struct sg_dns *dns, const char *name, sg_dns_fn *fn, void *ctx)
{
    if (dns->silent_count > 0 && dns->probe_ms != 0 && sg_now_ms() >= dns->probe_ms)
        probe(dns, name);
    start(dns->current, name, fn, ctx);
}
