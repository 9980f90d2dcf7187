/*
 * What each user has open, carries in a time, and all users together: one record per user name, shared by all of its
 * connections on all workers, checked against the limits.
 */
#ifndef SG_SERVER_USAGE_H
#define SG_SERVER_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/group_names.h"
#include "server/quota.h"

struct json_t;
struct sg_usage;
struct sg_usage_table;

/* MEMORY: bytes, of what associations remember and of what waits in them. */
enum sg_usage_kind { SG_USAGE_SESSION, SG_USAGE_ASSOCIATION, SG_USAGE_CONNECTION, SG_USAGE_MEMORY, SG_USAGE_KINDS };

/* The memory that goes with a limit of associations: each may remember what an ordinary one does, a few much more. */
enum { SG_USAGE_MEMORY_LEAST = 512 * 1024, SG_USAGE_MEMORY_EACH = 1024 };

/* Of one user: how many of each kind at a time, and how much in a time. */
struct sg_usage_limits {
    uint32_t most[SG_USAGE_KINDS];
    struct sg_quota_limits rates;
};

/* Says what a user may have, who is in these groups too. On any thread, under the table's lock. */
typedef void sg_usage_limits_fn(void *ctx, const char *user, const struct sg_group_names *groups,
                                struct sg_usage_limits *out);

/* all: the most that all users together may have of each kind. */
struct sg_usage_table *sg_usage_table_new(const uint32_t all[static SG_USAGE_KINDS], sg_usage_limits_fn *find,
                                          void *ctx);
void sg_usage_table_free(struct sg_usage_table *table);

/* Other limits, at any time: what is open stays open, and nothing more is given until it is below them. */
void sg_usage_table_turn_to(struct sg_usage_table *table, const uint32_t all[static SG_USAGE_KINDS],
                            sg_usage_limits_fn *find, void *ctx);

/*
 * The record of a user, made if it is the first; NULL when memory is short. Each acquire needs a release. groups are
 * those that the authenticator says the user has now.
 */
struct sg_usage *sg_usage_acquire(struct sg_usage_table *table, const char *user, const struct sg_group_names *groups);
void sg_usage_release(struct sg_usage *usage); /* accepts NULL */

/* What each user has, in any order, under the lock: fn must be quick and take nothing here. */
typedef void sg_usage_fn(void *ctx, const char *user, const uint32_t counts[static SG_USAGE_KINDS]);
void sg_usage_each(struct sg_usage_table *table, sg_usage_fn *fn, void *ctx);

/* How many all users have. */
uint32_t sg_usage_total(const struct sg_usage_table *table, enum sg_usage_kind kind);

/*
 * Takes one of a kind: false, and counted, if the user is at the limit, or all together are. A slot is held until what
 * it stands for is freed: give it back then.
 */
bool sg_usage_take(struct sg_usage *usage, enum sg_usage_kind kind);
void sg_usage_give(struct sg_usage *usage, enum sg_usage_kind kind);
/* The same of so many bytes of MEMORY. What was taken is given back, all of it, before the slot of its owner is. */
bool sg_usage_take_memory(struct sg_usage *usage, size_t bytes);
void sg_usage_give_memory(struct sg_usage *usage, size_t bytes);
/* How many the user may have. */
uint32_t sg_usage_most(const struct sg_usage *usage, enum sg_usage_kind kind);

/* What limits the user's traffic; NULL where nothing does. */
struct sg_quota *sg_usage_quota(struct sg_usage *usage);
/* A datagram of the user: NONE, or why it must be dropped. One branch where nothing is limited. */
enum sg_reason sg_usage_police(struct sg_usage *usage, enum sg_quota_way way, size_t bytes, uint64_t now_ms);
/* Now, for a question to a quota. */
struct sg_quota_time sg_usage_time(uint64_t now_ms);
/* False, and counted, if the user has carried all that is allowed for this day. */
bool sg_usage_has_day(struct sg_usage *usage);

/* Adds what was refused to the status document. */
void sg_usage_status(const struct sg_usage_table *table, struct json_t *status);

#endif
