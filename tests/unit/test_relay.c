/* When a relay ends by itself: after its time without a byte, and not before, however slowly the bytes come. */
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "net/relay.h"

enum { STEP_S = 100, STEP_BYTES = 10, STEPS = 50, HOUR_STEPS = 3600 / STEP_S };

static time_t later_s;
static unsigned silent_ms; /* for so long TCP has heard nothing, while something is unacknowledged; 0: nothing is */

/* Stands before the C library's, for libevent too: this program's clocks are so much later. */
int clock_gettime(clockid_t id, struct timespec *ts)
{
    int rc = (int)syscall(SYS_clock_gettime, id, ts);
    ts->tv_sec += later_s;
    return rc;
}

/* The next two stand before the C library's as well, for what a relay asks TCP. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    int *value = va_arg(args, int *);
    va_end(args);
    if (request != SIOCOUTQ)
        return (int)syscall(SYS_ioctl, fd, request, value);
    *value = silent_ms > 0;
    return 0;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    if (level != IPPROTO_TCP || name != TCP_INFO)
        return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
    *(struct tcp_info *)value = (struct tcp_info){
        .tcpi_state = TCP_ESTABLISHED, .tcpi_last_ack_recv = silent_ms, .tcpi_last_data_recv = 2 * silent_ms};
    return 0;
}

/* Lets so many bytes pass, then has the relay wait for a step. */
static size_t room(void *ctx, bool from_b, uint32_t *wait_ms)
{
    (void)from_b;
    *wait_ms = STEP_S * 1000;
    return *(size_t *)ctx;
}

static void pay(void *ctx, bool from_b, size_t bytes)
{
    (void)from_b;
    *(size_t *)ctx -= bytes;
}

static void note_end(void *ctx)
{
    *(bool *)ctx = true;
}

static struct bufferevent *leg(struct event_base *base, int *peer)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    *peer = fds[1];
    return bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
}

static void step(struct event_base *base)
{
    later_s += STEP_S;
    for (unsigned i = 0; i < 5; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
}

static void a_relay_that_is_held_back_is_not_idle(void **state)
{
    (void)state;
    static const struct sg_relay_shaper shaper = {.room = room, .pay = pay};
    struct event_base *base = event_base_new();
    uint8_t bytes[STEPS * STEP_BYTES] = {0};
    size_t allowed = 0;
    bool over = false;
    int source = -1, sink = -1;
    struct bufferevent *a = leg(base, &source), *b = leg(base, &sink);
    struct sg_relay *relay = sg_relay_start(a, b, HOUR_STEPS * STEP_S * 1000, note_end, &over);
    assert_non_null(relay);
    sg_relay_shape(relay, &shaper, &allowed);
    assert_int_equal(write(source, bytes, sizeof bytes), sizeof bytes);
    for (unsigned i = 0; i < STEPS; i++) {
        allowed = STEP_BYTES;
        step(base);
        assert_false(over);
        assert_int_equal(read(sink, bytes, sizeof bytes), STEP_BYTES);
    }
    for (unsigned i = 0; i < HOUR_STEPS - 1; i++)
        step(base);
    assert_false(over);
    for (unsigned i = 0; i < 3; i++) /* the timer is set in whole seconds */
        step(base);
    assert_true(over);
    event_base_free(base);
    close(source);
    close(sink);
}

static void a_leg_that_leaves_all_unanswered_ends_its_relay(void **state)
{
    (void)state;
    struct event_base *base = event_base_new();
    bool over = false;
    int first = -1, second = -1;
    struct bufferevent *a = leg(base, &first), *b = leg(base, &second);
    assert_non_null(sg_relay_start(a, b, 4 * 3600 * 1000, note_end, &over));
    silent_ms = 150 * 1000; /* as a reader that pauses: the kernel asks it for room each two minutes */
    for (unsigned i = 0; i < 10; i++)
        step(base);
    assert_false(over);
    silent_ms = 200 * 1000;
    step(base);
    silent_ms = 0; /* the machine of the other leg has all */
    step(base);
    assert_true(over);
    event_base_free(base);
    close(first);
    close(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leg_that_leaves_all_unanswered_ends_its_relay),
        cmocka_unit_test(a_relay_that_is_held_back_is_not_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
