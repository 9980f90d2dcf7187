/* One netlink socket for each question; the kernel answers within the system call that asks. */
#include "net/own_routes.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

enum { ANSWER_BYTES = 16 * 1024 };

static const uint8_t own_types[] = {RTN_LOCAL, RTN_ANYCAST, RTN_BROADCAST};

struct question {
    struct nlmsghdr head;
    struct rtmsg route;
    struct rtattr destination; /* with the address after it, or left out */
    uint8_t address[16];
};

/* Room for what comes back, where its headers are aligned. */
union answer {
    struct nlmsghdr head;
    uint8_t bytes[ANSWER_BYTES];
};

static int open_netlink(void)
{
    static const struct timeval limit = {.tv_sec = 1};
    static const int on = 1;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on); /* without it no type is picked out */
    return fd;
}

static bool is_own_type(uint8_t type)
{
    return memchr(own_types, type, sizeof own_types) != NULL;
}

static bool is_always_asked(uint8_t table)
{
    return table == RT_TABLE_LOCAL || table == RT_TABLE_MAIN || table == RT_TABLE_DEFAULT;
}

/* The destination of a route; false: it is no route to addresses that are ours. */
static bool read_route(struct nlmsghdr *message, struct sg_cidr *net)
{
    struct rtmsg *route = NLMSG_DATA(message);
    if (message->nlmsg_type != RTM_NEWROUTE || message->nlmsg_len < NLMSG_LENGTH(sizeof *route) ||
        !is_own_type(route->rtm_type) || (route->rtm_dst_len == 0 && !is_always_asked(route->rtm_table)))
        return false;
    size_t len = route->rtm_family == AF_INET ? 4 : 16;
    if ((route->rtm_family != AF_INET && route->rtm_family != AF_INET6) || route->rtm_dst_len > len * 8)
        return false;
    *net = (struct sg_cidr){.ip = {.family = route->rtm_family == AF_INET ? 4 : 6}, .bits = route->rtm_dst_len};
    unsigned left = (unsigned)RTM_PAYLOAD(message);
    for (struct rtattr *a = RTM_RTA(route); RTA_OK(a, left); a = RTA_NEXT(a, left))
        if (a->rta_type == RTA_DST && RTA_PAYLOAD(a) == len)
            memcpy(net->ip.bytes, RTA_DATA(a), len);
    return true;
}

/* Reads one packet of a dump. 1: there are more; 0: that was all; -1: the kernel says no (errno). */
static int read_packet(union answer *answer, size_t len, sg_own_routes_fn *fn, void *ctx)
{
    unsigned left = (unsigned)len;
    for (struct nlmsghdr *message = &answer->head; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
        struct sg_cidr net;
        if (message->nlmsg_type == NLMSG_DONE)
            return 0;
        if (message->nlmsg_type == NLMSG_ERROR) {
            const struct nlmsgerr *error = NLMSG_DATA(message);
            errno = -error->error;
            return -1;
        }
        if (read_route(message, &net))
            fn(ctx, &net);
    }
    return 1;
}

static bool dump(int fd, uint8_t family, uint8_t type, sg_own_routes_fn *fn, void *ctx)
{
    struct question question = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof question.route),
                                         .nlmsg_type = RTM_GETROUTE,
                                         .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
                                .route = {.rtm_family = family, .rtm_type = type}};
    union answer answer;
    int more = 1;
    if (send(fd, &question, question.head.nlmsg_len, 0) < 0)
        return false;
    while (more > 0) {
        ssize_t got = recv(fd, &answer, sizeof answer, 0);
        if (got < 0 && errno == EINTR)
            continue;
        more = got < 0 ? -1 : read_packet(&answer, (size_t)got, fn, ctx);
    }
    /* a kernel without this family has no routes of it */
    return more == 0 || errno == EOPNOTSUPP || errno == EAFNOSUPPORT || errno == ENOENT;
}

bool sg_own_routes_are_told(void)
{
    int fd = open_netlink();
    if (fd < 0)
        return errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    close(fd);
    return true;
}

bool sg_own_routes_each(sg_own_routes_fn *fn, void *ctx)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};
    int fd = open_netlink();
    bool good = fd >= 0;
    for (size_t i = 0; i < sizeof families && good; i++)
        for (size_t j = 0; j < sizeof own_types && good; j++)
            good = dump(fd, families[i], own_types[j], fn, ctx);
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return good;
}

bool sg_own_routes_has(const struct sg_ip *ip)
{
    size_t len = ip->family == 4 ? 4 : 16;
    struct question question = {
        .head = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST},
        .route = {.rtm_family = ip->family == 4 ? AF_INET : AF_INET6, .rtm_dst_len = (uint8_t)(len * 8)},
        .destination = {.rta_len = (uint16_t)RTA_LENGTH(len), .rta_type = RTA_DST}};
    union answer answer;
    memcpy(question.address, ip->bytes, len);
    question.head.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof question.route) + RTA_LENGTH(len));
    int fd = open_netlink();
    ssize_t got = -1;
    if (fd >= 0 && send(fd, &question, question.head.nlmsg_len, 0) > 0)
        got = recv(fd, &answer, sizeof answer, 0);
    if (fd >= 0)
        close(fd);
    if (got < 0 || !NLMSG_OK(&answer.head, (unsigned)got) || answer.head.nlmsg_type != RTM_NEWROUTE ||
        answer.head.nlmsg_len < NLMSG_LENGTH(sizeof(struct rtmsg)))
        return false;
    const struct rtmsg *route = NLMSG_DATA(&answer.head);
    return is_own_type(route->rtm_type);
}
