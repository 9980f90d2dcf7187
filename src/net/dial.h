/*
 * Outgoing TCP connections in the order of happy eyeballs (RFC 8305): addresses of both families in turn, a further
 * attempt after 250 ms or as soon as one failed, the first to connect wins.
 */
#ifndef SG_NET_DIAL_H
#define SG_NET_DIAL_H

#include "core/addr.h"

struct event_base;
struct sg_dial;

/* fd is connected, non-blocking, NODELAY and the callback's; or -1 and the errno of the first address tried. */
typedef void sg_dial_fn(void *ctx, int fd, int error);

/*
 * Starts; fn is called once, later, unless cancelled. All attempts together take at most 20 s. mss bounds the segments
 * of both directions (0: the kernel decides). NULL: memory is short.
 */
struct sg_dial *sg_dial_start(struct event_base *base, const struct sg_ip *ips, size_t count, uint16_t port, int mss,
                              sg_dial_fn *fn, void *ctx);
void sg_dial_cancel(struct sg_dial *dial);

#endif
