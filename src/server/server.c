/*
 * The server's start and end: certificate, users and guard are loaded and checked, the worker listens, `ready` is
 * printed, and until a signal comes the user file is watched.
 */
#include "server/server.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <event2/event.h>
#include <jansson.h>
#include <sodium.h>

#include "net/cert.h"
#include "net/clock.h"
#include "net/finish.h"
#include "net/inbox.h"
#include "net/key_limits.h"
#include "net/log.h"
#include "net/loop.h"
#include "net/rundir.h"
#include "net/sockaddr.h"
#include "net/status_socket.h"
#include "net/tls.h"
#include "net/tls_client_cert.h"
#include "server/admission.h"
#include "server/auth.h"
#include "server/authenticator.h"
#include "server/devices.h"
#include "server/gather.h"
#include "server/metrics.h"
#include "server/policy.h"
#include "server/usage.h"
#include "server/users.h"
#include "server/worker.h"

enum { WATCH_MS = 500, OWN_ADDRESSES_MS = 3000, SETTLE_MS = 300, EXIT_FAILED = 1, EXIT_CONFIG = 3 };

/* What a process may lock unless somebody gave it more (RLIMIT_MEMLOCK); unused slots count, but cost no memory. */
enum { LOCKED_BYTES = 8 << 20, FEWEST_SENDERS = 2 };

/* What runs once in a process, around the workers. */
struct running {
    struct sg_server server;
    struct sg_loop *loops[SG_WORKERS_MAX]; /* one a worker */
    struct event_base *base;               /* of worker 0 */
    struct event *signals[2];
    struct event *watch;
    struct sg_status_socket *status;
    struct sg_metrics *metrics; /* NULL: none are configured */
    struct stat users_stat;     /* of the user file as it was loaded */
    struct stat crl_stat;       /* of the revocation lists */
    uint64_t guard_ms;          /* when the guard was made */
};

/* --- loading --- */

static struct sg_users *load_users(const struct sg_config *config)
{
    char error[SG_USERS_ERROR_MAX];
    struct sg_users *users = NULL;
    if (sg_users_load(config->users, &users, error) != SG_OK) {
        sg_log_event(SG_LOG_ERROR, "config_refused", NULL, "%s", error);
        return NULL;
    }
    if (sg_users_count(users) == 0 && !config->allow_anyone && !config->authenticator.command &&
        sg_config_is_exposed(config)) {
        sg_log_event(
            SG_LOG_ERROR, "config_refused", NULL,
            "%s: there is no user, and the server would be reachable from other machines: `sealgram invite DIR USER` "
            "adds one (or, for a server open to everyone, allow_anyone_without_authentication: true)",
            config->users);
        sg_users_free(users);
        return NULL;
    }
    return users;
}

/* Special ones are refused anyway: room is only needed for the others. */
static bool add_own(struct sg_guard *guard, const struct sg_ip *ip)
{
    struct sg_endpoint own = {.ip = *ip};
    return sg_guard_class(ip) != NULL || sg_guard_add_own(guard, &own) != SG_ERR_FULL;
}

/*
 * The server's own addresses are no targets, unless --allow covers them; associations reach each other there all the
 * same (sg_permits_target).
 */
static bool add_own_addresses(struct sg_guard *guard, const struct sg_ip *advertised)
{
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0)
        return false;
    guard->outside = *advertised;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        struct sockaddr_storage ss = {0};
        if (!i->ifa_addr || (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
            continue;
        memcpy(&ss, i->ifa_addr,
               i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        struct sg_ip ip = sg_sockaddr_endpoint(&ss).ip;
        if (sg_ip_equal(&ip, advertised))
            guard->outside = (struct sg_ip){0};
        if (!add_own(guard, &ip))
            sg_log(SG_LOG_WARN, "more own addresses than %d: the others are not guarded", SG_GUARD_OWN_MAX);
    }
    freeifaddrs(list);
    return true;
}

bool sg_server_guard(const struct sg_config *config, struct sg_guard *guard)
{
    memset(guard, 0, sizeof *guard);
    for (unsigned i = 0; i < config->allow_count; i++)
        if (sg_guard_allow(guard, &config->allow[i]) != SG_OK)
            return false;
    for (unsigned i = 0; i < config->listen_count; i++)
        if (!add_own(guard, &config->listen[i].ip))
            return false;
    /* behind a NAT no interface has it, and what is sent there comes back to this machine */
    return add_own(guard, &config->advertise.ip) && add_own_addresses(guard, &config->advertise.ip);
}

static SSL_CTX *make_tls(const struct sg_config *config, char text[static SG_TLS_TEXT_MAX])
{
    SSL_CTX *tls = sg_tls_server_ctx(config->certificate, config->key, config->client_ca, text);
    if (tls && config->client_crl && !sg_tls_add_crl(tls, config->client_crl, text)) {
        SSL_CTX_free(tls);
        return NULL;
    }
    return tls;
}

static bool load_policy(struct sg_server *server, SSL_CTX *tls)
{
    const struct sg_config *config = server->config;
    char devices_error[SG_DEVICES_ERROR_MAX];
    struct sg_guard guard;
    if (!sg_server_guard(config, &guard)) {
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "cannot list the own addresses: %s", strerror(errno));
        return false;
    }
    if (sg_devices_load(config->devices, &server->devices, devices_error) != SG_OK) {
        sg_log_event(SG_LOG_ERROR, "config_refused", NULL, "%s", devices_error);
        return false;
    }
    struct sg_users *users = load_users(config);
    if (!users)
        return false;
    server->policy = sg_policy_new(users, 0, &guard, config->rules, tls);
    if (!server->policy)
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "out of memory for the users");
    return server->policy != NULL;
}

/* Everything that files can get wrong. */
static bool load(struct sg_server *server)
{
    const struct sg_config *config = server->config;
    char error[SG_CERT_ERROR_MAX];
    char text[SG_TLS_TEXT_MAX];
    if (sg_cert_check(config->key, config->certificate, error) != SG_OK) {
        sg_log_event(SG_LOG_ERROR, "config_refused", NULL, "%s", error);
        return false;
    }
    SSL_CTX *tls = make_tls(config, text);
    if (!tls) {
        sg_log_event(SG_LOG_ERROR, "config_refused", NULL, "%s", text);
        return false;
    }
    bool good = load_policy(server, tls);
    SSL_CTX_free(tls);
    return good;
}

static void unload(struct sg_server *server)
{
    sg_policy_release(server->policy);
    sg_devices_free(server->devices);
}

int sg_server_check(const struct sg_config *config)
{
    struct sg_server server = {.config = config};
    bool good = load(&server);
    unload(&server);
    return good ? 0 : EXIT_CONFIG;
}

/* --- while it runs --- */

static bool stat_differs(const struct stat *a, const struct stat *b)
{
    return a->st_ino != b->st_ino || a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
           a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

struct turn {
    struct sg_letter letter;
    struct sg_worker *worker;
    struct sg_policy *policy;
};

static void turn_to(void *ctx)
{
    struct turn turn = *(struct turn *)ctx;
    free(ctx);
    if (!turn.worker->closed)
        sg_worker_turn_to(turn.worker, turn.policy);
    sg_policy_release(turn.policy);
}

/* Makes a policy of these users the one that all workers turn to. Takes over users. */
static bool announce(struct sg_server *server, struct sg_users *users, unsigned generation,
                     const struct sg_guard *guard, SSL_CTX *tls)
{
    struct turn *turns[SG_WORKERS_MAX] = {0};
    struct sg_policy *fresh = sg_policy_new(users, generation, guard, server->config->rules, tls);
    bool room = fresh != NULL;
    for (unsigned i = 0; i < server->worker_count && room; i++)
        room = (turns[i] = malloc(sizeof *turns[i])) != NULL;
    for (unsigned i = 0; i < server->worker_count; i++) {
        if (!room) {
            free(turns[i]);
            continue;
        }
        *turns[i] = (struct turn){
            .letter = {.fn = turn_to, .ctx = turns[i]}, .worker = server->workers[i], .policy = sg_policy_ref(fresh)};
        sg_inbox_post(server->workers[i]->inbox, &turns[i]->letter);
    }
    if (room) {
        sg_policy_release(server->policy);
        server->policy = fresh;
    } else {
        sg_log_event(SG_LOG_ERROR, "users_reload_failed", NULL, "out of memory: policy stays as it was");
        sg_policy_release(fresh);
    }
    return room;
}

static void reload_users(struct sg_server *server)
{
    char error[SG_USERS_ERROR_MAX];
    struct sg_users *fresh = NULL;
    if (sg_users_load(server->config->users, &fresh, error) != SG_OK) {
        sg_log_event(SG_LOG_ERROR, "users_reload_failed", NULL, "%s: the users stay as they were", error);
        return;
    }
    size_t count = sg_users_count(fresh);
    if (announce(server, fresh, server->policy->generation + 1, &server->policy->guard, server->policy->tls))
        sg_log_event(SG_LOG_INFO, "users_reloaded", SG_LOG_FIELDS(sg_log_number("users", count)),
                     "user file read again: %zu users", count);
}

/* The time of a credential is over: what it let in ends. */
static void expire_users(struct sg_server *server)
{
    const struct sg_policy *now = server->policy;
    time_t expiry = sg_users_next_expiry(now->users);
    struct sg_users *fresh = expiry != 0 && time(NULL) >= expiry ? sg_users_renew(now->users) : NULL;
    if (fresh && announce(server, fresh, now->generation + 1, &now->guard, now->tls))
        sg_log_event(SG_LOG_INFO, "credential_expired", NULL, "a credential has expired");
}

/* The revocation lists are others. */
static void reload_crl(struct sg_server *server)
{
    const struct sg_policy *now = server->policy;
    char text[SG_TLS_TEXT_MAX];
    SSL_CTX *tls = make_tls(server->config, text);
    if (!tls)
        sg_log_event(SG_LOG_ERROR, "crl_reload_failed", NULL, "%s: the revocation lists stay as they were", text);
    else if (announce(server, sg_users_share(now->users), now->generation, &now->guard, tls))
        sg_log_event(SG_LOG_INFO, "crl_reloaded", NULL, "revocation lists read again");
    SSL_CTX_free(tls);
}

static bool same_own(const struct sg_guard *a, const struct sg_guard *b)
{
    bool same = a->own_count == b->own_count && sg_ip_equal(&a->outside, &b->outside);
    for (unsigned i = 0; i < a->own_count && same; i++)
        same = sg_endpoint_equal(&a->own[i], &b->own[i]);
    return same;
}

/* Addresses come and go: DHCP, temporary ones of IPv6. */
static void look_up_addresses(struct sg_server *server)
{
    struct sg_guard guard;
    const struct sg_policy *now = server->policy;
    if (sg_server_guard(server->config, &guard) && !same_own(&guard, &now->guard))
        (void)announce(server, sg_users_share(now->users), now->generation, &guard, now->tls);
}

static void on_watch(evutil_socket_t fd, short what, void *ctx)
{
    struct running *running = ctx;
    struct stat st;
    uint64_t now_ms = sg_now_ms();
    (void)fd;
    (void)what;
    if (now_ms >= running->guard_ms + OWN_ADDRESSES_MS) {
        running->guard_ms = now_ms;
        look_up_addresses(&running->server);
    }
    expire_users(&running->server);
    const char *crl = running->server.config->client_crl;
    if (crl && stat(crl, &st) == 0 && stat_differs(&st, &running->crl_stat)) {
        running->crl_stat = st;
        reload_crl(&running->server);
    }
    if (stat(running->server.config->users, &st) != 0 || !stat_differs(&st, &running->users_stat))
        return;
    running->users_stat = st;
    reload_users(&running->server);
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    struct running *running = ctx;
    (void)what;
    sg_log_event(SG_LOG_INFO, "stopping", NULL, "%s: ending", number == SIGINT ? "SIGINT" : "SIGTERM");
    event_base_loopbreak(running->base);
}

/* --- start and end --- */

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static bool start_events(struct running *running)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    static const struct timeval watch = {.tv_usec = WATCH_MS * 1000};
    for (unsigned i = 0; i < 2; i++) {
        running->signals[i] = evsignal_new(running->base, numbers[i], on_signal, running);
        if (!running->signals[i] || event_add(running->signals[i], NULL) != 0)
            return false;
    }
    running->watch = event_new(running->base, -1, EV_PERSIST, on_watch, running);
    return running->watch && event_add(running->watch, &watch) == 0;
}

static json_t *make_status(void *ctx)
{
    struct running *running = ctx;
    return sg_gather_status(&running->server);
}

static bool start_status(struct running *running)
{
    char path[SG_RUNDIR_PATH_MAX];
    const char *chosen = running->server.config->status_socket;
    if (!chosen && !sg_rundir_status_path("server", path)) {
        sg_rundir_path(path);
        sg_log(SG_LOG_WARN, "no status socket: %s: %s", path, strerror(errno));
        return true;
    }
    running->status = sg_status_socket_new(running->base, chosen ? chosen : path, make_status, running);
    if (!running->status)
        sg_log_event(SG_LOG_ERROR, "listen_failed", NULL, "cannot listen on %s (status_socket): %s",
                     chosen ? chosen : path, strerror(errno));
    return running->status != NULL;
}

static bool start_metrics(struct running *running)
{
    if (running->server.config->metrics.listen.ip.family != 0)
        running->metrics = sg_metrics_new(&running->server, running->base);
    return running->metrics || running->server.config->metrics.listen.ip.family == 0;
}

static unsigned count_workers(const struct sg_config *config)
{
    cpu_set_t cpus;
    if (config->workers > 0)
        return config->workers;
    int count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    return count < SG_WORKERS_MAX ? (unsigned)count : SG_WORKERS_MAX;
}

/* Sessions that may have two channels at a time, for the seconds of a renewal. */
static uint32_t renewals(uint32_t sessions)
{
    return sessions / 16 + 2;
}

/* No user can keep all others from renewing. */
static uint32_t renewals_per_user(uint32_t sessions)
{
    return renewals(sessions) / 4 + 1;
}

/*
 * Limits under which every channel has all the arena slots that it may ever need: no client can use up those of others.
 * With many sessions that leaves fewer sender ids to each.
 */
static struct sg_limits fair_limits(uint32_t channels)
{
    struct sg_limits limits = sg_limits_in_force();
    size_t one = sg_arena_slots(1, 0);
    size_t slots = (size_t)LOCKED_BYTES / SG_ARENA_SLOT_BYTES / channels;
    size_t senders = slots > one + FEWEST_SENDERS ? slots - one : FEWEST_SENDERS;
    if (senders < limits.max_senders)
        limits.max_senders = (uint32_t)senders;
    return limits;
}

static bool make_arena(struct sg_server *server)
{
    bool locked = true;
    uint32_t sessions = server->config->limits.sessions;
    uint32_t channels = sessions + renewals(sessions);
    server->key_limits = fair_limits(channels);
    server->arena = sg_arena_new(sg_arena_slots(channels, server->key_limits.max_senders), &locked);
    if (server->arena && !locked)
        sg_log_event(SG_LOG_WARN, "memory_not_locked", NULL,
                     "keys cannot be locked in memory: raise the limit of locked memory (ulimit -l)");
    return server->arena != NULL;
}

static void limits_of(void *ctx, const char *user, const struct sg_group_names *groups, struct sg_usage_limits *out)
{
    const struct sg_server *server = ctx;
    sg_user_limits_find(server->config, user, groups, out);
    out->most[SG_USAGE_RENEWAL] = renewals_per_user(server->config->limits.sessions);
}

static bool make_shared(struct running *running)
{
    struct sg_server *server = &running->server;
    struct sg_authenticator *authenticator = NULL;
    if (server->helper >= 0 && !(authenticator = sg_authenticator_new(running->base, server->helper)))
        return false;
    const struct sg_config *config = server->config;
    const uint32_t all[SG_USAGE_KINDS] = {
        [SG_USAGE_SESSION] = config->limits.sessions,
        [SG_USAGE_ASSOCIATION] = config->limits.associations,
        [SG_USAGE_CONNECTION] = config->limits.connections,
        [SG_USAGE_RENEWAL] = renewals(config->limits.sessions),
    };
    server->usage = sg_usage_table_new(all, limits_of, server);
    server->admission = sg_admission_new(config->limits.unauthenticated, config->limits.unauthenticated_per_address);
    server->auth =
        sg_auth_new(config->limits.password_threads, config->limits.password_queue, server->devices, authenticator);
    return server->usage && server->admission && server->auth && make_arena(server);
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
    for (unsigned i = 1; i < running->server.worker_count; i++) {
        if (!sg_loop_start(running->loops[i])) {
            sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "cannot start a thread: %s", strerror(errno));
            return false;
        }
    }
    return true;
}

static bool start(struct running *running)
{
    running->server.worker_count = count_workers(running->server.config);
    if (!make_loops(running) || !make_shared(running) || !start_events(running)) {
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "cannot set up the event loops");
        return false;
    }
    return make_workers(running) && start_status(running) && start_metrics(running) && start_threads(running);
}

static void print_ready(const struct sg_config *config)
{
    printf("ready");
    for (unsigned i = 0; i < config->listen_count; i++) {
        char text[SG_ENDPOINT_TEXT_MAX];
        sg_endpoint_format(&config->listen[i], text);
        printf(" %s", text);
        sg_log_event(SG_LOG_INFO, "listening", SG_LOG_FIELDS(sg_log_word("address", text)), "listening on %s", text);
    }
    putchar('\n');
    if (fflush(stdout) != 0)
        sg_log(SG_LOG_WARN, "cannot write to standard output: %s", strerror(errno));
}

static void stop(struct running *running)
{
    struct sg_server *server = &running->server;
    sg_status_socket_free(running->status);
    sg_metrics_free(running->metrics);
    for (unsigned i = 0; i < server->worker_count; i++)
        if (running->loops[i])
            sg_loop_stop(running->loops[i]);
    for (unsigned i = 0; i < server->worker_count; i++)
        sg_worker_close(server->workers[i]);
    sg_auth_free(server->auth); /* what it still had to say is in the inboxes now */
    for (unsigned i = 0; i < 2; i++)
        if (running->signals[i])
            event_free(running->signals[i]);
    if (running->watch)
        event_free(running->watch);
    for (unsigned i = 0; i < server->worker_count; i++)
        if (running->loops[i])
            sg_loop_settle(running->loops[i], SETTLE_MS);
    sg_finish_rest();
    for (unsigned i = 0; i < server->worker_count; i++) {
        sg_worker_free(server->workers[i]);
        sg_loop_free(running->loops[i]);
    }
    sg_usage_table_free(server->usage);
    sg_admission_free(server->admission);
    sg_arena_free(server->arena);
    unload(server);
}

int sg_server_run(const struct sg_config *config, int helper)
{
    struct running running = {.server.config = config, .server.helper = helper};
    running.server.ports.first = config->udp_ports.first;
    running.server.ports.last = config->udp_ports.last;
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    int code = EXIT_CONFIG;
    raise_file_limit();
    (void)sigaction(SIGPIPE, &ignore, NULL);
    running.server.started_ms = running.guard_ms = sg_now_ms();
    (void)stat(config->users, &running.users_stat);
    if (config->client_crl)
        (void)stat(config->client_crl, &running.crl_stat);
    if (load(&running.server)) {
        code = EXIT_FAILED;
        if (start(&running)) {
            print_ready(config);
            event_base_dispatch(running.base);
            code = 0;
        }
    }
    stop(&running);
    return code;
}
