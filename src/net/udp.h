/*
 * Batched UDP: one receive call brings up to a batch of datagrams, one send call takes a run of them for one socket.
 * Buffers have room before and after each datagram, so that headers, records and tags are made in place.
 */
#ifndef SG_NET_UDP_H
#define SG_NET_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/reason.h"

enum {
    SG_UDP_BATCH = 32,
    SG_UDP_HEADROOM = 320, /* record header 25, association 4, SOCKS address with the longest name 259 */
    SG_UDP_TAILROOM = 64,  /* tag 16 */
    SG_UDP_PAYLOAD_MAX = 65507,
    SG_UDP_CONTROL_BYTES = 128,
};

struct sg_udp_packet {
    uint8_t *bytes; /* SG_UDP_HEADROOM before, SG_UDP_TAILROOM after what was received, writable */
    size_t len;
    struct sg_endpoint peer;
    struct sg_ip local; /* where it arrived, family 0 unless the socket tells (SG_UDP_PKTINFO) */
};

/* Receives for every socket of one worker; a batch is worked off before the next is received. */
struct sg_udp_rx {
    struct sg_udp_packet packets[SG_UDP_BATCH];
    uint32_t overflow; /* of the last batch: the socket's count of datagrams dropped in the kernel, if has_overflow */
    bool has_overflow;
    struct mmsghdr msgs[SG_UDP_BATCH];
    struct iovec iov[SG_UDP_BATCH];
    struct sockaddr_storage names[SG_UDP_BATCH];
    _Alignas(8) uint8_t control[SG_UDP_BATCH][SG_UDP_CONTROL_BYTES];
    uint8_t *memory;
};

SG_MUST_CHECK enum sg_err sg_udp_rx_init(struct sg_udp_rx *rx);
void sg_udp_rx_dispose(struct sg_udp_rx *rx);

/*
 * Receives up to a batch; returns how many, 0 when nothing waits, -1 with errno on a socket error (which is then
 * cleared).
 */
int sg_udp_recv(struct sg_udp_rx *rx, int fd);

/* Collects datagrams for one socket after another and sends each run with one call. */
struct sg_udp_tx {
    int fd;
    unsigned count;
    struct mmsghdr msgs[SG_UDP_BATCH];
    struct iovec iov[SG_UDP_BATCH];
    struct sockaddr_storage names[SG_UDP_BATCH];
    _Alignas(8) uint8_t control[SG_UDP_BATCH][SG_UDP_CONTROL_BYTES];
    struct sg_ledger *ledgers[SG_UDP_BATCH];
    size_t data_len[SG_UDP_BATCH];
};

/*
 * Adds one datagram; what was collected for another socket is sent first. to NULL: the socket is connected. from NULL
 * or family 0: the kernel chooses the source address. bytes must stay valid until sg_udp_tx_flush. ledger (may be
 * NULL) counts it as forwarded with data_len bytes, or as dropped, once the kernel has spoken.
 */
void sg_udp_tx_add(struct sg_udp_tx *tx, int fd, const struct sg_endpoint *to, const struct sg_ip *from, uint8_t *bytes,
                   size_t len, struct sg_ledger *ledger, size_t data_len);
void sg_udp_tx_flush(struct sg_udp_tx *tx);

enum sg_udp_flags {
    SG_UDP_PKTINFO = 1,   /* tell the local address of each datagram */
    SG_UDP_RECVERR = 2,   /* queue ICMP errors (sg_udp_read_error) */
    SG_UDP_DONTFRAG = 4,  /* DF on each datagram, whatever the kernel learned about the path */
    SG_UDP_REUSEPORT = 8, /* several workers on one port */
    SG_UDP_BIG = 16,      /* large kernel buffers: this socket carries many flows */
};

/* A non-blocking socket of the address' family (IPv6 only IPv6), bound to it. -1 with errno on failure. */
int sg_udp_open(const struct sg_endpoint *bind_to, unsigned flags);

/* The longest UDP payload of the route to an endpoint, by the kernel's figure; 0 if it does not say. */
size_t sg_udp_route_payload(const struct sg_endpoint *to);

/*
 * An ICMP error from the error queue: the target it concerns, and REFUSED, UNREACHABLE or TOO_BIG. False when none is
 * left.
 */
struct sg_udp_error {
    struct sg_endpoint target;
    enum sg_reason reason;
};
bool sg_udp_read_error(int fd, struct sg_udp_error *out);

#endif
