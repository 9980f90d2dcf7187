/*
 * Associations by number. The peer chooses the numbers, so they are hashed under a key: it cannot put them all into one
 * bucket. The window of used numbers makes a late datagram of a closed association a drop instead of a new socket.
 */
#include "core/assoc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKET_BITS = 4, FIRST_BUCKETS = 1 << FIRST_BUCKET_BITS, WINDOW_WORDS = SG_ASSOC_WINDOW / 64 };

enum sg_err sg_assoc_table_init(struct sg_assoc_table *table, uint64_t hash_key, uint64_t idle_ms, uint64_t dns_idle_ms)
{
    *table = (struct sg_assoc_table){.bucket_count = FIRST_BUCKETS, .hash_shift = 64 - FIRST_BUCKET_BITS};
    table->hash_key = hash_key | 1;
    table->ordinary.idle_ms = idle_ms;
    table->dns.idle_ms = dns_idle_ms;
    table->buckets = calloc(FIRST_BUCKETS, sizeof *table->buckets);
    table->used = calloc(WINDOW_WORDS, sizeof *table->used);
    if (!table->buckets || !table->used) {
        sg_assoc_table_dispose(table);
        return SG_ERR_NOMEM;
    }
    return SG_OK;
}

void sg_assoc_table_dispose(struct sg_assoc_table *table)
{
    free(table->buckets);
    free(table->used);
    *table = (struct sg_assoc_table){0};
}

/* Multiply-shift with a random odd factor: two given numbers share one of n buckets with a chance of 2 / n. */
static struct sg_assoc_node **bucket_of(const struct sg_assoc_table *table, uint32_t number)
{
    return &table->buckets[number * table->hash_key >> table->hash_shift];
}

struct sg_assoc_node *sg_assoc_find(const struct sg_assoc_table *table, uint32_t number)
{
    struct sg_assoc_node *node = *bucket_of(table, number);
    while (node && node->number != number)
        node = node->chain;
    return node;
}

static bool number_used(const struct sg_assoc_table *table, uint32_t number)
{
    if (number > table->highest)
        return false;
    if (table->highest - number >= SG_ASSOC_WINDOW)
        return true;
    return table->used[number % SG_ASSOC_WINDOW / 64] >> (number % 64) & 1;
}

enum sg_assoc_state sg_assoc_state(const struct sg_assoc_table *table, uint32_t number)
{
    if (sg_assoc_find(table, number))
        return SG_ASSOC_IS_OPEN;
    return number_used(table, number) ? SG_ASSOC_IS_USED : SG_ASSOC_IS_NEW;
}

static uint64_t *word_of(struct sg_assoc_table *table, uint32_t number)
{
    return &table->used[number % SG_ASSOC_WINDOW / 64];
}

/* Moves the window's end up to number: what lies between was not used. By words, for a peer may jump as it likes. */
static void advance_window(struct sg_assoc_table *table, uint32_t number)
{
    uint32_t first = table->highest + 1;
    table->highest = number;
    if (number - first >= SG_ASSOC_WINDOW - 1) {
        memset(table->used, 0, WINDOW_WORDS * sizeof *table->used);
        return;
    }
    for (uint32_t last = 0;; first = last + 1) {
        last = (first | 63) < number ? first | 63 : number;
        *word_of(table, first) &= ~(UINT64_MAX << (first % 64) & UINT64_MAX >> (63 - last % 64));
        if (last == number)
            return;
    }
}

void sg_assoc_use_up(struct sg_assoc_table *table, uint32_t number)
{
    if (number > table->highest)
        advance_window(table, number);
    if (table->highest - number < SG_ASSOC_WINDOW)
        *word_of(table, number) |= UINT64_C(1) << (number % 64);
}

static void list_remove(struct sg_assoc_list *list, struct sg_assoc_node *node)
{
    *(node->prev ? &node->prev->next : &list->head) = node->next;
    *(node->next ? &node->next->prev : &list->tail) = node->prev;
    node->prev = node->next = NULL;
}

static void list_append(struct sg_assoc_list *list, struct sg_assoc_node *node)
{
    node->prev = list->tail;
    node->next = NULL;
    *(list->tail ? &list->tail->next : &list->head) = node;
    list->tail = node;
}

static struct sg_assoc_list *list_of(struct sg_assoc_table *table, const struct sg_assoc_node *node)
{
    return node->dns_only ? &table->dns : &table->ordinary;
}

static void touch(struct sg_assoc_table *table, struct sg_assoc_node *node, uint64_t now_ms)
{
    if (node->active_ms == now_ms)
        return; /* a batch touches its association once */
    struct sg_assoc_list *list = list_of(table, node);
    node->active_ms = now_ms;
    list_remove(list, node);
    list_append(list, node);
}

/* Twice the buckets once they are full; if memory is short the chains just grow longer. */
static void grow_buckets(struct sg_assoc_table *table)
{
    size_t old_count = table->bucket_count;
    struct sg_assoc_node **old = table->buckets;
    struct sg_assoc_node **grown = calloc(old_count * 2, sizeof *grown);
    if (!grown)
        return;
    table->buckets = grown;
    table->bucket_count = old_count * 2;
    table->hash_shift--;
    for (size_t i = 0; i < old_count; i++) {
        for (struct sg_assoc_node *node = old[i], *next; node; node = next) {
            next = node->chain;
            struct sg_assoc_node **bucket = bucket_of(table, node->number);
            node->chain = *bucket;
            *bucket = node;
        }
    }
    free(old);
}

enum sg_err sg_assoc_open(struct sg_assoc_table *table, struct sg_assoc_node *node, uint32_t number, uint64_t now_ms)
{
    assert(sg_assoc_state(table, number) == SG_ASSOC_IS_NEW);
    if (table->count == table->bucket_count)
        grow_buckets(table);
    *node = (struct sg_assoc_node){.number = number, .dns_only = true, .active_ms = now_ms};
    struct sg_assoc_node **bucket = bucket_of(table, number);
    node->chain = *bucket;
    *bucket = node;
    list_append(&table->dns, node);
    table->count++;
    sg_assoc_use_up(table, number);
    return SG_OK;
}

void sg_assoc_close(struct sg_assoc_table *table, struct sg_assoc_node *node)
{
    struct sg_assoc_node **link = bucket_of(table, node->number);
    while (*link != node)
        link = &(*link)->chain;
    *link = node->chain;
    list_remove(list_of(table, node), node);
    table->count--;
}

void sg_assoc_touch_up(struct sg_assoc_table *table, struct sg_assoc_node *node, uint16_t port, uint64_t now_ms)
{
    if (node->dns_only && port != SG_ASSOC_DNS_PORT) {
        list_remove(&table->dns, node);
        node->dns_only = false;
        node->active_ms = now_ms;
        list_append(&table->ordinary, node);
        return;
    }
    touch(table, node, now_ms);
}

void sg_assoc_touch_down(struct sg_assoc_table *table, struct sg_assoc_node *node, uint64_t now_ms)
{
    if (node->dns_only)
        touch(table, node, now_ms);
}

void sg_assoc_touch_alive(struct sg_assoc_table *table, struct sg_assoc_node *node, uint64_t now_ms)
{
    if (!node->dns_only)
        touch(table, node, now_ms);
}

static bool head_expired(const struct sg_assoc_list *list, uint64_t now_ms)
{
    return list->head && now_ms - list->head->active_ms >= list->idle_ms;
}

struct sg_assoc_node *sg_assoc_expired(const struct sg_assoc_table *table, uint64_t now_ms)
{
    if (head_expired(&table->dns, now_ms))
        return table->dns.head;
    if (head_expired(&table->ordinary, now_ms))
        return table->ordinary.head;
    return NULL;
}

uint64_t sg_assoc_next_timeout(const struct sg_assoc_table *table)
{
    uint64_t next = UINT64_MAX;
    if (table->dns.head)
        next = table->dns.head->active_ms + table->dns.idle_ms;
    if (table->ordinary.head && table->ordinary.head->active_ms + table->ordinary.idle_ms < next)
        next = table->ordinary.head->active_ms + table->ordinary.idle_ms;
    return next;
}

static void each_in(struct sg_assoc_list *list, void (*fn)(void *ctx, struct sg_assoc_node *node), void *ctx)
{
    for (struct sg_assoc_node *node = list->head, *next; node; node = next) {
        next = node->next;
        fn(ctx, node);
    }
}

void sg_assoc_each(struct sg_assoc_table *table, void (*fn)(void *ctx, struct sg_assoc_node *node), void *ctx)
{
    each_in(&table->dns, fn, ctx);
    each_in(&table->ordinary, fn, ctx);
}
