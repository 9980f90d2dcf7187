/*
 * Hosts in a hash table with a random key, those that have connections in a list, too; each has its tickets by age. One
 * lock, taken when a connection or a handshake begins or ends. A displaced connection gives up its place at once, and
 * learns of it by its loop's inbox.
 *
 * The rate of a host is kept as one time, which each handshake moves on by the interval of the rate: a host that has
 * not begun one for long has it in the past. The order is kept in the same way, by a rate that is so low that few hosts
 * keep to it who mean harm. A host goes on living while these times have not come, without connections: else whoever
 * hangs up at once had no rate.
 */
#include "server/admission.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/pass.h"
#include "net/clock.h"
#include "net/inbox.h"
#include "net/tls_gate.h"

enum {
    BUCKETS = 4096,
    SECOND_US = 1000 * 1000,
    BURST_US = 2 * SECOND_US,
    ORDER_US = SECOND_US / 10, /* what a handshake costs a host of its place in the order */
    ORDER_MOST_US = 5 * SECOND_US,
    WAIT_MOST_US = 300 * SECOND_US, /* the longest limit before a login */
};

struct host {
    struct host *chain;        /* of its bucket */
    struct host *next, **link; /* among those with connections; link is NULL: it has none */
    struct sg_ticket *oldest, **end;
    struct sg_ip ip;
    uint32_t count;
    uint32_t visitors;       /* of these, those beyond its places, who may yet show a pass */
    uint32_t passes;         /* of channels whose client is there */
    struct sg_pass *is_pass; /* it is no host, but those who showed this pass */
    uint64_t due_us;         /* when its next handshake would begin if they were evenly spread */
    uint64_t order_us;
};

struct sg_pass {
    struct host account; /* has no chain */
    struct sg_pass *chain;
    struct host *host; /* where the client is */
    bool has_ended;    /* and goes with the last that showed it */
    uint8_t channel_id[SG_RECORD_CHANNEL_BYTES];
    uint8_t key[SG_KEY_BYTES];
    char user[SG_USER_NAME_MAX + 1];
    struct sg_pass_window window;
};

struct sg_ticket {
    struct sg_ticket *next, **link; /* of its host */
    bool is_visitor, has_spoken;
    struct host *host;
    uint64_t order;            /* of all tickets */
    struct sg_tls_start start; /* of the last handshake that it wanted to begin */
    struct sg_inbox *inbox;
    struct sg_letter letter;
    bool displaced;      /* it is in no list: the letter frees it */
    sg_displaced_fn *fn; /* of its loop; NULL: it has left */
    void *ctx;
};

struct sg_admission {
    pthread_mutex_t lock;
    struct sg_admission_limits limits;
    uint32_t count; /* connections */
    uint64_t order; /* of the next ticket */
    struct host *present;
    uint8_t key[SG_ENDPOINT_KEY_BYTES];
    struct host *buckets[BUCKETS];
    struct sg_pass *passes[BUCKETS];
};

struct sg_admission *sg_admission_new(const struct sg_admission_limits *limits)
{
    struct sg_admission *admission = calloc(1, sizeof *admission);
    if (!admission)
        return NULL;
    pthread_mutex_init(&admission->lock, NULL);
    randombytes_buf(admission->key, sizeof admission->key);
    admission->limits = *limits;
    return admission;
}

void sg_admission_turn_to(struct sg_admission *admission, const struct sg_admission_limits *limits)
{
    pthread_mutex_lock(&admission->lock);
    admission->limits = *limits;
    pthread_mutex_unlock(&admission->lock);
}

void sg_admission_free(struct sg_admission *admission)
{
    if (!admission)
        return;
    for (unsigned i = 0; i < BUCKETS; i++) {
        for (struct host *host = admission->buckets[i], *next = NULL; host; host = next) {
            next = host->chain;
            free(host);
        }
    }
    pthread_mutex_destroy(&admission->lock);
    free(admission);
}

/* --- hosts. The lock is held in each of these. --- */

static uint64_t interval_us(const struct sg_admission *admission)
{
    return SECOND_US / admission->limits.host_rate;
}

/* Made if there is none; those of the same bucket that nothing is known of any more are freed. */
static struct host *host_of(struct sg_admission *admission, const struct sg_ip *peer, uint64_t now_us)
{
    struct sg_endpoint at = {.ip = *peer};
    if (at.ip.family == 6)
        memset(at.ip.bytes + 8, 0, 8);
    struct host **link = &admission->buckets[sg_endpoint_hash(&at, admission->key) % BUCKETS];
    struct host *found = NULL;
    while (*link) {
        struct host *host = *link;
        if (sg_ip_equal(&host->ip, &at.ip)) {
            found = host;
        } else if (host->count == 0 && host->passes == 0 && host->due_us <= now_us && host->order_us <= now_us) {
            *link = host->chain;
            free(host);
            continue;
        }
        link = &host->chain;
    }
    if (!found && (found = calloc(1, sizeof *found))) {
        found->ip = at.ip;
        found->end = &found->oldest;
        *link = found;
    }
    return found;
}

static void take_out(struct sg_admission *admission, struct sg_ticket *ticket)
{
    struct host *host = ticket->host;
    *ticket->link = ticket->next;
    if (ticket->next)
        ticket->next->link = ticket->link;
    else
        host->end = ticket->link;
    admission->count--;
    host->visitors -= ticket->is_visitor;
    if (ticket->start.at_us > sg_now_us())
        host->due_us -= interval_us(admission);
    if (--host->count > 0)
        return;
    *host->link = host->next;
    if (host->next)
        host->next->link = host->link;
    if (host->is_pass && host->is_pass->has_ended)
        free(host->is_pass);
}

static void put_in(struct sg_admission *admission, struct sg_ticket *ticket)
{
    struct host *host = ticket->host;
    if (host->count++ == 0) {
        host->link = &admission->present;
        host->next = admission->present;
        if (host->next)
            host->next->link = &host->next;
        admission->present = host;
    }
    admission->count++;
    host->visitors += ticket->is_visitor;
    ticket->order = admission->order++;
    ticket->next = NULL;
    ticket->link = host->end;
    *host->end = ticket;
    host->end = &ticket->next;
}

/* On the loop of the displaced one, as sg_admission_leave is: they cannot meet. */
static void deliver(void *ctx)
{
    struct sg_ticket *ticket = ctx;
    if (ticket->fn)
        ticket->fn(ticket->ctx); /* leaves */
    free(ticket);
}

/* The host with the most; of several the one whose oldest connection is the oldest. */
static const struct host *most_present(const struct sg_admission *admission)
{
    const struct host *most = NULL;
    for (const struct host *host = admission->present; host; host = host->next)
        if (!most || host->count > most->count ||
            (host->count == most->count && host->oldest->order < most->oldest->order))
            most = host;
    return most;
}

static void displace(struct sg_admission *admission, struct sg_ticket *ticket)
{
    take_out(admission, ticket);
    ticket->displaced = true;
    ticket->letter = (struct sg_letter){.fn = deliver, .ctx = ticket};
    sg_inbox_post(ticket->inbox, &ticket->letter);
}

/* Makes a place for one more of a host that has so many. False: it has its share, or more. */
static bool make_place(struct sg_admission *admission, uint32_t count)
{
    const struct host *most = most_present(admission);
    if (!most || (count > 0 && most->count <= count + 1))
        return false;
    displace(admission, most->oldest);
    return true;
}

static bool is_full(const struct sg_admission *admission, const struct host *host)
{
    return host->count - host->visitors >= admission->limits.host;
}

/* Whoever has not shown a pass by now most likely never will: a ClientHello comes right after the connection. */
static void displace_oldest_visitor(struct sg_admission *admission, const struct host *host)
{
    struct sg_ticket *ticket = host->oldest;
    while (ticket && !ticket->is_visitor)
        ticket = ticket->next;
    if (ticket)
        displace(admission, ticket);
}

static bool has_place(struct sg_admission *admission, struct sg_ticket *ticket)
{
    const struct host *host = ticket->host;
    if (!host)
        return false;
    ticket->is_visitor = is_full(admission, host);
    if (ticket->is_visitor && host->passes == 0)
        return false;
    if (ticket->is_visitor && host->visitors >= admission->limits.host)
        displace_oldest_visitor(admission, host);
    return admission->count < admission->limits.all || make_place(admission, host->count);
}

/* --- tickets --- */

struct sg_ticket *sg_admission_enter(struct sg_admission *admission, const struct sg_ip *peer, struct sg_inbox *inbox,
                                     sg_displaced_fn *fn, void *ctx)
{
    struct sg_ticket *ticket = calloc(1, sizeof *ticket);
    if (!ticket)
        return NULL;
    pthread_mutex_lock(&admission->lock);
    *ticket = (struct sg_ticket){.host = host_of(admission, peer, sg_now_us()), .inbox = inbox, .fn = fn, .ctx = ctx};
    bool may = has_place(admission, ticket);
    if (may)
        put_in(admission, ticket);
    pthread_mutex_unlock(&admission->lock);
    if (may)
        return ticket;
    free(ticket);
    return NULL;
}

void sg_admission_leave(struct sg_admission *admission, struct sg_ticket *ticket)
{
    pthread_mutex_lock(&admission->lock);
    bool displaced = ticket->displaced;
    ticket->fn = NULL;
    if (!displaced)
        take_out(admission, ticket);
    pthread_mutex_unlock(&admission->lock);
    if (!displaced)
        free(ticket);
}

/* --- passes --- */

/* The lock is held in each of these. */

static struct sg_pass **pass_bucket(struct sg_admission *admission, const uint8_t *channel_id)
{
    uint8_t hash[crypto_shorthash_BYTES];
    static_assert(sizeof admission->key == crypto_shorthash_KEYBYTES, "one key for both tables");
    crypto_shorthash(hash, channel_id, SG_RECORD_CHANNEL_BYTES, admission->key);
    return &admission->passes[(hash[0] | hash[1] << 8) % BUCKETS];
}

/* The one that this shows, if it has a place left. */
static struct sg_pass *take_pass(struct sg_admission *admission, const uint8_t *shown, size_t len)
{
    if (!shown || len != SG_PASS_BYTES)
        return NULL;
    struct sg_pass *pass = *pass_bucket(admission, shown);
    while (pass && memcmp(pass->channel_id, shown, sizeof pass->channel_id) != 0)
        pass = pass->chain;
    bool good = pass && sg_pass_take(shown, pass->key, &pass->window);
    return good && pass->account.count < admission->limits.host ? pass : NULL;
}

struct sg_pass *sg_admission_pass_new(struct sg_admission *admission,
                                      const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES],
                                      const uint8_t key[static SG_KEY_BYTES], const struct sg_ip *peer,
                                      const char *user)
{
    struct sg_pass *pass = calloc(1, sizeof *pass);
    if (!pass)
        return NULL;
    pthread_mutex_lock(&admission->lock);
    pass->host = host_of(admission, peer, sg_now_us());
    if (pass->host) {
        struct sg_pass **bucket = pass_bucket(admission, channel_id);
        pass->host->passes++;
        pass->account.end = &pass->account.oldest;
        pass->account.is_pass = pass;
        memcpy(pass->channel_id, channel_id, sizeof pass->channel_id);
        memcpy(pass->key, key, sizeof pass->key);
        snprintf(pass->user, sizeof pass->user, "%s", user);
        pass->chain = *bucket;
        *bucket = pass;
    }
    pthread_mutex_unlock(&admission->lock);
    if (pass->host)
        return pass;
    free(pass);
    return NULL;
}

void sg_admission_pass_free(struct sg_admission *admission, struct sg_pass *pass)
{
    if (!pass)
        return;
    pthread_mutex_lock(&admission->lock);
    struct sg_pass **link = pass_bucket(admission, pass->channel_id);
    while (*link != pass)
        link = &(*link)->chain;
    *link = pass->chain;
    pass->host->passes--;
    pass->has_ended = true;
    sodium_memzero(pass->key, sizeof pass->key);
    bool in_use = pass->account.count > 0;
    pthread_mutex_unlock(&admission->lock);
    if (!in_use)
        free(pass);
}

/* --- hellos --- */

/* The lock is held in each of these. */

/* False: a visitor who has nothing to show, and no place has become free. */
static bool identify(struct sg_admission *admission, struct sg_ticket *ticket, const uint8_t *shown, size_t len)
{
    struct sg_pass *pass = ticket->has_spoken ? NULL : take_pass(admission, shown, len);
    ticket->has_spoken = true;
    if (!pass && !ticket->is_visitor)
        return true;
    if (!pass && is_full(admission, ticket->host))
        return false;
    take_out(admission, ticket);
    ticket->is_visitor = false;
    if (pass)
        ticket->host = &pass->account;
    put_in(admission, ticket);
    return true;
}

/* A time from now on. One that is so far off that nobody could wait for it was made before the clock went back. */
static uint64_t from_now_on(uint64_t at_us, uint64_t now_us)
{
    return at_us < now_us || at_us > now_us + BURST_US + WAIT_MOST_US ? now_us : at_us;
}

static void schedule(const struct sg_admission *admission, struct sg_ticket *ticket, uint64_t now_us)
{
    struct host *host = ticket->host;
    host->due_us = from_now_on(host->due_us, now_us);
    host->order_us = from_now_on(host->order_us, now_us);
    ticket->start.at_us = host->due_us > BURST_US ? host->due_us - BURST_US : 0;
    ticket->start.order = host->order_us;
    if (!host->is_pass)
        host->due_us += interval_us(admission);
    if (host->order_us < now_us + ORDER_MOST_US)
        host->order_us += ORDER_US;
}

bool sg_admission_hello(struct sg_admission *admission, struct sg_ticket *ticket, const uint8_t *pass, size_t len,
                        uint64_t now_us, struct sg_tls_start *start)
{
    pthread_mutex_lock(&admission->lock);
    /* a displaced one is about to end, and its host may be gone */
    bool may = !ticket->displaced && identify(admission, ticket, pass, len);
    if (may)
        schedule(admission, ticket, now_us);
    *start = ticket->start;
    pthread_mutex_unlock(&admission->lock);
    return may;
}

bool sg_admission_known_user(struct sg_admission *admission, struct sg_ticket *ticket,
                             char user[static SG_USER_NAME_MAX + 1])
{
    pthread_mutex_lock(&admission->lock);
    const struct sg_pass *pass = ticket->displaced ? NULL : ticket->host->is_pass;
    if (pass)
        memcpy(user, pass->user, sizeof pass->user);
    pthread_mutex_unlock(&admission->lock);
    return pass != NULL;
}
