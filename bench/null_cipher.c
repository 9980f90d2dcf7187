/*
 * Every back end, doing nothing: no key, no encryption, a tag of zeros that nobody looks at. Linked in front of the
 * core library this gives bench/sealgram-null, which shows what the engine costs without its cipher. It protects
 * nothing, so it is built with -Dbench=true only, is never installed, and cannot talk to a real server.
 */
#include <string.h>

#include "core/aead_backend.h"

/* What a part of a context points to: it only must not be NULL. */
static char something;

static bool start(void **part)
{
    *part = &something;
    return true;
}

static void stop(void *part)
{
    (void)part;
}

static bool is_available(void)
{
    return true;
}

static enum sg_err derive_subkey(struct sg_aead_ctx *ctx, const uint8_t *key, const uint8_t *nonce, uint8_t *subkey)
{
    (void)ctx, (void)key, (void)nonce;
    memset(subkey, 0, SG_KEY_BYTES);
    return SG_OK;
}

static void make_iv(const uint8_t *nonce, uint8_t *iv)
{
    memcpy(iv, nonce, SG_AEAD_IV_BYTES);
}

static enum sg_err expand(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *subkey)
{
    (void)ctx, (void)state, (void)subkey;
    return SG_OK;
}

static enum sg_err seal_nothing(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv,
                                const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, uint8_t *tag)
{
    (void)ctx, (void)state, (void)iv, (void)aad, (void)aad_len, (void)bytes, (void)len;
    memset(tag, 0, SG_RECORD_TAG_BYTES);
    return SG_OK;
}

static enum sg_err open_nothing(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv,
                                const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, const uint8_t *tag)
{
    (void)ctx, (void)state, (void)iv, (void)aad, (void)aad_len, (void)bytes, (void)len, (void)tag;
    return SG_OK;
}

#define NULL_BACKEND(which)                                                                                            \
    {                                                                                                                  \
        .backend = (which), .start = start, .stop = stop                                                               \
    }
#define NULL_SUITE(suite, which)                                                                                       \
    {                                                                                                                  \
        .id = (suite), .backend = (which), .name = "nothing", .backend_name = "null", .is_available = is_available,    \
        .derive_subkey = derive_subkey, .make_iv = make_iv, .expand = expand, .seal = seal_nothing,                    \
        .open = open_nothing                                                                                           \
    }

const struct sg_aead_backend sg_openssl_backend = NULL_BACKEND(SG_BACKEND_OPENSSL);
const struct sg_aead_backend sg_ipsecmb_backend = NULL_BACKEND(SG_BACKEND_IPSECMB);
const struct sg_aead_backend sg_sodium_backend = NULL_BACKEND(SG_BACKEND_SODIUM);

const struct sg_aead sg_openssl_xaes = NULL_SUITE(SG_SUITE_XAES_256_GCM, SG_BACKEND_OPENSSL);
const struct sg_aead sg_ipsecmb_xaes = NULL_SUITE(SG_SUITE_XAES_256_GCM, SG_BACKEND_IPSECMB);
const struct sg_aead sg_openssl_xchacha = NULL_SUITE(SG_SUITE_XCHACHA20_POLY1305, SG_BACKEND_OPENSSL);
const struct sg_aead sg_sodium_xchacha = NULL_SUITE(SG_SUITE_XCHACHA20_POLY1305, SG_BACKEND_SODIUM);
