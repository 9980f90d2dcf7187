/* Words for what ends a TLS connection, as sg_tls_error_text gives them. Each fills text. */
#ifndef SG_NET_TLS_TEXT_H
#define SG_NET_TLS_TEXT_H

#include <stdbool.h>

#include "net/tls.h"

/* Why the peer's certificate was refused (X509_V_ERR_...); server: this side is one, the peer a client. */
void sg_tls_verify_text(bool server, long result, char text[static SG_TLS_TEXT_MAX]);

/* An error of the SSL library, alerts of the peer too (RFC 8446 section 6). True when trying again cannot help. */
bool sg_tls_library_text(unsigned long code, bool established, char text[static SG_TLS_TEXT_MAX]);

/* An error of the socket (errno), or 0. */
void sg_tls_system_text(int error, bool established, char text[static SG_TLS_TEXT_MAX]);

#endif
