/* UDP sockets: options, what the kernel knows of a route, ICMP errors. Datagrams are moved by udp_rx.c and udp_tx.c. */
#include "net/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

#include <linux/errqueue.h>
#include <linux/filter.h>

#include "net/sockaddr.h"

enum { BIG_BUFFER = 4 << 20, ROOMY_BUFFER = 1 << 20 };

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

bool sg_udp_let_fragment(int fd, uint8_t family, bool may_fragment)
{
    if (family == 6)
        return set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER,
                          may_fragment ? IPV6_PMTUDISC_WANT : IPV6_PMTUDISC_PROBE) == 0;
    return set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, may_fragment ? IP_PMTUDISC_WANT : IP_PMTUDISC_PROBE) == 0;
}

static int set_options(int fd, uint8_t family, unsigned flags)
{
    int rc = 0;
    bool v6 = family == 6;
    (void)set_option(fd, SOL_SOCKET, SO_RXQ_OVFL, 1); /* costs nothing while nothing is lost; without it that is 0 */
    if (flags & SG_UDP_PKTINFO)
        rc |= v6 ? set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) : set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
    if (flags & SG_UDP_RECVERR)
        rc |= v6 ? set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1) : set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
    if (flags & SG_UDP_DONTFRAG)
        rc |= sg_udp_let_fragment(fd, family, false) ? 0 : -1;
    if (flags & SG_UDP_DSCP)
        rc |= v6 ? set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1) : set_option(fd, IPPROTO_IP, IP_RECVTOS, 1);
    if (flags & SG_UDP_BROADCAST)
        rc |= set_option(fd, SOL_SOCKET, SO_BROADCAST, 1);
    if (flags & SG_UDP_REUSEPORT)
        rc |= set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (flags & SG_UDP_GRO)
        (void)set_option(fd, SOL_UDP, UDP_GRO, 1); /* an old kernel brings them one by one */
    if (flags & (SG_UDP_BIG | SG_UDP_ROOMY)) {
        /* the system's ceiling applies in silence; less than asked for is no error */
        int bytes = flags & SG_UDP_BIG ? BIG_BUFFER : ROOMY_BUFFER;
        (void)set_option(fd, SOL_SOCKET, SO_RCVBUF, bytes);
        (void)set_option(fd, SOL_SOCKET, SO_SNDBUF, bytes);
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
    if ((bind_to->ip.family == 6 && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) != 0) ||
        set_options(fd, bind_to->ip.family, flags) != 0 || bind(fd, (struct sockaddr *)&ss, len) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

bool sg_udp_adopt(int fd, uint8_t family, unsigned flags)
{
    return set_options(fd, family, flags) == 0;
}

int sg_udp_open_shared(const struct sg_endpoint *bind_to, unsigned flags, enum sg_share share)
{
    /* a shared port hides that another program has it: so the first asks for it alone for a moment */
    if (share == SG_SHARED_FIRST && bind_to->port != 0) {
        int fd = sg_udp_open(bind_to, flags);
        if (fd < 0)
            return -1;
        close(fd);
    }
    return sg_udp_open(bind_to, share == SG_ALONE ? flags : flags | SG_UDP_REUSEPORT);
}

bool sg_udp_steer(int fd, uint8_t first)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), /* an empty datagram ends here, with 0 */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 1),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    const struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0;
}

bool sg_udp_can_steer(uint8_t family)
{
    const struct sg_endpoint anywhere = {.ip = {.family = family}};
    int fd = sg_udp_open(&anywhere, SG_UDP_REUSEPORT);
    if (fd < 0)
        return true; /* whoever opens one will say why that fails */
    bool can = sg_udp_steer(fd, 0);
    int error = errno;
    close(fd);
    errno = error;
    return can;
}

bool sg_udp_has_family(uint8_t family)
{
    int fd = socket(family == 6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 || errno != EAFNOSUPPORT;
    if (fd >= 0)
        close(fd);
    return has;
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
