/* The key schedule: three labels, one HKDF-Expand each (RFC 5869), by OpenSSL. */
#include "core/keys.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "core/wbuf.h"

enum { SHA256_BYTES = 32 };

void sg_keys_exporter_context(const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES], uint16_t suite,
                              uint8_t out[static SG_EXPORTER_CONTEXT_BYTES])
{
    struct sg_wbuf w = sg_wbuf_init(out, SG_EXPORTER_CONTEXT_BYTES);
    sg_wbuf_bytes(&w, channel_id, SG_RECORD_CHANNEL_BYTES);
    sg_wbuf_u16(&w, suite);
}

/* OSSL_PARAM has no const, though OpenSSL only reads inputs: the integer keeps -Wcast-qual quiet
 * about that. */
static OSSL_PARAM octets(const char *name, const void *bytes, size_t len)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)bytes, len);
}

enum sg_err sg_keys_expand(const uint8_t *prk, size_t prk_len, const void *info, size_t info_len, uint8_t *out,
                           size_t out_len)
{
    if (out_len == 0 || out_len > (size_t)255 * SHA256_BYTES)
        return SG_ERR_INVALID;
    enum sg_err err = SG_ERR_CRYPTO;
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        octets(OSSL_KDF_PARAM_KEY, prk, prk_len),
        octets(OSSL_KDF_PARAM_INFO, info, info_len),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    if (ctx && EVP_KDF_derive(ctx, out, out_len, params) == 1)
        err = SG_OK;
    else
        OPENSSL_cleanse(out, out_len);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return err;
}

static enum sg_err expand_label(const uint8_t *secret, const char *label, uint8_t *key)
{
    return sg_keys_expand(secret, SG_KEY_BYTES, label, strlen(label), key, SG_KEY_BYTES);
}

enum sg_err sg_keys_derive(uint8_t secret[static SG_KEY_BYTES], struct sg_direction_keys *keys)
{
    enum sg_err err = expand_label(secret, "sealgram1 c2s", keys->c2s);
    if (err == SG_OK)
        err = expand_label(secret, "sealgram1 s2c", keys->s2c);
    if (err == SG_OK)
        err = expand_label(secret, "sealgram1 pass", keys->pass);
    if (err != SG_OK)
        sg_keys_wipe(keys);
    OPENSSL_cleanse(secret, SG_KEY_BYTES);
    return err;
}

void sg_keys_wipe(struct sg_direction_keys *keys)
{
    OPENSSL_cleanse(keys, sizeof *keys);
}
