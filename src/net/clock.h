/* The one clock: milliseconds that never jump and that go on while the machine sleeps. */
#ifndef SG_NET_CLOCK_H
#define SG_NET_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t sg_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* The same clock, for durations that are short. */
static inline uint64_t sg_now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

#endif
