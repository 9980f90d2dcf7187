/* Between the protocol's endpoints and the kernel's socket addresses. */
#ifndef SG_NET_SOCKADDR_H
#define SG_NET_SOCKADDR_H

#include <sys/socket.h>

#include "core/addr.h"

/* Writes the sockaddr of an endpoint with family 4 or 6; returns its length. */
socklen_t sg_sockaddr_from(const struct sg_endpoint *ep, struct sockaddr_storage *out);

/* The endpoint of a sockaddr, IPv4-mapped IPv6 undone; family 0 for any other address family. */
struct sg_endpoint sg_sockaddr_endpoint(const struct sockaddr_storage *ss);

/* Own and remote address of a connected socket; family 0 when the kernel does not know. */
struct sg_endpoint sg_socket_local(int fd);
struct sg_endpoint sg_socket_peer(int fd);

#endif
