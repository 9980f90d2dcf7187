/*
 * Connections before their request, of all workers together: how many there are, how many from one host, and how many
 * handshakes a host begins. Where all places are taken, hosts with many give way to hosts with few, so that no number
 * of connections from a few addresses keeps everybody else out.
 */
#ifndef SG_SERVER_ADMISSION_H
#define SG_SERVER_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct sg_admission;
struct sg_inbox;
struct sg_ticket; /* of one connection */
struct sg_tls_start;

/* A host is one address of IPv4, or one /64 of IPv6. */
struct sg_admission_limits {
    uint32_t all, host; /* connections at a time */
    uint32_t host_rate; /* handshakes that a host may begin in a second; two seconds' worth of them at once */
};

/* NULL when memory is short. */
struct sg_admission *sg_admission_new(const struct sg_admission_limits *limits);
/* Nobody has a ticket any more, and the inboxes were worked off. */
void sg_admission_free(struct sg_admission *admission);

/* Other limits, at any time: who is in stays in. */
void sg_admission_turn_to(struct sg_admission *admission, const struct sg_admission_limits *limits);

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

/*
 * The connection wants to begin a handshake: when it may, and in what order. This takes a place in its host's rate,
 * which comes back if the ticket ends before that time. Hosts that began few of late go before those that began many.
 */
void sg_admission_hello(struct sg_admission *admission, struct sg_ticket *ticket, uint64_t now_us,
                        struct sg_tls_start *start);

#endif
