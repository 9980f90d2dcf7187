/*
 * How much one user may carry in a time: token buckets for bits and datagrams a second, each way, and the bytes of a
 * day. Pure: time comes in. One of them is shared by all workers, without a lock: each bucket is one atomic number.
 */
#ifndef SG_SERVER_QUOTA_H
#define SG_SERVER_QUOTA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/reason.h"

enum sg_quota_way { SG_QUOTA_UP, SG_QUOTA_DOWN, SG_QUOTA_WAYS };

/* 0: no limit. */
struct sg_quota_limits {
    uint64_t bits_per_second[SG_QUOTA_WAYS];
    uint64_t datagrams_per_second; /* each way */
    uint64_t bytes_per_day;        /* both ways together, by calendar days of UTC */
};

/* The moment of a question: a clock that never jumps, and the day that the calendar has. */
struct sg_quota_time {
    uint64_t now_ms;
    uint16_t day; /* since 1970, modulo 2^16 */
};

struct sg_quota {
    _Atomic uint64_t bits_per_second[SG_QUOTA_WAYS], datagrams_per_second, bytes_per_day; /* limits */
    _Atomic uint64_t bits_full_ns[SG_QUOTA_WAYS], datagrams_full_ns[SG_QUOTA_WAYS];       /* when all tokens are back */
    _Atomic uint64_t spent; /* day in the upper 16 bits, its bytes in the others */
};

/* Sets limits, at any time; what was used stays used. A quota of zeroes has none and is full. */
void sg_quota_set(struct sg_quota *quota, const struct sg_quota_limits *limits);

/*
 * One datagram with so many bytes of data: NONE, and it is paid for; RATE or QUOTA, and it must be dropped. A bucket
 * holds a quarter of a second, and at least one datagram of any size and four of any number.
 */
enum sg_reason sg_quota_take(struct sg_quota *quota, enum sg_quota_way way, size_t bytes,
                             const struct sg_quota_time *at);

/*
 * For streams, which wait instead: how many bytes may be read now, SIZE_MAX without a limit; they are paid for by
 * sg_quota_pay when they were read. Streams leave half of the bucket to datagrams. 0: *wait_ms is set, ask again then.
 */
size_t sg_quota_room(struct sg_quota *quota, enum sg_quota_way way, const struct sg_quota_time *at, uint32_t *wait_ms);
void sg_quota_pay(struct sg_quota *quota, enum sg_quota_way way, size_t bytes, const struct sg_quota_time *at);

/* The bytes of this day are used up. */
bool sg_quota_is_spent(const struct sg_quota *quota, uint16_t day);
/* Bytes that were carried on this day. */
uint64_t sg_quota_bytes(const struct sg_quota *quota, uint16_t day);

#endif
