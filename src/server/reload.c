/* A new policy is announced by a letter to each worker: all of them, or none when memory is short. */
#include "server/reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/addr_watch.h"
#include "net/clock.h"
#include "net/inbox.h"
#include "net/log.h"
#include "net/service.h"
#include "server/nat64.h"
#include "server/server.h"
#include "server/users.h"
#include "server/worker.h"

enum { OWN_ADDRESSES_MS = 3000, NAMES_MAX = 256 };

/* --- to all workers --- */

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

/* Makes a policy the one that all workers turn to. Takes it over; NULL, as when memory is short, changes nothing. */
static bool announce(struct sg_server *server, struct sg_policy *fresh)
{
    struct turn *turns[SG_WORKERS_MAX] = {0};
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
        sg_policy_release(fresh);
    }
    return room;
}

/* --- the configuration --- */

static bool same_listen(const struct sg_config *a, const struct sg_config *b)
{
    bool same = a->listen_count == b->listen_count;
    for (unsigned i = 0; same && i < a->listen_count; i++)
        same = sg_endpoint_equal(&a->listen[i], &b->listen[i]);
    return same;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_command(char *const *a, char *const *b)
{
    bool same = !a == !b;
    for (size_t i = 0; same && a && (a[i] || b[i]); i++)
        same = a[i] && b[i] && strcmp(a[i], b[i]) == 0;
    return same;
}

/* Who is asked for users, from when on, and for how long. */
static bool same_authenticator(const struct sg_config *a, const struct sg_config *b)
{
    return same_command(a->authenticator.command, b->authenticator.command) &&
           a->authenticator.processes == b->authenticator.processes &&
           a->authenticator.timeout_seconds == b->authenticator.timeout_seconds;
}

static void add_name(char names[static NAMES_MAX], bool differs, const char *name)
{
    size_t len = strlen(names);
    if (differs)
        snprintf(names + len, NAMES_MAX - len, "%s%s", len > 0 ? ", " : "", name);
}

static bool same_metrics(const struct sg_config_metrics *a, const struct sg_config_metrics *b)
{
    return sg_endpoint_equal(&a->listen, &b->listen) && a->per_user == b->per_user;
}

/* What sockets, threads and tables were made of. Other values are named, and the old ones put back. */
static void keep_what_stays(const struct sg_server *server, struct sg_config *fresh, char names[static NAMES_MAX])
{
    const struct sg_config *first = server->config;
    names[0] = '\0';
    add_name(names, !same_listen(first, fresh), "listen");
    add_name(names, first->workers != fresh->workers, "workers");
    add_name(names, first->udp_ports.first != fresh->udp_ports.first || first->udp_ports.last != fresh->udp_ports.last,
             "udp_ports");
    add_name(names, !same_text(first->status_socket, fresh->status_socket), "status_socket");
    add_name(names, first->limits.password_threads != fresh->limits.password_threads, "limits: password_threads");
    add_name(names, !same_text(first->user, fresh->user), "user");
    add_name(names, first->sandbox != fresh->sandbox, "sandbox");
    add_name(names, !same_text(first->devices, fresh->devices), "devices");
    add_name(names, !same_authenticator(first, fresh), "authenticator");
    add_name(names, memcmp(&first->log, &fresh->log, sizeof first->log) != 0, "log");
    add_name(names, !same_metrics(&first->metrics, &fresh->metrics), "metrics");
    memcpy(fresh->listen, first->listen, sizeof fresh->listen);
    fresh->listen_count = first->listen_count;
    fresh->workers = first->workers;
    fresh->udp_ports = first->udp_ports;
    free(fresh->status_socket);
    fresh->status_socket = first->status_socket ? strdup(first->status_socket) : NULL;
    fresh->limits.password_threads = first->limits.password_threads;
    /* the tables have room for as many as there were to be at the start */
    bool too_many = fresh->limits.sessions > server->config->limits.sessions;
    add_name(names, too_many, "limits: sessions");
    if (too_many)
        fresh->limits.sessions = server->policy->config->limits.sessions;
}

static void read_stats(const struct sg_config *config, struct stat *users, struct stat *crl)
{
    memset(users, 0, sizeof *users);
    memset(crl, 0, sizeof *crl);
    (void)stat(config->users, users);
    if (config->client_crl)
        (void)stat(config->client_crl, crl);
}

static bool load_config(struct sg_reload *reload, char error[static SG_POLICY_ERROR_MAX])
{
    struct sg_server *server = reload->server;
    char names[NAMES_MAX];
    struct stat users_stat, crl_stat;
    struct sg_config *config = sg_config_read(server->config->file, error);
    if (!config)
        return false;
    keep_what_stays(server, config, names);
    read_stats(config, &users_stat, &crl_stat);
    struct sg_policy *fresh = sg_policy_build(config, server->policy, error);
    sg_config_free(config);
    if (!fresh)
        return false;
    sg_server_set_limits(server, fresh->config);
    if (!announce(server, fresh)) {
        snprintf(error, SG_POLICY_ERROR_MAX, "out of memory");
        return false;
    }
    reload->users_stat = users_stat;
    reload->crl_stat = crl_stat;
    reload->guard_ms = sg_now_ms();
    if (names[0])
        sg_log_event(SG_LOG_WARN, "restart_needed", NULL, "%s: these are as they were until a restart: %s",
                     server->config->file, names);
    sg_log_event(SG_LOG_INFO, "config_reloaded",
                 SG_LOG_FIELDS(sg_log_number("users", sg_users_count(server->policy->users))),
                 "configuration read again: %zu users", sg_users_count(server->policy->users));
    return true;
}

bool sg_reload_config(struct sg_reload *reload, char error[static SG_POLICY_ERROR_MAX])
{
    sg_service_say_reloading();
    bool good = load_config(reload, error);
    sg_service_say("READY=1");
    if (!good)
        sg_log_event(SG_LOG_ERROR, "config_reload_failed", NULL, "%s: the configuration stays as it was", error);
    return good;
}

/* --- the user file, and the addresses --- */

static bool stat_differs(const struct stat *a, const struct stat *b)
{
    return a->st_ino != b->st_ino || a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
           a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

static void reload_users(struct sg_server *server)
{
    char error[SG_USERS_ERROR_MAX];
    struct sg_users *fresh = NULL;
    if (sg_users_load(server->policy->config->users, &fresh, error) != SG_OK) {
        sg_log_event(SG_LOG_ERROR, "users_reload_failed", NULL, "%s: the users stay as they were", error);
        return;
    }
    size_t count = sg_users_count(fresh);
    if (announce(server, sg_policy_with_users(server->policy, fresh)))
        sg_log_event(SG_LOG_INFO, "users_reloaded", SG_LOG_FIELDS(sg_log_number("users", count)),
                     "user file read again: %zu users", count);
    else
        sg_log_event(SG_LOG_ERROR, "users_reload_failed", NULL, "out of memory: the users stay as they were");
}

/* The time of a credential is over: what it let in ends. */
static void expire_users(struct sg_server *server)
{
    const struct sg_policy *now = server->policy;
    time_t expiry = sg_users_next_expiry(now->users);
    struct sg_users *fresh = expiry != 0 && time(NULL) >= expiry ? sg_users_renew(now->users) : NULL;
    if (fresh && announce(server, sg_policy_with_users(now, fresh)))
        sg_log_event(SG_LOG_INFO, "credential_expired", NULL, "a credential has expired");
}

/* The revocation lists are others. */
static void reload_crl(struct sg_server *server)
{
    const struct sg_policy *now = server->policy;
    char error[SG_POLICY_ERROR_MAX];
    SSL_CTX *tls = sg_policy_make_tls(now->config, error);
    if (!tls)
        sg_log_event(SG_LOG_ERROR, "crl_reload_failed", NULL, "%s: the revocation lists stay as they were", error);
    else if (announce(server, sg_policy_with_tls(now, tls)))
        sg_log_event(SG_LOG_INFO, "crl_reloaded", NULL, "revocation lists read again");
}

static bool same_own(const struct sg_guard *a, const struct sg_guard *b)
{
    bool same = a->own_count == b->own_count && sg_ip_equal(&a->outside, &b->outside);
    for (unsigned i = 0; i < a->own_count && same; i++)
        same = sg_ip_equal(&a->own[i].first, &b->own[i].first) && sg_ip_equal(&a->own[i].last, &b->own[i].last);
    return same;
}

static bool same_nat64(const struct sg_guard *a, const struct sg_guard *b)
{
    bool same = a->nat64_count == b->nat64_count;
    for (unsigned i = 0; i < a->nat64_count && same; i++)
        same = a->nat64[i].bits == b->nat64[i].bits && sg_ip_equal(&a->nat64[i].ip, &b->nat64[i].ip);
    return same;
}

/* Addresses and routes come and go: DHCP, temporary ones of IPv6, load balancers; translators of the network too. */
static void renew_guard(struct sg_reload *reload, const struct sg_nat64 *nat64)
{
    struct sg_guard guard;
    struct sg_server *server = reload->server;
    const struct sg_policy *now = server->policy;
    reload->guard_ms = sg_now_ms();
    if (!sg_policy_make_guard(now->config, nat64, &guard))
        sg_log(SG_LOG_ERROR, "the own addresses cannot be listed, and stay as they were: %s", strerror(errno));
    else if ((!same_own(&guard, &now->guard) || !same_nat64(&guard, &now->guard)) &&
             !announce(server, sg_policy_with_guard(now, &guard, nat64)))
        sg_log(SG_LOG_ERROR, "out of memory: own addresses stay as they were");
}

static void on_addresses(void *ctx)
{
    struct sg_reload *reload = ctx;
    struct sg_nat64 nat64 = reload->server->policy->nat64;
    renew_guard(reload, &nat64);
    sg_nat64_watch_ask(reload->nat64);
}

static void on_nat64(void *ctx, const struct sg_nat64 *found)
{
    renew_guard(ctx, found);
}

bool sg_reload_start(struct sg_reload *reload, struct event_base *base)
{
    const struct sg_server *server = reload->server;
    reload->nat64 = sg_nat64_watch_new(base, server->workers[0]->resolver, on_nat64, reload);
    if (!reload->nat64)
        return false;
    reload->addresses = sg_addr_watch_new(base, SG_WATCH_OWN_ROUTES, on_addresses, reload);
    return true;
}

void sg_reload_stop(struct sg_reload *reload)
{
    sg_addr_watch_free(reload->addresses);
    sg_nat64_watch_free(reload->nat64);
    reload->addresses = NULL;
    reload->nat64 = NULL;
}

void sg_reload_init(struct sg_reload *reload, struct sg_server *server, const struct sg_config *config)
{
    *reload = (struct sg_reload){.server = server, .guard_ms = sg_now_ms()};
    read_stats(config, &reload->users_stat, &reload->crl_stat);
}

void sg_reload_watch(struct sg_reload *reload)
{
    struct stat st;
    uint64_t now_ms = sg_now_ms();
    if (!reload->addresses && now_ms >= reload->guard_ms + OWN_ADDRESSES_MS) {
        struct sg_nat64 nat64 = reload->server->policy->nat64;
        renew_guard(reload, &nat64);
    }
    expire_users(reload->server);
    const char *crl = reload->server->policy->config->client_crl;
    if (crl && stat(crl, &st) == 0 && stat_differs(&st, &reload->crl_stat)) {
        reload->crl_stat = st;
        reload_crl(reload->server);
    }
    if (stat(reload->server->policy->config->users, &st) != 0 || !stat_differs(&st, &reload->users_stat))
        return;
    reload->users_stat = st;
    reload_users(reload->server);
}
