/*
 * TCP of local applications through the server: CONNECT, BIND, and static forwards, each on a TLS connection of its
 * own.
 */
#ifndef SG_CLIENT_TUNNEL_H
#define SG_CLIENT_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct bufferevent;
struct sg_client;
struct sg_endpoint;
struct sg_target;

/*
 * Carries out CONNECT or BIND for an application and takes over its bufferevent, whose input holds what came after the
 * request: that is kept, and sent once the target is connected. The server's replies are passed on code for code, also
 * when the server cannot be reached (01). A server has room for a number of connections at once that are not
 * authenticated: what is more waits for its turn here, and what is turned away is tried again, both for 20 s at most.
 * The connection counts for client->connection_count until it ends.
 */
void sg_tunnel_start(struct sg_client *client, struct bufferevent *app, uint8_t cmd, const struct sg_target *target);

/* A TCP forward: each connection to listen is carried to target. False with errno. *bound is the actual address. */
bool sg_tunnel_listen(struct sg_client *client, const struct sg_endpoint *listen, const struct sg_target *target,
                      struct sg_endpoint *bound);

/* Before any tunnel. False: memory is short. */
bool sg_tunnels_init(struct sg_client *client);

/* There may be room for a tunnel that waits: looked at soon. */
void sg_tunnel_wake(struct sg_client *client);

/* Ends all tunnels and TCP forwards. */
void sg_tunnel_free_all(struct sg_client *client);

#endif
