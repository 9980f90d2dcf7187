/* Sockets on loopback between which batches of numbered datagrams go, for the tests of net/udp.h. */
#ifndef UDP_WORLD_H
#define UDP_WORLD_H

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/sockaddr.h"
#include "net/udp.h"

struct world {
    struct sg_udp_rx rx;
    struct sg_udp_tx tx;
    struct sg_ledger ledger;
    int from, to[3];
    struct sg_endpoint at[3];
};

static inline int open_loopback(uint8_t family, unsigned flags)
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

static inline void open_world(struct world *w, uint8_t family, unsigned flags)
{
    memset(&w->ledger, 0, sizeof w->ledger);
    w->from = open_loopback(family, flags);
    for (unsigned i = 0; i < 3; i++) {
        w->to[i] = open_loopback(family, flags | SG_UDP_PKTINFO);
        w->at[i] = sg_socket_local(w->to[i]);
    }
}

static inline void close_world(struct world *w)
{
    close(w->from);
    for (unsigned i = 0; i < 3; i++)
        close(w->to[i]);
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    assert_int_equal(sg_udp_rx_init(&w->rx), SG_OK);
    assert_int_equal(sg_udp_tx_init(&w->tx), SG_OK);
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    sg_udp_rx_dispose(&w->rx);
    sg_udp_tx_dispose(&w->tx);
    free(w);
    return 0;
}

/* Byte j of datagram number i. */
static inline uint8_t byte_of(unsigned i, size_t j)
{
    return (uint8_t)(i * 31 + j * 7 + (j >> 8));
}

static inline void add_from(struct world *w, int fd, const struct sg_endpoint *peer, uint8_t *bytes, size_t len)
{
    const struct sg_udp_to to = {.fd = fd, .peer = *peer, .ledger = &w->ledger};
    sg_udp_tx_to(&w->tx, &to);
    sg_udp_tx_add(&w->tx, bytes, len, len);
}

static inline void add(struct world *w, unsigned target, unsigned number, size_t len)
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
static inline void send_items(struct world *w, const struct item *items, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        add(w, items[i].target, i, items[i].len);
    sg_udp_tx_flush(&w->tx);
}

static inline void expect_packet(const struct world *w, const struct sg_udp_packet *p, unsigned target, unsigned number,
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
static inline unsigned expect_items(struct world *w, unsigned target, const struct item *items, unsigned count)
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

static inline void expect_counted(const struct world *w, const struct item *items, unsigned count)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += items[i].len;
    assert_int_equal(w->ledger.queued, 0);
    assert_int_equal(w->ledger.forwarded, count);
    assert_int_equal(w->ledger.forwarded_bytes, bytes);
}

static inline void check_items(struct world *w, const struct item *items, unsigned count)
{
    send_items(w, items, count);
    for (unsigned target = 0; target < 3; target++)
        (void)expect_items(w, target, items, count);
    expect_counted(w, items, count);
}

#endif
