/*
 * Who tries how often what is not to be tried often: each of them so many at once, and one more every so many
 * milliseconds. A table of a fixed size whose key is random: nobody can choose whom to meet in it, and whoever has
 * tried little makes room before whoever has tried much.
 */
#ifndef SG_SERVER_ATTEMPTS_H
#define SG_SERVER_ATTEMPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

enum { SG_ATTEMPTS_KEY_BYTES = 17 };

struct sg_attempts;

/* Who: a host (one address of IPv4, or one /64 of IPv6), or a user who is known to be that user. */
struct sg_attempts_key {
    uint8_t bytes[SG_ATTEMPTS_KEY_BYTES];
};
struct sg_attempts_key sg_attempts_of_host(const struct sg_ip *ip);
struct sg_attempts_key sg_attempts_of_user(const char *user);

/* NULL when memory is short. free accepts NULL. */
struct sg_attempts *sg_attempts_new(unsigned most, unsigned interval_ms);
void sg_attempts_free(struct sg_attempts *attempts);

/* Counts an attempt that begins. False: there were too many, and it may not begin. */
bool sg_attempts_begin(struct sg_attempts *attempts, const struct sg_attempts_key *who, uint64_t now_ms);
/* One that began is not to be counted: it was right, or came to nothing. */
void sg_attempts_forgive(struct sg_attempts *attempts, const struct sg_attempts_key *who);
/* Whether one that began now would be one too many. */
bool sg_attempts_are_over(struct sg_attempts *attempts, const struct sg_attempts_key *who, uint64_t now_ms);

#endif
