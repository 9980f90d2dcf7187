/*
 * Differentiated services code points (RFC 2474): which of them may pass from a datagram to the record around it. ECN
 * is no part of that (docs/decisions/0005).
 */
#ifndef SG_NET_DSCP_H
#define SG_NET_DSCP_H

#include <stdbool.h>
#include <stdint.h>

/* Code point n is in a set if bit n is 1; the empty set copies nothing. */

/*
 * Reads a list such as `ef,af41,cs5,46`: names of RFC 2474, 2597, 3246, 5865 and 8622, or numbers from 0 to 63. False
 * if it is anything else.
 */
bool sg_dscp_parse(const char *text, uint64_t *set);

/* The code point that a record gets around a datagram with this one. */
static inline uint8_t sg_dscp_copied(uint64_t set, uint8_t dscp)
{
    return set >> dscp & 1 ? dscp : 0;
}

#endif
