/*
 * Users in use, in a list: there are as many as have something open at this moment, and those who have carried
 * something today that counts against a limit. One lock, taken outside the data path.
 */
#include "server/usage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

struct sg_usage {
    struct sg_usage *next;
    struct sg_usage_table *table;
    unsigned refs;
    _Atomic uint32_t counts[SG_USAGE_KINDS], most[SG_USAGE_KINDS];
    _Atomic bool has_quota;
    struct sg_quota quota;
    struct sg_group_names groups;
    char user[65];
};

struct sg_usage_table {
    pthread_mutex_t lock;
    sg_usage_limits_fn *find;
    void *ctx;
    _Atomic uint32_t totals[SG_USAGE_KINDS], all[SG_USAGE_KINDS];
    _Atomic uint64_t refused[SG_USAGE_KINDS], refused_day;
    struct sg_usage *first;
};

struct sg_usage_table *sg_usage_table_new(const uint32_t all[static SG_USAGE_KINDS], sg_usage_limits_fn *find,
                                          void *ctx)
{
    struct sg_usage_table *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    pthread_mutex_init(&table->lock, NULL);
    sg_usage_table_turn_to(table, all, find, ctx);
    return table;
}

void sg_usage_table_free(struct sg_usage_table *table)
{
    if (!table)
        return;
    for (struct sg_usage *usage = table->first, *next = NULL; usage; usage = next) {
        next = usage->next;
        free(usage); /* kept for its day: nobody has it any more */
    }
    pthread_mutex_destroy(&table->lock);
    free(table);
}

struct sg_quota_time sg_usage_time(uint64_t now_ms)
{
    return (struct sg_quota_time){.now_ms = now_ms, .day = (uint16_t)(time(NULL) / 86400)};
}

/* The lock is held. */
static void limit(struct sg_usage *usage)
{
    struct sg_usage_limits limits = {{0}, {{0}, 0, 0}};
    usage->table->find(usage->table->ctx, usage->user, &usage->groups, &limits);
    for (unsigned kind = 0; kind < SG_USAGE_KINDS; kind++)
        atomic_store(&usage->most[kind], limits.most[kind]);
    sg_quota_set(&usage->quota, &limits.rates);
    atomic_store(&usage->has_quota, limits.rates.bits_per_second[SG_QUOTA_UP] > 0 ||
                                        limits.rates.bits_per_second[SG_QUOTA_DOWN] > 0 ||
                                        limits.rates.datagrams_per_second > 0 || limits.rates.bytes_per_day > 0);
}

void sg_usage_table_turn_to(struct sg_usage_table *table, const uint32_t all[static SG_USAGE_KINDS],
                            sg_usage_limits_fn *find, void *ctx)
{
    pthread_mutex_lock(&table->lock);
    for (unsigned kind = 0; kind < SG_USAGE_KINDS; kind++)
        atomic_store(&table->all[kind], all[kind]);
    table->find = find;
    table->ctx = ctx;
    for (struct sg_usage *usage = table->first; usage; usage = usage->next)
        limit(usage);
    pthread_mutex_unlock(&table->lock);
}

/* The lock is held. Frees the records that nobody has, but for those with bytes of this day. */
static void sweep(struct sg_usage_table *table)
{
    uint16_t day = sg_usage_time(0).day;
    struct sg_usage **link = &table->first;
    while (*link) {
        struct sg_usage *usage = *link;
        if (usage->refs > 0 || sg_quota_bytes(&usage->quota, day) > 0) {
            link = &usage->next;
            continue;
        }
        *link = usage->next;
        free(usage);
    }
}

static bool same_groups(const struct sg_group_names *a, const struct sg_group_names *b)
{
    bool same = a->count == b->count;
    for (unsigned i = 0; i < a->count && same; i++)
        same = strcmp(a->names[i], b->names[i]) == 0;
    return same;
}

struct sg_usage *sg_usage_acquire(struct sg_usage_table *table, const char *user, const struct sg_group_names *groups)
{
    pthread_mutex_lock(&table->lock);
    struct sg_usage *usage = table->first;
    while (usage && strcmp(usage->user, user) != 0)
        usage = usage->next;
    if (!usage && (usage = calloc(1, sizeof *usage))) {
        snprintf(usage->user, sizeof usage->user, "%s", user);
        usage->table = table;
        usage->groups = *groups;
        limit(usage);
        usage->next = table->first;
        table->first = usage;
    }
    if (usage && !same_groups(&usage->groups, groups)) {
        usage->groups = *groups;
        limit(usage);
    }
    if (usage)
        usage->refs++;
    pthread_mutex_unlock(&table->lock);
    return usage;
}

void sg_usage_release(struct sg_usage *usage)
{
    if (!usage)
        return;
    struct sg_usage_table *table = usage->table;
    pthread_mutex_lock(&table->lock);
    if (--usage->refs == 0)
        sweep(table);
    pthread_mutex_unlock(&table->lock);
}

uint32_t sg_usage_total(const struct sg_usage_table *table, enum sg_usage_kind kind)
{
    return atomic_load(&table->totals[kind]);
}

static bool add_up_to(_Atomic uint32_t *count, uint32_t more, uint32_t most)
{
    uint32_t before = atomic_fetch_add(count, more);
    if (before <= most && more <= most - before)
        return true;
    atomic_fetch_sub(count, more);
    return false;
}

static bool take(struct sg_usage *usage, enum sg_usage_kind kind, uint32_t more)
{
    struct sg_usage_table *table = usage->table;
    if (add_up_to(&usage->counts[kind], more, atomic_load(&usage->most[kind]))) {
        if (add_up_to(&table->totals[kind], more, atomic_load(&table->all[kind])))
            return true;
        atomic_fetch_sub(&usage->counts[kind], more);
    }
    atomic_fetch_add(&table->refused[kind], 1);
    return false;
}

static void give(struct sg_usage *usage, enum sg_usage_kind kind, uint32_t less)
{
    atomic_fetch_sub(&usage->table->totals[kind], less);
    atomic_fetch_sub(&usage->counts[kind], less);
}

bool sg_usage_take(struct sg_usage *usage, enum sg_usage_kind kind)
{
    return take(usage, kind, 1);
}

void sg_usage_give(struct sg_usage *usage, enum sg_usage_kind kind)
{
    give(usage, kind, 1);
}

bool sg_usage_take_memory(struct sg_usage *usage, size_t bytes)
{
    return bytes <= UINT32_MAX / 2 && take(usage, SG_USAGE_MEMORY, (uint32_t)bytes);
}

void sg_usage_give_memory(struct sg_usage *usage, size_t bytes)
{
    give(usage, SG_USAGE_MEMORY, (uint32_t)bytes);
}

uint32_t sg_usage_most(const struct sg_usage *usage, enum sg_usage_kind kind)
{
    return atomic_load(&usage->most[kind]);
}

struct sg_quota *sg_usage_quota(struct sg_usage *usage)
{
    return atomic_load_explicit(&usage->has_quota, memory_order_relaxed) ? &usage->quota : NULL;
}

enum sg_reason sg_usage_police(struct sg_usage *usage, enum sg_quota_way way, size_t bytes, uint64_t now_ms)
{
    struct sg_quota *quota = sg_usage_quota(usage);
    if (!quota)
        return SG_REASON_NONE;
    const struct sg_quota_time at = sg_usage_time(now_ms);
    return sg_quota_take(quota, way, bytes, &at);
}

bool sg_usage_has_day(struct sg_usage *usage)
{
    if (!sg_quota_is_spent(&usage->quota, sg_usage_time(0).day))
        return true;
    atomic_fetch_add(&usage->table->refused_day, 1);
    return false;
}

void sg_usage_status(const struct sg_usage_table *table, struct json_t *status)
{
    static const char *const names[SG_USAGE_KINDS] = {[SG_USAGE_SESSION] = "sessions",
                                                      [SG_USAGE_ASSOCIATION] = "associations",
                                                      [SG_USAGE_CONNECTION] = "connections",
                                                      [SG_USAGE_MEMORY] = "memory"};
    json_t *refused = json_object();
    for (unsigned kind = 0; kind < SG_USAGE_KINDS; kind++)
        json_object_set_new(refused, names[kind], json_integer((json_int_t)atomic_load(&table->refused[kind])));
    json_object_set_new(refused, "bytes_per_day", json_integer((json_int_t)atomic_load(&table->refused_day)));
    json_object_set_new(status, "refused_limits", refused);
    json_int_t remembered = atomic_load(&table->totals[SG_USAGE_MEMORY]);
    json_object_set_new(status, "remembered_bytes", json_integer(remembered));
}

void sg_usage_each(struct sg_usage_table *table, sg_usage_fn *fn, void *ctx)
{
    pthread_mutex_lock(&table->lock);
    for (const struct sg_usage *usage = table->first; usage; usage = usage->next) {
        if (usage->refs == 0)
            continue; /* kept for its day */
        uint32_t counts[SG_USAGE_KINDS];
        for (unsigned i = 0; i < SG_USAGE_KINDS; i++)
            counts[i] = atomic_load(&usage->counts[i]);
        fn(ctx, usage->user, counts);
    }
    pthread_mutex_unlock(&table->lock);
}
