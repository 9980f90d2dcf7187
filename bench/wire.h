/*
 * Batches of UDP datagrams for the load generator: many in one call, and with GSO many in one packet. IPv4 only, since
 * everything measured is on loopback. Functions that fail print why and end the program: it is a tool, and half a
 * measurement is none.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <netinet/in.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    BENCH_BATCH = 64,          /* messages of one call; also the kernel's limit of segments in one packet */
    BENCH_PLAIN_ROOM = 2048,   /* for one datagram */
    BENCH_SUPER_ROOM = 65536,  /* for one packet of segments */
    BENCH_SUPER_BYTES = 65000, /* payload that we put in one */
    BENCH_SOCKET_BYTES = 8 << 20,
};

/* Prints the message and errno's text; exit 1. */
_Noreturn void bench_die(const char *what);

/* "127.0.0.1:53" to an address; ends the program if it is none. */
struct sockaddr_in bench_address(const char *text);

/* A non-blocking UDP socket with large buffers: bound to local if that is not NULL, connected to peer if that is not
 * NULL. With gso it receives packets of segments. */
int bench_udp_open(const struct sockaddr_in *local, const struct sockaddr_in *peer, bool gso);

/* What one call received. Message i is at bench_rx_bytes(rx, i), msgs[i].msg_len long. */
struct bench_rx {
    struct mmsghdr msgs[BENCH_BATCH];
    struct iovec iov[BENCH_BATCH];
    struct sockaddr_in from[BENCH_BATCH];
    alignas(struct cmsghdr) uint8_t control[BENCH_BATCH][CMSG_SPACE(sizeof(int))];
    uint8_t *bytes;
    size_t room;
};

struct bench_rx *bench_rx_new(bool gso);

/* Receives what is there, without waiting; how many messages. */
unsigned bench_rx_read(struct bench_rx *rx, int fd);

/* Length of the segments that message i consists of (the last may be shorter). */
size_t bench_rx_segment(const struct bench_rx *rx, unsigned i);

static inline uint8_t *bench_rx_bytes(const struct bench_rx *rx, unsigned i)
{
    return rx->bytes + i * rx->room;
}

/* Writes the segment length into control and msg, or leaves the message without one if segment is 0. */
void bench_set_segment(struct msghdr *msg, uint8_t *control, size_t segment);

/* Datagrams to one connected socket, one after the other in bytes. */
struct bench_burst {
    uint8_t bytes[BENCH_SUPER_ROOM];
    size_t len[BENCH_BATCH];
    size_t used;
    unsigned count;
};

/* Sends the burst (waiting while the socket's buffer is full) and empties it: as one packet with gso, when all
 * lengths must be equal; otherwise as one datagram for each. */
void bench_burst_send(struct bench_burst *burst, int fd, bool gso);

#endif
