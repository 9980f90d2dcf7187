/*
 * The pool, its queue, and two small tables: passwords that were right a short while ago (as HMACs under a key of
 * this process), and addresses that guessed wrong too often. The attempt limit is asked first, so that a remembered
 * password is no oracle.
 */
#include "server/auth.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>
#include <sodium.h>

#include "net/clock.h"
#include "server/server.h"
#include "server/users.h"

enum {
    REMEMBERED = 256,
    REMEMBER_MS = 5 * 60 * 1000,
    ATTEMPT_SLOTS = 1024,
    ATTEMPTS_MAX = 20, /* wrong ones, per address and minute */
    ATTEMPT_WINDOW_MS = 60 * 1000,
    THREADS_MAX = 16,
};

struct sg_auth_job {
    struct sg_auth_job *next;
    struct sg_auth *auth;
    char hash[crypto_pwhash_STRBYTES]; /* the user's, or one that nothing matches */
    char password[256];
    size_t password_len;
    uint8_t memory_key[crypto_auth_BYTES];
    struct sg_ip peer;
    unsigned generation; /* of the user file that hash came from */
    bool is_known;
    bool good;
    sg_auth_fn *fn; /* NULL: cancelled */
    void *ctx;
};

struct remembered {
    uint8_t mac[crypto_auth_BYTES];
    uint64_t until_ms;
};

struct attempts {
    struct sg_ip ip;
    unsigned wrong;
    uint64_t since_ms;
};

struct sg_auth {
    struct sg_server *server;
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
    unsigned queue_max;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;
    struct sg_auth_job *waiting, **waiting_tail; /* under lock */
    struct sg_auth_job *done;                    /* under lock */
    unsigned pending;                            /* of the loop: given to the pool, not back yet */
    int done_fd;
    struct event *done_event;
    uint8_t key[crypto_auth_KEYBYTES];
    struct remembered remembered[REMEMBERED];
    unsigned next_remembered;
    unsigned generation; /* of the user file: raised when it changes */
    struct attempts attempts[ATTEMPT_SLOTS];
};

/* --- threads --- */

static void *check_passwords(void *ctx)
{
    struct sg_auth *auth = ctx;
    uint64_t one = 1;
    pthread_mutex_lock(&auth->lock);
    while (!auth->stopping) {
        struct sg_auth_job *job = auth->waiting;
        if (!job) {
            pthread_cond_wait(&auth->wake, &auth->lock);
            continue;
        }
        auth->waiting = job->next;
        if (!auth->waiting)
            auth->waiting_tail = &auth->waiting;
        pthread_mutex_unlock(&auth->lock);
        bool matches = crypto_pwhash_str_verify(job->hash, job->password, job->password_len) == 0;
        job->good = matches && job->is_known;
        sodium_memzero(job->password, sizeof job->password);
        pthread_mutex_lock(&auth->lock);
        job->next = auth->done;
        auth->done = job;
        if (write(auth->done_fd, &one, sizeof one) < 0) {
            /* the counter is full: the loop is awake anyway */
        }
    }
    pthread_mutex_unlock(&auth->lock);
    return NULL;
}

/* --- attempts and memory --- */

static struct attempts *attempts_of(struct sg_auth *auth, const struct sg_ip *peer)
{
    struct sg_ip host = *peer;
    uint32_t hash = 2166136261u;
    if (host.family == 6)
        memset(host.bytes + 8, 0, 8); /* a /64 is one host */
    for (unsigned i = 0; i < sizeof host.bytes; i++)
        hash = (hash ^ host.bytes[i]) * 16777619u;
    struct attempts *slot = &auth->attempts[hash % ATTEMPT_SLOTS];
    uint64_t now_ms = sg_now_ms();
    if (!sg_ip_equal(&slot->ip, &host) || now_ms - slot->since_ms >= ATTEMPT_WINDOW_MS)
        *slot = (struct attempts){.ip = host, .since_ms = now_ms};
    return slot;
}

static void make_memory_key(const struct sg_auth *auth, const struct sg_auth_request *request,
                            uint8_t out[static crypto_auth_BYTES])
{
    crypto_auth_hmacsha512256_state state;
    crypto_auth_hmacsha512256_init(&state, auth->key, sizeof auth->key);
    crypto_auth_hmacsha512256_update(&state, (const uint8_t *)request->user, strlen(request->user) + 1);
    crypto_auth_hmacsha512256_update(&state, request->password, request->password_len);
    crypto_auth_hmacsha512256_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

static bool is_remembered(const struct sg_auth *auth, const uint8_t mac[static crypto_auth_BYTES])
{
    uint64_t now_ms = sg_now_ms();
    bool found = false;
    for (unsigned i = 0; i < REMEMBERED; i++)
        found |= auth->remembered[i].until_ms > now_ms &&
                 sodium_memcmp(auth->remembered[i].mac, mac, crypto_auth_BYTES) == 0;
    return found;
}

static void remember(struct sg_auth *auth, const uint8_t mac[static crypto_auth_BYTES])
{
    struct remembered *slot = &auth->remembered[auth->next_remembered++ % REMEMBERED];
    memcpy(slot->mac, mac, sizeof slot->mac);
    slot->until_ms = sg_now_ms() + REMEMBER_MS;
}

void sg_auth_forget(struct sg_auth *auth)
{
    sodium_memzero(auth->remembered, sizeof auth->remembered);
    auth->generation++;
}

/* --- the loop's side --- */

static void free_job(struct sg_auth_job *job)
{
    sodium_memzero(job, sizeof *job);
    free(job);
}

static void on_done(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_auth *auth = ctx;
    uint64_t count = 0;
    (void)what;
    if (read(fd, &count, sizeof count) < 0) {
        /* another wake-up took it */
    }
    pthread_mutex_lock(&auth->lock);
    struct sg_auth_job *done = auth->done;
    auth->done = NULL;
    pthread_mutex_unlock(&auth->lock);
    for (struct sg_auth_job *next; done; done = next) {
        next = done->next;
        auth->pending--;
        /* a password that was right by a user file of the past is neither let in nor remembered */
        bool good = done->good && done->generation == auth->generation;
        if (good)
            remember(auth, done->memory_key);
        else if (!done->good)
            attempts_of(auth, &done->peer)->wrong++;
        sg_auth_fn *fn = done->fn;
        void *fn_ctx = done->ctx;
        free_job(done);
        if (fn)
            fn(fn_ctx, good);
    }
}

static struct sg_auth_job *start_job(struct sg_auth *auth, const struct sg_auth_request *request,
                                     const uint8_t memory_key[static crypto_auth_BYTES], sg_auth_fn *fn, void *ctx)
{
    struct sg_auth_job *job = auth->pending < auth->queue_max ? calloc(1, sizeof *job) : NULL;
    if (!job)
        return NULL;
    const char *hash = sg_server_password_hash(auth->server, request->user, &job->is_known);
    snprintf(job->hash, sizeof job->hash, "%s", hash);
    memcpy(job->password, request->password, request->password_len);
    job->password_len = request->password_len;
    memcpy(job->memory_key, memory_key, sizeof job->memory_key);
    job->generation = auth->generation;
    job->auth = auth;
    job->peer = request->peer;
    job->fn = fn;
    job->ctx = ctx;
    auth->pending++;
    pthread_mutex_lock(&auth->lock);
    *auth->waiting_tail = job;
    auth->waiting_tail = &job->next;
    pthread_cond_signal(&auth->wake);
    pthread_mutex_unlock(&auth->lock);
    return job;
}

struct sg_auth_job *sg_auth_check(struct sg_auth *auth, const struct sg_auth_request *request, bool *good,
                                  sg_auth_fn *fn, void *ctx)
{
    uint8_t memory_key[crypto_auth_BYTES];
    struct attempts *attempts = attempts_of(auth, &request->peer);
    *good = false;
    if (attempts->wrong >= ATTEMPTS_MAX || request->password_len > 255)
        return NULL;
    if (sg_credential_is_token(request->password, request->password_len)) {
        *good = sg_server_check_token(auth->server, request->user, request->password, request->password_len);
        attempts->wrong += !*good;
        return NULL;
    }
    make_memory_key(auth, request, memory_key);
    if (is_remembered(auth, memory_key)) {
        *good = true;
        return NULL;
    }
    return start_job(auth, request, memory_key, fn, ctx);
}

void sg_auth_cancel(struct sg_auth_job *job)
{
    job->fn = NULL; /* the pool still has it; on_done frees it */
}

struct sg_auth *sg_auth_new(struct sg_server *server, struct event_base *base, unsigned threads, unsigned queue)
{
    struct sg_auth *auth = calloc(1, sizeof *auth);
    if (!auth)
        return NULL;
    auth->server = server;
    auth->queue_max = queue;
    auth->waiting_tail = &auth->waiting;
    pthread_mutex_init(&auth->lock, NULL);
    pthread_cond_init(&auth->wake, NULL);
    crypto_auth_keygen(auth->key);
    auth->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    auth->done_event = auth->done_fd < 0 ? NULL : event_new(base, auth->done_fd, EV_READ | EV_PERSIST, on_done, auth);
    if (!auth->done_event || event_add(auth->done_event, NULL) != 0)
        goto failed;
    while (auth->thread_count < threads && auth->thread_count < THREADS_MAX) {
        if (pthread_create(&auth->threads[auth->thread_count], NULL, check_passwords, auth) != 0)
            goto failed;
        auth->thread_count++;
    }
    return auth;
failed:
    sg_auth_free(auth);
    return NULL;
}

static void free_jobs(struct sg_auth_job *job)
{
    for (struct sg_auth_job *next; job; job = next) {
        next = job->next;
        free_job(job);
    }
}

void sg_auth_free(struct sg_auth *auth)
{
    if (!auth)
        return;
    pthread_mutex_lock(&auth->lock);
    auth->stopping = true;
    pthread_cond_broadcast(&auth->wake);
    pthread_mutex_unlock(&auth->lock);
    for (unsigned i = 0; i < auth->thread_count; i++)
        pthread_join(auth->threads[i], NULL);
    free_jobs(auth->waiting);
    free_jobs(auth->done);
    if (auth->done_event)
        event_free(auth->done_event);
    if (auth->done_fd >= 0)
        close(auth->done_fd);
    pthread_cond_destroy(&auth->wake);
    pthread_mutex_destroy(&auth->lock);
    sodium_memzero(auth, sizeof *auth);
    free(auth);
}
