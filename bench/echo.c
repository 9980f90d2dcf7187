/* The ends that load runs against: an echo server that is no bottleneck, and a relay as simple as one can be. */
#include "modes.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "wire.h"

enum { PORTS = 65536, EVENTS = 64 };

/* What was received goes back as it came: a packet of segments as a packet of segments. */
static void send_back(struct bench_rx *rx, unsigned count, int fd)
{
    for (unsigned i = 0; i < count; i++) {
        size_t segment = bench_rx_segment(rx, i);
        rx->iov[i].iov_len = rx->msgs[i].msg_len;
        bench_set_segment(&rx->msgs[i].msg_hdr, rx->control[i], segment < rx->msgs[i].msg_len ? segment : 0);
    }
    for (unsigned sent = 0; sent < count;) {
        int more = sendmmsg(fd, rx->msgs + sent, count - sent, 0);
        if (more >= 0) {
            sent += (unsigned)more;
            continue;
        }
        struct pollfd writable = {fd, POLLOUT, 0};
        if (errno == EAGAIN || errno == ENOBUFS)
            poll(&writable, 1, 10);
        else
            sent++; /* this one cannot be answered */
    }
}

int bench_run_echo(const struct bench_options *options)
{
    int fd = bench_udp_open(&options->local, NULL, options->gso);
    struct bench_rx *rx = bench_rx_new(options->gso);
    struct pollfd readable = {fd, POLLIN, 0};
    puts("ready");
    fflush(stdout);
    for (;;) {
        unsigned count = bench_rx_read(rx, fd);
        if (count == 0)
            poll(&readable, 1, -1);
        else
            send_back(rx, count, fd);
    }
}

/* --- the relay --- */

struct relay {
    const struct bench_options *options;
    int listener, epoll;
    int upstream[PORTS]; /* by the port of the source; 0: none yet */
};

static void watch(const struct relay *relay, int fd, uint32_t port)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = port};
    if (epoll_ctl(relay->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        bench_die("epoll");
}

static void relay_to_target(struct relay *relay)
{
    uint8_t bytes[BENCH_PLAIN_ROOM];
    struct sockaddr_in source;
    socklen_t source_len = sizeof source;
    ssize_t len = recvfrom(relay->listener, bytes, sizeof bytes, 0, (struct sockaddr *)&source, &source_len);
    if (len < 0)
        return;
    uint16_t port = ntohs(source.sin_port);
    if (relay->upstream[port] == 0) {
        relay->upstream[port] = bench_udp_open(NULL, &relay->options->target, false);
        watch(relay, relay->upstream[port], port);
    }
    if (send(relay->upstream[port], bytes, (size_t)len, 0) < 0 && errno != EAGAIN && errno != ECONNREFUSED)
        bench_die("send");
}

/* Sources are at 127.0.0.1, as load's are, so the port alone tells who asked. */
static void relay_to_source(struct relay *relay, uint16_t port)
{
    uint8_t bytes[BENCH_PLAIN_ROOM];
    const struct sockaddr_in source = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ssize_t len = recvfrom(relay->upstream[port], bytes, sizeof bytes, 0, NULL, NULL);
    if (len >= 0 &&
        sendto(relay->listener, bytes, (size_t)len, 0, (const struct sockaddr *)&source, sizeof source) < 0 &&
        errno != EAGAIN && errno != ECONNREFUSED)
        bench_die("sendto");
}

int bench_run_relay(const struct bench_options *options)
{
    static struct relay only; /* until the process ends */
    struct relay *relay = &only;
    relay->options = options;
    relay->listener = bench_udp_open(&options->local, NULL, false);
    relay->epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(relay, relay->listener, 0);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(relay->epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u32 == 0)
                relay_to_target(relay);
            else
                relay_to_source(relay, (uint16_t)events[i].data.u32);
        }
    }
}
