/* A listener among other events: what a crowd at the door takes of a turn of the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>

#include "net/listener.h"
#include "net/sockaddr.h"

enum { CROWD = 100, MOST_A_TURN = 32 };

struct rig {
    struct event_base *base;
    struct sg_listener *listener;
    struct sg_endpoint bound;
    int guests[CROWD];
    unsigned accepted;
    unsigned leaves_after; /* 0: never */
};

static struct rig rig;

static void on_accept(void *ctx, int fd)
{
    (void)ctx;
    close(fd);
    if (++rig.accepted == rig.leaves_after) {
        sg_listener_free(rig.listener);
        rig.listener = NULL;
    }
}

static int set_up(void **state)
{
    struct sg_endpoint at = {.port = 0};
    struct sockaddr_storage ss;
    (void)state;
    memset(&rig, 0, sizeof rig);
    rig.base = event_base_new();
    if (!rig.base || sg_ip_parse("127.0.0.1", &at.ip) != SG_OK)
        return -1;
    rig.listener = sg_listener_new(rig.base, &at, -1, SG_ALONE, &rig.bound, on_accept, NULL);
    if (!rig.listener)
        return -1;
    socklen_t len = sg_sockaddr_from(&rig.bound, &ss);
    for (unsigned i = 0; i < CROWD; i++) {
        rig.guests[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(rig.guests[i], (struct sockaddr *)&ss, len) != 0)
            return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CROWD; i++)
        close(rig.guests[i]);
    sg_listener_free(rig.listener);
    event_base_free(rig.base);
    return 0;
}

static void a_crowd_takes_a_part_of_each_turn(void **state)
{
    (void)state;
    for (unsigned before = 0, turns = 0; rig.accepted < CROWD; before = rig.accepted, turns++) {
        assert_in_range(turns, 0, CROWD);
        assert_int_equal(event_base_loop(rig.base, EVLOOP_ONCE), 0);
        assert_in_range(rig.accepted - before, 0, MOST_A_TURN);
    }
}

static void it_may_end_with_any_of_them(void **state)
{
    (void)state;
    rig.leaves_after = 3;
    while (rig.listener)
        assert_int_equal(event_base_loop(rig.base, EVLOOP_ONCE), 0);
    (void)event_base_loop(rig.base, EVLOOP_NONBLOCK);
    assert_int_equal(rig.accepted, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_crowd_takes_a_part_of_each_turn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_may_end_with_any_of_them, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
