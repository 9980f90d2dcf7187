/*
 * Suite 2 by libsodium: HChaCha20 for the subkey, then ChaCha20-Poly1305 as RFC 8439 has it. The
 * state is the subkey itself; libsodium keeps nothing.
 */
#include <string.h>

#include <sodium.h>

#include "core/aead_backend.h"

static_assert(crypto_core_hchacha20_OUTPUTBYTES == SG_KEY_BYTES, "HChaCha20 gives a whole key");
static_assert(crypto_aead_chacha20poly1305_IETF_NPUBBYTES == SG_AEAD_IV_BYTES, "RFC 8439 nonce");

static bool start(void **part)
{
    *part = NULL;
    return sodium_init() >= 0; /* picks the implementations for this CPU; may be called again */
}

static void stop(void *part)
{
    (void)part;
}

static bool is_available(void)
{
    return true;
}

enum sg_err sg_xchacha_derive_subkey(struct sg_aead_ctx *ctx, const uint8_t *key, const uint8_t *nonce, uint8_t *subkey)
{
    (void)ctx;
    return crypto_core_hchacha20(subkey, nonce, key, NULL) == 0 ? SG_OK : SG_ERR_CRYPTO;
}

/* draft-irtf-cfrg-xchacha section 2.3: four zero bytes, then the last 8 of the 24. */
void sg_xchacha_make_iv(const uint8_t *nonce, uint8_t *iv)
{
    memset(iv, 0, 4);
    memcpy(iv + 4, nonce + 16, 8);
}

static enum sg_err expand(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *subkey)
{
    (void)ctx;
    memcpy(state->bytes, subkey, SG_KEY_BYTES);
    return SG_OK;
}

static enum sg_err seal_bytes(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv,
                              const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, uint8_t *tag)
{
    (void)ctx;
    int failed = crypto_aead_chacha20poly1305_ietf_encrypt_detached(bytes, tag, NULL, bytes, len, aad, aad_len, NULL,
                                                                    iv, state->bytes);
    return failed ? SG_ERR_CRYPTO : SG_OK;
}

/* libsodium verifies before it decrypts, in constant time. */
static enum sg_err open_bytes(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv,
                              const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, const uint8_t *tag)
{
    (void)ctx;
    int failed = crypto_aead_chacha20poly1305_ietf_decrypt_detached(bytes, NULL, bytes, len, tag, aad, aad_len, iv,
                                                                    state->bytes);
    return failed ? SG_ERR_FORGED : SG_OK;
}

const struct sg_aead_backend sg_sodium_backend = {.backend = SG_BACKEND_SODIUM, .start = start, .stop = stop};

const struct sg_aead sg_sodium_xchacha = {
    .id = SG_SUITE_XCHACHA20_POLY1305,
    .backend = SG_BACKEND_SODIUM,
    .name = "XChaCha20-Poly1305",
    .backend_name = "libsodium",
    .is_available = is_available,
    .derive_subkey = sg_xchacha_derive_subkey,
    .make_iv = sg_xchacha_make_iv,
    .expand = expand,
    .seal = seal_bytes,
    .open = open_bytes,
    .forget = NULL,
};
