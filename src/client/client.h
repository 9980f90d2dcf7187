/*
 * The client: local SOCKS server and forwards on one side, the session and connections to the server on the other. One
 * thread, one event loop; everything in src/client hangs on struct sg_client.
 */
#ifndef SG_CLIENT_CLIENT_H
#define SG_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "core/addr.h"

struct event;
struct event_base;
struct sg_invite;
struct sg_resolver;
struct sg_socks_server;
struct sg_status_socket;
struct sg_tunnel;
struct sg_tunnel_forward;
struct sg_uplink;

/* `--forward PROTO:LISTEN=TARGET`. A name in target points into memory that outlives the client. */
struct sg_client_forward {
    bool udp;
    struct sg_endpoint listen;
    struct sg_target target;
};

/* What the command line asks for. Everything is borrowed until sg_client_run returns. */
struct sg_client_options {
    const struct sg_endpoint *socks; /* listen addresses of the SOCKS server; none: no SOCKS server */
    size_t socks_count;
    const struct sg_client_forward *forwards;
    size_t forward_count;
    const struct sg_invite *invites; /* in order of preference, at least one */
    size_t invite_count;
    const char *socks_user; /* both or neither: what local applications must present */
    const char *socks_password;
    const char *ca_file; /* for invites without a pin; NULL: the system's */
    const char *certificate;
    const char *key;
    const char *status_socket; /* path, or NULL for none */
};

/* One invite of the list, and the TLS context that knows its server. */
struct sg_client_server {
    const struct sg_invite *invite;
    SSL_CTX *tls;
    bool refused; /* at its last attempt, in a way that trying again does not help */
};

struct sg_client {
    struct event_base *base;
    struct sg_resolver *resolver;
    const struct sg_client_options *options;
    struct sg_client_server *servers;
    size_t server_count;
    size_t current; /* the server in use, or the next to try */
    struct sg_uplink *uplink;
    struct sg_socks_server *socks;
    struct sg_status_socket *status;
    struct sg_tunnel_forward *tcp_forwards;
    struct sg_tunnel *tunnels; /* CONNECT, BIND and TCP forwards in flight or running */
    struct event *signals[2];
    size_t tunnel_count;
    size_t connection_limit; /* local TCP connections, by the limit of open files */
    size_t connection_count;
    uint64_t tls_handshakes;
    uint64_t tunnels_opened;
    char *announce; /* what the ready line says of the listeners */
    int exit_code;
};

/*
 * Runs a client until SIGTERM or SIGINT. Prints the line `ready ...` on standard output once datagrams can be carried,
 * logs everything else. Returns the exit code: 0 after a signal, 1 after an error that was logged.
 */
int sg_client_run(const struct sg_client_options *options);

/* True for 127.0.0.0/8 and ::1: an address that only this machine's programs reach. */
bool sg_client_is_local(const struct sg_ip *ip);

#endif
