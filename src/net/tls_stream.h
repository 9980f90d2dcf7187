/*
 * TLS of a bufferevent (net/tls.h) for an owner that reads the socket by itself. OpenSSL sends, and what the socket
 * does not take goes into a buffer, so that it never waits for room: a record that is half sent would forbid it to
 * answer a change of keys, and one that cannot be sent any more to read what the peer said before.
 */
#ifndef SG_NET_TLS_STREAM_H
#define SG_NET_TLS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/ssl.h>

struct bufferevent;
struct evbuffer;

/*
 * For an owner that disabled reading and writing in the bufferevent: its SSL, NULL for a plain one; it stays the
 * bufferevent's. *unsent is what the socket did not take, which the owner has to send after each call below; it
 * goes with the SSL. False: memory is short.
 */
bool sg_tls_take(struct bufferevent *bev, SSL **ssl, struct evbuffer **unsent);

enum sg_tls_input {
    SG_TLS_DRY,    /* no more now: the socket says when there is */
    SG_TLS_MORE,   /* there may be more, and the socket need not say so */
    SG_TLS_ENDED,  /* close_notify came */
    SG_TLS_CUT,    /* the socket ended without it, or with an error; writing may go on */
    SG_TLS_BROKEN, /* this is no TLS */
};

/* Up to size bytes: their number, and what comes after them. Answers to the peer may have come to unsent. */
size_t sg_tls_read(SSL *ssl, uint8_t *bytes, size_t size, enum sg_tls_input *input);

/*
 * The number of bytes that were sealed, and sent or put into unsent; -1 if TLS is broken. Fewer than len: a message of
 * TLS has begun that must be read first; then the rest has to come again, as it was.
 */
ssize_t sg_tls_write(SSL *ssl, const uint8_t *bytes, size_t len);

/* Seals close_notify; nothing is written after it, and reading goes on. 1, or 0 and -1 as in sg_tls_write. */
int sg_tls_end(SSL *ssl);

#endif
