/*
 * Handshakes of a server's loop. Whoever can connect can ask for public-key work, and a loop has datagrams to carry
 * beside it. So what costs little is done as it comes, a part of it in each turn of the loop. What costs much begins
 * with a whole ClientHello: at that point the owner says when it may begin, and a turn does about a millisecond of it,
 * one handshake at least; the rest wait for the turns after it, between which the loop does all else that it has to do.
 */
#ifndef SG_NET_TLS_GATE_H
#define SG_NET_TLS_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

struct bufferevent;
struct event_base;
struct sg_tls_entry; /* one handshake */
struct sg_tls_gate;  /* of one loop */

/* At most rate handshakes a second begin. NULL: memory is short. Freed after its last entry ended; accepts NULL. */
struct sg_tls_gate *sg_tls_gate_new(struct event_base *base, unsigned rate);
void sg_tls_gate_set_rate(struct sg_tls_gate *gate, unsigned rate);
void sg_tls_gate_free(struct sg_tls_gate *gate);

/* When a handshake may go on, in microseconds of net/clock.h, and its place among those that may: the lowest first. */
struct sg_tls_start {
    uint64_t at_us, order;
};

/* What the owner of an entry hears. It must not cancel the entry while it is called. */
struct sg_tls_entry_ops {
    /*
     * A whole ClientHello is there, nothing was computed; twice, if the client had to send another (RFC 8446 section
     * 4.1.4). pass is what it shows (net/tls_pass.h), or NULL. False: the connection ends. Else *start is set.
     */
    bool (*hello)(void *ctx, const uint8_t *pass, size_t len, struct sg_tls_start *start);
    /*
     * Once, the entry is gone then: a bufferevent whose handshake is done, the owner's, without callbacks, reading and
     * writing not enabled. Or NULL, and text has the reason in words.
     */
    void (*done)(void *ctx, struct bufferevent *bev, const char *text);
};

/* Takes over fd, connected and non-blocking (closed on failure, too: NULL). done is not called before it returns. */
struct sg_tls_entry *sg_tls_gate_enter(struct sg_tls_gate *gate, SSL_CTX *tls, int fd,
                                       const struct sg_tls_entry_ops *ops, void *ctx);
/* Ends it, and closes the connection. */
void sg_tls_gate_cancel(struct sg_tls_entry *entry);

/* For sg_tls_server_ctx: stops each handshake of this context that has come through a gate at its ClientHello. */
void sg_tls_gate_watch(SSL_CTX *tls);

#endif
