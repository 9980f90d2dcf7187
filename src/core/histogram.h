/* A histogram of whole numbers with buckets that double: bucket i counts what is at most 2^i, and more than 2^(i-1). */
#ifndef SG_CORE_HISTOGRAM_H
#define SG_CORE_HISTOGRAM_H

#include <stdint.h>

enum { SG_HISTOGRAM_BUCKETS = 26 };

/* One writer: a worker's own. The last bucket has all that is larger, too. */
struct sg_histogram {
    uint64_t buckets[SG_HISTOGRAM_BUCKETS];
    uint64_t sum;
};

static inline void sg_histogram_add(struct sg_histogram *histogram, uint64_t value)
{
    unsigned bucket = value <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(value - 1);
    histogram->buckets[bucket < SG_HISTOGRAM_BUCKETS ? bucket : SG_HISTOGRAM_BUCKETS - 1]++;
    histogram->sum += value;
}

#endif
