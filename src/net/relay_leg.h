/*
 * One leg of a relay: a connected socket, with TLS or not, as a source and a sink of bytes, and what has become of
 * either. It waits for nothing; who owns it does.
 *
 * A leg whose output is broken takes every byte and drops it: what its peer sent before may still be read.
 */
#ifndef SG_NET_RELAY_LEG_H
#define SG_NET_RELAY_LEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

struct bufferevent;
struct evbuffer;

enum sg_leg_state {
    SG_LEG_OPEN,
    SG_LEG_ENDED, /* in good order: all that was to come has come, or was handed to the kernel */
    SG_LEG_BROKEN,
};

struct sg_leg {
    struct bufferevent *bev; /* owns socket and TLS */
    int fd;
    SSL *ssl;                 /* or NULL */
    struct evbuffer *unsent;  /* of TLS */
    enum sg_leg_state input;  /* what its peer says */
    enum sg_leg_state output; /* what we say */
    bool has_more;            /* may be read on, though its socket need not say so */
    bool needs_input;         /* TLS writes no more before a message that has begun was read */
    bool has_ended_before_error;
};

/* Takes a bufferevent from libevent, which neither reads nor writes it any more. False: memory is short. */
bool sg_leg_take(struct sg_leg *leg, struct bufferevent *bev);

/* Up to size bytes while the input is open: their number, and then input and has_more. TLS may have to send something
 * then. */
size_t sg_leg_read(struct sg_leg *leg, uint8_t *bytes, size_t size);

/*
 * As many of the bytes as it takes now: their number. The rest has to come again, first and as it was: when there is
 * room, or if needs_input is set, after a read.
 */
size_t sg_leg_write(struct sg_leg *leg, const uint8_t *bytes, size_t len);

/*
 * Tells the peer that no more will come: output is ENDED, or BROKEN if that cannot be said. False: again after a read,
 * which needs_input says. Input goes on, and so do the answers that TLS owes to it: the socket's writing side is shut
 * for a plain leg only.
 */
bool sg_leg_end(struct sg_leg *leg);

/* Sends what TLS has to send, and the socket had no room for. */
void sg_leg_flush(struct sg_leg *leg);
/* How much that is. */
size_t sg_leg_unsent(const struct sg_leg *leg);

/*
 * For a leg whose input is over and whose socket became readable: throws away what still comes, so that closing does
 * not turn into a reset, and notices an error, by which the output is broken.
 */
void sg_leg_look(struct sg_leg *leg);

/* True once the peer's kernel has acknowledged everything that was sent, or the connection is no more. */
bool sg_leg_is_delivered(const struct sg_leg *leg);

/*
 * True if the peer's machine has given no sign for three minutes although something waits for its acknowledgement. A
 * reader that pauses gives one at least every two minutes, as the kernel asks for room.
 */
bool sg_leg_is_deserted(const struct sg_leg *leg);
/* Both ways are broken. */
void sg_leg_fail(struct sg_leg *leg);

/* The next close of the socket sends RST: the peer must not take what it has for all there was. */
void sg_leg_arm_reset(const struct sg_leg *leg);

#endif
