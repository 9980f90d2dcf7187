/*
 * The key schedule of a channel (docs/protocol.md section 5.1): exporter label and context, the two direction keys, and
 * the key of its passes. The call of the exporter itself is src/net's.
 */
#ifndef SG_CORE_KEYS_H
#define SG_CORE_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "core/datagram.h"
#include "core/err.h"

#define SG_EXPORTER_LABEL "EXPORTER-sealgram-v1"
enum { SG_EXPORTER_CONTEXT_BYTES = SG_RECORD_CHANNEL_BYTES + 2 };

/* Short-lived: sg_sender_init and sg_receiver_init copy what they need into the arena, then the
 * caller wipes this. */
struct sg_direction_keys {
    uint8_t c2s[SG_KEY_BYTES];
    uint8_t s2c[SG_KEY_BYTES];
    uint8_t pass[SG_KEY_BYTES]; /* core/pass.h */
};

/* The exporter's context: channel id, suite. */
void sg_keys_exporter_context(const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES], uint16_t suite,
                              uint8_t out[static SG_EXPORTER_CONTEXT_BYTES]);

/* Derives all of them. The secret is wiped in any case; keys are all 0 on failure (CRYPTO). */
SG_MUST_CHECK enum sg_err sg_keys_derive(uint8_t secret[static SG_KEY_BYTES], struct sg_direction_keys *keys);
void sg_keys_wipe(struct sg_direction_keys *keys);

/*
 * HKDF-Expand with SHA-256 (RFC 5869 section 2.3): out_len bytes from a pseudorandom key and info.
 * INVALID if out_len is 0 or above 255 * 32; CRYPTO if the library fails, out is all 0 then.
 */
SG_MUST_CHECK enum sg_err sg_keys_expand(const uint8_t *prk, size_t prk_len, const void *info, size_t info_len,
                                         uint8_t *out, size_t out_len);

#endif
