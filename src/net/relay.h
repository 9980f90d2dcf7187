/*
 * Two byte streams joined: at most 256 KiB buffered each way, half-close carried both ways, an error or a truncated
 * TLS stream on one leg resets the other.
 */
#ifndef SG_NET_RELAY_H
#define SG_NET_RELAY_H

#include <stdint.h>

struct bufferevent;
struct sg_relay;

/* The relay is over; its struct and both bufferevents are freed. */
typedef void sg_relay_fn(void *ctx);

/*
 * Takes both bufferevents over, their inputs included. fn is called once, later, unless sg_relay_free comes first. A
 * relay in which nothing moves for an hour ends. NULL when memory is short: both are freed then.
 */
struct sg_relay *sg_relay_start(struct bufferevent *a, struct bufferevent *b, sg_relay_fn *fn, void *ctx);
/* Ends it by a reset of both legs; fn is not called. */
void sg_relay_free(struct sg_relay *relay);

#endif
