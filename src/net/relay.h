/*
 * Two byte streams joined: at most 512 KiB buffered each way, half-close carried both ways. An error or a truncated TLS
 * stream on one leg resets the other, once its peer has acknowledged all that had come before.
 */
#ifndef SG_NET_RELAY_H
#define SG_NET_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bufferevent;
struct sg_relay;

/* The relay is over; its struct and both bufferevents are freed. */
typedef void sg_relay_fn(void *ctx);

/* For how long a relay in which nothing moves is kept by default (RFC 5382: not less than 2 h 4 min). */
enum { SG_RELAY_IDLE_S = 4 * 3600, SG_RELAY_IDLE_MAX_S = 7 * 86400 };

/*
 * Takes both bufferevents over, their inputs included. fn is called once, later, unless sg_relay_free comes first. A
 * relay in which nothing moves for idle_ms ends, and one whose leg leaves what was sent without any answer for three
 * minutes. NULL when memory is short: both are freed then.
 */
struct sg_relay *sg_relay_start(struct bufferevent *a, struct bufferevent *b, uint64_t idle_ms, sg_relay_fn *fn,
                                void *ctx);

/* Holds reading back. from_b: of the two legs, the one that is read. */
struct sg_relay_shaper {
    /* How many bytes may be read now. 0: *wait_ms says when to ask again, SG_RELAY_OVER that the relay must end. */
    size_t (*room)(void *ctx, bool from_b, uint32_t *wait_ms);
    /* So many were read. */
    void (*pay)(void *ctx, bool from_b, size_t bytes);
};
#define SG_RELAY_OVER UINT32_MAX
/* Before the event loop goes on: what is buffered already is paid for at once. */
void sg_relay_shape(struct sg_relay *relay, const struct sg_relay_shaper *shaper, void *ctx);
/* Ends it by a reset of both legs; fn is not called. */
void sg_relay_free(struct sg_relay *relay);

#endif
