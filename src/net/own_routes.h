/*
 * What this machine takes for its own addresses by its routes (rtnetlink): those of its interfaces, and with them whole
 * networks that a route makes local (AnyIP, load balancers), anycast and broadcast addresses.
 */
#ifndef SG_NET_OWN_ROUTES_H
#define SG_NET_OWN_ROUTES_H

#include <stdbool.h>

#include "core/addr.h"

/*
 * False, with errno, where the system never tells: the kernel has no rtnetlink, or this process may not use it.
 */
bool sg_own_routes_are_told(void);

typedef void sg_own_routes_fn(void *ctx, const struct sg_cidr *net);

/*
 * Calls fn for each route of every table that is local, anycast or broadcast; one network may come several times. A
 * route to everything counts only in the tables that are always asked (local, main, default): in others it is how a
 * transparent proxy takes what it has marked. False when the system does not tell (errno); fn may have been called.
 */
SG_MUST_CHECK bool sg_own_routes_each(sg_own_routes_fn *fn, void *ctx);

/*
 * Whether the route that the kernel has for an address now ends on this machine: what was connected to it is here.
 * False also where the system does not tell.
 */
bool sg_own_routes_has(const struct sg_ip *ip);

#endif
