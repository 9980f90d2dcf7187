/* Names to addresses by c-ares on the event loop, one resolver per worker. */
#ifndef SG_NET_RESOLVER_H
#define SG_NET_RESOLVER_H

#include <stddef.h>

#include "core/addr.h"
#include "core/err.h"

struct event_base;
struct sg_resolver;
struct sg_resolve;

enum { SG_RESOLVE_MAX_IPS = 16 };

/*
 * Called once, always later than the start returned, never after a cancel. ips is sorted by RFC 6724 and lives for
 * the call.
 */
typedef void sg_resolve_fn(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count);

/* NULL on failure. Free cancels what is pending (no callback). */
struct sg_resolver *sg_resolver_new(struct event_base *base);
void sg_resolver_free(struct sg_resolver *resolver);

/* Starts a look-up of a name of len bytes (A and AAAA, /etc/hosts first). An IP's text resolves to itself. NULL when
 * memory is short; fn is then not called. */
struct sg_resolve *sg_resolver_start(struct sg_resolver *resolver, const char *name, size_t len, sg_resolve_fn *fn,
                                     void *ctx);
void sg_resolve_cancel(struct sg_resolve *resolve);

#endif
