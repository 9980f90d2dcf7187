/*
 * OpenSSL: AES-256-GCM where libipsec-mb is not, ChaCha20-Poly1305 as a cross-check of libsodium,
 * and the subkey of suite 1 for every back end.
 *
 * EVP keeps expanded keys in objects of its own. One object per sender id would mean thousands,
 * each with its key in ordinary heap; so a context has one for each cipher and direction, which is
 * given the key of the state in use whenever that changes (the state holds the key and a serial
 * number to tell by). Nothing is allocated after start.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "core/aead_backend.h"

enum direction { OPENING, SEALING };
enum cipher { GCM, CHACHA };

struct openssl_part {
    EVP_CIPHER_CTX *cipher[2][2]; /* [cipher][direction] */
    uint64_t keyed[2][2];         /* serial of the state whose key it has, 0: none */
    uint64_t last_serial;
    EVP_MAC_CTX *cmac;
};

struct openssl_state {
    uint64_t serial;
    uint8_t key[SG_KEY_BYTES];
};

static_assert(sizeof(struct openssl_state) <= SG_AEAD_STATE_BYTES, "the state fits");

static const uint8_t zero_key[SG_KEY_BYTES];

static void stop(void *opaque)
{
    struct openssl_part *part = opaque;
    if (!part)
        return;
    for (int c = 0; c < 2; c++)
        for (int d = 0; d < 2; d++)
            EVP_CIPHER_CTX_free(part->cipher[c][d]);
    EVP_MAC_CTX_free(part->cmac);
    free(part);
}

static EVP_CIPHER_CTX *new_cipher(const char *name, int direction)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *ctx = cipher ? EVP_CIPHER_CTX_new() : NULL;
    if (ctx && EVP_CipherInit_ex2(ctx, cipher, zero_key, NULL, direction, NULL) != 1) {
        EVP_CIPHER_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_CIPHER_free(cipher);
    return ctx;
}

static EVP_MAC_CTX *new_cmac(void)
{
    char cipher[] = "AES-256-CBC";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "CMAC", NULL);
    EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
    if (ctx && EVP_MAC_init(ctx, zero_key, sizeof zero_key, params) != 1) {
        EVP_MAC_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_MAC_free(mac);
    return ctx;
}

static bool start(void **out)
{
    static const char *const names[2] = {[GCM] = "AES-256-GCM", [CHACHA] = "ChaCha20-Poly1305"};
    struct openssl_part *part = calloc(1, sizeof *part);
    *out = part;
    if (!part)
        return false;
    bool made = true;
    for (int c = 0; c < 2; c++) {
        for (int d = 0; d < 2; d++) {
            part->cipher[c][d] = new_cipher(names[c], d);
            made = made && part->cipher[c][d];
        }
    }
    part->cmac = new_cmac();
    return made && part->cmac;
}

static bool is_available(void)
{
    return true;
}

/*
 * C2SP XAES-256-GCM: subkey block i is CMAC-AES256(K, 00 || i || 'X' || 00 || nonce[0..11]), which
 * is one whole block: the NIST SP 800-108r1 KDF in counter mode.
 */
enum sg_err sg_xaes_derive_subkey(struct sg_aead_ctx *ctx, const uint8_t *key, const uint8_t *nonce, uint8_t *subkey)
{
    struct openssl_part *part = ctx->part[SG_BACKEND_OPENSSL];
    bool good = true;
    for (uint8_t i = 0; i < 2; i++) {
        uint8_t block[16] = {0, (uint8_t)(i + 1), 'X', 0};
        size_t written = 0;
        memcpy(block + 4, nonce, 12);
        good = good && EVP_MAC_init(part->cmac, i == 0 ? key : NULL, i == 0 ? SG_KEY_BYTES : 0, NULL) == 1 &&
               EVP_MAC_update(part->cmac, block, sizeof block) == 1 &&
               EVP_MAC_final(part->cmac, subkey + 16 * i, &written, 16) == 1 && written == 16;
    }
    /* The direction key must not stay behind in OpenSSL's heap. */
    good = EVP_MAC_init(part->cmac, zero_key, sizeof zero_key, NULL) == 1 && good;
    return good ? SG_OK : SG_ERR_CRYPTO;
}

void sg_xaes_make_iv(const uint8_t *nonce, uint8_t *iv)
{
    memcpy(iv, nonce + 12, SG_AEAD_IV_BYTES);
}

static enum sg_err expand(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *subkey)
{
    struct openssl_part *part = ctx->part[SG_BACKEND_OPENSSL];
    struct openssl_state *own = (struct openssl_state *)(void *)state;
    own->serial = ++part->last_serial;
    memcpy(own->key, subkey, SG_KEY_BYTES);
    return SG_OK;
}

/* Up to the tag: key if it changed, IV, associated data, bytes in place. */
static bool run_cipher(struct openssl_part *part, enum cipher c, enum direction d, const struct openssl_state *own,
                       const uint8_t *iv, const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len)
{
    EVP_CIPHER_CTX *cipher = part->cipher[c][d];
    bool is_keyed = part->keyed[c][d] == own->serial;
    int written = 0;
    if (EVP_CipherInit_ex2(cipher, NULL, is_keyed ? NULL : own->key, iv, (int)d, NULL) != 1) {
        part->keyed[c][d] = 0;
        return false;
    }
    part->keyed[c][d] = own->serial;
    if (aad_len > 0 && EVP_CipherUpdate(cipher, NULL, &written, aad, (int)aad_len) != 1)
        return false;
    return len == 0 || EVP_CipherUpdate(cipher, bytes, &written, bytes, (int)len) == 1;
}

static enum sg_err seal_with(struct sg_aead_ctx *ctx, enum cipher c, struct sg_aead_state *state, const uint8_t *iv,
                             const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, uint8_t *tag)
{
    struct openssl_part *part = ctx->part[SG_BACKEND_OPENSSL];
    EVP_CIPHER_CTX *cipher = part->cipher[c][SEALING];
    int written = 0;
    if (!run_cipher(part, c, SEALING, (struct openssl_state *)(void *)state, iv, aad, aad_len, bytes, len) ||
        EVP_CipherFinal_ex(cipher, bytes + len, &written) != 1 ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, SG_RECORD_TAG_BYTES, tag) != 1)
        return SG_ERR_CRYPTO;
    return SG_OK;
}

/* The final call compares the tag, in constant time. */
static enum sg_err open_with(struct sg_aead_ctx *ctx, enum cipher c, struct sg_aead_state *state, const uint8_t *iv,
                             const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, const uint8_t *tag)
{
    struct openssl_part *part = ctx->part[SG_BACKEND_OPENSSL];
    EVP_CIPHER_CTX *cipher = part->cipher[c][OPENING];
    uint8_t expected[SG_RECORD_TAG_BYTES];
    int written = 0;
    memcpy(expected, tag, sizeof expected); /* the call takes no const */
    if (!run_cipher(part, c, OPENING, (struct openssl_state *)(void *)state, iv, aad, aad_len, bytes, len) ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, SG_RECORD_TAG_BYTES, expected) != 1)
        return SG_ERR_CRYPTO;
    return EVP_CipherFinal_ex(cipher, bytes + len, &written) == 1 ? SG_OK : SG_ERR_FORGED;
}

static enum sg_err seal_gcm(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv, const uint8_t *aad,
                            size_t aad_len, uint8_t *bytes, size_t len, uint8_t *tag)
{
    return seal_with(ctx, GCM, state, iv, aad, aad_len, bytes, len, tag);
}

static enum sg_err open_gcm(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv, const uint8_t *aad,
                            size_t aad_len, uint8_t *bytes, size_t len, const uint8_t *tag)
{
    return open_with(ctx, GCM, state, iv, aad, aad_len, bytes, len, tag);
}

static enum sg_err seal_chacha(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv,
                               const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, uint8_t *tag)
{
    return seal_with(ctx, CHACHA, state, iv, aad, aad_len, bytes, len, tag);
}

static enum sg_err open_chacha(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv,
                               const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, const uint8_t *tag)
{
    return open_with(ctx, CHACHA, state, iv, aad, aad_len, bytes, len, tag);
}

static void forget(struct sg_aead_ctx *ctx, struct sg_aead_state *state)
{
    struct openssl_part *part = ctx->part[SG_BACKEND_OPENSSL];
    const struct openssl_state *own = (struct openssl_state *)(void *)state;
    for (int c = 0; c < 2; c++) {
        for (int d = 0; d < 2; d++) {
            if (own->serial == 0 || part->keyed[c][d] != own->serial)
                continue;
            (void)EVP_CipherInit_ex2(part->cipher[c][d], NULL, zero_key, NULL, d, NULL);
            part->keyed[c][d] = 0;
        }
    }
}

const struct sg_aead_backend sg_openssl_backend = {.backend = SG_BACKEND_OPENSSL, .start = start, .stop = stop};

const struct sg_aead sg_openssl_xaes = {
    .id = SG_SUITE_XAES_256_GCM,
    .backend = SG_BACKEND_OPENSSL,
    .name = "XAES-256-GCM",
    .backend_name = "openssl",
    .is_available = is_available,
    .derive_subkey = sg_xaes_derive_subkey,
    .make_iv = sg_xaes_make_iv,
    .expand = expand,
    .seal = seal_gcm,
    .open = open_gcm,
    .forget = forget,
};

const struct sg_aead sg_openssl_xchacha = {
    .id = SG_SUITE_XCHACHA20_POLY1305,
    .backend = SG_BACKEND_OPENSSL,
    .name = "XChaCha20-Poly1305",
    .backend_name = "openssl",
    .is_available = is_available,
    .derive_subkey = sg_xchacha_derive_subkey,
    .make_iv = sg_xchacha_make_iv,
    .expand = expand,
    .seal = seal_chacha,
    .open = open_chacha,
    .forget = forget,
};
