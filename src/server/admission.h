/*
 * Connections before their request, of all workers together: how many there are, and how many from one host.
 */
#ifndef SG_SERVER_ADMISSION_H
#define SG_SERVER_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct sg_admission;

/* At most so many in all, and from one host: one address of IPv4, one /64 of IPv6. NULL when memory is short. */
struct sg_admission *sg_admission_new(uint32_t limit, uint32_t host_limit);
void sg_admission_free(struct sg_admission *admission);

/* Other limits, at any time: who is in stays in. False when memory is short, and nothing has changed. */
bool sg_admission_turn_to(struct sg_admission *admission, uint32_t limit, uint32_t host_limit);

/* A connection from peer begins: false if it may not. Each that did ends with sg_admission_leave. */
bool sg_admission_enter(struct sg_admission *admission, const struct sg_ip *peer);
void sg_admission_leave(struct sg_admission *admission, const struct sg_ip *peer);

#endif
