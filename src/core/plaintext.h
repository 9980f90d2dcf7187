/* The plaintext of a record, which is also the body of DATAGRAM on the stream (docs/protocol.md section 6). */
#ifndef SG_CORE_PLAINTEXT_H
#define SG_CORE_PLAINTEXT_H

#include "core/addr.h"
#include "core/err.h"

enum {
    SG_ASSOC_BYTES = 4,
    SG_PLAINTEXT_HEADER_MAX = SG_ASSOC_BYTES + SG_ADDR_MAX_BYTES,
    SG_PLAINTEXT_HEADER_IP_MAX = SG_ASSOC_BYTES + SG_ADDR_IPV6_BYTES, /* with an address, not a name */
};

/* A datagram of an association: whose, to or from where, and its data in place. */
struct sg_datagram {
    uint32_t association;
    struct sg_target address;
    uint8_t *data;
    size_t data_len;
};

/* The association number at the start of a plaintext; 0 is a session message (and too short a plaintext). */
uint32_t sg_plaintext_association(const uint8_t *bytes, size_t len);

/* Parses a plaintext whose association is not 0. Pointers of out point into bytes. MALFORMED on any fault. */
SG_MUST_CHECK enum sg_err sg_plaintext_decode(uint8_t *bytes, size_t len, struct sg_datagram *out);

/*
 * Writes association and address right before data, which needs SG_PLAINTEXT_HEADER_IP_MAX of room in front.
 * Returns where the plaintext begins.
 */
uint8_t *sg_plaintext_prepend(uint8_t *data, uint32_t association, const struct sg_endpoint *source);

#endif
