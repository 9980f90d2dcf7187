/* One look at the limit for server and client, before anything can fail by it. */
#include "net/open_files.h"

#include <sys/resource.h>

#include "net/log.h"

enum { ALWAYS = 48, PER_WORKER = 16 }; /* a server that idles has 19, and 7 a worker */

bool sg_open_files_raise(unsigned workers, size_t *limit)
{
    const size_t needed = ALWAYS + (size_t)PER_WORKER * workers;
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 1024};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        rlim_t soft = files.rlim_cur;
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0)
            files.rlim_cur = soft;
    }
    *limit = (size_t)files.rlim_cur;
    if (*limit >= needed)
        return true;
    sg_log_event(SG_LOG_ERROR, "start_failed", NULL,
                 "only %zu files may be open, and %zu are needed with %u workers: raise the limit of open files "
                 "(`ulimit -n 65536`, or LimitNOFILE= of the systemd unit)",
                 *limit, needed, workers);
    return false;
}
