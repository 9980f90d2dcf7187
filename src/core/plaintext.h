/* The plaintext of a record, which is also the body of DATAGRAM on the stream (docs/protocol.md section 6). */
#ifndef SG_CORE_PLAINTEXT_H
#define SG_CORE_PLAINTEXT_H

#include <stdbool.h>
#include <string.h>

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

/*
 * The header, association and IP address, of the datagram before in a run that is worked off in one go: the same bytes
 * again mean the same, and need no second look. Zeroed: there was none.
 */
struct sg_plaintext_memo {
    uint8_t len;
    uint8_t bytes[SG_PLAINTEXT_HEADER_IP_MAX];
};

static inline bool sg_plaintext_is_alike(const struct sg_plaintext_memo *memo, const uint8_t *bytes, size_t len)
{
    enum { IPV4_BYTES = SG_ASSOC_BYTES + SG_ADDR_IPV4_BYTES }; /* a length that the compiler knows is no call */
    if (memo->len == IPV4_BYTES)
        return len >= IPV4_BYTES && memcmp(memo->bytes, bytes, IPV4_BYTES) == 0;
    return memo->len > 0 && len >= memo->len && memcmp(memo->bytes, bytes, memo->len) == 0;
}

/* Writes the remembered header right before data; returns where the plaintext begins. */
static inline uint8_t *sg_plaintext_prepend_alike(uint8_t *data, const struct sg_plaintext_memo *memo)
{
    return memcpy(data - memo->len, memo->bytes, memo->len);
}

/* Remembers the header of that many bytes; one with a name not at all. */
static inline void sg_plaintext_remember(struct sg_plaintext_memo *memo, const uint8_t *bytes, size_t header_len)
{
    memo->len = header_len <= sizeof memo->bytes ? (uint8_t)header_len : 0;
    memcpy(memo->bytes, bytes, memo->len);
}

#endif
