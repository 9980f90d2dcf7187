/*
 * TLS 1.3 for both roles: contexts, bufferevents, identity, and the exporter. Everything that
 * touches OpenSSL's SSL objects outside the record layer lives here.
 *
 * Reading from these bufferevents is stopped with bufferevent_disable, never by a high watermark: libevent 2.1.12
 * forgets what a watermark leaves inside OpenSSL until the socket has more. One read brings a TLS record at most.
 */
#ifndef SG_NET_TLS_H
#define SG_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/ssl.h>

#include "core/err.h"

struct bufferevent;
struct event_base;

enum { SG_TLS_PIN_BYTES = 32, SG_TLS_NAME_MAX = 64, SG_TLS_TEXT_MAX = 256 };

/* ALPN of a connection, as the server sees it after the handshake. */
enum sg_tls_alpn { SG_TLS_ALPN_NONE, SG_TLS_ALPN_SOCKS5, SG_TLS_ALPN_SEALGRAM };

/*
 * A server context: TLS 1.3 only, groups X25519 and P-256 (and X25519MLKEM768 where OpenSSL has it, before them; the
 * same for clients), no tickets, no early data, ALPN `sealgram/1` and `socks5` (others refused). client_ca may be NULL;
 * if given, a client certificate is asked for (not demanded) and verified against it. On failure NULL, and one line
 * (file and cause) in text. The caller frees with SSL_CTX_free.
 */
SSL_CTX *sg_tls_server_ctx(const char *certificate, const char *key, const char *client_ca,
                           char text[static SG_TLS_TEXT_MAX]);

/* How a client knows its server, and who it is itself. Pointers are borrowed for the call. */
struct sg_tls_client_options {
    bool has_pin;
    uint8_t pin[SG_TLS_PIN_BYTES]; /* SHA-256 of the server's SubjectPublicKeyInfo; then name and
                                      dates do not matter */
    const char *ca_file;           /* without a pin: the CA file, or NULL for the system's */
    const char *certificate;       /* own certificate and key (PEM), or NULL */
    const char *key;
};

/* A client context for ALPN `sealgram/1`. On failure NULL and one line in text. Freed with
 * SSL_CTX_free. */
SSL_CTX *sg_tls_client_ctx(const struct sg_tls_client_options *options, char text[static SG_TLS_TEXT_MAX]);

/*
 * The client's side of a connection: a TLS bufferevent over a connected non-blocking socket that it then owns (closed
 * with it, also on failure = NULL). Callbacks and reading are not enabled. host (a name or an IP's text) is for SNI and
 * the check of the name; pass (NULL: none) is shown in the clear (net/tls_pass.h). The server's side is net/tls_gate.h.
 */
struct bufferevent *sg_tls_connect(struct event_base *base, SSL_CTX *ctx, int fd, const char *host, const uint8_t *pass,
                                   size_t pass_len);

/* After the handshake; the client's certificate is net/tls_client_cert.h. */
enum sg_tls_alpn sg_tls_alpn(struct bufferevent *bev);

/* The 32-byte exporter secret of a channel (docs/protocol.md section 5.1). The caller wipes it. */
SG_MUST_CHECK enum sg_err sg_tls_export(struct bufferevent *bev, const uint8_t channel_id[static 8], uint16_t suite,
                                        uint8_t secret[static 32]);

/*
 * One line on why a connection failed, in words for a user: "server's certificate has expired",
 * "server's key does not match the pin in the invite", "connection refused", "handshake ended by
 * the peer". Call it in the event callback: it reads errno, and reads and clears the bufferevent's
 * OpenSSL errors. what is the callback's BEV_EVENT mask. Returns true when trying again cannot
 * help: the peer's identity was refused, or there is no common protocol.
 */
bool sg_tls_error_text(struct bufferevent *bev, short what, char text[static SG_TLS_TEXT_MAX]);

/* The same on why a handshake failed, right after the call of OpenSSL that said so, and left this errno. */
void sg_tls_handshake_text(const SSL *ssl, int error, char text[static SG_TLS_TEXT_MAX]);

/*
 * Sends close_notify; reading goes on (TLS 1.3 half-close), writing is over. True when it is out,
 * and always for a plain bufferevent. False when output or socket are full just now: the write
 * callback is called once there is room, and asks again.
 */
bool sg_tls_close_write(struct bufferevent *bev);

/* True once the peer said close_notify: it will send no more, and libevent may not say so again. Never for a plain
 * bufferevent, whose end can be read as often as wanted. */
bool sg_tls_input_ended(struct bufferevent *bev);

/*
 * Writes as much output as the socket takes now, without the event loop (plain bufferevents too). The bufferevent is
 * good only for sg_tls_close_write and bufferevent_free afterwards.
 */
void sg_tls_write_now(struct bufferevent *bev);

#endif
