/*
 * Connections before their request, of all workers together: how many there are, and how many from one host. Where all
 * places are taken, hosts with many give way to hosts with few, so that no number of connections from a few addresses
 * keeps everybody else out.
 */
#ifndef SG_SERVER_ADMISSION_H
#define SG_SERVER_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct sg_admission;
struct sg_inbox;
struct sg_ticket; /* of one connection */

/* At most so many in all, and from one host: one address of IPv4, one /64 of IPv6. NULL when memory is short. */
struct sg_admission *sg_admission_new(uint32_t limit, uint32_t host_limit);
/* Nobody has a ticket any more, and the inboxes were worked off. */
void sg_admission_free(struct sg_admission *admission);

/* Other limits, at any time: who is in stays in. False when memory is short, and nothing has changed. */
bool sg_admission_turn_to(struct sg_admission *admission, uint32_t limit, uint32_t host_limit);

/* The connection must end, for another's sake: called on its loop, at most once, never after sg_admission_leave. */
typedef void sg_displaced_fn(void *ctx);

/*
 * A connection from peer begins, on the loop of the inbox: its ticket, or NULL if it may not. If all places are taken,
 * the oldest connection of the host with the most is displaced, provided that this host has more than the peer would
 * have, or that the peer has none. Each ticket ends with sg_admission_leave, on the same loop, also when displaced.
 */
struct sg_ticket *sg_admission_enter(struct sg_admission *admission, const struct sg_ip *peer, struct sg_inbox *inbox,
                                     sg_displaced_fn *fn, void *ctx);
void sg_admission_leave(struct sg_admission *admission, struct sg_ticket *ticket);

#endif
