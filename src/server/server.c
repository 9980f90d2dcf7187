/*
 * The server's start and end: certificate, users and guard are loaded and checked, the worker listens, `ready` is
 * printed, and until a signal comes the user file is watched.
 */
#include "server/server.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
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
#include "net/log.h"
#include "net/rundir.h"
#include "net/sockaddr.h"
#include "net/status_socket.h"
#include "net/tls.h"
#include "server/auth.h"
#include "server/usage.h"
#include "server/users.h"
#include "server/worker.h"

enum { WATCH_MS = 500, OWN_ADDRESSES_MS = 3000, FLUSH_MS = 300, EXIT_FAILED = 1, EXIT_CONFIG = 3 };

/* What runs once in a process, around the workers. */
struct running {
    struct sg_server server;
    struct event_base *base;
    struct event *signals[2];
    struct event *watch;
    struct sg_status_socket *status;
    struct stat users_stat; /* of the user file as it was loaded */
    uint64_t guard_ms;      /* when the guard was made */
};

/* --- what workers ask --- */

bool sg_server_user_valid(const struct sg_server *server, const char *user, const uint8_t digest[static 32])
{
    uint8_t now[32];
    if (user[0] == '\0')
        return true; /* nobody had to authenticate */
    sg_users_digest(server->users, user, now);
    return sg_users_has(server->users, user) && sodium_memcmp(now, digest, sizeof now) == 0;
}

void sg_server_user_digest(const struct sg_server *server, const char *user, uint8_t digest[static 32])
{
    sg_users_digest(server->users, user, digest);
}

bool sg_server_user_has_certificate(const struct sg_server *server, const char *user)
{
    return sg_users_has_kind(server->users, user, SG_USER_CERTIFICATE);
}

bool sg_server_check_token(const struct sg_server *server, const char *user, const uint8_t *password, size_t len)
{
    return sg_users_check_token(server->users, user, password, len);
}

const char *sg_server_password_hash(const struct sg_server *server, const char *user, bool *is_known)
{
    const char *hash = sg_users_password_hash(server->users, user);
    *is_known = hash != NULL;
    return hash ? hash : server->decoy_hash;
}

/* --- loading --- */

static bool load_users(struct sg_server *server)
{
    char error[SG_USERS_ERROR_MAX];
    if (sg_users_load(server->config->users, &server->users, error) != SG_OK) {
        sg_log(SG_LOG_ERROR, "%s", error);
        return false;
    }
    if (sg_users_count(server->users) == 0 && !server->config->allow_anyone && sg_config_is_exposed(server->config)) {
        sg_log(
            SG_LOG_ERROR,
            "%s: there is no user, and the server would be reachable from other machines: `sealgram invite DIR USER` "
            "adds one (or, for a server open to everyone, allow_anyone_without_authentication: true)",
            server->config->users);
        return false;
    }
    return true;
}

/* Special ones are refused anyway: room is only needed for the others. */
static bool add_own(struct sg_guard *guard, const struct sg_ip *ip)
{
    struct sg_endpoint own = {.ip = *ip};
    return sg_guard_class(ip) != NULL || sg_guard_add_own(guard, &own) != SG_ERR_FULL;
}

/* The server's own addresses are no targets, unless --allow covers them. */
static bool add_own_addresses(struct sg_guard *guard)
{
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0)
        return false;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        struct sockaddr_storage ss = {0};
        if (!i->ifa_addr || (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
            continue;
        memcpy(&ss, i->ifa_addr,
               i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        struct sg_ip ip = sg_sockaddr_endpoint(&ss).ip;
        if (!add_own(guard, &ip))
            sg_log(SG_LOG_WARN, "more own addresses than %d: the others are not guarded", SG_GUARD_OWN_MAX);
    }
    freeifaddrs(list);
    return true;
}

static bool make_guard(struct sg_server *server)
{
    const struct sg_config *config = server->config;
    struct sg_guard guard = {0};
    for (unsigned i = 0; i < config->allow_count; i++)
        if (sg_guard_allow(&guard, &config->allow[i]) != SG_OK)
            return false;
    for (unsigned i = 0; i < config->listen_count; i++)
        if (!add_own(&guard, &config->listen[i].ip))
            return false;
    /* behind a NAT no interface has it, and what is sent there comes back to this machine */
    if (!add_own(&guard, &config->advertise.ip) || !add_own_addresses(&guard))
        return false;
    server->guard = guard;
    return true;
}

/* Everything that files can get wrong. */
static bool load(struct sg_server *server)
{
    const struct sg_config *config = server->config;
    char error[SG_CERT_ERROR_MAX];
    char text[SG_TLS_TEXT_MAX];
    if (sg_cert_check(config->key, config->certificate, error) != SG_OK) {
        sg_log(SG_LOG_ERROR, "%s", error);
        return false;
    }
    server->tls = sg_tls_server_ctx(config->certificate, config->key, config->client_ca, text);
    if (!server->tls) {
        sg_log(SG_LOG_ERROR, "%s", text);
        return false;
    }
    if (!make_guard(server)) {
        sg_log(SG_LOG_ERROR, "cannot list the own addresses: %s", strerror(errno));
        return false;
    }
    return load_users(server);
}

static void unload(struct sg_server *server)
{
    SSL_CTX_free(server->tls);
    sg_users_free(server->users);
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

static void reload_users(struct running *running)
{
    struct sg_server *server = &running->server;
    char error[SG_USERS_ERROR_MAX];
    struct sg_users *fresh = NULL;
    if (sg_users_load(server->config->users, &fresh, error) != SG_OK) {
        sg_log(SG_LOG_ERROR, "%s: the users stay as they were", error);
        return;
    }
    sg_users_free(server->users);
    server->users = fresh;
    sg_auth_forget(server->auth);
    sg_log(SG_LOG_INFO, "user file read again: %zu users", sg_users_count(fresh));
    sg_worker_users_changed(server->worker);
}

static void on_watch(evutil_socket_t fd, short what, void *ctx)
{
    struct running *running = ctx;
    struct stat st;
    (void)fd;
    (void)what;
    uint64_t now_ms = sg_now_ms();
    if (now_ms >= running->guard_ms + OWN_ADDRESSES_MS) {
        running->guard_ms = now_ms; /* addresses come and go: DHCP, temporary ones of IPv6 */
        (void)make_guard(&running->server);
    }
    if (stat(running->server.config->users, &st) != 0 || !stat_differs(&st, &running->users_stat))
        return;
    running->users_stat = st;
    reload_users(running);
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    struct running *running = ctx;
    (void)what;
    sg_log(SG_LOG_INFO, "%s: ending", number == SIGINT ? "SIGINT" : "SIGTERM");
    event_base_loopbreak(running->base);
}

static json_t *make_status(void *ctx)
{
    struct running *running = ctx;
    json_t *status = json_object();
    if (!status)
        return NULL;
    json_object_set_new(status, "role", json_string("server"));
    json_object_set_new(status, "version", json_string(SG_VERSION));
    json_object_set_new(status, "uptime_seconds",
                        json_integer((json_int_t)((sg_now_ms() - running->server.started_ms) / 1000)));
    json_object_set_new(status, "users", json_integer((json_int_t)sg_users_count(running->server.users)));
    sg_worker_status(running->server.worker, status);
    return status;
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
        sg_log(SG_LOG_ERROR, "cannot listen on %s (status_socket): %s", chosen ? chosen : path, strerror(errno));
    return running->status != NULL;
}

static bool start(struct running *running)
{
    struct sg_server *server = &running->server;
    const struct sg_config *config = server->config;
    const uint32_t user_limits[SG_USAGE_KINDS] = {
        [SG_USAGE_SESSION] = config->limits.sessions_per_user,
        [SG_USAGE_ASSOCIATION] = config->limits.associations_per_user,
        [SG_USAGE_CONNECTION] = config->limits.connections_per_user,
    };
    running->base = event_base_new();
    server->usage = sg_usage_table_new(user_limits);
    if (running->base)
        server->auth =
            sg_auth_new(server, running->base, config->limits.password_threads, config->limits.password_queue);
    if (!running->base || !server->usage || !server->auth || !start_events(running)) {
        sg_log(SG_LOG_ERROR, "cannot set up the event loop");
        return false;
    }
    server->worker = sg_worker_new(server, 0, running->base);
    return server->worker && start_status(running);
}

static void print_ready(const struct sg_config *config)
{
    printf("ready");
    for (unsigned i = 0; i < config->listen_count; i++) {
        char text[SG_ENDPOINT_TEXT_MAX];
        sg_endpoint_format(&config->listen[i], text);
        printf(" %s", text);
    }
    putchar('\n');
    if (fflush(stdout) != 0)
        sg_log(SG_LOG_WARN, "cannot write to standard output: %s", strerror(errno));
}

/* What was handed to the loop for a good end (CLOSE, close_notify) gets a moment to leave. */
static void flush(struct event_base *base)
{
    static const struct timeval limit = {.tv_usec = FLUSH_MS * 1000};
    if (event_base_loopexit(base, &limit) != 0)
        return;
    /* more than the limit's own event: something still leaves */
    while (!event_base_got_exit(base) && event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED) > 1)
        if (event_base_loop(base, EVLOOP_ONCE) != 0)
            return;
}

static void stop(struct running *running)
{
    struct sg_server *server = &running->server;
    sg_status_socket_free(running->status);
    sg_worker_free(server->worker);
    for (unsigned i = 0; i < 2; i++)
        if (running->signals[i])
            event_free(running->signals[i]);
    if (running->watch)
        event_free(running->watch);
    sg_auth_free(server->auth);
    if (running->base) {
        flush(running->base);
        event_base_free(running->base);
    }
    sg_usage_table_free(server->usage);
    unload(server);
}

int sg_server_run(const struct sg_config *config)
{
    struct running running = {.server.config = config};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    int code = EXIT_CONFIG;
    raise_file_limit();
    (void)sigaction(SIGPIPE, &ignore, NULL);
    running.server.started_ms = running.guard_ms = sg_now_ms();
    (void)stat(config->users, &running.users_stat);
    if (load(&running.server)) {
        code = EXIT_FAILED;
        /* a user without a password costs the same work as one with it */
        if (crypto_pwhash_str(running.server.decoy_hash, "", 0, crypto_pwhash_OPSLIMIT_INTERACTIVE,
                              crypto_pwhash_MEMLIMIT_INTERACTIVE) == 0 &&
            start(&running)) {
            print_ready(config);
            event_base_dispatch(running.base);
            code = 0;
        }
    }
    stop(&running);
    return code;
}
