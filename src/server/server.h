/*
 * The server as a whole: configuration, policy, what its workers share, and the workers. Worker 0 runs on the thread of
 * the process, with signals, the status socket and the watch of the user file; the others on threads of their own.
 */
#ifndef SG_SERVER_SERVER_H
#define SG_SERVER_SERVER_H

#include <stdint.h>

#include "core/arena.h"
#include "core/datagram.h"
#include "server/config.h"
#include "server/ports.h"

struct sg_admission;
struct sg_auth;
struct sg_devices;
struct sg_guard;
struct sg_policy;
struct sg_usage_table;
struct sg_worker;

enum { SG_WORKERS_MAX = 256 };

struct sg_server {
    const struct sg_config *config;
    int helper;               /* of the authenticator, or -1 */
    struct sg_policy *policy; /* the newest: workers have their own reference */
    struct sg_auth *auth;
    struct sg_devices *devices; /* that joined by invites */
    struct sg_usage_table *usage;
    struct sg_admission *admission;
    struct sg_arena *arena;      /* keys of all sessions */
    struct sg_limits key_limits; /* of each session */
    struct sg_ports ports;       /* of associations */
    _Atomic bool draining;       /* no session begins any more */
    unsigned worker_count;
    struct sg_worker *workers[SG_WORKERS_MAX];
    uint64_t started_ms;
};

/*
 * Runs until SIGTERM or SIGINT: prints `ready ADDR:PORT...` on standard output once it serves. Returns the exit code:
 * 0 after a signal, 1 if it could not start, 3 if certificates or users are unusable (logged). helper is the end of
 * sg_helper_start for the authenticator, taken over; or -1.
 */
int sg_server_run(const struct sg_config *config, int helper);

/* The guard of targets as configuration and own addresses make it. False, and errno: those cannot be listed. */
bool sg_server_guard(const struct sg_config *config, struct sg_guard *guard);

/* Checks what sg_server_run would load, certificates and users too: 0, or 3 after logging why. */
int sg_server_check(const struct sg_config *config);

#endif
