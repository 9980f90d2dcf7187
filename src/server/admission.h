/*
 * Connections before their request, of all workers together: how many there are, how many from one host, and how many
 * handshakes a host begins. Where all places are taken, hosts with many give way to hosts with few, so that no number
 * of connections from a few addresses keeps everybody else out.
 */
#ifndef SG_SERVER_ADMISSION_H
#define SG_SERVER_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/datagram.h"
#include "server/users.h"

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
 * The connection wants to begin a handshake, or to speak in the clear: when it may, and in what order. This takes a
 * place in its host's rate, which comes back if the ticket ends before that time. Hosts that began few of late go
 * before those that began many. pass is what it shows, or NULL. False: there is no place for it.
 */
bool sg_admission_hello(struct sg_admission *admission, struct sg_ticket *ticket, const uint8_t *pass, size_t len,
                        uint64_t now_us, struct sg_tls_start *start);
/* The user whose session's pass it showed; false: it showed none. */
bool sg_admission_known_user(struct sg_admission *admission, struct sg_ticket *ticket,
                             char user[static SG_USER_NAME_MAX + 1]);

/* --- passes --- */

struct sg_pass; /* of one channel */

/*
 * From now on connections that show the pass of this channel, which is the user's, (core/pass.h) are no strangers: each
 * takes one of the channel's places, as many as a host has, and none of its host's. So that they can show it when
 * strangers have all places of the channel's host, connections from peer beyond these are let in until their
 * ClientHello is there; the oldest of them go when there are as many as places. NULL when memory is short.
 */
struct sg_pass *sg_admission_pass_new(struct sg_admission *admission,
                                      const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES],
                                      const uint8_t key[static SG_KEY_BYTES], const struct sg_ip *peer,
                                      const char *user);
/* Accepts NULL. */
void sg_admission_pass_free(struct sg_admission *admission, struct sg_pass *pass);

#endif
