/* A connection before its request, as conn.c (until it is authenticated) and request.c (from then on) see it. */
#ifndef SG_SERVER_CONN_STATE_H
#define SG_SERVER_CONN_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/guard.h"
#include "core/socks5.h"
#include "server/group_names.h"
#include "server/users.h"

struct bufferevent;
struct event;
struct sg_auth_job;
struct sg_finishing;
struct sg_ticket;
struct sg_tls_entry;
struct sg_worker;

struct sg_conn {
    struct sg_conn *next, **link;
    struct sg_worker *worker;
    struct sg_ticket *ticket;
    struct sg_endpoint peer, local;
    int fd; /* until bev has it */
    uint64_t accepted_ms;
    uint64_t tls_began_us;
    struct event *first_byte;
    struct event *deadline;
    struct sg_tls_entry *handshake; /* while it is under way */
    struct bufferevent *bev;
    struct sg_socks5_server socks;
    bool is_tls;
    bool upgraded; /* TLS came after a method in the clear */
    bool plain_allowed;
    struct sg_auth_job *job;        /* a password that is being checked */
    struct sg_finishing *finishing; /* answered: it counts until it is gone */
    char user[SG_USER_NAME_MAX + 1];
    struct sg_group_names groups;
    bool is_known;    /* user is authenticated */
    bool is_external; /* by the authenticator, who named the groups */
};

void sg_conn_free(struct sg_conn *conn);
/* Sends what was written, then closes. Its descriptor is in use until then, so the caps still count it. */
void sg_conn_finish(struct sg_conn *conn);

/* Who may use plain SOCKS and plain UDP: addresses in the list. */
bool sg_conn_is_listed(const struct sg_cidr *nets, unsigned count, const struct sg_ip *ip);

/* The request was read, of somebody who may make one: answers, or hands over. conn is gone afterwards, or finishes. */
void sg_conn_serve_request(struct sg_conn *conn);

#endif
