/*
 * Token buckets as the generic cell rate algorithm keeps them (ITU-T I.371): not the tokens are stored, but when the
 * bucket will be full again. Taking moves that moment out by the price, and may not move it further than the bucket is
 * deep. So a bucket needs no refilling and no second number, and threads agree by one compare-and-swap.
 */
#include "server/quota.h"

enum {
    DEPTH_NS = 250000000, /* a bucket's contents, as time */
    DATAGRAM_MAX = 65535, /* fits into every bucket */
    DATAGRAMS_MIN = 4,    /* so do so many at once */
    CHUNK_BYTES = 16384,  /* streams wait for so much at once, if their share of the bucket holds it twice */
    DAY_SHIFT = 48,
};

static const uint64_t second_ns = 1000000000;

void sg_quota_set(struct sg_quota *quota, const struct sg_quota_limits *limits)
{
    for (unsigned way = 0; way < SG_QUOTA_WAYS; way++)
        atomic_store(&quota->bits_per_second[way], limits->bits_per_second[way]);
    atomic_store(&quota->datagrams_per_second, limits->datagrams_per_second);
    atomic_store(&quota->bytes_per_day, limits->bytes_per_day);
}

/* Rounded up: a price is never nothing. */
static uint64_t price_of_bytes(uint64_t bits_per_second, uint64_t bytes)
{
    return (bytes * 8 * second_ns + bits_per_second - 1) / bits_per_second;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t depth_of_bytes(uint64_t bits_per_second)
{
    return larger(DEPTH_NS, price_of_bytes(bits_per_second, DATAGRAM_MAX));
}

/* Moves the moment out by the price; false, and nothing is moved, if that is further than the bucket is deep. */
static bool take(_Atomic uint64_t *full_ns, uint64_t now_ns, uint64_t price_ns, uint64_t depth_ns)
{
    uint64_t was = atomic_load_explicit(full_ns, memory_order_relaxed);
    uint64_t next = 0;
    do {
        next = larger(was, now_ns) + price_ns;
        if (next - now_ns > depth_ns)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(full_ns, &was, next, memory_order_relaxed, memory_order_relaxed));
    return true;
}

static bool take_datagram(struct sg_quota *quota, enum sg_quota_way way, uint64_t now_ns)
{
    uint64_t rate = atomic_load_explicit(&quota->datagrams_per_second, memory_order_relaxed);
    uint64_t price_ns = rate > 0 ? (second_ns + rate - 1) / rate : 0;
    return rate == 0 ||
           take(&quota->datagrams_full_ns[way], now_ns, price_ns, larger(DEPTH_NS, DATAGRAMS_MIN * price_ns));
}

static bool take_bits(struct sg_quota *quota, enum sg_quota_way way, size_t bytes, uint64_t now_ns)
{
    uint64_t rate = atomic_load_explicit(&quota->bits_per_second[way], memory_order_relaxed);
    return rate == 0 || take(&quota->bits_full_ns[way], now_ns, price_of_bytes(rate, bytes), depth_of_bytes(rate));
}

static void spend(struct sg_quota *quota, size_t bytes, uint16_t day)
{
    uint64_t today = (uint64_t)day << DAY_SHIFT;
    uint64_t was = atomic_load_explicit(&quota->spent, memory_order_relaxed);
    uint64_t next = 0;
    if (atomic_load_explicit(&quota->bytes_per_day, memory_order_relaxed) == 0)
        return;
    do {
        next = (was >> DAY_SHIFT == day ? was : today) + bytes;
    } while (
        !atomic_compare_exchange_weak_explicit(&quota->spent, &was, next, memory_order_relaxed, memory_order_relaxed));
}

uint64_t sg_quota_bytes(const struct sg_quota *quota, uint16_t day)
{
    uint64_t spent = atomic_load_explicit(&quota->spent, memory_order_relaxed);
    return spent >> DAY_SHIFT == day ? spent & ((UINT64_C(1) << DAY_SHIFT) - 1) : 0;
}

bool sg_quota_is_spent(const struct sg_quota *quota, uint16_t day)
{
    uint64_t most = atomic_load_explicit(&quota->bytes_per_day, memory_order_relaxed);
    return most > 0 && sg_quota_bytes(quota, day) >= most;
}

enum sg_reason sg_quota_take(struct sg_quota *quota, enum sg_quota_way way, size_t bytes,
                             const struct sg_quota_time *at)
{
    uint64_t now_ns = at->now_ms * 1000000;
    if (sg_quota_is_spent(quota, at->day))
        return SG_REASON_QUOTA;
    if (!take_datagram(quota, way, now_ns) || !take_bits(quota, way, bytes, now_ns))
        return SG_REASON_RATE;
    spend(quota, bytes, at->day);
    return SG_REASON_NONE;
}

size_t sg_quota_room(struct sg_quota *quota, enum sg_quota_way way, const struct sg_quota_time *at, uint32_t *wait_ms)
{
    uint64_t rate = atomic_load_explicit(&quota->bits_per_second[way], memory_order_relaxed);
    uint64_t now_ns = at->now_ms * 1000000;
    if (rate == 0)
        return SIZE_MAX;
    uint64_t share_ns = depth_of_bytes(rate) / 2;
    uint64_t chunk_ns = price_of_bytes(rate, CHUNK_BYTES);
    if (chunk_ns > share_ns / 2)
        chunk_ns = share_ns / 2;
    uint64_t full_ns = atomic_load_explicit(&quota->bits_full_ns[way], memory_order_relaxed);
    uint64_t used_ns = larger(full_ns, now_ns) - now_ns;
    if (used_ns + chunk_ns <= share_ns)
        return (size_t)((share_ns - used_ns) / 1000 * rate / 8000000);
    *wait_ms = (uint32_t)((used_ns + chunk_ns - share_ns) / 1000000 + 1);
    return 0;
}

void sg_quota_pay(struct sg_quota *quota, enum sg_quota_way way, size_t bytes, const struct sg_quota_time *at)
{
    uint64_t rate = atomic_load_explicit(&quota->bits_per_second[way], memory_order_relaxed);
    if (rate > 0) /* what several read at the same moment may be a little too much: it is waited for later */
        (void)take(&quota->bits_full_ns[way], at->now_ms * 1000000, price_of_bytes(rate, bytes), UINT64_MAX);
    spend(quota, bytes, at->day);
}
