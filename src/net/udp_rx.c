/* Receiving: recvmmsg, and the cutting of what the kernel put together. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/mman.h>

#include "net/sockaddr.h"
#include "net/udp.h"

/* One message. Not a power of two, so that the beginnings do not meet in the same sets of the cache. */
enum { MESSAGE_BYTES = 65536, STRIDE = MESSAGE_BYTES + 4096 + 320 };

enum sg_err sg_udp_rx_init(struct sg_udp_rx *rx)
{
    memset(rx, 0, sizeof *rx);
    /* mapped, not allocated: only pages that a datagram reached cost memory */
    void *memory =
        mmap(NULL, (size_t)STRIDE * SG_UDP_MESSAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return SG_ERR_NOMEM;
    rx->memory = memory;
    for (unsigned i = 0; i < SG_UDP_MESSAGES; i++) {
        rx->iov[i] = (struct iovec){.iov_base = rx->memory + (size_t)i * STRIDE, .iov_len = MESSAGE_BYTES};
        rx->msgs[i].msg_hdr = (struct msghdr){.msg_name = &rx->names[i],
                                              .msg_namelen = sizeof rx->names[i],
                                              .msg_iov = &rx->iov[i],
                                              .msg_iovlen = 1,
                                              .msg_control = rx->control[i],
                                              .msg_controllen = sizeof rx->control[i]};
    }
    return SG_OK;
}

void sg_udp_rx_dispose(struct sg_udp_rx *rx)
{
    if (rx->memory)
        munmap(rx->memory, (size_t)STRIDE * SG_UDP_MESSAGES);
    rx->memory = NULL;
}

int sg_udp_recv(struct sg_udp_rx *rx, int fd)
{
    for (unsigned i = 0; i < rx->received; i++) { /* the kernel wrote over these last time */
        rx->msgs[i].msg_hdr.msg_namelen = sizeof rx->names[i];
        rx->msgs[i].msg_hdr.msg_controllen = sizeof rx->control[i];
    }
    int got = recvmmsg(fd, rx->msgs, SG_UDP_MESSAGES, MSG_DONTWAIT, NULL);
    rx->received = got > 0 ? (unsigned)got : 0;
    rx->at = 0;
    rx->segment = 0;
    rx->has_overflow = false;
    if (got > 0)
        return got;
    return got == 0 || errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static void read_control(struct sg_udp_rx *rx, struct msghdr *msg, struct sg_udp_from *from)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            from->local.family = 4;
            memcpy(from->local.bytes, &info.ipi_addr, 4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            from->local.family = 6;
            memcpy(from->local.bytes, &info.ipi6_addr, 16);
        } else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int segment = 0;
            memcpy(&segment, CMSG_DATA(c), sizeof segment);
            rx->segment = segment > 0 ? (size_t)segment : rx->segment;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            from->dscp = *CMSG_DATA(c) >> 2;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            int traffic_class = 0;
            memcpy(&traffic_class, CMSG_DATA(c), sizeof traffic_class);
            from->dscp = (uint8_t)(traffic_class & 0xff) >> 2;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            memcpy(&rx->overflow, CMSG_DATA(c), sizeof rx->overflow);
            rx->has_overflow = true;
        }
    }
}

static void start_message(struct sg_udp_rx *rx)
{
    struct sg_udp_from *from = &rx->from[rx->at];
    rx->offset = 0;
    rx->segment = MESSAGE_BYTES;
    *from = (struct sg_udp_from){.peer = sg_sockaddr_endpoint(&rx->names[rx->at])};
    read_control(rx, &rx->msgs[rx->at].msg_hdr, from);
}

/* Datagrams of the present message, at most so many. */
static unsigned cut_message(struct sg_udp_rx *rx, struct sg_udp_packet *out, unsigned most)
{
    uint8_t *bytes = rx->memory + (size_t)rx->at * STRIDE + rx->offset;
    size_t left = rx->msgs[rx->at].msg_len - rx->offset;
    unsigned count = 0;
    while (count < most) {
        size_t len = left < rx->segment ? left : rx->segment;
        out[count++] = (struct sg_udp_packet){.bytes = bytes, .len = len, .from = &rx->from[rx->at]};
        bytes += len;
        left -= len;
        if (left == 0) {
            rx->at++;
            rx->segment = 0;
            return count;
        }
    }
    rx->offset = rx->msgs[rx->at].msg_len - left;
    return count;
}

uint32_t sg_udp_lost(const struct sg_udp_rx *rx, uint32_t *seen)
{
    if (!rx->has_overflow)
        return 0;
    uint32_t lost = rx->overflow - *seen;
    *seen = rx->overflow;
    return lost;
}

unsigned sg_udp_next(struct sg_udp_rx *rx)
{
    unsigned count = 0;
    while (count < SG_UDP_BATCH && rx->at < rx->received) {
        if (rx->segment == 0)
            start_message(rx);
        count += cut_message(rx, rx->packets + count, SG_UDP_BATCH - count);
    }
    return count;
}
