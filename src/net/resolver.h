/*
 * Names to addresses, for all loops of a process: one thread looks them up. It needs other files than the rest
 * (/etc/resolv.conf and where its link leads, /etc/hosts, which may be replaced at any time) and nothing else, so it
 * has a sandbox of its own.
 *
 * A look-up holds a slot, of its user and of the whole, until c-ares is done with it, whether somebody still waits or
 * not. Who asks what is being asked already waits for the same answer, and takes no slot.
 */
#ifndef SG_NET_RESOLVER_H
#define SG_NET_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "net/dns.h"
#include "net/sandbox.h"

struct sg_inbox;
struct sg_name_service;
struct sg_resolve;

enum {
    SG_RESOLVE_MAX_IPS = SG_DNS_MAX_IPS,
    /* each is two queries of c-ares, which has 65536 numbers for them and searches for a free one */
    SG_LOOK_UPS_MAX = 4096,
    SG_LOOK_UPS_PER_USER = SG_LOOK_UPS_MAX / 8,
};

/*
 * NULL after logging why. Free ends the thread and the look-ups, whose answers are posted; it accepts NULL. A thread
 * that hangs in a file for longer than a second is left behind with what it works with, and posts nothing any more.
 */
struct sg_name_service *sg_name_service_new(void);
void sg_name_service_free(struct sg_name_service *service);

/*
 * Starts the thread, before the caller gives up privileges that the thread does not inherit: it gives up its own. A
 * confined one of root becomes nobody. False: error says why.
 */
bool sg_name_service_start(struct sg_name_service *service, bool confined, char error[static SG_SANDBOX_ERROR_MAX]);

/* Look-ups under way; how many were refused, as their user or all together had too many. On any thread. */
struct sg_name_service_counts {
    uint32_t pending;
    uint64_t refused;
};
struct sg_name_service_counts sg_name_service_counts(const struct sg_name_service *service);

/* How a loop asks. Free the service after all that ask, and before their inboxes. */
struct sg_resolver {
    struct sg_name_service *service;
    struct sg_inbox *inbox; /* of the loop */
};

/*
 * Called once on the loop, always later than the start returned, never after a cancel. ips is sorted by RFC 6724 and
 * lives for the call. NOT_FOUND: the name has no address, or nobody knows. FULL: too many look-ups are under way.
 */
typedef void sg_resolve_fn(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count);

/*
 * Starts a look-up of a name of len bytes (A and AAAA, /etc/hosts first). An IP's text resolves to itself, an
 * IPv4-mapped one to IPv4's. user: whose slot it takes; NULL: nobody's. NULL when memory is short; fn is then not
 * called.
 */
struct sg_resolve *sg_resolver_start(const struct sg_resolver *resolver, const char *user, const char *name, size_t len,
                                     sg_resolve_fn *fn, void *ctx);
void sg_resolve_cancel(struct sg_resolve *resolve); /* accepts NULL */

#endif
