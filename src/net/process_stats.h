/* What the kernel says of this process: memory, processor time, descriptors. */
#ifndef SG_NET_PROCESS_STATS_H
#define SG_NET_PROCESS_STATS_H

#include <stdint.h>

struct sg_process_stats {
    double cpu_seconds;   /* user and system, of all threads */
    double start_seconds; /* since 1970 */
    uint64_t resident_bytes, virtual_bytes;
    uint64_t open_fds, max_fds;
};

struct sg_process_watch;

/* Opens what it reads for good, so that it still can in a sandbox. NULL when memory or descriptors are short. */
struct sg_process_watch *sg_process_watch_new(void);
void sg_process_watch_free(struct sg_process_watch *watch);

/* What could not be read is 0. */
struct sg_process_stats sg_process_watch_read(struct sg_process_watch *watch);

#endif
