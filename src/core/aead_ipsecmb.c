/*
 * Suite 1 by libipsec-mb: the subkey's expanded form lies whole in the state, so a record costs one
 * call and no key schedule. The library's decryption returns the tag that it computed and checks
 * nothing: open_bytes compares it.
 */
#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>

#include "core/aead_backend.h"

static_assert(sizeof(struct gcm_key_data) <= SG_AEAD_STATE_BYTES, "the expanded key fits");
static_assert(alignof(struct gcm_key_data) <= SG_AEAD_STATE_ALIGN, "and is aligned");

/* The library also emulates AES without the instructions, by tables whose timing depends on
 * secrets: not for us. */
static bool is_available(void)
{
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
}

static bool start(void **part)
{
    *part = NULL;
    if (!is_available())
        return true;
    IMB_MGR *manager = alloc_mb_mgr(0);
    if (!manager)
        return false;
    init_mb_mgr_auto(manager, NULL);
    *part = manager;
    return imb_get_errno(manager) == 0;
}

static void stop(void *part)
{
    if (part)
        free_mb_mgr(part);
}

static enum sg_err expand(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *subkey)
{
    IMB_MGR *manager = ctx->part[SG_BACKEND_IPSECMB];
    IMB_AES256_GCM_PRE(manager, subkey, (struct gcm_key_data *)(void *)state);
    return SG_OK;
}

static enum sg_err seal_bytes(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv,
                              const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, uint8_t *tag)
{
    IMB_MGR *manager = ctx->part[SG_BACKEND_IPSECMB];
    struct gcm_context_data work;
    IMB_AES256_GCM_ENC(manager, (const struct gcm_key_data *)(void *)state, &work, bytes, bytes, len, iv, aad, aad_len,
                       tag, SG_RECORD_TAG_BYTES);
    return SG_OK;
}

static enum sg_err open_bytes(struct sg_aead_ctx *ctx, struct sg_aead_state *state, const uint8_t *iv,
                              const uint8_t *aad, size_t aad_len, uint8_t *bytes, size_t len, const uint8_t *tag)
{
    IMB_MGR *manager = ctx->part[SG_BACKEND_IPSECMB];
    struct gcm_context_data work;
    uint8_t computed[SG_RECORD_TAG_BYTES];
    IMB_AES256_GCM_DEC(manager, (const struct gcm_key_data *)(void *)state, &work, bytes, bytes, len, iv, aad, aad_len,
                       computed, sizeof computed);
    int differs = CRYPTO_memcmp(computed, tag, sizeof computed);
    OPENSSL_cleanse(computed, sizeof computed); /* what a forger would need for just these bytes */
    return differs ? SG_ERR_FORGED : SG_OK;
}

const struct sg_aead_backend sg_ipsecmb_backend = {.backend = SG_BACKEND_IPSECMB, .start = start, .stop = stop};

const struct sg_aead sg_ipsecmb_xaes = {
    .id = SG_SUITE_XAES_256_GCM,
    .backend = SG_BACKEND_IPSECMB,
    .name = "XAES-256-GCM",
    .backend_name = "libipsec-mb",
    .is_available = is_available,
    .derive_subkey = sg_xaes_derive_subkey,
    .make_iv = sg_xaes_make_iv,
    .expand = expand,
    .seal = seal_bytes,
    .open = open_bytes,
    .forget = NULL,
};
