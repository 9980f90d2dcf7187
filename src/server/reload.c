/*
 * Orders go to the thread that reads, in the order of their coming, and come back with what was found; worker 0 makes a
 * policy of it. A new policy is announced by a letter to each worker: all of them, or none when memory is short.
 */
#include "server/reload.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "net/addr_watch.h"
#include "net/clock.h"
#include "net/inbox.h"
#include "net/log.h"
#include "net/loop.h"
#include "net/service.h"
#include "server/metrics.h"
#include "server/nat64.h"
#include "server/reread.h"
#include "server/server.h"
#include "server/user_line.h"
#include "server/users.h"
#include "server/worker.h"

enum { OWN_ADDRESSES_MS = 3000, ANSWER_MAX = SG_POLICY_ERROR_MAX + 64, STOP_MS = 1000 };

struct order {
    struct sg_letter letter;
    struct order *next, **link; /* of those that are under way */
    struct sg_reload *reload;
    enum sg_reload_what what;
    struct sg_policy *before; /* in force when it was given */
    sg_reload_fn *fn;         /* NULL: nobody waits for the answer */
    void *ctx;
    struct event *deadline;
    bool is_late;
    struct sg_reread_seen seen;
    struct sg_reread_found found;
};

struct sg_reload {
    struct sg_server *server;
    struct event_base *base; /* of worker 0 */
    struct sg_loop *reader;  /* the thread that reads */
    struct sg_reread_seen seen;
    struct order *orders;
    struct order *tick;              /* the one of them that nobody asked for, if any */
    unsigned late_count;             /* of them */
    uint64_t guard_ms;               /* when the guard was made */
    struct sg_addr_watch *addresses; /* NULL: the system does not tell of changes */
    struct sg_nat64_watch *nat64;
    pthread_mutex_t lock; /* of the last */
    bool stopped;         /* worker 0 takes no letter any more */
};

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

/* --- the guard --- */

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

/* --- what was read --- */

/* Makes it the one in force; takes it over. NULL, or why nothing has changed. */
static const char *put_in_force(struct sg_reload *reload, struct sg_policy *fresh)
{
    struct sg_server *server = reload->server;
    const struct sg_nat64 nat64 = server->policy->nat64;
    sg_policy_follow(fresh, server->policy);
    if (!sg_metrics_turn_to(server->metrics, &fresh->config->metrics)) {
        sg_policy_release(fresh);
        return "metrics: cannot listen at the new address, see the log";
    }
    sg_server_set_limits(server, fresh->config);
    if (!announce(server, fresh))
        return "out of memory";
    sg_config_use_log(&server->policy->config->log);
    renew_guard(reload, &nat64); /* which may have changed while the files were read */
    return NULL;
}

static const char *use_config(struct sg_reload *reload, struct sg_reread_found *found, char text[static ANSWER_MAX])
{
    struct sg_server *server = reload->server;
    struct sg_policy *fresh = found->policy;
    found->policy = NULL;
    const char *wrong = fresh ? put_in_force(reload, fresh) : found->error;
    if (wrong) {
        sg_log_event(SG_LOG_ERROR, "config_reload_failed", NULL, "%s: the configuration stays as it was", wrong);
        snprintf(text, ANSWER_MAX, "error: %s", wrong);
        return text;
    }
    if (found->names[0])
        sg_log_event(SG_LOG_WARN, "restart_needed", NULL, "%s: these are as they were until a restart: %s",
                     server->config->file, found->names);
    size_t count = sg_users_count(server->policy->users);
    sg_log_event(SG_LOG_INFO, "config_reloaded", SG_LOG_FIELDS(sg_log_number("users", count)),
                 "configuration read again: %zu users", count);
    snprintf(text, ANSWER_MAX, "ok: reloaded%s%s", found->names[0] ? "; these are as they were until a restart: " : "",
             found->names);
    return text;
}

static const char *use_users(struct sg_server *server, struct sg_reread_found *found, char text[static ANSWER_MAX])
{
    struct sg_users *fresh = found->users;
    found->users = NULL;
    if (!fresh && !found->error[0])
        return "ok: looked";
    if (!fresh)
        snprintf(text, ANSWER_MAX, "error: %s", found->error);
    size_t count = fresh ? sg_users_count(fresh) : 0;
    if (fresh && !announce(server, sg_policy_with_users(server->policy, fresh))) {
        snprintf(text, ANSWER_MAX, "error: out of memory");
    } else if (fresh) {
        sg_log_event(SG_LOG_INFO, "users_reloaded", SG_LOG_FIELDS(sg_log_number("users", count)),
                     "user file read again: %zu users", count);
        return "ok: looked";
    }
    sg_log_event(SG_LOG_ERROR, "users_reload_failed", NULL, "%s: the users stay as they were",
                 text + strlen("error: "));
    return text;
}

/* The revocation lists are others. */
static void use_tls(struct sg_server *server, struct sg_reread_found *found)
{
    SSL_CTX *tls = found->tls;
    found->tls = NULL;
    if (tls && announce(server, sg_policy_with_tls(server->policy, tls)))
        sg_log_event(SG_LOG_INFO, "crl_reloaded", NULL, "revocation lists read again");
    else if (tls || found->tls_error[0])
        sg_log_event(SG_LOG_ERROR, "crl_reload_failed", NULL, "%s: the revocation lists stay as they were",
                     tls ? "out of memory" : found->tls_error);
}

/* --- orders --- */

static void finish(struct order *order, const char *answer)
{
    if (order->what == SG_RELOAD_CONFIG)
        sg_service_say("READY=1");
    if (order->fn)
        order->fn(order->ctx, answer);
    order->fn = NULL;
}

static void free_order(struct order *order)
{
    struct sg_reload *reload = order->reload;
    *order->link = order->next;
    if (order->next)
        order->next->link = order->link;
    reload->late_count -= order->is_late;
    if (reload->tick == order)
        reload->tick = NULL;
    if (order->deadline)
        event_free(order->deadline);
    sg_policy_release(order->before);
    sg_reread_dispose(&order->found);
    free(order);
}

static void use(struct order *order)
{
    struct sg_reload *reload = order->reload;
    char text[ANSWER_MAX];
    const char *answer = NULL;
    reload->seen = order->seen;
    if (order->what == SG_RELOAD_CONFIG) {
        answer = use_config(reload, &order->found, text);
    } else {
        use_tls(reload->server, &order->found);
        answer = use_users(reload->server, &order->found, text);
    }
    finish(order, answer);
}

/* On the reader's thread. */
static void read_again(void *ctx);

static void send_order(struct order *order)
{
    struct sg_reload *reload = order->reload;
    sg_policy_release(order->before);
    order->before = sg_policy_ref(reload->server->policy);
    order->seen = reload->seen;
    order->letter = (struct sg_letter){.fn = read_again, .ctx = order};
    sg_inbox_post(reload->reader->inbox, &order->letter);
}

/* On worker 0. What came too late was given up; it is looked at again, like what another configuration named. */
static void take_back(void *ctx)
{
    struct order *order = ctx;
    const struct sg_policy *now = order->reload->server->policy;
    bool is_old = order->what == SG_RELOAD_FILES && order->before->config != now->config;
    if (is_old && !order->is_late && !order->reload->stopped) {
        sg_reread_dispose(&order->found);
        send_order(order);
        return;
    }
    if (!order->is_late && !order->reload->stopped)
        use(order);
    free_order(order);
}

static void read_again(void *ctx)
{
    struct order *order = ctx;
    struct sg_reload *reload = order->reload;
    if (order->what == SG_RELOAD_CONFIG)
        sg_reread_config(reload->server->config, order->before, &order->seen, &order->found);
    else
        sg_reread_files(order->before, &order->seen, &order->found);
    order->letter = (struct sg_letter){.fn = take_back, .ctx = order};
    pthread_mutex_lock(&reload->lock);
    if (!reload->stopped)
        sg_inbox_post(reload->server->workers[0]->inbox, &order->letter);
    pthread_mutex_unlock(&reload->lock);
}

static const char *file_of(const struct order *order)
{
    const struct sg_config *config = order->before->config;
    return order->what == SG_RELOAD_CONFIG ? config->file : config->users;
}

static void on_deadline(evutil_socket_t fd, short what, void *ctx)
{
    struct order *order = ctx;
    char text[ANSWER_MAX];
    (void)fd;
    (void)what;
    order->is_late = true;
    order->reload->late_count++;
    snprintf(text, sizeof text, "error: " SG_CONFIG_TOO_LONG, file_of(order), SG_CONFIG_SECONDS_MAX);
    sg_log_event(SG_LOG_ERROR, "reload_late", NULL, "%s; all stays as it was", text + strlen("error: "));
    finish(order, text);
}

static struct order *new_order(struct sg_reload *reload, enum sg_reload_what what)
{
    static const struct timeval limit = {.tv_sec = SG_CONFIG_SECONDS_MAX};
    struct order *order = calloc(1, sizeof *order);
    if (!order)
        return NULL;
    order->deadline = evtimer_new(reload->base, on_deadline, order);
    if (!order->deadline || event_add(order->deadline, &limit) != 0) {
        if (order->deadline)
            event_free(order->deadline);
        free(order);
        return NULL;
    }
    order->reload = reload;
    order->what = what;
    order->next = reload->orders;
    order->link = &reload->orders;
    if (order->next)
        order->next->link = &order->next;
    reload->orders = order;
    return order;
}

void sg_reload_order(struct sg_reload *reload, enum sg_reload_what what, sg_reload_fn *fn, void *ctx)
{
    const char *wrong = NULL;
    struct order *order = NULL;
    if (reload->late_count > 0)
        wrong = "error: what is read since the last time has not come: is it on a file system that does not answer?";
    else if (!(order = new_order(reload, what)))
        wrong = "error: out of memory";
    if (!wrong && what == SG_RELOAD_CONFIG)
        sg_service_say_reloading();
    if (wrong)
        sg_log_event(SG_LOG_ERROR, "reload_late", NULL, "%s", wrong + strlen("error: "));
    if (wrong && fn)
        fn(ctx, wrong);
    if (wrong)
        return;
    order->fn = fn;
    order->ctx = ctx;
    send_order(order);
}

/* --- what is looked at again and again --- */

/* The time of a credential is over: what it let in ends. Or the clock was wrong, and it is not. */
static void expire_users(struct sg_server *server)
{
    const struct sg_policy *now = server->policy;
    bool is_later = now->users->next_over != 0 && time(NULL) >= now->users->next_over;
    struct sg_users *fresh = sg_users_is_stale(now->users, time(NULL)) ? sg_users_renew(now->users) : NULL;
    if (!fresh || !announce(server, sg_policy_with_users(now, fresh)))
        return;
    if (is_later)
        sg_log_event(SG_LOG_INFO, "credential_expired", NULL, "a credential has expired");
    else
        sg_log_event(SG_LOG_WARN, "clock_set_back", NULL,
                     "the clock was set back: a credential that had expired is good again, until its time");
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

void sg_reload_watch(struct sg_reload *reload)
{
    uint64_t now_ms = sg_now_ms();
    if (!reload->addresses && now_ms >= reload->guard_ms + OWN_ADDRESSES_MS) {
        struct sg_nat64 nat64 = reload->server->policy->nat64;
        renew_guard(reload, &nat64);
    }
    expire_users(reload->server);
    if (!reload->tick && reload->late_count == 0 && (reload->tick = new_order(reload, SG_RELOAD_FILES)))
        send_order(reload->tick);
}

/* --- start and end --- */

struct sg_reload *sg_reload_new(struct sg_server *server)
{
    struct sg_reload *reload = calloc(1, sizeof *reload);
    if (!reload)
        return NULL;
    reload->server = server;
    reload->guard_ms = sg_now_ms();
    pthread_mutex_init(&reload->lock, NULL);
    sg_reread_look(server->config, &reload->seen);
    reload->reader = sg_loop_new();
    if (reload->reader)
        return reload;
    sg_reload_free(reload);
    return NULL;
}

bool sg_reload_start(struct sg_reload *reload, struct event_base *base)
{
    const struct sg_server *server = reload->server;
    reload->base = base;
    reload->nat64 = sg_nat64_watch_new(base, &server->workers[0]->resolver, on_nat64, reload);
    if (!reload->nat64)
        return false;
    reload->addresses = sg_addr_watch_new(base, SG_WATCH_OWN_ROUTES, on_addresses, reload);
    return true;
}

bool sg_reload_start_thread(struct sg_reload *reload)
{
    return sg_loop_start(reload->reader);
}

bool sg_reload_stop(struct sg_reload *reload)
{
    pthread_mutex_lock(&reload->lock);
    reload->stopped = true;
    pthread_mutex_unlock(&reload->lock);
    for (struct order *order = reload->orders; order; order = order->next) {
        order->fn = NULL;
        event_free(order->deadline);
        order->deadline = NULL;
    }
    sg_addr_watch_free(reload->addresses);
    sg_nat64_watch_free(reload->nat64);
    reload->addresses = NULL;
    reload->nat64 = NULL;
    return sg_loop_stop_within(reload->reader, STOP_MS);
}

void sg_reload_free(struct sg_reload *reload)
{
    if (!reload)
        return;
    for (struct order *order = reload->orders, *next = NULL; order; order = next) {
        next = order->next;
        free_order(order);
    }
    sg_loop_free(reload->reader);
    pthread_mutex_destroy(&reload->lock);
    free(reload);
}
