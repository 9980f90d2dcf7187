/*
 * Datagrams to names. Each look-up belongs to one association and one name; the datagrams wait in it in order.
 * Every address that comes back is checked against policy; the first that passes is used.
 */
#include "server/names.h"

#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "server/channel_conn.h"
#include "server/datapath.h"
#include "server/permit.h"
#include "server/usage.h"
#include "server/worker.h"

enum { DATAGRAMS_PER_WAIT = 16, BYTES_MAX = 256 * 1024 };

struct waiting_datagram {
    struct waiting_datagram *next;
    uint16_t port;
    size_t len;
    uint8_t data[];
};

struct sg_name_wait {
    struct sg_name_wait *next;
    struct sg_names *names;
    struct sg_resolve *resolve;
    uint32_t number;
    bool renews;   /* no datagram waits */
    uint16_t port; /* then: where they go */
    struct waiting_datagram *first, **last;
    unsigned count;
    size_t bytes;
    uint8_t name_len;
    uint8_t name[255];
};

static void free_wait(struct sg_name_wait *wait)
{
    for (struct waiting_datagram *d = wait->first, *next; d; d = next) {
        next = d->next;
        sg_usage_give_memory(wait->names->permits->who->usage, sizeof *d + d->len);
        free(d);
    }
    free(wait);
}

static void unlink_wait(struct sg_name_wait *wait)
{
    struct sg_name_wait **link = &wait->names->waits;
    while (*link != wait)
        link = &(*link)->next;
    *link = wait->next;
    wait->names->count--;
    wait->names->bytes -= wait->bytes;
}

/* The first address that policy passes for one of the datagrams, or NULL. */
static const struct sg_ip *pick_address(const struct sg_name_wait *wait, struct sg_target *name,
                                        const struct sg_ip *ips, size_t count)
{
    for (const struct waiting_datagram *d = wait->first; d; d = d->next) {
        name->port = d->port;
        for (size_t i = 0; i < count; i++) {
            struct sg_endpoint target = {.ip = ips[i], .port = d->port};
            if (sg_permits_target(wait->names->permits, name, &target, NULL))
                return &ips[i];
        }
    }
    struct sg_endpoint refused = {.ip = ips[0], .port = wait->first ? wait->first->port : 0};
    struct sg_permit_answer told = {0};
    name->port = refused.port;
    (void)sg_permits_target(wait->names->permits, name, &refused, &told); /* for the log */
    return NULL;
}

static void drop_waiting(struct sg_name_wait *wait, enum sg_reason reason)
{
    struct sg_ledger *up = &wait->names->datapath->up;
    up->queued -= wait->count;
    up->drops[reason] += wait->count;
}

static void on_renewed(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count)
{
    struct sg_name_wait *wait = ctx;
    struct sg_names *names = wait->names;
    const struct sg_target name = {
        .atyp = SG_ATYP_NAME, .name_len = wait->name_len, .name = wait->name, .port = wait->port};
    unlink_wait(wait);
    names->owner->renew(names, wait->number, &name, ips, err == SG_OK ? count : 0, sg_now_ms());
    free_wait(wait);
}

static void on_resolved(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count)
{
    struct sg_name_wait *wait = ctx;
    struct sg_names *names = wait->names;
    struct sg_datapath *datapath = names->datapath;
    uint64_t now_ms = sg_now_ms();
    struct sg_target name = {.atyp = SG_ATYP_NAME, .name_len = wait->name_len, .name = wait->name};
    const struct sg_ip *ip = err == SG_OK && count > 0 ? pick_address(wait, &name, ips, count) : NULL;

    wait->resolve = NULL;
    unlink_wait(wait);
    if (!ip) {
        enum sg_reason reason = err == SG_OK         ? SG_REASON_POLICY
                                : err == SG_ERR_FULL ? SG_REASON_RESOLVE_WAIT
                                                     : SG_REASON_RESOLVE_FAILED;
        drop_waiting(wait, reason);
        name.port = wait->first ? wait->first->port : 0;
        if (names->owner->refuse)
            names->owner->refuse(names, wait->number, &name, reason, wait->count, now_ms);
    } else {
        datapath->up.queued -= wait->count;
        for (struct waiting_datagram *d = wait->first; d; d = d->next) {
            struct sg_endpoint target = {.ip = *ip, .port = d->port};
            name.port = d->port;
            names->owner->forward(names, wait->number, &name, &target, d->data, d->len, now_ms);
        }
        sg_udp_tx_flush(&datapath->out);
    }
    free_wait(wait);
}

static struct sg_name_wait *find_wait(const struct sg_names *names, uint32_t number, const struct sg_target *target,
                                      bool renews)
{
    for (struct sg_name_wait *w = names->waits; w; w = w->next)
        if (w->number == number && w->renews == renews && w->name_len == target->name_len &&
            memcmp(w->name, target->name, target->name_len) == 0)
            return w;
    return NULL;
}

static struct sg_name_wait *start_wait(struct sg_names *names, uint32_t number, const struct sg_target *target,
                                       bool renews)
{
    if (names->count >= names->owner->look_ups_max)
        return NULL;
    struct sg_name_wait *wait = calloc(1, sizeof *wait);
    if (!wait)
        return NULL;
    wait->names = names;
    wait->number = number;
    wait->renews = renews;
    wait->port = target->port;
    wait->last = &wait->first;
    wait->name_len = target->name_len;
    memcpy(wait->name, target->name, target->name_len);
    wait->resolve =
        sg_resolver_start(&names->datapath->worker->resolver, names->permits->who->user, (const char *)wait->name,
                          wait->name_len, renews ? on_renewed : on_resolved, wait);
    if (!wait->resolve) {
        free(wait);
        return NULL;
    }
    wait->next = names->waits;
    names->waits = wait;
    names->count++;
    return wait;
}

void sg_names_init(struct sg_names *names, struct sg_datapath *datapath, struct sg_permits *permits,
                   const struct sg_names_owner *owner)
{
    *names = (struct sg_names){.datapath = datapath, .permits = permits, .owner = owner};
}

static struct waiting_datagram *new_datagram(struct sg_usage *usage, size_t len)
{
    struct waiting_datagram *d = NULL;
    if (!sg_usage_take_memory(usage, sizeof *d + len))
        return NULL;
    d = malloc(sizeof *d + len);
    if (!d)
        sg_usage_give_memory(usage, sizeof *d + len);
    return d;
}

bool sg_names_wait(struct sg_names *names, uint32_t number, const struct sg_target *target, const uint8_t *data,
                   size_t len)
{
    struct sg_ledger *up = &names->datapath->up;
    struct sg_name_wait *wait = find_wait(names, number, target, false);
    if (!wait)
        wait = start_wait(names, number, target, false);
    struct waiting_datagram *d = NULL;
    if (wait && wait->count < DATAGRAMS_PER_WAIT && names->bytes + len <= BYTES_MAX)
        d = new_datagram(names->permits->who->usage, len);
    if (!d) {
        sg_ledger_drop(up, SG_REASON_RESOLVE_WAIT);
        return false;
    }
    d->next = NULL;
    d->port = target->port;
    d->len = len;
    memcpy(d->data, data, len);
    *wait->last = d;
    wait->last = &d->next;
    wait->count++;
    wait->bytes += len;
    names->bytes += len;
    up->queued++;
    return true;
}

void sg_names_renew(struct sg_names *names, uint32_t number, const struct sg_target *target)
{
    if (!find_wait(names, number, target, true) && sg_permits_lookup(names->permits, target))
        (void)start_wait(names, number, target, true);
}

unsigned sg_names_cancel(struct sg_names *names)
{
    unsigned dropped = 0;
    for (struct sg_name_wait *wait = names->waits, *next = NULL; wait; wait = next) {
        next = wait->next;
        sg_resolve_cancel(wait->resolve);
        drop_waiting(wait, SG_REASON_ASSOC_CLOSED);
        dropped += wait->count;
        unlink_wait(wait);
        free_wait(wait);
    }
    return dropped;
}
