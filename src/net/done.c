/*
 * An eventfd that is polled. pthread_clockjoin_np(3) is not known to thread sanitizers, and programs that set a clock
 * for another (libfaketime) know no condition by the monotonic clock.
 */
#include "net/done.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/clock.h"

bool sg_done_init(struct sg_done *done)
{
    done->fd = eventfd(0, EFD_CLOEXEC);
    return done->fd >= 0;
}

void sg_done_dispose(struct sg_done *done)
{
    if (done->fd >= 0)
        close(done->fd);
    done->fd = -1;
}

void sg_done_tell(struct sg_done *done)
{
    const uint64_t one = 1;
    while (write(done->fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

bool sg_done_wait(struct sg_done *done, unsigned limit_ms)
{
    struct pollfd told = {.fd = done->fd, .events = POLLIN};
    uint64_t count = 0, end_ms = sg_now_ms() + limit_ms;
    int got = -1;
    do {
        uint64_t now_ms = sg_now_ms();
        got = poll(&told, 1, now_ms < end_ms ? (int)(end_ms - now_ms) : 0);
    } while (got < 0 && errno == EINTR);
    return got == 1 && read(done->fd, &count, sizeof count) == (ssize_t)sizeof count;
}
