/* What the back ends show to aead.c and to each other: their descriptors, and start and stop of
 * their part of a context. */
#ifndef SG_CORE_AEAD_BACKEND_H
#define SG_CORE_AEAD_BACKEND_H

#include "core/aead.h"

/* start returns false when memory is short or the library fails; stop accepts NULL. */
struct sg_aead_backend {
    enum sg_backend backend;
    bool (*start)(void **part);
    void (*stop)(void *part);
};

extern const struct sg_aead_backend sg_openssl_backend;
extern const struct sg_aead_backend sg_ipsecmb_backend;
extern const struct sg_aead_backend sg_sodium_backend;

extern const struct sg_aead sg_openssl_xaes;
extern const struct sg_aead sg_openssl_xchacha;
extern const struct sg_aead sg_ipsecmb_xaes;
extern const struct sg_aead sg_sodium_xchacha;

/* XAES-256-GCM's subkey and IV, HChaCha20 and the IV after it: the same on every back end. */
enum sg_err sg_xaes_derive_subkey(struct sg_aead_ctx *ctx, const uint8_t *key, const uint8_t *nonce, uint8_t *subkey);
void sg_xaes_make_iv(const uint8_t *nonce, uint8_t *iv);
enum sg_err sg_xchacha_derive_subkey(struct sg_aead_ctx *ctx, const uint8_t *key, const uint8_t *nonce,
                                     uint8_t *subkey);
void sg_xchacha_make_iv(const uint8_t *nonce, uint8_t *iv);

#endif
