/* The SOCKS5 server for local applications: CONNECT and BIND go to tunnels, UDP ASSOCIATE to the session. */
#ifndef SG_CLIENT_SOCKS_H
#define SG_CLIENT_SOCKS_H

#include <stdbool.h>

#include "core/addr.h"

struct sg_client;

/* Listens for applications. False with errno. *bound is the actual address. */
bool sg_socks_listen(struct sg_client *client, const struct sg_endpoint *listen, struct sg_endpoint *bound);

/* Ends the listeners, and the connections that are not tunnels. */
void sg_socks_free(struct sg_client *client);

#endif
