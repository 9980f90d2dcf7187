/* Batched UDP over loopback: whatever is added arrives once, whole, in order, from the right source; and is counted. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include "net/sockaddr.h"
#include "net/udp.h"

struct world {
    struct sg_udp_rx rx;
    struct sg_udp_tx tx;
    struct sg_ledger ledger;
    int from, to[3];
    struct sg_endpoint at[3];
};

static int open_loopback(uint8_t family, unsigned flags)
{
    struct sg_endpoint any = {.ip = {.family = family}};
    if (family == 4)
        memcpy(any.ip.bytes, (uint8_t[]){127, 0, 0, 1}, 4);
    else
        any.ip.bytes[15] = 1;
    int fd = sg_udp_open(&any, flags | SG_UDP_BIG);
    assert_true(fd >= 0);
    return fd;
}

static void open_world(struct world *w, uint8_t family, unsigned flags)
{
    memset(&w->ledger, 0, sizeof w->ledger);
    w->from = open_loopback(family, flags);
    for (unsigned i = 0; i < 3; i++) {
        w->to[i] = open_loopback(family, flags | SG_UDP_PKTINFO);
        w->at[i] = sg_socket_local(w->to[i]);
    }
}

static void close_world(struct world *w)
{
    close(w->from);
    for (unsigned i = 0; i < 3; i++)
        close(w->to[i]);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    assert_int_equal(sg_udp_rx_init(&w->rx), SG_OK);
    assert_int_equal(sg_udp_tx_init(&w->tx), SG_OK);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    sg_udp_rx_dispose(&w->rx);
    sg_udp_tx_dispose(&w->tx);
    free(w);
    return 0;
}

/* Byte j of datagram number i. */
static uint8_t byte_of(unsigned i, size_t j)
{
    return (uint8_t)(i * 31 + j * 7 + (j >> 8));
}

static void add_from(struct world *w, int fd, const struct sg_endpoint *peer, uint8_t *bytes, size_t len)
{
    const struct sg_udp_to to = {.fd = fd, .peer = *peer, .ledger = &w->ledger};
    sg_udp_tx_to(&w->tx, &to);
    sg_udp_tx_add(&w->tx, bytes, len, len);
}

static void add(struct world *w, unsigned target, unsigned number, size_t len)
{
    uint8_t *room = sg_udp_tx_room(&w->tx, len + 1);
    for (size_t j = 0; j < len; j++)
        room[j] = byte_of(number, j);
    add_from(w, w->from, &w->at[target], room, len);
}

struct item {
    unsigned target;
    size_t len;
};

/* Adds all items, numbered from 0, and flushes. */
static void send_items(struct world *w, const struct item *items, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        add(w, items[i].target, i, items[i].len);
    sg_udp_tx_flush(&w->tx);
}

static void expect_packet(const struct world *w, const struct sg_udp_packet *p, unsigned target, unsigned number,
                          size_t len)
{
    assert_int_equal(p->len, len);
    assert_int_equal(p->from->peer.port, sg_socket_local(w->from).port);
    assert_true(sg_ip_equal(&p->from->local, &w->at[target].ip));
    for (size_t j = 0; j < p->len; j++)
        if (p->bytes[j] != byte_of(number, j))
            fail_msg("datagram %u differs at %zu", number, j);
}

/* The items of one target must arrive, in order, and nothing else; returns how many receive messages they took. */
static unsigned expect_items(struct world *w, unsigned target, const struct item *items, unsigned count)
{
    unsigned messages = 0;
    struct pollfd poller = {.fd = w->to[target], .events = POLLIN};
    unsigned next = 0;
    while (poll(&poller, 1, 0) == 1) {
        unsigned got = 0;
        int received = sg_udp_recv(&w->rx, w->to[target]);
        assert_true(received > 0);
        messages += (unsigned)received;
        while ((got = sg_udp_next(&w->rx)) > 0) {
            assert_true(got <= SG_UDP_BATCH);
            for (unsigned i = 0; i < got; i++) {
                while (next < count && items[next].target != target)
                    next++;
                assert_true(next < count);
                expect_packet(w, &w->rx.packets[i], target, next, items[next].len);
                next++;
            }
        }
    }
    while (next < count && items[next].target != target)
        next++;
    assert_int_equal(next, count);
    return messages;
}

static void expect_counted(const struct world *w, const struct item *items, unsigned count)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += items[i].len;
    assert_int_equal(w->ledger.queued, 0);
    assert_int_equal(w->ledger.forwarded, count);
    assert_int_equal(w->ledger.forwarded_bytes, bytes);
}

static void check_items(struct world *w, const struct item *items, unsigned count)
{
    send_items(w, items, count);
    for (unsigned target = 0; target < 3; target++)
        (void)expect_items(w, target, items, count);
    expect_counted(w, items, count);
}

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
        cmocka_unit_test_setup_teardown(test_udp_refused_segments_go_one_by_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_a_kernel_without_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_a_group_too_long_is_split_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_each_of_a_group_too_long_is_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_failures_are_counted_each, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_errors_eat_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_errors_that_keep_coming_eat_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_more_than_may_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_source_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_several_sockets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_ledgers_are_kept_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_what_may_fragment_goes_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp_nothing_waits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
