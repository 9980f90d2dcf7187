/*
 * The suites: each a const descriptor, one for each back end that can do it.
 *
 * A suite works in two steps. The first bytes of the nonce (channel id and sender id) and the
 * direction key give a subkey, expanded into a *state*: once per sender id. With the rest of the
 * nonce (the counter) the state seals and opens records: plain AES-256-GCM or ChaCha20-Poly1305.
 * The state lies in the caller's memory (the arena).
 *
 * Secrets outside the caller's memory: the OpenSSL back end keeps the last key used in each
 * direction inside OpenSSL's own heap objects, and every derivation of suite 1 passes through one;
 * sg_aead_forget and sg_aead_ctx_free overwrite them. libipsec-mb and libsodium keep nothing.
 */
#ifndef SG_CORE_AEAD_H
#define SG_CORE_AEAD_H

#include <assert.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/datagram.h"
#include "core/err.h"

enum sg_suite_id { SG_SUITE_XAES_256_GCM = 1, SG_SUITE_XCHACHA20_POLY1305 = 2 };

enum sg_backend { SG_BACKEND_AUTO, SG_BACKEND_OPENSSL, SG_BACKEND_IPSECMB, SG_BACKEND_SODIUM };
enum { SG_BACKEND_COUNT = SG_BACKEND_SODIUM + 1 };

enum { SG_AEAD_STATE_ALIGN = 64, SG_AEAD_IV_BYTES = 12 };

/* Room for the state of any suite on any back end: the build asks the header of libipsec-mb how long its expanded key
 * is, and defines SG_AEAD_STATE_BYTES. */
static_assert(SG_AEAD_STATE_BYTES % SG_AEAD_STATE_ALIGN == 0, "states that lie in a row are aligned");
struct sg_aead_state {
    alignas(SG_AEAD_STATE_ALIGN) uint8_t bytes[SG_AEAD_STATE_BYTES];
};

/* What the back ends need and share between keys; made once per worker, never used by two threads
 * at a time. */
struct sg_aead_ctx {
    void *part[SG_BACKEND_COUNT];
};

struct sg_aead {
    uint16_t id; /* on the wire */
    enum sg_backend backend;
    const char *name;         /* "XAES-256-GCM" */
    const char *backend_name; /* "openssl" */
    bool (*is_available)(void);

    /* The direction key and the nonce's first bytes to the subkey. */
    enum sg_err (*derive_subkey)(struct sg_aead_ctx *ctx, const uint8_t *key, const uint8_t *nonce, uint8_t *subkey);
    /* The rest of the nonce to the 96-bit IV of the cipher. */
    void (*make_iv)(const uint8_t *nonce, uint8_t *iv);
    /* The cipher itself: key expansion, seal and open in place. open compares the tag in constant
     * time. */
    enum sg_err (*expand)(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *subkey);
    enum sg_err (*seal)(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv, const uint8_t *aad,
                        size_t aad_len, uint8_t *bytes, size_t len, uint8_t *tag);
    enum sg_err (*open)(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv, const uint8_t *aad,
                        size_t aad_len, uint8_t *bytes, size_t len, const uint8_t *tag);
    /* Overwrites what the back end itself keeps of the state; NULL if it keeps nothing. */
    void (*forget)(struct sg_aead_ctx *ctx, struct sg_aead_state *state);
};

/* NULL when memory is short or a library does not start. Freed with sg_aead_ctx_free, which accepts
 * NULL. */
struct sg_aead_ctx *sg_aead_ctx_new(void);
void sg_aead_ctx_free(struct sg_aead_ctx *ctx);

/*
 * The suite on that back end, or NULL if the build or the CPU does not have it. AUTO: the fastest
 * there is (suite 1: libipsec-mb, else OpenSSL; suite 2: libsodium).
 */
const struct sg_aead *sg_aead_find(uint16_t id, enum sg_backend backend);

/* The suites in this CPU's order, best first: with AES instructions suite 1, without them suite 2.
 */
enum { SG_SUITE_COUNT = 2 };
void sg_aead_preference(uint16_t out[static SG_SUITE_COUNT]);

static inline uint16_t sg_aead_id(const struct sg_aead *aead)
{
    return aead->id;
}

/* Fills state for a direction key (32 bytes) and the first 16 bytes of the nonce (channel id,
 * sender id). */
SG_MUST_CHECK enum sg_err sg_aead_derive(const struct sg_aead *aead, struct sg_aead_ctx *ctx,
                                         struct sg_aead_state *state, const uint8_t key[static SG_KEY_BYTES],
                                         const uint8_t nonce[static 16]);

/*
 * Seals len bytes in place under a state derived with the same first 16 bytes of the nonce, and
 * writes the tag. Lengths are below 2^30. CRYPTO if the library fails; the bytes are wiped then.
 */
SG_MUST_CHECK enum sg_err sg_aead_seal(const struct sg_aead *aead, struct sg_aead_ctx *ctx, struct sg_aead_state *state,
                                       const uint8_t nonce[static SG_RECORD_NONCE_BYTES], const uint8_t *aad,
                                       size_t aad_len, uint8_t *bytes, size_t len,
                                       uint8_t tag[static SG_RECORD_TAG_BYTES]);

/* Opens in place. FORGED if the tag does not match; bytes are wiped on any failure. */
SG_MUST_CHECK enum sg_err sg_aead_open(const struct sg_aead *aead, struct sg_aead_ctx *ctx, struct sg_aead_state *state,
                                       const uint8_t nonce[static SG_RECORD_NONCE_BYTES], const uint8_t *aad,
                                       size_t aad_len, uint8_t *bytes, size_t len,
                                       const uint8_t tag[static SG_RECORD_TAG_BYTES]);

/* Wipes the state, and what the back end keeps of it. */
void sg_aead_forget(const struct sg_aead *aead, struct sg_aead_ctx *ctx, struct sg_aead_state *state);

#endif
