/*
 * OpenSSL's callback for a ClientHello may ask to be called again: there a handshake stands still, with nothing
 * computed, for as long as it has to. An entry waits for its socket, or is in one of three lists: steps, which cost
 * little, in the order in which they came; those whose start is later, by its time; and starts, by their order.
 */
#include "net/tls_gate.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/err.h>

#include "net/clock.h"
#include "net/keepalive.h"
#include "net/tls.h"
#include "net/tls_pass.h"

enum {
    STEPS_US = 500, /* of a turn, for each of the two: the next entry is not begun after that */
    STARTS_US = 1000,
    BURST_US = 100 * 1000, /* how far ahead of the rate handshakes may begin */
    SECOND_US = 1000 * 1000,
};

struct list {
    struct sg_tls_entry *first, *last;
};

struct sg_tls_entry {
    struct sg_tls_entry *before, *after;
    struct list *list; /* that it is in, or NULL */
    struct sg_tls_gate *gate;
    SSL *ssl;
    int fd;
    struct event io;
    struct sg_tls_start start;
    uint64_t key;   /* its place in the list */
    bool may_start; /* the ClientHello that stopped it was judged, and its time has come */
    bool is_refused;
    const struct sg_tls_entry_ops *ops;
    void *ctx;
};

struct sg_tls_gate {
    struct event_base *base;
    struct event *turn;
    struct list steps, later, starts;
    uint64_t interval_us; /* of handshakes that begin */
    uint64_t due_us;      /* when the next would begin if they were evenly spread */
};

static pthread_once_t index_once = PTHREAD_ONCE_INIT;
static int entry_index = -1;

static void make_index(void)
{
    entry_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

/* --- lists --- */

static void take_out(struct sg_tls_entry *entry)
{
    struct list *list = entry->list;
    if (!list)
        return;
    *(entry->before ? &entry->before->after : &list->first) = entry->after;
    *(entry->after ? &entry->after->before : &list->last) = entry->before;
    entry->list = NULL;
}

static struct sg_tls_entry *take_first(struct list *list)
{
    struct sg_tls_entry *entry = list->first;
    list->first = entry->after;
    *(entry->after ? &entry->after->before : &list->last) = NULL;
    entry->list = NULL;
    return entry;
}

/* Behind all whose key is not higher. Most come with the highest that there is: it is looked for from the end. */
static void put_in(struct list *list, struct sg_tls_entry *entry, uint64_t key)
{
    struct sg_tls_entry *before = list->last;
    while (before && before->key > key)
        before = before->before;
    entry->key = key;
    entry->list = list;
    entry->before = before;
    entry->after = before ? before->after : list->first;
    *(before ? &before->after : &list->first) = entry;
    *(entry->after ? &entry->after->before : &list->last) = entry;
}

/* --- an entry --- */

static void free_entry(struct sg_tls_entry *entry)
{
    take_out(entry);
    event_del(&entry->io);
    SSL_free(entry->ssl);
    if (entry->fd >= 0)
        close(entry->fd);
    free(entry);
}

static void end_entry(struct sg_tls_entry *entry, struct bufferevent *bev, const char *text)
{
    const struct sg_tls_entry_ops *ops = entry->ops;
    void *ctx = entry->ctx;
    free_entry(entry);
    ops->done(ctx, bev, text);
}

/* Callbacks are deferred as those of all others in tls.c. */
static void succeed(struct sg_tls_entry *entry)
{
    struct bufferevent *bev =
        bufferevent_openssl_socket_new(entry->gate->base, entry->fd, entry->ssl, BUFFEREVENT_SSL_OPEN,
                                       BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (bev) {
        (void)SSL_set_ex_data(entry->ssl, entry_index, NULL);
        entry->ssl = NULL;
        entry->fd = -1;
    }
    end_entry(entry, bev, "out of memory");
}

static void arm(struct sg_tls_gate *gate);

static void on_io(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_tls_entry *entry = ctx;
    (void)fd;
    (void)what;
    put_in(&entry->gate->steps, entry, 0);
    arm(entry->gate);
}

static void wait_for(struct sg_tls_entry *entry, short what)
{
    event_assign(&entry->io, entry->gate->base, entry->fd, what, on_io, entry);
    if (event_add(&entry->io, NULL) != 0)
        end_entry(entry, NULL, "out of memory");
}

/* What it sends before its turn is no end. */
static void on_change(evutil_socket_t fd, short what, void *ctx)
{
    (void)what;
    if (sg_peer_state(fd) != SG_PEER_HERE)
        end_entry(ctx, NULL, "hung up while it waited");
}

/*
 * Whoever hangs up meanwhile gives its place to others. libevent tells of a reset as of input (net/keepalive.h), and
 * input stays; so the event is of the kind that tells of changes.
 */
static void wait_for_start(struct sg_tls_entry *entry)
{
    put_in(&entry->gate->later, entry, entry->start.at_us);
    event_assign(&entry->io, entry->gate->base, entry->fd, EV_READ | EV_ET | EV_PERSIST, on_change, entry);
    if (event_add(&entry->io, NULL) != 0)
        end_entry(entry, NULL, "out of memory");
}

/* Goes on with a handshake as far as that is possible now. The entry may be gone. */
static void go_on(struct sg_tls_entry *entry)
{
    char text[SG_TLS_TEXT_MAX];
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(entry->ssl);
    if (rc == 1) {
        succeed(entry);
        return;
    }
    switch (SSL_get_error(entry->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        wait_for(entry, EV_READ);
        return;
    case SSL_ERROR_WANT_WRITE:
        wait_for(entry, EV_WRITE);
        return;
    case SSL_ERROR_WANT_CLIENT_HELLO_CB:
        if (entry->is_refused)
            end_entry(entry, NULL, "refused at its ClientHello");
        else
            wait_for_start(entry);
        return;
    default:
        sg_tls_handshake_text(entry->ssl, errno, text);
        end_entry(entry, NULL, text);
    }
}

static int on_hello(SSL *ssl, int *alert, void *arg)
{
    struct sg_tls_entry *entry = SSL_get_ex_data(ssl, entry_index);
    (void)alert;
    (void)arg;
    if (!entry)
        return SSL_CLIENT_HELLO_SUCCESS;
    if (entry->may_start) {
        entry->may_start = false;
        return SSL_CLIENT_HELLO_SUCCESS;
    }
    size_t len = 0;
    const uint8_t *pass = sg_tls_pass_get(ssl, &len);
    entry->is_refused = !entry->ops->hello(entry->ctx, pass, len, &entry->start);
    return SSL_CLIENT_HELLO_RETRY;
}

void sg_tls_gate_watch(SSL_CTX *tls)
{
    SSL_CTX_set_client_hello_cb(tls, on_hello, NULL);
}

struct sg_tls_entry *sg_tls_gate_enter(struct sg_tls_gate *gate, SSL_CTX *tls, int fd,
                                       const struct sg_tls_entry_ops *ops, void *ctx)
{
    struct sg_tls_entry *entry = calloc(1, sizeof *entry);
    if (!entry) {
        close(fd);
        return NULL;
    }
    *entry = (struct sg_tls_entry){.gate = gate, .fd = fd, .ops = ops, .ctx = ctx};
    event_assign(&entry->io, gate->base, fd, EV_READ, on_io, entry);
    entry->ssl = SSL_new(tls);
    if (!entry->ssl || SSL_set_fd(entry->ssl, fd) != 1 || SSL_set_ex_data(entry->ssl, entry_index, entry) != 1) {
        ERR_clear_error();
        free_entry(entry);
        return NULL;
    }
    SSL_set_accept_state(entry->ssl);
    put_in(&gate->steps, entry, 0);
    arm(gate);
    return entry;
}

void sg_tls_gate_cancel(struct sg_tls_entry *entry)
{
    free_entry(entry);
}

/* --- turns --- */

/* From now on. A time that no row of starts can have led to was made before the clock went back. */
static uint64_t due_us(const struct sg_tls_gate *gate, uint64_t now_us)
{
    bool is_valid = gate->due_us > now_us && gate->due_us <= now_us + BURST_US + gate->interval_us;
    return is_valid ? gate->due_us : now_us;
}

/* When the rate lets another one begin. */
static uint64_t rate_us(const struct sg_tls_gate *gate, uint64_t now_us)
{
    uint64_t due = due_us(gate, now_us);
    return due > BURST_US ? due - BURST_US : 0;
}

/* A turn with work that waits comes as soon as the loop has looked at everything else. */
static void arm(struct sg_tls_gate *gate)
{
    uint64_t now_us = sg_now_us(), next_us = UINT64_MAX;
    if (gate->later.first)
        next_us = gate->later.first->start.at_us;
    if (gate->starts.first && rate_us(gate, now_us) < next_us)
        next_us = rate_us(gate, now_us);
    if (gate->steps.first)
        next_us = now_us;
    if (next_us == UINT64_MAX)
        return;
    uint64_t wait_us = next_us > now_us ? next_us - now_us : 0;
    struct timeval wait = {.tv_sec = (time_t)(wait_us / SECOND_US), .tv_usec = (suseconds_t)(wait_us % SECOND_US)};
    evtimer_add(gate->turn, &wait);
}

static void take_steps(struct sg_tls_gate *gate)
{
    uint64_t end_us = sg_now_us() + STEPS_US;
    while (gate->steps.first && sg_now_us() < end_us) {
        go_on(take_first(&gate->steps));
    }
}

static void begin_starts(struct sg_tls_gate *gate)
{
    uint64_t now_us = sg_now_us(), end_us = now_us + STARTS_US;
    while (gate->later.first && gate->later.first->start.at_us <= now_us) {
        struct sg_tls_entry *entry = take_first(&gate->later);
        put_in(&gate->starts, entry, entry->start.order);
    }
    while (gate->starts.first && now_us < end_us && rate_us(gate, now_us) <= now_us) {
        struct sg_tls_entry *entry = take_first(&gate->starts);
        gate->due_us = due_us(gate, now_us) + gate->interval_us;
        event_del(&entry->io);
        entry->may_start = true;
        go_on(entry);
        now_us = sg_now_us();
    }
}

static void on_turn(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_tls_gate *gate = ctx;
    (void)fd;
    (void)what;
    take_steps(gate);
    begin_starts(gate);
    arm(gate);
}

void sg_tls_gate_set_rate(struct sg_tls_gate *gate, unsigned rate)
{
    gate->interval_us = SECOND_US / (rate > 0 ? rate : 1);
}

struct sg_tls_gate *sg_tls_gate_new(struct event_base *base, unsigned rate)
{
    struct sg_tls_gate *gate = calloc(1, sizeof *gate);
    pthread_once(&index_once, make_index);
    if (!gate)
        return NULL;
    gate->base = base;
    gate->turn = evtimer_new(base, on_turn, gate);
    if (gate->turn && entry_index >= 0) {
        sg_tls_gate_set_rate(gate, rate);
        return gate;
    }
    sg_tls_gate_free(gate);
    return NULL;
}

void sg_tls_gate_free(struct sg_tls_gate *gate)
{
    if (!gate)
        return;
    if (gate->turn)
        event_free(gate->turn);
    free(gate);
}
