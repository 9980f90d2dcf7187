/* Moving a TLS connection from one event loop, and its thread, to another. */
#ifndef SG_NET_TLS_MOVE_H
#define SG_NET_TLS_MOVE_H

#include <stdbool.h>

struct bufferevent;
struct event_base;
struct sg_tls_parcel;

/* On the old loop, later, or when its base is freed: libevent has let go. The parcel is the callee's. */
typedef void sg_tls_detached_fn(void *ctx, struct sg_tls_parcel *parcel);

/*
 * Takes the connection out of a TLS bufferevent, whose handshake is done, and frees that. False when descriptors or
 * memory are short, or output is left that the socket does not take: fn is not called then, and the bufferevent is good
 * for being freed.
 */
bool sg_tls_detach(struct bufferevent *bev, sg_tls_detached_fn *fn, void *ctx);

/*
 * A bufferevent with the same connection on another loop, by its thread: without callbacks, reading and writing not
 * enabled, input as it was. Frees the parcel. NULL when memory is short: the connection is closed.
 */
struct bufferevent *sg_tls_attach(struct event_base *base, struct sg_tls_parcel *parcel);

/* Closes the connection. */
void sg_tls_parcel_free(struct sg_tls_parcel *parcel);

#endif
