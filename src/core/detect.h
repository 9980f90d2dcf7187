/*
 * The record detector: what a UDP payload claims to be. Total over all byte strings, and decided by
 * its first bytes alone:
 *
 *     first byte exactly 0x08            sealed (whatever its length: the length check comes next,
 * under its own reason) at least 2 bytes, both first 0x00  plain SOCKS UDP request (RFC 1928
 * section 7: RSV is 0000) all else, the empty one included   neither
 *
 * 0x08 lies in a range that RFC 7983 and RFC 9443 leave unassigned, and is no first byte of SOCKS
 * UDP (0x00), RFC 1961 frames (0x01), WireGuard (1 to 4), DTLS (20 to 63) or QUIC (64 to 255).
 */
#ifndef SG_CORE_DETECT_H
#define SG_CORE_DETECT_H

#include <stddef.h>
#include <stdint.h>

#include "core/datagram.h"

enum sg_detect { SG_DETECT_SEALED, SG_DETECT_PLAIN, SG_DETECT_NEITHER };

static inline enum sg_detect sg_detect(const uint8_t *bytes, size_t len)
{
    if (len >= 1 && bytes[0] == SG_RECORD_INDICATOR)
        return SG_DETECT_SEALED;
    if (len >= 2 && bytes[0] == 0 && bytes[1] == 0)
        return SG_DETECT_PLAIN;
    return SG_DETECT_NEITHER;
}

#endif
