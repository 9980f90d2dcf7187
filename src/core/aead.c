/*
 * The table of suites and back ends, and the steps that all of them share: subkey, expansion, and
 * wiping whatever did not verify.
 */
#include "core/aead.h"

#include <stdlib.h>

#include <sodium.h>
#include <sys/auxv.h>

#include "core/aead_backend.h"

/* Best first for each suite. */
static const struct sg_aead *const suites[] = {
#ifdef SG_HAVE_IPSECMB
    &sg_ipsecmb_xaes,
#endif
    &sg_openssl_xaes,
    &sg_sodium_xchacha,
    &sg_openssl_xchacha,
};

static const struct sg_aead_backend *const backends[] = {
#ifdef SG_HAVE_IPSECMB
    &sg_ipsecmb_backend,
#endif
    &sg_openssl_backend,
    &sg_sodium_backend,
};

enum { SUITES = sizeof suites / sizeof suites[0], BACKENDS = sizeof backends / sizeof backends[0] };

struct sg_aead_ctx *sg_aead_ctx_new(void)
{
    struct sg_aead_ctx *ctx = calloc(1, sizeof *ctx);
    for (size_t i = 0; ctx && i < BACKENDS; i++) {
        if (!backends[i]->start(&ctx->part[backends[i]->backend])) {
            sg_aead_ctx_free(ctx);
            return NULL;
        }
    }
    return ctx;
}

void sg_aead_ctx_free(struct sg_aead_ctx *ctx)
{
    for (size_t i = 0; ctx && i < BACKENDS; i++)
        backends[i]->stop(ctx->part[backends[i]->backend]);
    free(ctx);
}

const struct sg_aead *sg_aead_find(uint16_t id, enum sg_backend backend)
{
    for (size_t i = 0; i < SUITES; i++) {
        if (suites[i]->id != id || (backend != SG_BACKEND_AUTO && suites[i]->backend != backend))
            continue;
        if (suites[i]->is_available())
            return suites[i];
    }
    return NULL;
}

/* Instructions for AES and for the multiplication of GCM. */
#ifdef __aarch64__
static bool has_aes(void)
{
    const unsigned long needed = HWCAP_AES | HWCAP_PMULL;
    return (getauxval(AT_HWCAP) & needed) == needed;
}
#else
/* libsodium's AES-256-GCM wants the same ones, and answers without a look at the CPU's name. That
 * of Debian 12 and 13 knows x86 only. */
static bool has_aes(void)
{
    return crypto_aead_aes256gcm_is_available();
}
#endif

void sg_aead_preference(uint16_t out[static SG_SUITE_COUNT])
{
    bool aes_first = has_aes();
    out[0] = aes_first ? SG_SUITE_XAES_256_GCM : SG_SUITE_XCHACHA20_POLY1305;
    out[1] = aes_first ? SG_SUITE_XCHACHA20_POLY1305 : SG_SUITE_XAES_256_GCM;
}

enum sg_err sg_aead_derive(const struct sg_aead *aead, struct sg_aead_ctx *ctx, struct sg_aead_state *state,
                           const uint8_t key[static SG_KEY_BYTES], const uint8_t nonce[static 16])
{
    uint8_t subkey[SG_KEY_BYTES];
    enum sg_err err = aead->derive_subkey(ctx, key, nonce, subkey);
    if (err == SG_OK)
        err = aead->expand(ctx, state, subkey);
    sodium_memzero(subkey, sizeof subkey);
    return err;
}

enum sg_err sg_aead_seal(const struct sg_aead *aead, struct sg_aead_ctx *ctx, struct sg_aead_state *state,
                         const uint8_t nonce[static SG_RECORD_NONCE_BYTES], const uint8_t *aad, size_t aad_len,
                         uint8_t *bytes, size_t len, uint8_t tag[static SG_RECORD_TAG_BYTES])
{
    uint8_t iv[SG_AEAD_IV_BYTES];
    aead->make_iv(nonce, iv);
    enum sg_err err = aead->seal(ctx, state, iv, aad, aad_len, bytes, len, tag);
    if (err != SG_OK)
        sodium_memzero(bytes, len);
    return err;
}

enum sg_err sg_aead_open(const struct sg_aead *aead, struct sg_aead_ctx *ctx, struct sg_aead_state *state,
                         const uint8_t nonce[static SG_RECORD_NONCE_BYTES], const uint8_t *aad, size_t aad_len,
                         uint8_t *bytes, size_t len, const uint8_t tag[static SG_RECORD_TAG_BYTES])
{
    uint8_t iv[SG_AEAD_IV_BYTES];
    aead->make_iv(nonce, iv);
    enum sg_err err = aead->open(ctx, state, iv, aad, aad_len, bytes, len, tag);
    if (err != SG_OK)
        sodium_memzero(bytes, len);
    return err;
}

void sg_aead_forget(const struct sg_aead *aead, struct sg_aead_ctx *ctx, struct sg_aead_state *state)
{
    if (aead->forget)
        aead->forget(ctx, state);
    sodium_memzero(state, sizeof *state);
}
