/*
 * Batched UDP by recvmmsg and sendmmsg. Segmentation offload will be added inside these two calls; nothing above them
 * needs to know.
 */
#include "net/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/errqueue.h>

#include "net/sockaddr.h"

enum { STRIDE = SG_UDP_HEADROOM + 65536 + SG_UDP_TAILROOM, BIG_BUFFER = 4 << 20 };

enum sg_err sg_udp_rx_init(struct sg_udp_rx *rx)
{
    memset(rx, 0, sizeof *rx);
    /* mapped, not allocated: only pages that a datagram reached cost memory */
    void *memory =
        mmap(NULL, (size_t)STRIDE * SG_UDP_BATCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return SG_ERR_NOMEM;
    rx->memory = memory;
    return SG_OK;
}

void sg_udp_rx_dispose(struct sg_udp_rx *rx)
{
    if (rx->memory)
        munmap(rx->memory, (size_t)STRIDE * SG_UDP_BATCH);
    rx->memory = NULL;
}

static void prepare_receive(struct sg_udp_rx *rx)
{
    for (unsigned i = 0; i < SG_UDP_BATCH; i++) {
        rx->iov[i] = (struct iovec){.iov_base = rx->memory + (size_t)i * STRIDE + SG_UDP_HEADROOM, .iov_len = 65536};
        rx->msgs[i].msg_hdr = (struct msghdr){
            .msg_name = &rx->names[i],
            .msg_namelen = sizeof rx->names[i],
            .msg_iov = &rx->iov[i],
            .msg_iovlen = 1,
            .msg_control = rx->control[i],
            .msg_controllen = sizeof rx->control[i],
        };
    }
}

static void read_control(struct sg_udp_rx *rx, struct msghdr *msg, struct sg_udp_packet *packet)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            packet->local.family = 4;
            memcpy(packet->local.bytes, &info.ipi_addr, 4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            packet->local.family = 6;
            memcpy(packet->local.bytes, &info.ipi6_addr, 16);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            memcpy(&rx->overflow, CMSG_DATA(c), sizeof rx->overflow);
            rx->has_overflow = true;
        }
    }
}

int sg_udp_recv(struct sg_udp_rx *rx, int fd)
{
    prepare_receive(rx);
    rx->has_overflow = false;
    int got = recvmmsg(fd, rx->msgs, SG_UDP_BATCH, MSG_DONTWAIT, NULL);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    for (int i = 0; i < got; i++) {
        struct sg_udp_packet *packet = &rx->packets[i];
        *packet = (struct sg_udp_packet){.bytes = rx->iov[i].iov_base, .len = rx->msgs[i].msg_len};
        packet->peer = sg_sockaddr_endpoint(&rx->names[i]);
        read_control(rx, &rx->msgs[i].msg_hdr, packet);
    }
    return got;
}

/* The control message that sets the source address of a datagram. */
static void set_source(struct msghdr *msg, uint8_t *control, const struct sg_ip *from)
{
    msg->msg_control = control;
    msg->msg_controllen = SG_UDP_CONTROL_BYTES;
    memset(control, 0, SG_UDP_CONTROL_BYTES);
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    if (from->family == 6) {
        struct in6_pktinfo info = {0};
        memcpy(&info.ipi6_addr, from->bytes, 16);
        c->cmsg_level = IPPROTO_IPV6;
        c->cmsg_type = IPV6_PKTINFO;
        c->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(c), &info, sizeof info);
        msg->msg_controllen = CMSG_SPACE(sizeof info);
    } else {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, from->bytes, 4);
        c->cmsg_level = IPPROTO_IP;
        c->cmsg_type = IP_PKTINFO;
        c->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(c), &info, sizeof info);
        msg->msg_controllen = CMSG_SPACE(sizeof info);
    }
}

void sg_udp_tx_add(struct sg_udp_tx *tx, int fd, const struct sg_endpoint *to, const struct sg_ip *from, uint8_t *bytes,
                   size_t len, struct sg_ledger *ledger, size_t data_len)
{
    if (tx->count == SG_UDP_BATCH || (tx->count > 0 && tx->fd != fd))
        sg_udp_tx_flush(tx);
    unsigned i = tx->count++;
    tx->fd = fd;
    tx->ledgers[i] = ledger;
    tx->data_len[i] = data_len;
    tx->iov[i] = (struct iovec){.iov_base = bytes, .iov_len = len};
    struct msghdr *msg = &tx->msgs[i].msg_hdr;
    *msg = (struct msghdr){.msg_iov = &tx->iov[i], .msg_iovlen = 1};
    if (to) {
        msg->msg_namelen = sg_sockaddr_from(to, &tx->names[i]);
        msg->msg_name = &tx->names[i];
    }
    if (from && from->family != 0)
        set_source(msg, tx->control[i], from);
}

static void count_sent(struct sg_udp_tx *tx, unsigned i)
{
    if (!tx->ledgers[i])
        return;
    tx->ledgers[i]->forwarded++;
    tx->ledgers[i]->forwarded_bytes += tx->data_len[i];
}

static void count_failed(struct sg_udp_tx *tx, unsigned i, int error)
{
    if (tx->ledgers[i])
        sg_ledger_drop(tx->ledgers[i], error == EMSGSIZE ? SG_REASON_TOO_BIG : SG_REASON_SEND_FAILED);
}

/*
 * An ICMP error that waits on a socket is reported by the next send, which it must not eat: such a send is tried once
 * more.
 */
static bool is_pending_error(int error)
{
    return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH || error == EPROTO ||
           error == ENOPROTOOPT || error == EACCES;
}

void sg_udp_tx_flush(struct sg_udp_tx *tx)
{
    unsigned done = 0;
    bool retried = false;
    while (done < tx->count) {
        int sent = sendmmsg(tx->fd, tx->msgs + done, tx->count - done, MSG_DONTWAIT);
        if (sent > 0) {
            for (int i = 0; i < sent; i++)
                count_sent(tx, done++);
            retried = false;
        } else if (errno != EINTR && !retried && is_pending_error(errno)) {
            retried = true;
        } else if (errno != EINTR) {
            count_failed(tx, done++, errno);
            retried = false;
        }
    }
    tx->count = 0;
}

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

static int set_options(int fd, uint8_t family, unsigned flags)
{
    int rc = 0;
    bool v6 = family == 6;
    if (v6)
        rc |= set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (flags & SG_UDP_PKTINFO) {
        rc |= v6 ? set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) : set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
        rc |= set_option(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
    }
    if (flags & SG_UDP_RECVERR)
        rc |= v6 ? set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1) : set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
    if (flags & SG_UDP_DONTFRAG)
        rc |= v6 ? set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
                 : set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    if (flags & SG_UDP_REUSEPORT)
        rc |= set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (flags & SG_UDP_BIG) {
        /* the system's ceiling applies in silence; less than asked for is no error */
        (void)set_option(fd, SOL_SOCKET, SO_RCVBUF, BIG_BUFFER);
        (void)set_option(fd, SOL_SOCKET, SO_SNDBUF, BIG_BUFFER);
    }
    return rc;
}

int sg_udp_open(const struct sg_endpoint *bind_to, unsigned flags)
{
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(bind_to, &ss);
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (set_options(fd, bind_to->ip.family, flags) != 0 || bind(fd, (struct sockaddr *)&ss, len) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

size_t sg_udp_route_payload(const struct sg_endpoint *to)
{
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(to, &ss);
    bool v6 = to->ip.family == 6;
    int mtu = 0;
    socklen_t mtu_len = sizeof mtu;
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    if (connect(fd, (struct sockaddr *)&ss, len) != 0 ||
        getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &mtu_len) != 0)
        mtu = 0;
    close(fd);
    int headers = v6 ? 48 : 28;
    if (mtu <= headers)
        return 0;
    size_t payload = (size_t)(mtu - headers);
    return payload < SG_UDP_PAYLOAD_MAX ? payload : SG_UDP_PAYLOAD_MAX;
}

static bool error_reason(const struct sock_extended_err *e, enum sg_reason *out)
{
    if (e->ee_origin != SO_EE_ORIGIN_ICMP && e->ee_origin != SO_EE_ORIGIN_ICMP6 && e->ee_origin != SO_EE_ORIGIN_LOCAL)
        return false;
    if (e->ee_errno == EMSGSIZE)
        *out = SG_REASON_TOO_BIG;
    else
        *out = e->ee_errno == ECONNREFUSED ? SG_REASON_REFUSED : SG_REASON_UNREACHABLE;
    return true;
}

bool sg_udp_read_error(int fd, struct sg_udp_error *out)
{
    struct sockaddr_storage name;
    _Alignas(8) uint8_t control[512];
    uint8_t byte = 0;
    for (;;) {
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        struct msghdr msg = {
            .msg_name = &name,
            .msg_namelen = sizeof name,
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control,
            .msg_controllen = sizeof control,
        };
        if (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            return false;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
            bool v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
            bool v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
            struct sock_extended_err e;
            if (!v4 && !v6)
                continue;
            memcpy(&e, CMSG_DATA(c), sizeof e);
            out->target = sg_sockaddr_endpoint(&name);
            if (error_reason(&e, &out->reason))
                return true;
        }
    }
}
