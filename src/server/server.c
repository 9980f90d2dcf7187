/*
 * The server's start and end: the first policy is built, the workers listen, `ready` is printed, and until a signal
 * ends it all, worker 0 watches the files and answers to the control socket.
 */
#include "server/server.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/event.h>

#include "net/clock.h"
#include "net/control_socket.h"
#include "net/finish.h"
#include "net/key_limits.h"
#include "net/log.h"
#include "net/loop.h"
#include "net/open_files.h"
#include "net/resolver.h"
#include "net/service.h"
#include "server/admission.h"
#include "server/auth.h"
#include "server/authenticator.h"
#include "server/confine.h"
#include "server/control.h"
#include "server/devices.h"
#include "server/drain.h"
#include "server/lacking.h"
#include "server/metrics.h"
#include "server/places.h"
#include "server/policy.h"
#include "server/reload.h"
#include "server/usage.h"
#include "server/user_limits.h"
#include "server/worker.h"

enum { WATCH_MS = 500, SETTLE_MS = 300, SIGNALS = 3, EXIT_FAILED = 1, EXIT_CONFIG = 3 };

/*
 * Slots of the arena, which hold the keys. A session has two channels while it renews: then it needs a sender and a
 * receiver for each, a slot for each sender id that the server announces, and one for an id of the other channel
 * (renewal.c). Unused slots cost no memory, but count as locked.
 */
enum { SLOTS_OF_TWO_CHANNELS = 5, FEWEST_SENDERS = 2, SLOTS_IN_USE = 6, LOCKED_MOST_BYTES = 64 << 20 };

/* What runs once in a process, around the workers. */
struct running {
    struct sg_server server;
    struct sg_loop *loops[SG_WORKERS_MAX]; /* one a worker */
    struct event_base *base;               /* of worker 0 */
    struct event *signals[SIGNALS];
    struct event *watch;
    struct sg_control_socket *control;
    struct sg_watchdog *watchdog;
};

/* Everything that files can get wrong. */
static bool load(struct sg_server *server, struct sg_config *config)
{
    char error[SG_POLICY_ERROR_MAX];
    server->policy = sg_policy_build(config, NULL, error);
    if (server->policy && sg_devices_load(config->devices, &server->devices, error) == SG_OK)
        return sg_places_check_udp_ports(config);
    sg_log_event(SG_LOG_ERROR, "config_refused", NULL, "%s", error);
    return false;
}

static void unload(struct sg_server *server)
{
    sg_policy_release(server->policy);
    sg_devices_free(server->devices);
    sg_config_free(server->limits);
}

/* --- while it runs --- */

static void on_watch(evutil_socket_t fd, short what, void *ctx)
{
    struct running *running = ctx;
    (void)fd;
    (void)what;
    sg_reload_watch(running->server.reload);
    if (!sg_drain_is_over(&running->server))
        return;
    sg_log_event(SG_LOG_INFO, "stopping", NULL, "drained: ending");
    event_base_loopbreak(running->base);
}

static void on_reload(evutil_socket_t number, short what, void *ctx)
{
    struct running *running = ctx;
    (void)number;
    (void)what;
    sg_reload_order(running->server.reload, SG_RELOAD_CONFIG, NULL, NULL);
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    struct running *running = ctx;
    (void)what;
    sg_log_event(SG_LOG_INFO, "stopping", NULL, "%s: ending", number == SIGINT ? "SIGINT" : "SIGTERM");
    event_base_loopbreak(running->base);
}

/* --- start and end --- */

static bool start_events(struct running *running)
{
    static const struct {
        int number;
        event_callback_fn fn;
    } signals[SIGNALS] = {{SIGTERM, on_signal}, {SIGINT, on_signal}, {SIGHUP, on_reload}};
    static const struct timeval watch = {.tv_usec = WATCH_MS * 1000};
    for (unsigned i = 0; i < SIGNALS; i++) {
        running->signals[i] = evsignal_new(running->base, signals[i].number, signals[i].fn, running);
        if (!running->signals[i] || event_add(running->signals[i], NULL) != 0)
            return false;
    }
    running->watch = event_new(running->base, -1, EV_PERSIST, on_watch, running);
    return running->watch && event_add(running->watch, &watch) == 0;
}

static bool start_metrics(struct running *running)
{
    struct sg_server *server = &running->server;
    server->metrics = sg_metrics_new(server, running->base);
    if (server->metrics)
        return sg_metrics_turn_to(server->metrics, &server->config->metrics);
    sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "cannot watch this process for the metrics: %s", strerror(errno));
    return false;
}

static bool listens_at(const void *ctx, enum sg_service_kind kind, const struct sg_endpoint *at)
{
    const struct sg_server *server = ctx;
    (void)kind; /* one port number serves both */
    for (unsigned i = 0; i < server->listen_count; i++)
        if (sg_endpoint_equal(&server->listen[i], at))
            return true;
    return false;
}

/* Each worker needs one of the sockets of each address: as many are passed as there shall be workers, or none. */
static bool count_passed(const struct sg_server *server, unsigned *count)
{
    char text[160];
    const char *wrong = sg_service_check_sockets(listens_at, server, "listen", count, text);
    if (wrong)
        sg_log_event(SG_LOG_ERROR, "listen_failed", NULL, "%s", wrong);
    return !wrong && *count <= SG_WORKERS_MAX;
}

static bool count_workers(const struct sg_server *server, unsigned *count)
{
    const struct sg_config *config = server->config;
    cpu_set_t cpus;
    *count = 0;
    if (!count_passed(server, count))
        return false;
    bool were_passed = *count > 0;
    if (*count > 0 && config->workers > 0 && config->workers != *count)
        sg_log(SG_LOG_WARN, "workers: %u, as many as sockets of an address were passed", *count);
    if (*count == 0)
        *count = config->workers;
    if (*count == 0)
        *count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
    if (*count > SG_WORKERS_MAX)
        *count = SG_WORKERS_MAX;
    if (sg_lacking_can_share(server, *count, were_passed))
        return true;
    *count = 1;
    return !were_passed;
}

/* So many users with all that the defaults give them are needed to use up what there is. */
enum { FAIR_USERS = 8 };

/* What this process may lock, up to a bound: RLIMIT_MEMLOCK, made as high as it may be. */
static size_t lockable_bytes(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return LOCKED_MOST_BYTES;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_MEMLOCK, &limit);
    return limit.rlim_cur < LOCKED_MOST_BYTES ? (size_t)limit.rlim_cur : LOCKED_MOST_BYTES;
}

/*
 * Limits under which every session has all the slots that it may ever need, also while it renews: no client can use up
 * those of others. With many sessions that leaves fewer sender ids to each.
 */
static struct sg_limits fair_limits(size_t slots_each)
{
    struct sg_limits limits = sg_limits_in_force();
    size_t senders =
        slots_each > SLOTS_OF_TWO_CHANNELS + FEWEST_SENDERS ? slots_each - SLOTS_OF_TWO_CHANNELS : FEWEST_SENDERS;
    if (senders < limits.max_senders)
        limits.max_senders = (uint32_t)senders;
    return limits;
}

/*
 * As many as all sessions may need. Where the process may not lock that many, but as many as they need that have one
 * sender id on each channel, those: then a session may be told to renew later while others use more than most ever do.
 */
static size_t count_slots(size_t sessions, uint32_t max_senders, size_t lockable)
{
    size_t all = sessions * (SLOTS_OF_TWO_CHANNELS + (size_t)max_senders);
    return all > lockable && lockable >= sessions * SLOTS_IN_USE ? lockable : all;
}

static bool make_arena(struct sg_server *server)
{
    bool locked = true;
    uint32_t sessions = server->config->limits.sessions;
    size_t lockable = lockable_bytes() / SG_ARENA_SLOT_BYTES;
    server->key_limits = fair_limits(lockable / sessions);
    server->arena = sg_arena_new(count_slots(sessions, server->key_limits.max_senders, lockable), &locked);
    if (!server->arena)
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "out of memory for the keys of %u sessions", sessions);
    else if (!locked)
        sg_log_event(server->config->require_locked_memory ? SG_LOG_ERROR : SG_LOG_WARN, "memory_not_locked", NULL,
                     "keys cannot be locked in memory: raise the limit of locked memory (ulimit -l)");
    return server->arena != NULL && (locked || !server->config->require_locked_memory);
}

/* Under the lock of the usage table; ctx is a configuration that was shared for it. */
static void limits_of(void *ctx, const char *user, const struct sg_group_names *groups, struct sg_usage_limits *out)
{
    sg_user_limits_find(ctx, user, groups, out);
    out->most[SG_USAGE_MEMORY] = SG_USAGE_MEMORY_LEAST + out->most[SG_USAGE_ASSOCIATION] * SG_USAGE_MEMORY_EACH;
}

struct ceilings {
    uint32_t of[SG_USAGE_KINDS];
};

static struct ceilings ceilings(const struct sg_config *config)
{
    return (struct ceilings){{
        [SG_USAGE_SESSION] = config->limits.sessions,
        [SG_USAGE_ASSOCIATION] = config->limits.associations,
        [SG_USAGE_CONNECTION] = config->limits.connections,
        [SG_USAGE_MEMORY] = FAIR_USERS * SG_USAGE_MEMORY_LEAST + config->limits.associations * SG_USAGE_MEMORY_EACH,
    }};
}

static struct sg_admission_limits admission_limits(const struct sg_config *config)
{
    return (struct sg_admission_limits){.all = config->limits.unauthenticated,
                                        .host = config->limits.unauthenticated_per_address,
                                        .host_rate = config->limits.handshakes_per_second_per_address};
}

static bool make_shared(struct running *running)
{
    struct sg_server *server = &running->server;
    struct sg_authenticator *authenticator = NULL;
    if (server->helper >= 0 && !(authenticator = sg_authenticator_new(running->base, server->helper)))
        return false;
    const struct sg_config *config = server->config;
    server->limits = sg_config_share(server->policy->config);
    server->usage = sg_usage_table_new(ceilings(config).of, limits_of, server->limits);
    const struct sg_admission_limits admission = admission_limits(config);
    server->admission = sg_admission_new(&admission);
    server->auth = sg_auth_new(config->limits.password_queue, server->devices, authenticator);
    return server->usage && server->admission && server->auth;
}

void sg_server_set_limits(struct sg_server *server, struct sg_config *config)
{
    struct sg_config *before = server->limits;
    const struct sg_admission_limits admission = admission_limits(config);
    sg_admission_turn_to(server->admission, &admission);
    server->limits = sg_config_share(config);
    sg_usage_table_turn_to(server->usage, ceilings(config).of, limits_of, server->limits);
    sg_config_free(before);
    sg_auth_set_queue(server->auth, config->limits.password_queue);
}

static bool make_loops(struct running *running)
{
    for (unsigned i = 0; i < running->server.worker_count; i++)
        if (!(running->loops[i] = sg_loop_new()))
            return false;
    running->base = running->loops[0]->base;
    return true;
}

static bool make_workers(struct running *running)
{
    struct sg_server *server = &running->server;
    for (unsigned i = 0; i < server->worker_count; i++)
        if (!(server->workers[i] = sg_worker_new(server, i, running->loops[i])))
            return false;
    return true;
}

static bool start_threads(struct running *running)
{
    const struct sg_server *server = &running->server;
    bool good =
        sg_auth_start(server->auth, server->config->limits.password_threads) && sg_reload_start_thread(server->reload);
    for (unsigned i = 1; i < server->worker_count && good; i++)
        good = sg_loop_start(running->loops[i]);
    if (!good)
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "cannot start a thread: %s", strerror(errno));
    return good;
}

static bool start_names(const struct sg_server *server)
{
    char error[SG_SANDBOX_ERROR_MAX];
    if (sg_name_service_start(server->names, server->config->sandbox, error))
        return true;
    sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "resolver: %s", error);
    return false;
}

static bool start_watchdog(struct running *running)
{
    struct sg_inbox *inboxes[SG_WORKERS_MAX];
    for (unsigned i = 0; i < running->server.worker_count; i++)
        inboxes[i] = running->loops[i]->inbox;
    return sg_watchdog_new(running->base, inboxes, running->server.worker_count, &running->watchdog);
}

static bool start(struct running *running)
{
    size_t files = 0;
    sg_lacking_tell_netlink();
    if (!sg_lacking_choose_listen(&running->server) ||
        !count_workers(&running->server, &running->server.worker_count) ||
        !sg_open_files_raise(running->server.worker_count, &files))
        return false;
    if (!make_loops(running) || !make_shared(running) || !start_events(running)) {
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "cannot set up the event loops");
        return false;
    }
    const struct sg_config *config = running->server.config;
    return make_arena(&running->server) && (running->server.names = sg_name_service_new()) && make_workers(running) &&
           sg_reload_start(running->server.reload, running->base) && start_metrics(running) &&
           sg_confine_become(config) && start_names(&running->server) && sg_confine_drop(config) &&
           sg_control_open(running->base, &running->server, &running->control) && sg_confine_files(config) &&
           start_watchdog(running) && start_threads(running) && sg_confine_calls(config);
}

static void print_ready(const struct sg_server *server)
{
    printf("ready");
    for (unsigned i = 0; i < server->listen_count; i++) {
        char text[SG_ENDPOINT_TEXT_MAX];
        sg_endpoint_format(&server->listen[i], text);
        printf(" %s", text);
        sg_log_event(SG_LOG_INFO, "listening", SG_LOG_FIELDS(sg_log_word("address", text)), "listening on %s", text);
    }
    putchar('\n');
    if (fflush(stdout) != 0)
        sg_log(SG_LOG_WARN, "cannot write to standard output: %s", strerror(errno));
}

/* False: a thread hangs in a file, and what it works with is still there. */
static bool stop(struct running *running)
{
    struct sg_server *server = &running->server;
    bool hangs = !sg_reload_stop(server->reload);
    sg_watchdog_stop(running->watchdog);
    sg_control_socket_free(running->control);
    sg_metrics_free(server->metrics);
    for (unsigned i = 0; i < server->worker_count; i++)
        if (running->loops[i])
            sg_loop_stop(running->loops[i]);
    for (unsigned i = 0; i < server->worker_count; i++)
        sg_worker_close(server->workers[i]);
    sg_name_service_free(server->names);
    sg_auth_free(server->auth); /* what it still had to say is in the inboxes now */
    for (unsigned i = 0; i < SIGNALS; i++)
        if (running->signals[i])
            event_free(running->signals[i]);
    if (running->watch)
        event_free(running->watch);
    for (unsigned i = 0; i < server->worker_count; i++)
        if (running->loops[i])
            sg_loop_settle(running->loops[i], SETTLE_MS);
    sg_finish_rest();
    if (hangs)
        return false;
    sg_reload_free(server->reload);
    sg_watchdog_free(running->watchdog); /* its letters were worked off */
    for (unsigned i = 0; i < server->worker_count; i++) {
        sg_worker_free(server->workers[i]);
        sg_loop_free(running->loops[i]);
    }
    sg_usage_table_free(server->usage);
    sg_admission_free(server->admission);
    sg_arena_free(server->arena);
    unload(server);
    return true;
}

int sg_server_check(struct sg_config *config)
{
    struct sg_server server = {.config = config};
    int code = EXIT_CONFIG;
    if (load(&server, config))
        code = sg_places_check_addresses(config) && make_arena(&server) && sg_confine_check(config) &&
                       sg_places_check_control(config)
                   ? 0
                   : EXIT_FAILED;
    sg_arena_free(server.arena);
    unload(&server);
    return code;
}

int sg_server_run(struct sg_config *config, int helper)
{
    struct running running = {.server.config = config, .server.helper = helper};
    running.server.ports.first = config->udp_ports.first;
    running.server.ports.last = config->udp_ports.last;
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    int code = EXIT_CONFIG;
    (void)sigaction(SIGPIPE, &ignore, NULL);
    running.server.started_ms = sg_now_ms();
    running.server.reload = sg_reload_new(&running.server);
    if (!running.server.reload) {
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "out of memory");
        return EXIT_FAILED;
    }
    if (load(&running.server, config)) {
        code = EXIT_FAILED;
        if (start(&running)) {
            print_ready(&running.server);
            sg_service_say("READY=1");
            event_base_dispatch(running.base);
            code = 0;
        }
    }
    sg_service_say("STOPPING=1");
    if (!stop(&running))
        _exit(code); /* what was not freed is gone with the process: keys are in locked memory, in no core dump */
    sg_service_end();
    return code;
}
