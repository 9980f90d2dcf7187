/*
 * A session's associations by number: the open ones, the window of numbers that were used, and who is idle
 * (docs/protocol.md section 9). The caller embeds a node in its own struct and owns it.
 */
#ifndef SG_CORE_ASSOC_H
#define SG_CORE_ASSOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

enum { SG_ASSOC_WINDOW = 65536, SG_ASSOC_DNS_PORT = 53 };

struct sg_assoc_list;

struct sg_assoc_node {
    uint32_t number;
    bool dns_only; /* only ever sent to port 53 */
    uint64_t active_ms;
    struct sg_assoc_node *chain; /* hash bucket */
    struct sg_assoc_node *prev, *next;
};

/* A list ordered by active_ms, oldest first: touching moves to the tail, so expiry looks at heads only. */
struct sg_assoc_list {
    struct sg_assoc_node *head, *tail;
    uint64_t idle_ms;
};

struct sg_assoc_table {
    struct sg_assoc_node **buckets;
    size_t bucket_count; /* a power of two */
    uint64_t hash_key;   /* random */
    unsigned hash_shift; /* 64 less the bits of a bucket's index */
    size_t count;
    struct sg_assoc_list ordinary, dns;
    uint32_t highest;
    uint64_t *used; /* bit number % 65536, for numbers in (highest - 65536, highest] */
};

enum sg_assoc_state { SG_ASSOC_IS_OPEN, SG_ASSOC_IS_NEW, SG_ASSOC_IS_USED };

/* hash_key: random, so that a peer that picks numbers cannot pick a slow table. NOMEM. */
SG_MUST_CHECK enum sg_err sg_assoc_table_init(struct sg_assoc_table *table, uint64_t hash_key, uint64_t idle_ms,
                                              uint64_t dns_idle_ms);
/* Frees the table's own memory; nodes that are still in it are the caller's. */
void sg_assoc_table_dispose(struct sg_assoc_table *table);

/* The open association with that number, or NULL. */
struct sg_assoc_node *sg_assoc_find(const struct sg_assoc_table *table, uint32_t number);

/* What a datagram with that number may do: find it open, create it, or neither. */
enum sg_assoc_state sg_assoc_state(const struct sg_assoc_table *table, uint32_t number);

/* Marks a number as used up without opening it ("association refused"). */
void sg_assoc_use_up(struct sg_assoc_table *table, uint32_t number);

/* Opens node under its number (state must be IS_NEW): used from now on. NOMEM leaves all as it was. */
SG_MUST_CHECK enum sg_err sg_assoc_open(struct sg_assoc_table *table, struct sg_assoc_node *node, uint32_t number,
                                        uint64_t now_ms);
void sg_assoc_close(struct sg_assoc_table *table, struct sg_assoc_node *node);

/* A datagram up, to port; a datagram down; an ALIVE. Each restarts the idle time by the rules of section 9. */
void sg_assoc_touch_up(struct sg_assoc_table *table, struct sg_assoc_node *node, uint16_t port, uint64_t now_ms);
void sg_assoc_touch_down(struct sg_assoc_table *table, struct sg_assoc_node *node, uint64_t now_ms);
void sg_assoc_touch_alive(struct sg_assoc_table *table, struct sg_assoc_node *node, uint64_t now_ms);

/* An open association whose idle time is over, or NULL; the caller closes it and asks again. */
struct sg_assoc_node *sg_assoc_expired(const struct sg_assoc_table *table, uint64_t now_ms);
uint64_t sg_assoc_next_timeout(const struct sg_assoc_table *table);

/* Every open node, in no order; fn may close the node that it is given, no other. */
void sg_assoc_each(struct sg_assoc_table *table, void (*fn)(void *ctx, struct sg_assoc_node *node), void *ctx);

#endif
