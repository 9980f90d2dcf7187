/* getrusage, /proc/self/statm and /proc/self/fd. */
#include "net/process_stats.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { NOT_OTHERS = 3 }; /* ".", "..", and the descriptor of the directory itself */

struct sg_process_watch {
    int statm;
    DIR *fds;
    double start_seconds;
};

struct sg_process_watch *sg_process_watch_new(void)
{
    struct sg_process_watch *watch = calloc(1, sizeof *watch);
    struct timespec now;
    if (!watch)
        return NULL;
    clock_gettime(CLOCK_REALTIME, &now);
    watch->start_seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    watch->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    watch->fds = opendir("/proc/self/fd");
    if (watch->statm >= 0 && watch->fds)
        return watch;
    sg_process_watch_free(watch);
    return NULL;
}

void sg_process_watch_free(struct sg_process_watch *watch)
{
    if (!watch)
        return;
    if (watch->statm >= 0)
        close(watch->statm);
    if (watch->fds)
        closedir(watch->fds);
    free(watch);
}

static uint64_t count_fds(DIR *fds)
{
    uint64_t count = 0;
    rewinddir(fds);
    while (readdir(fds))
        count++;
    return count > NOT_OTHERS ? count - NOT_OTHERS : 0;
}

static double seconds_of(const struct timeval *tv)
{
    return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

struct sg_process_stats sg_process_watch_read(struct sg_process_watch *watch)
{
    struct sg_process_stats stats = {.start_seconds = watch->start_seconds, .open_fds = count_fds(watch->fds)};
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    char text[256] = {0};
    struct rusage usage;
    struct rlimit limit;
    if (pread(watch->statm, text, sizeof text - 1, 0) > 0) {
        char *at = text; /* pages: all, resident, and what we do not tell */
        stats.virtual_bytes = strtoull(at, &at, 10) * page;
        stats.resident_bytes = strtoull(at, &at, 10) * page;
    }
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        stats.cpu_seconds = seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        stats.max_fds = limit.rlim_cur;
    return stats;
}
