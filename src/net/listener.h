/*
 * A TCP listener: accepted sockets are non-blocking and NODELAY; running out of descriptors pauses it, no more. A turn
 * of the loop accepts a small number, whatever waits. The callback may free the
 * listener.
 */
#ifndef SG_NET_LISTENER_H
#define SG_NET_LISTENER_H

#include "core/addr.h"
#include "net/share.h"

struct event_base;
struct sg_listener;

/* The callback owns fd. */
typedef void sg_accept_fn(void *ctx, int fd);

/*
 * Listens at an address (IPv6 is only IPv6); *bound is the actual one (port 0 asks for any). passed is -1 or a socket
 * that listens there already, non-blocking, which is used and owned from now on (closed on failure, too). NULL with
 * errno.
 */
struct sg_listener *sg_listener_new(struct event_base *base, const struct sg_endpoint *at, int passed,
                                    enum sg_share share, struct sg_endpoint *bound, sg_accept_fn *fn, void *ctx);
/* Accepts NULL. */
void sg_listener_free(struct sg_listener *listener);

#endif
