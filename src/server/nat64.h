/*
 * Finds the prefixes under which a translator of this network reaches IPv4 (NAT64), as RFC 7050 says: the network's
 * name server makes an IPv6 address of ipv4only.arpa. The guard undoes them. On the loop of worker 0.
 */
#ifndef SG_SERVER_NAT64_H
#define SG_SERVER_NAT64_H

#include <stdbool.h>

#include "server/policy.h"

struct event_base;
struct sg_nat64_watch;
struct sg_resolver;

typedef void sg_nat64_fn(void *ctx, const struct sg_nat64 *found);

/*
 * Asks at once, when told to, and every ten minutes; only where this machine has an IPv6 address that reaches further
 * than its link. fn is told of each answer, but not of a look-up that fails. The resolver must outlive it. NULL when
 * memory is short.
 */
struct sg_nat64_watch *sg_nat64_watch_new(struct event_base *base, const struct sg_resolver *resolver, sg_nat64_fn *fn,
                                          void *ctx);
void sg_nat64_watch_ask(struct sg_nat64_watch *watch);
void sg_nat64_watch_free(struct sg_nat64_watch *watch); /* NULL is fine */

#endif
