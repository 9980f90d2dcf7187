/* Sockets, batches in and batches out. */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_die(const char *what)
{
    perror(what);
    exit(1);
}

struct sockaddr_in bench_address(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[INET_ADDRSTRLEN] = "";
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (colon && len < sizeof host) {
        memcpy(host, text, len);
        address.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    }
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "not an ADDRESS:PORT: %s\n", text);
        exit(2);
    }
    return address;
}

int bench_udp_open(const struct sockaddr_in *local, const struct sockaddr_in *peer, bool gso)
{
    const int on = 1, size = BENCH_SOCKET_BYTES;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        bench_die("socket");
    /* Beyond the system's ceiling as root; up to it otherwise. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (gso && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on) != 0)
        bench_die("UDP_GRO");
    if (local && bind(fd, (const struct sockaddr *)local, sizeof *local) != 0)
        bench_die("bind");
    if (peer && connect(fd, (const struct sockaddr *)peer, sizeof *peer) != 0)
        bench_die("connect");
    return fd;
}

struct bench_rx *bench_rx_new(bool gso)
{
    struct bench_rx *rx = calloc(1, sizeof *rx);
    if (!rx)
        bench_die("memory");
    rx->room = gso ? BENCH_SUPER_ROOM : BENCH_PLAIN_ROOM;
    rx->bytes = calloc(BENCH_BATCH, rx->room);
    if (!rx->bytes)
        bench_die("memory");
    for (unsigned i = 0; i < BENCH_BATCH; i++) {
        rx->iov[i] = (struct iovec){rx->bytes + i * rx->room, rx->room};
        rx->msgs[i].msg_hdr = (struct msghdr){.msg_name = &rx->from[i], .msg_iov = &rx->iov[i], .msg_iovlen = 1};
    }
    return rx;
}

unsigned bench_rx_read(struct bench_rx *rx, int fd)
{
    for (unsigned i = 0; i < BENCH_BATCH; i++) {
        rx->iov[i].iov_len = rx->room;
        rx->msgs[i].msg_hdr.msg_namelen = sizeof rx->from[i];
        rx->msgs[i].msg_hdr.msg_control = rx->control[i];
        rx->msgs[i].msg_hdr.msg_controllen = sizeof rx->control[i];
    }
    int count = recvmmsg(fd, rx->msgs, BENCH_BATCH, MSG_DONTWAIT, NULL);
    if (count < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
        bench_die("recvmmsg");
    return count < 0 ? 0 : (unsigned)count;
}

size_t bench_rx_segment(const struct bench_rx *rx, unsigned i)
{
    const struct msghdr *msg = &rx->msgs[i].msg_hdr;
    const struct cmsghdr *part = CMSG_FIRSTHDR(msg);
    int segment = 0;
    if (part && part->cmsg_level == SOL_UDP && part->cmsg_type == UDP_GRO)
        memcpy(&segment, CMSG_DATA(part), sizeof segment);
    return segment > 0 ? (size_t)segment : rx->msgs[i].msg_len;
}

void bench_set_segment(struct msghdr *msg, uint8_t *control, size_t segment)
{
    msg->msg_control = NULL;
    msg->msg_controllen = 0;
    if (segment == 0)
        return;
    msg->msg_control = control;
    msg->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
    struct cmsghdr *part = CMSG_FIRSTHDR(msg);
    *part = (struct cmsghdr){.cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof(uint16_t))};
    const uint16_t bytes = (uint16_t)segment;
    memcpy(CMSG_DATA(part), &bytes, sizeof bytes);
}

/* A full buffer is waited for. A refusal belongs to an earlier datagram: the loss shows by its missing echo. */
static void wait_to_send(int fd)
{
    struct pollfd writable = {fd, POLLOUT, 0};
    if (errno == EAGAIN || errno == ENOBUFS)
        poll(&writable, 1, 10);
    else if (errno != ECONNREFUSED && errno != EINTR)
        bench_die("send");
}

static void send_as_one(struct bench_burst *burst, int fd)
{
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
    struct iovec iov = {burst->bytes, burst->used};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    bench_set_segment(&msg, control, burst->count > 1 ? burst->len[0] : 0);
    while (sendmsg(fd, &msg, 0) < 0)
        wait_to_send(fd);
}

static void send_one_by_one(struct bench_burst *burst, int fd)
{
    struct mmsghdr msgs[BENCH_BATCH];
    struct iovec iov[BENCH_BATCH];
    uint8_t *at = burst->bytes;
    for (unsigned i = 0; i < burst->count; i++) {
        iov[i] = (struct iovec){at, burst->len[i]};
        msgs[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
        at += burst->len[i];
    }
    for (unsigned sent = 0; sent < burst->count;) {
        int more = sendmmsg(fd, msgs + sent, burst->count - sent, 0);
        if (more < 0)
            wait_to_send(fd);
        else
            sent += (unsigned)more;
    }
}

void bench_burst_send(struct bench_burst *burst, int fd, bool gso)
{
    if (gso && burst->count > 0)
        send_as_one(burst, fd);
    else
        send_one_by_one(burst, fd);
    burst->count = 0;
    burst->used = 0;
}
