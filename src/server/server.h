/*
 * The server as a whole: configuration, policy, what its workers share, and the workers. Worker 0 runs on the thread of
 * the process, with signals and the control socket; the others on threads of their own.
 */
#ifndef SG_SERVER_SERVER_H
#define SG_SERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/datagram.h"
#include "server/config.h"
#include "server/ports.h"

struct sg_admission;
struct sg_auth;
struct sg_devices;
struct sg_guard;
struct sg_metrics;
struct sg_name_service;
struct sg_policy;
struct sg_reload;
struct sg_usage_table;
struct sg_worker;

enum { SG_WORKERS_MAX = 256 };

struct sg_server {
    const struct sg_config *config; /* as it was at the start; the one in use is the policy's */
    struct sg_config *limits;       /* the one whose limits hold, shared: sg_server_set_limits */
    int helper;                     /* of the authenticator, or -1 */
    struct sg_policy *policy;       /* the newest: workers have their own reference */
    struct sg_reload *reload;
    struct sg_metrics *metrics;
    struct sg_auth *auth;
    struct sg_devices *devices; /* that joined by invites */
    struct sg_usage_table *usage;
    struct sg_admission *admission;
    struct sg_arena *arena;      /* keys of all sessions */
    struct sg_limits key_limits; /* of each session */
    struct sg_ports ports;       /* of associations */
    struct sg_name_service *names;
    _Atomic bool draining; /* no session begins any more */
    uint64_t drained_ms;   /* then the server ends */
    unsigned worker_count;
    struct sg_worker *workers[SG_WORKERS_MAX];
    uint64_t started_ms;
    /* Of config, the addresses that this kernel can have (sg_lacking_choose_listen). */
    struct sg_endpoint listen[SG_CONFIG_LISTEN_MAX];
    unsigned listen_count;
};

/*
 * Runs until SIGTERM or SIGINT: prints `ready ADDR:PORT...` on standard output once it serves. Returns the exit code:
 * 0 after a signal, 1 if it could not start, 3 if certificates or users are unusable (logged). helper is the end of
 * sg_helper_start for the authenticator, taken over; or -1.
 */
int sg_server_run(struct sg_config *config, int helper);

/*
 * Finds what sg_server_run would find, and starts nothing: files, certificates and users; addresses, ports and sockets;
 * memory for keys; the user to become, which the process is afterwards, and what that user can read. Returns the exit
 * code that sg_server_run would return after logging the same; 0 if all is well.
 */
int sg_server_check(struct sg_config *config);

/* The limits of a configuration hold from now on. */
void sg_server_set_limits(struct sg_server *server, struct sg_config *config);

#endif
