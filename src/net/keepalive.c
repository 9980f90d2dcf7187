/* TCP keepalive: the times, and how they are set. */
#include "net/keepalive.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

enum { IDLE_S = 75, INTERVAL_S = 15, PROBES = 5 };

void sg_keepalive_set(int fd)
{
    static const int on = 1, idle = IDLE_S, interval = INTERVAL_S, probes = PROBES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

enum sg_peer_state sg_peer_state(int fd)
{
    struct pollfd at = {.fd = fd, .events = POLLRDHUP};
    if (poll(&at, 1, 0) <= 0)
        return SG_PEER_HERE;
    return at.revents & (POLLERR | POLLHUP | POLLNVAL) ? SG_PEER_GONE : SG_PEER_ENDED;
}
