/*
 * One worker: a thread with an event loop, and on it listeners, resolver, connections and data path of its own. Workers
 * share nothing on the data path; whatever else they have to tell each other goes through their inboxes.
 */
#ifndef SG_SERVER_WORKER_H
#define SG_SERVER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/histogram.h"
#include "net/resolver.h"

struct event_base;
struct json_t;
struct sg_conn;
struct sg_datapath;
struct sg_listener;
struct sg_loop;
struct sg_inbox;
struct sg_opening;
struct sg_policy;
struct sg_server;
struct sg_tls_gate;
struct sg_tunnel;

enum { SG_WORKER_LISTENERS = 16 };

struct sg_worker {
    struct sg_server *server;
    unsigned index;           /* stands in the channel ids of its sessions */
    struct event_base *base;  /* of its loop */
    struct sg_inbox *inbox;   /* of its loop */
    struct sg_policy *policy; /* turned to by sg_worker_turn_to */
    bool closed;
    struct sg_resolver resolver;
    struct sg_datapath *datapath;
    struct sg_listener *listeners[SG_WORKER_LISTENERS];
    unsigned listener_count;
    struct sg_tls_gate *gate; /* of TLS handshakes */
    struct sg_conn *conns;    /* before their request */
    unsigned conn_count;
    struct sg_opening *openings; /* asked for a channel, its block has not come */
    struct sg_tunnel *tunnels;   /* CONNECT and BIND */
    unsigned tunnel_count;

    uint64_t accepted;
    uint64_t tls_handshakes;
    struct sg_histogram handshake_us; /* how long these took */
    uint64_t refused_caps;            /* connections over a cap */
    uint64_t displaced;               /* connections that gave way to those of other hosts */
    uint64_t refused_first;           /* first byte that is neither TLS nor SOCKS5, or plain SOCKS not allowed */
    uint64_t refused_deadline;        /* not authenticated in time */
    uint64_t refused_auth;            /* wrong credentials */
    uint64_t refused_busy;            /* credentials that were not looked at */
};

/*
 * Opens everything and starts to listen; the loop does not run yet. Workers are made in the order of their index. NULL
 * after logging why.
 */
struct sg_worker *sg_worker_new(struct sg_server *server, unsigned index, const struct sg_loop *loop);

/*
 * Ends all that it serves; then, when the inbox of its loop was worked off, frees it. The loop does not run any more.
 * Both accept NULL.
 */
void sg_worker_close(struct sg_worker *worker);
void sg_worker_free(struct sg_worker *worker);

/* On the worker's loop: there is a new policy (a reference is taken). Ends what the users in it may not have, and
 * relays to where they may not go; datagrams are judged as they come. */
void sg_worker_turn_to(struct sg_worker *worker, struct sg_policy *policy);

/* What a user had open. */
struct sg_kicked {
    unsigned sessions, relays, plain; /* plain: associations */
};

/* On the worker's loop: ends it, and adds to *kicked. */
void sg_worker_kick(struct sg_worker *worker, const char *user, struct sg_kicked *kicked);

/* On the worker's loop. The second adds what only metrics have: histograms, and users if they are asked for. */
void sg_worker_status(const struct sg_worker *worker, struct json_t *status);
void sg_worker_metrics(const struct sg_worker *worker, struct json_t *metrics);

#endif
