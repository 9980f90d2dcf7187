/*
 * Hosts in an array, at most as many as there may be connections, and tickets in a list by age. One lock, taken when a
 * connection begins or ends. A displaced one gives up its place at once, and learns of it by its loop's inbox.
 */
#include "server/admission.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "net/inbox.h"

struct host {
    struct sg_ip ip;
    uint32_t count;
};

struct sg_ticket {
    struct sg_ticket *next, **link;
    struct sg_ip host;
    struct sg_inbox *inbox;
    struct sg_letter letter;
    bool displaced;      /* it is in no list: the letter frees it */
    sg_displaced_fn *fn; /* of its loop; NULL: it has left */
    void *ctx;
};

struct sg_admission {
    pthread_mutex_t lock;
    uint32_t limit, host_limit;
    uint32_t count;                  /* connections */
    struct sg_ticket *oldest, **end; /* of all of them */
    unsigned host_count, host_room;
    struct host *hosts;
};

struct sg_admission *sg_admission_new(uint32_t limit, uint32_t host_limit)
{
    struct sg_admission *admission = calloc(1, sizeof *admission);
    if (!admission)
        return NULL;
    pthread_mutex_init(&admission->lock, NULL);
    admission->end = &admission->oldest;
    if (sg_admission_turn_to(admission, limit, host_limit))
        return admission;
    sg_admission_free(admission);
    return NULL;
}

bool sg_admission_turn_to(struct sg_admission *admission, uint32_t limit, uint32_t host_limit)
{
    struct host *grown = NULL;
    pthread_mutex_lock(&admission->lock);
    bool fits = limit <= admission->host_room;
    if (!fits && (grown = realloc(admission->hosts, limit * sizeof *grown))) {
        admission->hosts = grown;
        admission->host_room = limit;
        fits = true;
    }
    if (fits) {
        admission->limit = limit;
        admission->host_limit = host_limit;
    }
    pthread_mutex_unlock(&admission->lock);
    return fits;
}

void sg_admission_free(struct sg_admission *admission)
{
    if (!admission)
        return;
    pthread_mutex_destroy(&admission->lock);
    free(admission->hosts);
    free(admission);
}

static struct sg_ip host_of(const struct sg_ip *peer)
{
    struct sg_ip host = *peer;
    if (host.family == 6)
        memset(host.bytes + 8, 0, 8);
    return host;
}

/* The lock is held in each of these. */

static struct host *find_host(struct sg_admission *admission, const struct sg_ip *ip)
{
    for (unsigned i = 0; i < admission->host_count; i++)
        if (sg_ip_equal(&admission->hosts[i].ip, ip))
            return &admission->hosts[i];
    return NULL;
}

static void take_out(struct sg_admission *admission, struct sg_ticket *ticket)
{
    struct host *host = find_host(admission, &ticket->host);
    *ticket->link = ticket->next;
    if (ticket->next)
        ticket->next->link = ticket->link;
    else
        admission->end = ticket->link;
    admission->count--;
    if (host && --host->count == 0)
        *host = admission->hosts[--admission->host_count];
}

static void put_in(struct sg_admission *admission, struct sg_ticket *ticket)
{
    struct host *host = find_host(admission, &ticket->host);
    if (!host) {
        host = &admission->hosts[admission->host_count++];
        *host = (struct host){.ip = ticket->host};
    }
    host->count++;
    admission->count++;
    ticket->link = admission->end;
    *admission->end = ticket;
    admission->end = &ticket->next;
}

/* On the loop of the displaced one, as sg_admission_leave is: they cannot meet. */
static void deliver(void *ctx)
{
    struct sg_ticket *ticket = ctx;
    if (ticket->fn)
        ticket->fn(ticket->ctx); /* leaves */
    free(ticket);
}

/* Makes a place for one more of a host that has so many. False: it has its share, or more. */
static bool displace(struct sg_admission *admission, uint32_t count)
{
    const struct host *most = NULL;
    for (unsigned i = 0; i < admission->host_count; i++)
        if (!most || admission->hosts[i].count > most->count)
            most = &admission->hosts[i];
    if (!most || (count > 0 && most->count <= count + 1))
        return false;
    struct sg_ticket *ticket = admission->oldest;
    uint32_t most_count = most->count;
    while (ticket) {
        const struct host *host = find_host(admission, &ticket->host);
        if (host && host->count == most_count)
            break;
        ticket = ticket->next;
    }
    if (!ticket)
        return false;
    take_out(admission, ticket);
    ticket->displaced = true;
    ticket->letter = (struct sg_letter){.fn = deliver, .ctx = ticket};
    sg_inbox_post(ticket->inbox, &ticket->letter);
    return true;
}

static bool has_place(struct sg_admission *admission, const struct sg_ip *ip)
{
    const struct host *host = find_host(admission, ip);
    uint32_t count = host ? host->count : 0;
    return count < admission->host_limit && (admission->count < admission->limit || displace(admission, count));
}

struct sg_ticket *sg_admission_enter(struct sg_admission *admission, const struct sg_ip *peer, struct sg_inbox *inbox,
                                     sg_displaced_fn *fn, void *ctx)
{
    struct sg_ticket *ticket = calloc(1, sizeof *ticket);
    if (!ticket)
        return NULL;
    *ticket = (struct sg_ticket){.host = host_of(peer), .inbox = inbox, .fn = fn, .ctx = ctx};
    pthread_mutex_lock(&admission->lock);
    bool may = has_place(admission, &ticket->host);
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
