/* Ports of a range: only those, each once, not those of others, until there is none; and which are taken. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/sockaddr.h"
#include "net/udp.h"
#include "server/ports.h"

enum { WIDTH = 12 };

static const struct sg_ip loopback = {.family = 4, .bytes = {127, 0, 0, 1}};

/* WIDTH ports that are free, below those that the kernel gives out. */
static struct sg_ports make_range(void)
{
    for (uint16_t first = 9000; first < 9900; first = (uint16_t)(first + WIDTH)) {
        unsigned open = 0;
        for (uint16_t i = 0; i < WIDTH; i++) {
            struct sg_endpoint at = {.ip = loopback, .port = (uint16_t)(first + i)};
            int fd = sg_udp_open(&at, 0);
            open += fd >= 0;
            if (fd >= 0)
                close(fd);
        }
        if (open == WIDTH)
            return (struct sg_ports){.first = first, .last = (uint16_t)(first + WIDTH - 1)};
    }
    fail_msg("no %d ports in a row are free", WIDTH);
    return (struct sg_ports){0};
}

static void all_of_a_range_and_no_more(void **state)
{
    (void)state;
    struct sg_ports ports = make_range();
    int fds[WIDTH];
    bool seen[WIDTH] = {false};
    for (unsigned i = 0; i < WIDTH; i++) {
        fds[i] = sg_ports_open(&ports, &loopback, 0);
        assert_true(fds[i] >= 0);
        uint16_t port = sg_socket_local(fds[i]).port;
        assert_in_range(port, ports.first, ports.last);
        assert_false(seen[port - ports.first]);
        seen[port - ports.first] = true;
        if (i % 2 == 0) /* whether it is known to be taken or found out makes no difference */
            sg_ports_take(&ports, 4, port);
    }
    assert_int_equal(sg_ports_open(&ports, &loopback, 0), -1);
    assert_int_equal(errno, EADDRINUSE);
    uint16_t freed = sg_socket_local(fds[0]).port;
    close(fds[0]);
    assert_int_equal(sg_ports_open(&ports, &loopback, 0), -1); /* marked still */
    sg_ports_give(&ports, 4, freed);
    fds[0] = sg_ports_open(&ports, &loopback, 0);
    assert_true(fds[0] >= 0);
    assert_int_equal(sg_socket_local(fds[0]).port, freed);
    for (unsigned i = 0; i < WIDTH; i++)
        close(fds[i]);
}

static void the_first_port_is_not_always_the_same(void **state)
{
    (void)state;
    struct sg_ports ports = make_range();
    bool seen[WIDTH] = {false};
    unsigned different = 0;
    for (unsigned i = 0; i < 200; i++) {
        int fd = sg_ports_open(&ports, &loopback, 0);
        assert_true(fd >= 0);
        bool *mark = &seen[sg_socket_local(fd).port - ports.first];
        different += !*mark;
        *mark = true;
        close(fd);
    }
    assert_in_range(different, WIDTH / 2, WIDTH);
}

static void without_a_range_the_kernel_chooses(void **state)
{
    (void)state;
    struct sg_ports ports = {0};
    int fd = sg_ports_open(&ports, &loopback, 0);
    assert_true(fd >= 0);
    assert_int_not_equal(sg_socket_local(fd).port, 0);
    close(fd);
}

static void an_address_that_is_not_here_is_no_matter_of_ports(void **state)
{
    (void)state;
    struct sg_ports ports = {.first = 9000, .last = 9999};
    const struct sg_ip elsewhere = {.family = 4, .bytes = {192, 0, 2, 1}};
    assert_int_equal(sg_ports_open(&ports, &elsewhere, 0), -1);
    assert_int_equal(errno, EADDRNOTAVAIL);
}

static void families_and_ports_are_told_apart(void **state)
{
    (void)state;
    struct sg_ports ports = {0};
    static const uint16_t some[] = {1, 63, 64, 65, 32768, 65535};
    for (unsigned i = 0; i < sizeof some / sizeof *some; i++) {
        sg_ports_take(&ports, 6, some[i]);
        for (unsigned port = 0; port <= 65535; port++) {
            assert_false(sg_ports_is_taken(&ports, 4, (uint16_t)port));
            assert_int_equal(sg_ports_is_taken(&ports, 6, (uint16_t)port), port == some[i]);
        }
        sg_ports_give(&ports, 6, some[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_a_range_and_no_more),
        cmocka_unit_test(the_first_port_is_not_always_the_same),
        cmocka_unit_test(without_a_range_the_kernel_chooses),
        cmocka_unit_test(an_address_that_is_not_here_is_no_matter_of_ports),
        cmocka_unit_test(families_and_ports_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
