/* Counts of round trips in buckets that grow with the value: 32 for each power of two, so within 3 %. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { BENCH_SUB_BITS = 5, BENCH_BUCKETS = 40 << BENCH_SUB_BITS };

struct bench_histogram {
    uint64_t counts[BENCH_BUCKETS];
    uint64_t total;
};

static inline void bench_histogram_add(struct bench_histogram *histogram, uint64_t ns)
{
    unsigned shift = ns >> BENCH_SUB_BITS ? 63 - (unsigned)__builtin_clzll(ns) - BENCH_SUB_BITS : 0;
    uint64_t bucket = ((uint64_t)shift << BENCH_SUB_BITS) + (ns >> shift);
    histogram->counts[bucket < BENCH_BUCKETS ? bucket : BENCH_BUCKETS - 1]++;
    histogram->total++;
}

/* Microseconds that the given share (0 to 1) of all values lies below: the middle of its bucket; 0 without values. */
static inline double bench_histogram_us(const struct bench_histogram *histogram, double share)
{
    double seen = 0;
    for (unsigned bucket = 0; bucket < BENCH_BUCKETS; bucket++) {
        seen += (double)histogram->counts[bucket];
        if (histogram->counts[bucket] == 0 || seen < share * (double)histogram->total)
            continue;
        /* Below twice 2^BENCH_SUB_BITS buckets are one nanosecond wide. */
        unsigned shift = bucket >> (BENCH_SUB_BITS + 1) ? (bucket >> BENCH_SUB_BITS) - 1 : 0;
        uint64_t low = (uint64_t)(bucket - (shift << BENCH_SUB_BITS)) << shift;
        return ((double)low + (double)(1ULL << shift) / 2) / 1000;
    }
    return 0;
}

#endif
