/*
 * Users in use, in a list: there are as many as have something open at this moment. One lock, taken outside the data
 * path.
 */
#include "server/usage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sg_usage {
    struct sg_usage *next;
    struct sg_usage_table *table;
    unsigned refs;
    _Atomic uint32_t counts[SG_USAGE_KINDS];
    char user[65];
};

struct sg_usage_table {
    pthread_mutex_t lock;
    uint32_t user_limits[SG_USAGE_KINDS], all_limits[SG_USAGE_KINDS];
    _Atomic uint32_t totals[SG_USAGE_KINDS];
    struct sg_usage *first;
};

struct sg_usage_table *sg_usage_table_new(const uint32_t user[static SG_USAGE_KINDS],
                                          const uint32_t all[static SG_USAGE_KINDS])
{
    struct sg_usage_table *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    memcpy(table->user_limits, user, sizeof table->user_limits);
    memcpy(table->all_limits, all, sizeof table->all_limits);
    pthread_mutex_init(&table->lock, NULL);
    return table;
}

void sg_usage_table_free(struct sg_usage_table *table)
{
    if (!table)
        return;
    pthread_mutex_destroy(&table->lock);
    free(table);
}

struct sg_usage *sg_usage_acquire(struct sg_usage_table *table, const char *user)
{
    pthread_mutex_lock(&table->lock);
    struct sg_usage *usage = table->first;
    while (usage && strcmp(usage->user, user) != 0)
        usage = usage->next;
    if (!usage && (usage = calloc(1, sizeof *usage))) {
        snprintf(usage->user, sizeof usage->user, "%s", user);
        usage->table = table;
        usage->next = table->first;
        table->first = usage;
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
    if (--usage->refs == 0) {
        struct sg_usage **link = &table->first;
        while (*link != usage)
            link = &(*link)->next;
        *link = usage->next;
        free(usage);
    }
    pthread_mutex_unlock(&table->lock);
}

uint32_t sg_usage_total(const struct sg_usage_table *table, enum sg_usage_kind kind)
{
    return atomic_load(&table->totals[kind]);
}

static bool take_below(_Atomic uint32_t *count, uint32_t limit)
{
    if (atomic_fetch_add(count, 1) < limit)
        return true;
    atomic_fetch_sub(count, 1);
    return false;
}

bool sg_usage_take(struct sg_usage *usage, enum sg_usage_kind kind)
{
    struct sg_usage_table *table = usage->table;
    if (!take_below(&usage->counts[kind], table->user_limits[kind]))
        return false;
    if (take_below(&table->totals[kind], table->all_limits[kind]))
        return true;
    atomic_fetch_sub(&usage->counts[kind], 1);
    return false;
}

void sg_usage_give(struct sg_usage *usage, enum sg_usage_kind kind)
{
    atomic_fetch_sub(&usage->table->totals[kind], 1);
    atomic_fetch_sub(&usage->counts[kind], 1);
}

void sg_usage_each(struct sg_usage_table *table, sg_usage_fn *fn, void *ctx)
{
    pthread_mutex_lock(&table->lock);
    for (const struct sg_usage *usage = table->first; usage; usage = usage->next) {
        uint32_t counts[SG_USAGE_KINDS];
        for (unsigned i = 0; i < SG_USAGE_KINDS; i++)
            counts[i] = atomic_load(&usage->counts[i]);
        fn(ctx, usage->user, counts);
    }
    pthread_mutex_unlock(&table->lock);
}
