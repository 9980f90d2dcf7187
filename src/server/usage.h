/*
 * What each user has open, and all users together: one counted record per user name, shared by all of its connections
 * on all workers, checked against the limits.
 */
#ifndef SG_SERVER_USAGE_H
#define SG_SERVER_USAGE_H

#include <stdbool.h>
#include <stdint.h>

struct sg_usage;
struct sg_usage_table;

enum sg_usage_kind { SG_USAGE_SESSION, SG_USAGE_ASSOCIATION, SG_USAGE_CONNECTION, SG_USAGE_RENEWAL, SG_USAGE_KINDS };

/* user, all: the most that one user, and all together, may have of each kind. */
struct sg_usage_table *sg_usage_table_new(const uint32_t user[static SG_USAGE_KINDS],
                                          const uint32_t all[static SG_USAGE_KINDS]);
void sg_usage_table_free(struct sg_usage_table *table);

/* The record of a user, made if it is the first; NULL when memory is short. Each acquire needs a release. */
struct sg_usage *sg_usage_acquire(struct sg_usage_table *table, const char *user);
void sg_usage_release(struct sg_usage *usage);

/* What each user has, in any order, under the lock: fn must be quick and take nothing here. */
typedef void sg_usage_fn(void *ctx, const char *user, const uint32_t counts[static SG_USAGE_KINDS]);
void sg_usage_each(struct sg_usage_table *table, sg_usage_fn *fn, void *ctx);

/* How many all users have. */
uint32_t sg_usage_total(const struct sg_usage_table *table, enum sg_usage_kind kind);

/*
 * Takes one of a kind: false if the user is at the limit, or all together are. A slot is held until what it stands for
 * is freed: give it back then.
 */
bool sg_usage_take(struct sg_usage *usage, enum sg_usage_kind kind);
void sg_usage_give(struct sg_usage *usage, enum sg_usage_kind kind);

#endif
