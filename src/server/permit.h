/*
 * Whether a user may exchange datagrams with an endpoint: the guard's word, then the rules' (policy.h). What the rules
 * said is remembered for each endpoint, so that a datagram costs a compare however many rules there are; another
 * policy, or another address of the client, and they are asked again.
 */
#ifndef SG_SERVER_PERMIT_H
#define SG_SERVER_PERMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct sg_handover;
struct sg_permit_memory;
struct sg_worker;

/* What one user with one session, or one plain association, was told. */
struct sg_permits {
    const struct sg_worker *worker;
    const struct sg_handover *who;
    struct sg_permit_memory *memory; /* NULL as long as there are no rules */
    uint32_t epoch;                  /* of what is remembered; 0: nothing */
};

/* What was said of a name at a port. Zeroed: nothing yet. */
struct sg_permit_answer {
    uint32_t epoch;
    uint16_t port;
    bool permitted;
};

/* Both outlive it. */
void sg_permits_init(struct sg_permits *permits, const struct sg_worker *worker, const struct sg_handover *who);
void sg_permits_dispose(struct sg_permits *permits);

/*
 * Whether a datagram may go to a target. Besides what the guard lets pass these are the outbound sockets of other
 * associations at this server's own addresses (hairpin, RFC 4787 section 6), whose filtering still has to let it pass.
 * name: what the client gave for that address, or NULL; answer: where to remember what is said of that name. Without an
 * answer a name is only asked about, and no rule logs it.
 */
bool sg_permits_target(struct sg_permits *permits, const struct sg_target *name, const struct sg_endpoint *target,
                       struct sg_permit_answer *answer);

/* False if rules refuse a name, whatever its address: it need not be looked up. */
bool sg_permits_lookup(struct sg_permits *permits, const struct sg_target *name);

/* Whether rules let pass what comes from an endpoint; for a name that was sent to, which has this address. */
bool sg_permits_source(struct sg_permits *permits, const struct sg_endpoint *source);
bool sg_permits_source_named(struct sg_permits *permits, const uint8_t *name, size_t name_len,
                             const struct sg_endpoint *source, struct sg_permit_answer *answer);

#endif
