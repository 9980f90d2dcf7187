/* What a server reads from the certificate of a client, after the handshake verified it. */
#ifndef SG_NET_TLS_CLIENT_CERT_H
#define SG_NET_TLS_CLIENT_CERT_H

#include <stdbool.h>

#include "net/tls.h"

struct bufferevent;

/* The subject's CN; false if there is no verified certificate, or not exactly one CN. */
bool sg_tls_client_name(struct bufferevent *bev, char name[static SG_TLS_NAME_MAX + 1]);

enum sg_tls_cert_name { SG_TLS_CERT_DNS, SG_TLS_CERT_EMAIL, SG_TLS_CERT_URI, SG_TLS_CERT_SUBJECT };

/*
 * True if the verified certificate has this name: one of its subject alternative names (a dNSName in any case of its
 * letters, and never by a wildcard; the others to the letter), or the whole subject as RFC 2253 writes it.
 */
bool sg_tls_client_has(struct bufferevent *bev, enum sg_tls_cert_name kind, const char *value);

/*
 * From now on certificates are checked against the revocation lists of a file (PEM): one that is revoked, and one whose
 * issuer has no list, or an outdated one, fails the handshake. False: text has the file and the cause.
 */
bool sg_tls_add_crl(SSL_CTX *ctx, const char *file, char text[static SG_TLS_TEXT_MAX]);

#endif
