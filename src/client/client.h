/*
 * The client: local SOCKS server and forwards on one side, the session and connections to the server on the other. One
 * event loop, one session; everything in src/client hangs on struct sg_client. A process may run several side by side
 * (process.c), which share nothing but the addresses that they listen on.
 */
#ifndef SG_CLIENT_CLIENT_H
#define SG_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "core/addr.h"
#include "net/inbox.h"
#include "net/invite.h"
#include "net/known_servers.h"
#include "net/resolver.h"
#include "net/share.h"

struct event;
struct event_base;
struct json_t;
struct sg_loop;
struct sg_process;
struct sg_socks_server;
struct sg_tunnel;
struct sg_tunnel_forward;
struct sg_uplink;

/* `--forward PROTO:LISTEN=TARGET`. A name in target points into memory that outlives the client. */
struct sg_client_forward {
    bool udp;
    bool datagram_only; /* of udp: never by the stream */
    struct sg_endpoint listen;
    struct sg_target target;
};

/*
 * Reads the invites again: a list that is good until the next call, or false after logging why. In a sandbox, on the
 * loop of client 0.
 */
typedef bool sg_client_read_fn(void *ctx, const struct sg_invite **invites, size_t *count);

/* What the command line asks for. Everything is borrowed until sg_client_run returns. */
struct sg_client_options {
    const struct sg_endpoint *socks; /* listen addresses of the SOCKS server; none: no SOCKS server */
    size_t socks_count;
    const struct sg_client_forward *forwards;
    size_t forward_count;
    const struct sg_invite *invites; /* in order of preference, at least one */
    size_t invite_count;
    const char *invite_file; /* where they are from, and can be read again; or NULL */
    sg_client_read_fn *read_again;
    void *read_again_ctx;
    const char *socks_user; /* both or neither: what local applications must present */
    const char *socks_password;
    const char *ca_file; /* for invites without a pin; NULL: the system's */
    const char *certificate;
    const char *key;
    const char *status_socket;              /* path of the control socket, or NULL for none */
    bool no_sandbox;                        /* files and system calls are not restricted */
    unsigned workers;                       /* threads, each with a session; 0 is 1 */
    const struct sg_known_server *resolves; /* addresses of servers, by their names: those are not looked up */
    size_t resolve_count;
    uint64_t relay_idle_ms; /* a relay in which nothing moves for so long ends */
    uint64_t dscp;          /* code points that are copied to the records (net/dscp.h) */
};

enum { SG_CLIENT_WORKERS_MAX = 64 };

/* One invite of the list, and the TLS context that knows its server. */
struct sg_client_server {
    struct sg_invite invite;
    SSL_CTX *tls;
    bool refused;    /* at its last attempt, in a way that trying again does not help */
    bool is_unknown; /* and that is because of the credentials */
    /*
     * Where it was reached before, the newest first, then what its invite says; they serve when a look-up takes long or
     * brings nothing. is_fixed: of --resolve, and nothing is looked up.
     */
    struct sg_ip_list known;
    bool is_fixed;
    bool is_kept; /* the file has them */
};

/* The list, in order of preference: of the client, and of each connection that began while it was in force. */
struct sg_client_servers {
    unsigned refs;
    size_t count;
    struct sg_client_server list[];
};

/* First come, first served: the next one is linked in at end. */
struct sg_tunnel_queue {
    struct sg_tunnel *first, **end;
};

struct sg_client {
    struct sg_process *process;
    unsigned index;
    enum sg_share share; /* of the addresses that it listens on */
    struct event_base *base;
    struct sg_resolver resolver;
    const struct sg_client_options *options;
    struct sg_client_servers *servers;
    const char *known_path; /* where addresses of servers are kept; NULL: nowhere */
    size_t current;         /* the server in use, or the next to try */
    struct sg_uplink *uplink;
    struct sg_socks_server *socks;
    struct sg_tunnel_forward *tcp_forwards;
    struct sg_tunnel *tunnels; /* CONNECT, BIND and TCP forwards in flight or running */
    size_t tunnel_count;
    struct sg_tunnel_queue waiting;       /* of these, those that have not begun: tunnel.c */
    struct sg_tunnel_queue waiting_ended; /* and whose application has ended its side */
    struct event *tunnel_turn;
    size_t logins;           /* connections of tunnels that are not authenticated yet */
    size_t connection_limit; /* local TCP connections, by the limit of open files */
    size_t connection_count;
    const char *waited_for; /* what a session's attempt was last said to wait for; NULL: nothing since one succeeded */
    uint64_t tls_handshakes;
    uint64_t tunnels_opened;
    struct sg_letter told; /* to the process, once: that it is ready, or cannot go on */
    bool has_told, on_udp;
};

/*
 * Runs a client until SIGTERM or SIGINT. Prints the line `ready ...` on standard output once datagrams can be carried,
 * logs everything else. Returns the exit code: 0 after a signal, 1 after an error that was logged.
 */
int sg_client_run(const struct sg_client_options *options);

/*
 * process.c: opens a client on a loop that does not run yet, with all listeners. bound has their actual addresses:
 * those of client 0 are the ones that the others ask for. False after logging why. sg_client_close accepts one that did
 * not open.
 */
bool sg_client_open(struct sg_client *client, const struct sg_loop *loop, struct sg_endpoint *bound);
void sg_client_close(struct sg_client *client);
/*
 * On its loop: another list of invites. A session whose invite is in it stays as it is; otherwise one is opened by the
 * new list, and then the old one ends. Without memory, or with an unusable certificate, all stays as it is (logged).
 */
void sg_client_use_invites(struct sg_client *client, const struct sg_invite *invites, size_t count);
void sg_client_servers_release(struct sg_client_servers *servers); /* wipes; accepts NULL */

/* On its loop. */
void sg_client_status(const struct sg_client *client, struct json_t *status);

/* True for 127.0.0.0/8 and ::1: an address that only this machine's programs reach. */
bool sg_client_is_local(const struct sg_ip *ip);

#endif
