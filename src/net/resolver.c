/*
 * Asking is a letter to the thread of the name service, the answer a letter back. A cancelled look-up leaves its
 * question at once, by a second letter, and is freed when that comes back: letters keep their order, so nothing else
 * comes after it.
 */
#include "net/resolver.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "net/inbox.h"
#include "net/log.h"
#include "net/loop.h"

enum { BUCKETS = 1024, NAME_MAX_BYTES = 256, STOP_MS = 1000 };

/* Has look-ups under way. */
struct user {
    struct user *next;
    unsigned look_ups;
    char name[];
};

/* A look-up of c-ares. */
struct question {
    struct question *next, **link; /* in its bucket */
    struct sg_name_service *service;
    struct user *user;          /* whose slot it has, or NULL */
    uint64_t serial;            /* of the files that it goes by */
    struct sg_resolve *waiters; /* for its answer */
    char name[NAME_MAX_BYTES];
};

struct sg_name_service {
    struct sg_loop *loop;
    struct sg_dns *dns;
    bool is_confined;
    char *error; /* of SG_SANDBOX_ERROR_MAX, while it starts */
    bool has_started;
    uint8_t key[crypto_shorthash_KEYBYTES];
    struct question *questions[BUCKETS];
    struct user *users[BUCKETS];
    _Atomic uint32_t pending;
    _Atomic uint64_t refused;
    pthread_mutex_t lock; /* of the last */
    bool is_left;         /* by those that asked */
};

struct sg_resolve {
    struct sg_name_service *service;
    const struct sg_resolver *resolver; /* not there any more once the service is left */
    sg_resolve_fn *fn;                  /* of the loop; NULL: cancelled */
    void *ctx;
    struct sg_letter letter;         /* the question, then the answer */
    struct sg_letter cancelled;      /* to the service, and back */
    bool is_number;                  /* the service is not asked */
    struct question *question;       /* of the service: what it waits for */
    struct sg_resolve *next, **link; /* among those */
    enum sg_err err;
    size_t count;
    struct sg_ip ips[SG_RESOLVE_MAX_IPS];
    const char *user; /* within text, or NULL */
    char name[NAME_MAX_BYTES];
    char text[];
};

/* --- on the thread of the service --- */

static size_t bucket_of(const struct sg_name_service *service, const char *text)
{
    uint64_t hash = 0;
    crypto_shorthash((uint8_t *)&hash, (const uint8_t *)text, strlen(text), service->key);
    return (size_t)(hash % BUCKETS);
}

static void on_answer(void *ctx);

/* To the loop that asked, if it still waits. */
static void post(struct sg_resolve *resolve, struct sg_letter *letter)
{
    struct sg_name_service *service = resolve->service;
    if (resolve->is_number) {
        sg_inbox_post(resolve->resolver->inbox, letter);
        return;
    }
    pthread_mutex_lock(&service->lock);
    if (!service->is_left)
        sg_inbox_post(resolve->resolver->inbox, letter);
    pthread_mutex_unlock(&service->lock);
}

/* The loop gets its answer. */
static void reply(struct sg_resolve *resolve, enum sg_err err, const struct sg_ip *ips, size_t count)
{
    resolve->err = err;
    resolve->count = count;
    for (size_t i = 0; i < count; i++)
        resolve->ips[i] = ips[i];
    resolve->letter = (struct sg_letter){.fn = on_answer, .ctx = resolve};
    post(resolve, &resolve->letter);
}

static void leave_question(struct sg_resolve *resolve)
{
    *resolve->link = resolve->next;
    if (resolve->next)
        resolve->next->link = resolve->link;
    resolve->question = NULL;
}

static void join_question(struct sg_resolve *resolve, struct question *question)
{
    resolve->question = question;
    resolve->next = question->waiters;
    resolve->link = &question->waiters;
    if (resolve->next)
        resolve->next->link = &resolve->next;
    question->waiters = resolve;
}

/* Whose slots are counted: made if it is the first. NULL: memory is short. */
static struct user *find_user(struct sg_name_service *service, const char *name)
{
    struct user **link = &service->users[bucket_of(service, name)];
    for (struct user *user = *link; user; user = user->next)
        if (strcmp(user->name, name) == 0)
            return user;
    struct user *user = calloc(1, sizeof *user + strlen(name) + 1);
    if (!user)
        return NULL;
    memcpy(user->name, name, strlen(name) + 1);
    user->next = *link;
    *link = user;
    return user;
}

static void drop_idle_user(struct sg_name_service *service, struct user *user)
{
    if (!user || user->look_ups > 0)
        return;
    struct user **link = &service->users[bucket_of(service, user->name)];
    while (*link != user)
        link = &(*link)->next;
    *link = user->next;
    free(user);
}

static void free_question(struct question *question)
{
    struct sg_name_service *service = question->service;
    *question->link = question->next;
    if (question->next)
        question->next->link = question->link;
    if (question->user)
        question->user->look_ups--;
    drop_idle_user(service, question->user);
    service->pending--;
    free(question);
}

static void on_dns(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count)
{
    struct question *question = ctx;
    while (question->waiters) {
        struct sg_resolve *resolve = question->waiters;
        leave_question(resolve);
        reply(resolve, err, ips, count);
    }
    free_question(question);
}

static struct question *find_question(struct sg_name_service *service, const char *name, uint64_t serial)
{
    for (struct question *q = service->questions[bucket_of(service, name)]; q; q = q->next)
        if (q->serial == serial && strcmp(q->name, name) == 0)
            return q;
    return NULL;
}

/* NULL: there is no slot, or no memory. */
static struct question *new_question(struct sg_name_service *service, const struct sg_resolve *resolve, uint64_t serial)
{
    struct user *user = resolve->user ? find_user(service, resolve->user) : NULL;
    bool has_slot =
        service->pending < SG_LOOK_UPS_MAX && (user ? user->look_ups < SG_LOOK_UPS_PER_USER : resolve->user == NULL);
    struct question *question = has_slot ? calloc(1, sizeof *question) : NULL;
    if (!question) {
        drop_idle_user(service, user);
        return NULL;
    }
    memcpy(question->name, resolve->name, sizeof question->name);
    question->service = service;
    question->serial = serial;
    question->user = user;
    if (user)
        user->look_ups++;
    service->pending++;
    question->link = &service->questions[bucket_of(service, question->name)];
    question->next = *question->link;
    if (question->next)
        question->next->link = &question->next;
    *question->link = question;
    return question;
}

static void take_question(void *ctx)
{
    struct sg_resolve *resolve = ctx;
    struct sg_name_service *service = resolve->service;
    uint64_t serial = sg_dns_refresh(service->dns);
    struct question *question = find_question(service, resolve->name, serial);
    if (question) {
        join_question(resolve, question);
        return;
    }
    question = new_question(service, resolve, serial);
    if (!question) {
        service->refused++;
        reply(resolve, SG_ERR_FULL, NULL, 0);
        return;
    }
    join_question(resolve, question);
    sg_dns_ask(service->dns, question->name, on_dns, question);
}

static void on_cancelled(void *ctx);

static void take_cancel(void *ctx)
{
    struct sg_resolve *resolve = ctx;
    if (resolve->question)
        leave_question(resolve);
    resolve->cancelled = (struct sg_letter){.fn = on_cancelled, .ctx = resolve};
    post(resolve, &resolve->cancelled);
}

/* --- on the loop that asks --- */

static void on_cancelled(void *ctx)
{
    free(ctx);
}

static void on_answer(void *ctx)
{
    struct sg_resolve *resolve = ctx;
    if (!resolve->fn) {
        if (resolve->is_number)
            free(resolve); /* else it comes once more, from the service */
        return;
    }
    sg_resolve_fn *fn = resolve->fn;
    void *fn_ctx = resolve->ctx;
    struct sg_ip ips[SG_RESOLVE_MAX_IPS];
    size_t count = resolve->count;
    enum sg_err err = resolve->err;
    memcpy(ips, resolve->ips, sizeof ips);
    free(resolve);
    fn(fn_ctx, err, ips, count);
}

/* Equal names are spelled alike. What is no name at all becomes the empty one, which has no address. */
static void take_name(struct sg_resolve *resolve, const char *name, size_t len)
{
    if (len >= sizeof resolve->name)
        return;
    for (size_t i = 0; i < len; i++)
        resolve->name[i] = (char)tolower((unsigned char)name[i]);
    if (!sg_name_tidy(resolve->name))
        resolve->name[0] = '\0';
}

struct sg_resolve *sg_resolver_start(const struct sg_resolver *resolver, const char *user, const char *name, size_t len,
                                     sg_resolve_fn *fn, void *ctx)
{
    size_t user_len = user ? strlen(user) + 1 : 0;
    struct sg_resolve *resolve = calloc(1, sizeof *resolve + user_len);
    struct sg_ip ip;
    if (!resolve)
        return NULL;
    resolve->service = resolver->service;
    resolve->resolver = resolver;
    resolve->fn = fn;
    resolve->ctx = ctx;
    if (user) {
        memcpy(resolve->text, user, user_len);
        resolve->user = resolve->text;
    }
    take_name(resolve, name, len);
    bool is_ip = sg_ip_parse(resolve->name, &ip) == SG_OK;
    if (is_ip)
        ip = sg_ip_unmap(&ip);
    if (is_ip || resolve->name[0] == '\0') {
        resolve->is_number = true;
        reply(resolve, is_ip ? SG_OK : SG_ERR_NOT_FOUND, &ip, is_ip);
        return resolve;
    }
    resolve->letter = (struct sg_letter){.fn = take_question, .ctx = resolve};
    sg_inbox_post(resolver->service->loop->inbox, &resolve->letter);
    return resolve;
}

void sg_resolve_cancel(struct sg_resolve *resolve)
{
    if (!resolve)
        return;
    resolve->fn = NULL;
    if (resolve->is_number)
        return;
    resolve->cancelled = (struct sg_letter){.fn = take_cancel, .ctx = resolve};
    sg_inbox_post(resolve->resolver->service->loop->inbox, &resolve->cancelled);
}

/* --- start and end --- */

struct sg_name_service *sg_name_service_new(void)
{
    struct sg_name_service *service = calloc(1, sizeof *service);
    if (service)
        pthread_mutex_init(&service->lock, NULL);
    if (service && (service->loop = sg_loop_new())) {
        crypto_shorthash_keygen(service->key);
        service->dns = sg_dns_new(service->loop->base);
    }
    if (service && service->dns)
        return service;
    sg_log_event(SG_LOG_ERROR, "start_failed", NULL,
                 "cannot start the resolver: memory is short, or /etc/resolv.conf is a pipe or cannot be read");
    sg_name_service_free(service);
    return NULL;
}

/* On the thread itself: the sandbox is that of a thread. */
static void confine(void *ctx)
{
    struct sg_name_service *service = ctx;
    struct sg_sandbox sandbox = {.count = 0};
    if (service->is_confined)
        sg_sandbox_become_nobody();
    service->has_started = sg_sandbox_drop(service->error);
    if (!service->has_started || !service->is_confined)
        return;
    sg_sandbox_add_names(&sandbox);
    service->has_started = sg_sandbox_confine(&sandbox, service->error);
    sg_sandbox_dispose(&sandbox);
}

bool sg_name_service_start(struct sg_name_service *service, bool confined, char error[static SG_SANDBOX_ERROR_MAX])
{
    service->is_confined = confined;
    service->error = error;
    if (!sg_loop_start(service->loop)) {
        snprintf(error, SG_SANDBOX_ERROR_MAX, "cannot start a thread: %s", strerror(errno));
        return false;
    }
    sg_inbox_call(service->loop->inbox, confine, service);
    service->error = NULL;
    return service->has_started;
}

struct sg_name_service_counts sg_name_service_counts(const struct sg_name_service *service)
{
    return (struct sg_name_service_counts){.pending = service->pending, .refused = service->refused};
}

void sg_name_service_free(struct sg_name_service *service)
{
    if (!service)
        return;
    if (service->loop && !sg_loop_stop_within(service->loop, STOP_MS)) {
        pthread_mutex_lock(&service->lock);
        service->is_left = true;
        pthread_mutex_unlock(&service->lock);
        return;
    }
    if (service->loop) {
        sg_inbox_free(service->loop->inbox); /* works it off */
        service->loop->inbox = NULL;
    }
    sg_dns_free(service->dns);
    sg_loop_free(service->loop);
    pthread_mutex_destroy(&service->lock);
    free(service);
}
