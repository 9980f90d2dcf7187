/* The TLS extension by which a client shows something of its session (core/pass.h, docs/protocol.md section 3.1). */
#ifndef SG_NET_TLS_PASS_H
#define SG_NET_TLS_PASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

/* Connections of this context, of a client or a server, may show passes. False: memory is short. */
bool sg_tls_pass_allow(SSL_CTX *tls);

/* The connection's ClientHello will show these bytes (copied). False: memory is short. */
bool sg_tls_pass_set(SSL *client, const uint8_t *pass, size_t len);

/* In the callback for a ClientHello: what it shows, of OpenSSL's memory, or NULL. */
const uint8_t *sg_tls_pass_get(SSL *server, size_t *len);

#endif
