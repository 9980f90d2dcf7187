/*
 * What changes while a server runs: the configuration, when it is asked for; the user file and the addresses of this
 * machine, when they change. All of it is made into one policy, which every worker turns to. On the loop of worker 0.
 */
#ifndef SG_SERVER_RELOAD_H
#define SG_SERVER_RELOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "server/policy.h"

struct event_base;
struct sg_addr_watch;
struct sg_nat64_watch;
struct sg_server;

struct sg_reload {
    struct sg_server *server;
    struct stat users_stat;          /* of the user file as it was loaded */
    struct stat crl_stat;            /* of the revocation lists */
    struct sg_addr_watch *addresses; /* NULL: the system does not tell of changes */
    struct sg_nat64_watch *nat64;
    uint64_t guard_ms; /* when the guard was made */
};

/* Before the server's first policy is built. */
void sg_reload_init(struct sg_reload *reload, struct sg_server *server, const struct sg_config *config);

/* Begins to watch the machine's addresses and its network, on the loop of worker 0, which exists. False: no memory. */
bool sg_reload_start(struct sg_reload *reload, struct event_base *base);
void sg_reload_stop(struct sg_reload *reload); /* before the worker goes; also if it was not started */

/*
 * Reads the configuration and all that it names once more. Sessions stay; what a start alone can change is told in a
 * log line, and keeps its value. False: nothing has changed, and error has the line to show.
 */
bool sg_reload_config(struct sg_reload *reload, char error[static SG_POLICY_ERROR_MAX]);

/*
 * To be called a few times a second: looks whether the user file or the revocation lists have changed, or the time of a
 * credential is over; and at the addresses, where the system does not tell of changes.
 */
void sg_reload_watch(struct sg_reload *reload);

#endif
