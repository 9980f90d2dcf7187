/*
 * The server's own key and certificate: made by `sealgram init`, renewed with the same key, pinned by its public key.
 */
#ifndef SG_NET_CERT_H
#define SG_NET_CERT_H

#include <stdint.h>

#include "core/err.h"

enum { SG_CERT_PIN_BYTES = 32, SG_CERT_ERROR_MAX = 512 };

/* Writes a new P-256 key (mode 0600) to key_path, which must not exist. error: path and cause. */
SG_MUST_CHECK enum sg_err sg_cert_make_key(const char *key_path, char error[static SG_CERT_ERROR_MAX]);

/*
 * Writes a self-signed certificate of the key for host (name or IP: its subjectAltName), valid for 10 years from now,
 * replacing cert_path whole. The caller has checked host with sg_invite_host_is_valid. MALFORMED: no usable key;
 * SYSTEM: it could not be made or written. error: path and cause.
 */
SG_MUST_CHECK enum sg_err sg_cert_make(const char *key_path, const char *cert_path, const char *host,
                                       char error[static SG_CERT_ERROR_MAX]);

/* The pin of a certificate file: SHA-256 of its SubjectPublicKeyInfo. */
SG_MUST_CHECK enum sg_err sg_cert_pin(const char *cert_path, uint8_t pin[static SG_CERT_PIN_BYTES],
                                      char error[static SG_CERT_ERROR_MAX]);

/* Checks the pair before a server uses it: both readable, the key 0600, they belong together, the dates hold. */
SG_MUST_CHECK enum sg_err sg_cert_check(const char *key_path, const char *cert_path,
                                        char error[static SG_CERT_ERROR_MAX]);

#endif
