/*
 * TCP relays of users: CONNECT (connect.c) and BIND (bind.c). Both start from an authenticated connection, answer
 * with reply codes, and end as two joined streams in the worker's list, so that a user who is removed loses them.
 */
#ifndef SG_SERVER_TUNNEL_H
#define SG_SERVER_TUNNEL_H

#include <stdint.h>

#include "core/addr.h"
#include "server/channel_conn.h"
#include "server/verdict.h"

struct bufferevent;
struct event;
struct sg_relay;
struct sg_tunnel;
struct sg_worker;

/* What a tunnel does before it relays; freed by dispose when the tunnel ends or starts to relay. */
struct sg_tunnel_setup {
    void (*dispose)(struct sg_tunnel *tunnel);
    enum sg_rule_command command;
};

struct sg_tunnel {
    struct sg_tunnel *next, **link;
    struct sg_worker *worker;
    struct sg_handover who; /* bev is the client's leg until it relays */
    const struct sg_tunnel_setup *setup;
    void *state;        /* of the setup */
    struct event *look; /* after the client, while it waits */
    struct sg_relay *relay;
    struct sg_endpoint at; /* the other end; family 0, port 0: not known yet */
    uint8_t name_len;      /* 0: none was given */
    uint8_t name[255];
};

/* The client asked for CONNECT or BIND: both take the handover over in any case, its slot, a connection, included. */
void sg_connect_start(struct sg_worker *worker, const struct sg_handover *handover, const struct sg_target *target);
void sg_bind_start(struct sg_worker *worker, const struct sg_handover *handover, const struct sg_target *target);

/*
 * For connect.c and bind.c. A tunnel in the worker's list, state of setup; NULL: out of memory, answered and ended.
 */
struct sg_tunnel *sg_tunnel_new(struct sg_worker *worker, const struct sg_handover *handover,
                                const struct sg_tunnel_setup *setup, void *state);
void sg_tunnel_reply(struct sg_tunnel *tunnel, uint8_t rep, const struct sg_endpoint *bound);
/* Answers with a code that is not 00 and ends the tunnel. */
void sg_tunnel_fail(struct sg_tunnel *tunnel, uint8_t rep);
/* The connected socket of the other leg (taken over): relays until the end. */
void sg_tunnel_join(struct sg_tunnel *tunnel, int fd);

/* What the client asked for, and a port only if policy shall look at it: to be said before anything is judged. */
void sg_tunnel_aim(struct sg_tunnel *tunnel, const struct sg_target *target, uint16_t port);
/* What policy says to an address of the target. */
struct sg_verdict sg_tunnel_judge(const struct sg_tunnel *tunnel, const struct sg_endpoint *at);
/* Logs a verdict, if its rule wants that. */
void sg_tunnel_tell(const struct sg_tunnel *tunnel, const struct sg_verdict *verdict, const struct sg_endpoint *at);
/* Refuses by a verdict that is not ALLOW: tells it, answers, and ends the tunnel. */
void sg_tunnel_refuse(struct sg_tunnel *tunnel, const struct sg_verdict *verdict, const struct sg_endpoint *at);

/* Ends the tunnels of users who are not valid any more, and those to where they may not go any more; those of one user,
 * telling how many; all. */
void sg_tunnels_policy_changed(struct sg_worker *worker);
unsigned sg_tunnels_kick(struct sg_worker *worker, const char *user);
void sg_tunnels_free_all(struct sg_worker *worker);

#endif
