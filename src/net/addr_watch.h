/* Notices when this machine's addresses change: another network, another lease, another local route (rtnetlink). */
#ifndef SG_NET_ADDR_WATCH_H
#define SG_NET_ADDR_WATCH_H

#include <stdbool.h>

#include "core/addr.h"

struct event_base;
struct sg_addr_watch;

typedef void sg_addr_watch_fn(void *ctx);

enum sg_addr_watch_what {
    SG_WATCH_ADDRESSES,
    SG_WATCH_OWN_ROUTES, /* these too: routes that are local, anycast or broadcast (own_routes.h) */
};

/* fn is called 100 ms after a change, for all changes until then. NULL with errno if the system does not
 * tell. */
struct sg_addr_watch *sg_addr_watch_new(struct event_base *base, enum sg_addr_watch_what what, sg_addr_watch_fn *fn,
                                        void *ctx);
void sg_addr_watch_free(struct sg_addr_watch *watch); /* NULL is fine */

/* Whether a socket of this machine can have the address now. */
bool sg_addr_is_own(const struct sg_ip *ip);

#endif
