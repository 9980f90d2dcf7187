/* Between the protocol's endpoints and the kernel's socket addresses. */
#include "net/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

socklen_t sg_sockaddr_from(const struct sg_endpoint *ep, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (ep->ip.family == 6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(ep->port);
        memcpy(&in6->sin6_addr, ep->ip.bytes, 16);
        return sizeof *in6;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons(ep->port);
    memcpy(&in->sin_addr, ep->ip.bytes, 4);
    return sizeof *in;
}

struct sg_endpoint sg_sockaddr_endpoint(const struct sockaddr_storage *ss)
{
    struct sg_endpoint ep = {0};
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
        ep.ip.family = 4;
        memcpy(ep.ip.bytes, &in->sin_addr, 4);
        ep.port = ntohs(in->sin_port);
    } else if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
        ep.ip.family = 6;
        memcpy(ep.ip.bytes, &in6->sin6_addr, 16);
        ep.ip = sg_ip_unmap(&ep.ip);
        ep.port = ntohs(in6->sin6_port);
    }
    return ep;
}

struct sg_endpoint sg_socket_local(int fd)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
        ss.ss_family = AF_UNSPEC;
    return sg_sockaddr_endpoint(&ss);
}

struct sg_endpoint sg_socket_peer(int fd)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    if (getpeername(fd, (struct sockaddr *)&ss, &len) != 0)
        ss.ss_family = AF_UNSPEC;
    return sg_sockaddr_endpoint(&ss);
}
