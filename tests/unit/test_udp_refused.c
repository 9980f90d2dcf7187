/* What the kernel refuses, of batched UDP: groups go one by one, errors of others eat nothing, the rest is counted. */
#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include "udp_world.h"

/* The kernel makes no segments for a socket that sends without checksums. */
static void test_udp_refused_segments_go_one_by_one(void **state)
{
    struct world *w = *state;
    struct item items[50];
    int on = 1;
    for (unsigned i = 0; i < 50; i++)
        items[i] = (struct item){.target = i % 2, .len = 200 + (i % 7 == 0)};
    open_world(w, 4, SG_UDP_GRO);
    assert_int_equal(setsockopt(w->from, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on), 0);
    check_items(w, items, 50);
    close_world(w);
}

/* From now on this thread finds a kernel that has not heard of UDP_SEGMENT as an option. */
static bool forget_segments(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])), /* its low half: little-endian */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, UDP_SEGMENT, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void *init_without_segments(void *ctx)
{
    struct sg_udp_tx *tx = ctx;
    return forget_segments() && sg_udp_tx_init(tx) == SG_OK ? tx : NULL;
}

/* Such a kernel would take the control message for nothing, and the run for one long datagram. */
static void test_udp_a_kernel_without_segments(void **state)
{
    struct world *w = *state;
    struct item items[50];
    pthread_t thread;
    void *made = NULL;
    for (unsigned i = 0; i < 50; i++)
        items[i] = (struct item){.len = 200};
    open_world(w, 4, SG_UDP_GRO);
    sg_udp_tx_dispose(&w->tx);
    assert_int_equal(pthread_create(&thread, NULL, init_without_segments, &w->tx), 0);
    pthread_join(thread, &made);
    assert_ptr_equal(made, &w->tx);
    send_items(w, items, 50);
    assert_int_equal(expect_items(w, 0, items, 50), 50);
    expect_counted(w, items, 50);
    close_world(w);
}

/* What the kernel would refuse, in this thread: so many groups of several, with an error. And the calls it took. */
static _Thread_local struct {
    unsigned groups;
    int error;
    unsigned calls;
} refusal;

static bool is_group(struct msghdr *msg)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(msg); at; at = CMSG_NXTHDR(msg, at))
        if (at->cmsg_level == SOL_UDP && at->cmsg_type == UDP_SEGMENT)
            return true;
    return false;
}

/* Stands before the C library's. */
int sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    unsigned good = 0;
    refusal.calls++;
    while (good < count && !(refusal.groups > 0 && is_group(&msgs[good].msg_hdr)))
        good++;
    if (good > 0)
        return (int)syscall(SYS_sendmmsg, fd, msgs, good, flags);
    refusal.groups--;
    errno = refusal.error;
    return -1;
}

/* Too long as a whole for where it goes; or only another datagram was, whose ICMP error waited on the socket. */
static void test_udp_a_group_too_long_is_split_at_once(void **state)
{
    struct world *w = *state;
    struct item items[50];
    for (unsigned i = 0; i < 50; i++)
        items[i] = (struct item){.target = 0, .len = 200};
    for (unsigned refused = 1; refused <= 100; refused += 99) {
        open_world(w, 4, SG_UDP_GRO);
        refusal.groups = refused;
        refusal.error = EMSGSIZE;
        refusal.calls = 0;
        check_items(w, items, 50);
        assert_int_equal(refusal.calls, 1 + 50);
        refusal.groups = 0;
        close_world(w);
    }
}

/* A group whose datagrams are all longer than what the socket's path takes, and one behind it that is not. */
static void test_udp_each_of_a_group_too_long_is_counted(void **state)
{
    struct world *w = *state;
    static uint8_t bytes[10][1400];
    const struct item good = {.target = 0, .len = 100};
    int mtu = 1280;
    open_world(w, 6, SG_UDP_DONTFRAG);
    assert_int_equal(setsockopt(w->from, IPPROTO_IPV6, IPV6_MTU, &mtu, sizeof mtu), 0);
    for (unsigned i = 0; i < 10; i++)
        add_from(w, w->from, &w->at[1], bytes[i], sizeof bytes[i]);
    add(w, 0, 0, good.len);
    refusal.calls = 0;
    sg_udp_tx_flush(&w->tx);
    assert_int_equal(refusal.calls,
                     1 + 10 * 8 + 1); /* each by itself may have met a waiting error, and is tried again */
    (void)expect_items(w, 0, &good, 1);
    (void)expect_items(w, 1, NULL, 0);
    expect_counted(w, &good, 1);
    assert_int_equal(w->ledger.drops[SG_REASON_TOO_BIG], 10);
    close_world(w);
}

static void test_udp_failures_are_counted_each(void **state)
{
    struct world *w = *state;
    static uint8_t bytes[70000];
    open_world(w, 4, 0);
    struct sg_endpoint broadcast = {.ip = {.family = 4, .bytes = {255, 255, 255, 255}}, .port = 9};
    for (unsigned i = 0; i < 10; i++) {
        add_from(w, w->from, &broadcast, bytes, 100);
        add_from(w, w->from, &w->at[0], bytes, 65508);
        assert_int_equal(w->ledger.queued, 2 * i + 2);
    }
    struct item good = {.target = 1, .len = 10};
    add(w, 1, 0, 10);
    sg_udp_tx_flush(&w->tx);
    (void)expect_items(w, 1, &good, 1);
    assert_int_equal(w->ledger.queued, 0);
    assert_int_equal(w->ledger.forwarded, 1);
    assert_int_equal(w->ledger.drops[SG_REASON_TOO_BIG], 10);
    assert_int_equal(w->ledger.drops[SG_REASON_SEND_FAILED], 10);
    close_world(w);
}

static struct sg_endpoint closed_port(uint8_t family)
{
    int fd = open_loopback(family, 0);
    struct sg_endpoint at = sg_socket_local(fd);
    close(fd);
    return at;
}

/* Datagrams of two lengths to an open and to a closed port in turn, with an error of before that waits. */
static void test_udp_errors_eat_nothing(void **state)
{
    struct world *w = *state;
    static uint8_t bytes[300];
    for (uint8_t family = 4; family <= 6; family = (uint8_t)(family + 2)) {
        open_world(w, family, SG_UDP_RECVERR);
        struct sg_endpoint closed = closed_port(family);
        struct sg_udp_error error;
        unsigned errors = 0, got = 0;
        for (unsigned i = 0; i < 200; i++) {
            add_from(w, w->from, i % 2 ? &w->at[0] : &closed, bytes, i % 5 ? 200 : 100);
            if (i % 20 == 19)
                sg_udp_tx_flush(&w->tx);
        }
        assert_int_equal(w->ledger.forwarded, 200);
        while (sg_udp_recv(&w->rx, w->to[0]) > 0)
            for (unsigned count; (count = sg_udp_next(&w->rx)) > 0;)
                got += count;
        assert_int_equal(got, 100);
        for (; sg_udp_read_error(w->from, &error); errors++) {
            assert_true(sg_endpoint_equal(&error.target, &closed));
            assert_int_equal(error.reason, SG_REASON_REFUSED);
        }
        assert_int_not_equal(errors, 0);
        close_world(w);
    }
}

/* Another thread keeps errors coming, between a try and the next, too. */
struct pest {
    int fd;
    struct sg_endpoint closed;
    _Atomic bool ended;
};

static void *send_in_vain(void *ctx)
{
    struct pest *pest = ctx;
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(&pest->closed, &ss);
    while (!pest->ended)
        (void)sendto(pest->fd, "", 1, 0, (struct sockaddr *)&ss, len);
    return NULL;
}

static void test_udp_errors_that_keep_coming_eat_nothing(void **state)
{
    struct world *w = *state;
    pthread_t thread;
    struct sg_udp_error error;
    open_world(w, 4, SG_UDP_RECVERR);
    struct pest pest = {.fd = w->from, .closed = closed_port(4)};
    struct item item = {.target = 0, .len = 50};
    assert_int_equal(pthread_create(&thread, NULL, send_in_vain, &pest), 0);
    for (unsigned i = 0; i < 100000 && w->ledger.forwarded == i; i++) {
        add(w, 0, 0, item.len);
        sg_udp_tx_flush(&w->tx);
        while (i % 50 == 0 && sg_udp_read_error(w->from, &error))
            continue;
        if (w->ledger.forwarded == i + 1)
            (void)expect_items(w, 0, &item, 1);
    }
    pest.ended = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(w->ledger.drops[SG_REASON_SEND_FAILED], 0);
    assert_int_equal(w->ledger.forwarded, 100000);
    close_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_udp_refused_segments_go_one_by_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_a_kernel_without_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_a_group_too_long_is_split_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_each_of_a_group_too_long_is_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_failures_are_counted_each, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_errors_eat_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_errors_that_keep_coming_eat_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
