/* Batched UDP over loopback: whatever is added arrives once, whole, in order, from the right source; and is counted. */
#include <errno.h>
#include <netinet/in.h>

#include "udp_world.h"

static void test_udp_any_mixture_arrives_in_order(void **state)
{
    struct world *w = *state;
    static const size_t lengths[] = {0, 1, 64, 64, 64, 65, 512, 512, 511, 1200, 1200, 1200, 0, 9000, 65507};
    for (unsigned round = 0; round < 300; round++) {
        struct item items[40];
        unsigned count = 1 + (unsigned)rand() % 40;
        size_t total = 0;
        for (unsigned i = 0; i < count; i++) {
            size_t len = lengths[(unsigned)rand() % (sizeof lengths / sizeof *lengths)];
            if (round % 2) /* runs, as real senders have them */
                len = i > 0 && rand() % 4 ? items[i - 1].len : len;
            total += len;
            items[i] = (struct item){.target = (unsigned)rand() % 3, .len = total < 500000 ? len : 64};
        }
        open_world(w, round % 5 == 0 ? 6 : 4, round % 3 == 0 ? 0 : SG_UDP_GRO);
        check_items(w, items, count);
        close_world(w);
    }
}

static void test_udp_runs_travel_as_one(void **state)
{
    struct world *w = *state;
    struct item items[SG_UDP_BATCH * 2 + 1];
    unsigned count = sizeof items / sizeof *items;
    for (unsigned i = 0; i < count; i++)
        items[i] = (struct item){.target = 0, .len = 700};
    items[count - 1].len = 5; /* a shorter one ends the last run */
    open_world(w, 4, SG_UDP_GRO);
    send_items(w, items, count);
    assert_int_equal(expect_items(w, 0, items, count), 3);
    expect_counted(w, items, count);
    close_world(w);
}

static void test_udp_runs_of_several_targets_do_not_break_each_other(void **state)
{
    struct world *w = *state;
    struct item items[60];
    for (unsigned i = 0; i < 60; i++)
        items[i] = (struct item){.target = i % 3, .len = 300};
    open_world(w, 4, SG_UDP_GRO);
    send_items(w, items, 60);
    for (unsigned target = 0; target < 3; target++)
        assert_int_equal(expect_items(w, target, items, 60), 1);
    expect_counted(w, items, 60);
    close_world(w);
}

static void test_udp_more_than_may_wait(void **state)
{
    struct world *w = *state;
    struct item items[2 * SG_UDP_WAITING + 10];
    unsigned count = sizeof items / sizeof *items;
    for (unsigned i = 0; i < count; i++)
        items[i] = (struct item){.target = i % 3, .len = 20 + i % 2};
    open_world(w, 4, SG_UDP_GRO);
    check_items(w, items, count);
    close_world(w);
}

/* An answer leaves from the address that was asked, also on a socket for any address. */
static void test_udp_source_address(void **state)
{
    struct world *w = *state;
    struct sg_endpoint any = {.ip = {.family = 4}};
    struct sg_ip source = {.family = 4, .bytes = {127, 0, 0, 9}};
    uint8_t bytes[64] = {0};
    open_world(w, 4, SG_UDP_GRO);
    int fd = sg_udp_open(&any, 0);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < 4; i++) {
        const struct sg_udp_to to = {.fd = fd, .peer = w->at[0], .local = i < 2 ? source : (struct sg_ip){0}};
        sg_udp_tx_to(&w->tx, &to);
        sg_udp_tx_add(&w->tx, bytes, sizeof bytes, sizeof bytes);
    }
    sg_udp_tx_flush(&w->tx);
    assert_true(sg_udp_recv(&w->rx, w->to[0]) > 0);
    assert_int_equal(sg_udp_next(&w->rx), 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(w->rx.packets[i].from->peer.ip.bytes[3], i < 2 ? 9 : 1);
    close(fd);
    close_world(w);
}

/* Which of several sockets a datagram came from, by its port; the first one's number is 0. */
static unsigned sender_of(const struct sg_udp_packet *p, const uint16_t *ports, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (p->from->peer.port == ports[i])
            return i;
    fail_msg("from port %u", p->from->peer.port);
    return count;
}

/* Sockets in one batch do not mix, also those whose numbers meet in a bucket: each one's datagrams arrive in order. */
static void test_udp_several_sockets(void **state)
{
    enum { SOCKETS = 5, EACH = 20 };
    struct world *w = *state;
    int fds[SOCKETS];
    uint16_t ports[SOCKETS];
    unsigned next[SOCKETS] = {0}, got = 0;
    open_world(w, 4, SG_UDP_GRO);
    for (unsigned i = 0; i < SOCKETS; i++) {
        int fd = open_loopback(4, 0);
        fds[i] = i % 2 ? fd : dup2(fd, 200 + (int)i * SG_UDP_BUCKETS);
        ports[i] = sg_socket_local(fds[i]).port;
        if (fds[i] != fd)
            close(fd);
    }
    for (unsigned i = 0; i < SOCKETS * EACH; i++) {
        uint8_t *room = sg_udp_tx_room(&w->tx, 2);
        room[0] = (uint8_t)(i / SOCKETS);
        add_from(w, fds[i % SOCKETS], &w->at[0], room, 1 + i / SOCKETS % 2);
    }
    sg_udp_tx_flush(&w->tx);
    while (sg_udp_recv(&w->rx, w->to[0]) > 0)
        for (unsigned count; (count = sg_udp_next(&w->rx)) > 0; got += count)
            for (unsigned i = 0; i < count; i++)
                assert_int_equal(w->rx.packets[i].bytes[0], next[sender_of(&w->rx.packets[i], ports, SOCKETS)]++);
    assert_int_equal(got, SOCKETS * EACH);
    assert_int_equal(w->ledger.forwarded, SOCKETS * EACH);
    assert_int_equal(w->ledger.queued, 0);
    for (unsigned i = 0; i < SOCKETS; i++)
        close(fds[i]);
    close_world(w);
}

/* Datagrams for a counted and an uncounted owner go the same way, in order, and count for whom they belong to. */
static void test_udp_ledgers_are_kept_apart(void **state)
{
    struct world *w = *state;
    static const struct item items[6] = {{0, 40}, {0, 40}, {0, 40}, {0, 40}, {0, 40}, {0, 40}};
    open_world(w, 4, SG_UDP_GRO);
    for (unsigned i = 0; i < 6; i++) {
        struct sg_udp_to to = {.fd = w->from, .peer = w->at[0], .ledger = i % 3 ? &w->ledger : NULL};
        uint8_t *room = sg_udp_tx_room(&w->tx, 40);
        for (size_t j = 0; j < 40; j++)
            room[j] = byte_of(i, j);
        sg_udp_tx_to(&w->tx, &to);
        sg_udp_tx_add(&w->tx, room, 40, 10);
    }
    assert_int_equal(w->ledger.queued, 4);
    sg_udp_tx_flush(&w->tx);
    (void)expect_items(w, 0, items, 6);
    assert_int_equal(w->ledger.forwarded, 4);
    assert_int_equal(w->ledger.forwarded_bytes, 40);
    assert_int_equal(w->ledger.queued, 0);
    close_world(w);
}

/* Two kinds by turns to one address: each leaves as a run, in order, and the socket is left as it was. */
static void test_udp_what_may_fragment_goes_apart(void **state)
{
    struct world *w = *state;
    for (unsigned round = 0; round < 2; round++) {
        const bool v6 = round == 1;
        unsigned messages = 0, next[2] = {0};
        int mode = 0;
        socklen_t len = sizeof mode;
        open_world(w, v6 ? 6 : 4, SG_UDP_GRO | SG_UDP_DONTFRAG);
        for (unsigned i = 0; i < 40; i++) {
            const struct sg_udp_to to = {
                .fd = w->from, .may_fragment = i % 2 == 1, .peer = w->at[0], .ledger = &w->ledger};
            uint8_t *room = sg_udp_tx_room(&w->tx, 2);
            room[0] = (uint8_t)(i % 2);
            room[1] = (uint8_t)(i / 2);
            sg_udp_tx_to(&w->tx, &to);
            sg_udp_tx_add(&w->tx, room, 2, 2);
        }
        sg_udp_tx_flush(&w->tx);
        for (int came; (came = sg_udp_recv(&w->rx, w->to[0])) > 0; messages += (unsigned)came)
            for (unsigned count; (count = sg_udp_next(&w->rx)) > 0;)
                for (unsigned i = 0; i < count; i++)
                    assert_int_equal(w->rx.packets[i].bytes[1], next[w->rx.packets[i].bytes[0]]++);
        assert_int_equal(messages, 2);
        assert_true(next[0] == 20 && next[1] == 20);
        assert_int_equal(w->ledger.forwarded, 40);
        assert_int_equal(
            getsockopt(w->from, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &mode, &len),
            0);
        assert_int_equal(mode, v6 ? IPV6_PMTUDISC_PROBE : IP_PMTUDISC_PROBE);
        close_world(w);
    }
}

static void test_udp_nothing_waits(void **state)
{
    struct world *w = *state;
    open_world(w, 4, SG_UDP_GRO);
    assert_int_equal(sg_udp_recv(&w->rx, w->to[0]), 0);
    assert_int_equal(sg_udp_next(&w->rx), 0);
    sg_udp_tx_flush(&w->tx);
    close_world(w);
    assert_int_equal(sg_udp_recv(&w->rx, -1), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(sg_udp_next(&w->rx), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_udp_any_mixture_arrives_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_runs_travel_as_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_runs_of_several_targets_do_not_break_each_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_more_than_may_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_source_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_several_sockets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_ledgers_are_kept_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_what_may_fragment_goes_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_nothing_waits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
