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
 * when the server cannot be reached (01). The connection counts for client->connection_count until it ends.
 */
void sg_tunnel_start(struct sg_client *client, struct bufferevent *app, uint8_t cmd, const struct sg_target *target);

/* A TCP forward: each connection to listen is carried to target. False with errno. *bound is the actual address. */
bool sg_tunnel_listen(struct sg_client *client, const struct sg_endpoint *listen, const struct sg_target *target,
                      struct sg_endpoint *bound);

/* Ends all tunnels and TCP forwards. */
void sg_tunnel_free_all(struct sg_client *client);

#endif
