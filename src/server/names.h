/*
 * Look-ups for datagrams whose target is a name, of a sealed session or a plain association: a bounded number of them,
 * with a bounded number of datagrams waiting. Those that one association sends to one name wait in one look-up, so
 * that they go to one address, in order.
 */
#ifndef SG_SERVER_NAMES_H
#define SG_SERVER_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/reason.h"

struct sg_datapath;
struct sg_name_wait;
struct sg_names;
struct sg_permits;

struct sg_names_owner {
    unsigned look_ups_max; /* at a time */
    /* A datagram that waited has an address now; name is what the client gave. The owner sends it and counts it, in
     * the up ledger; what leaves by the datapath's out is flushed afterwards. */
    void (*forward)(struct sg_names *names, uint32_t number, const struct sg_target *name,
                    const struct sg_endpoint *target, uint8_t *data, size_t len, uint64_t now_ms);
    /* There is no address, or none that policy lets pass: so many were dropped (the up ledger has them). NULL: the
     * owner tells nobody. */
    void (*refuse)(struct sg_names *names, uint32_t number, const struct sg_target *name, enum sg_reason reason,
                   unsigned dropped, uint64_t now_ms);
    /* A name was looked up again for its port. count 0: it has no address, or nobody knows. */
    void (*renew)(struct sg_names *names, uint32_t number, const struct sg_target *name, const struct sg_ip *ips,
                  size_t count, uint64_t now_ms);
};

struct sg_names {
    struct sg_datapath *datapath;
    struct sg_permits *permits;
    const struct sg_names_owner *owner;
    struct sg_name_wait *waits; /* look-ups under way */
    unsigned count;
    size_t bytes; /* of the datagrams that wait in them */
};

/* permits is the user's, and lives longer. */
void sg_names_init(struct sg_names *names, struct sg_datapath *datapath, struct sg_permits *permits,
                   const struct sg_names_owner *owner);

/*
 * Keeps the datagram and looks its name up, or joins a look-up under way. Counts it as queued; or as dropped, and
 * returns false. number: of the association, among those of the owner.
 */
bool sg_names_wait(struct sg_names *names, uint32_t number, const struct sg_target *target, const uint8_t *data,
                   size_t len);

/* Looks a name up again, while its datagrams go where they went. Nothing if that is under way, or cannot be. */
void sg_names_renew(struct sg_names *names, uint32_t number, const struct sg_target *target);

/* Cancels all look-ups. What waited counts as dropped: so many. */
unsigned sg_names_cancel(struct sg_names *names);

#endif
