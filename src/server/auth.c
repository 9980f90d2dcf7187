/*
 * The pool, its queue, and two small tables: passwords that were right a short while ago (as HMACs under a key of
 * this process, with the generation of the users by which they were), and addresses that guessed wrong too often. The
 * attempt limit is asked first, so that a remembered password is no oracle. One lock for all of it.
 */
#include "server/auth.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "net/clock.h"
#include "net/inbox.h"
#include "server/policy.h"
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
    struct sg_inbox *inbox;
    struct sg_letter done;             /* to it */
    char hash[crypto_pwhash_STRBYTES]; /* the user's, or one that nothing matches */
    char password[256];
    size_t password_len;
    uint8_t memory_key[crypto_auth_BYTES];
    struct sg_ip peer;
    bool is_known;
    bool good;
    sg_auth_fn *fn; /* NULL: cancelled; of the loop that asked */
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
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
    unsigned queue_max;
    char decoy_hash[crypto_pwhash_STRBYTES]; /* for users without a password: costs the same, matches nothing */
    uint8_t key[crypto_auth_KEYBYTES];
    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t wake;
    bool stopping;
    struct sg_auth_job *waiting, **waiting_tail;
    unsigned pending; /* waiting, or on a thread */
    struct remembered remembered[REMEMBERED];
    unsigned next_remembered;
    struct attempts attempts[ATTEMPT_SLOTS];
};

/* --- attempts and memory --- */

/* The lock is held in each of these. */

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

/* A password of other users, by the file, has another key. */
static void make_memory_key(const struct sg_auth *auth, const struct sg_auth_request *request,
                            uint8_t out[static crypto_auth_BYTES])
{
    crypto_auth_hmacsha512256_state state;
    unsigned generation = request->policy->generation;
    crypto_auth_hmacsha512256_init(&state, auth->key, sizeof auth->key);
    crypto_auth_hmacsha512256_update(&state, (const uint8_t *)&generation, sizeof generation);
    crypto_auth_hmacsha512256_update(&state, (const uint8_t *)request->user, strlen(request->user) + 1);
    crypto_auth_hmacsha512256_update(&state, request->password, request->password_len);
    crypto_auth_hmacsha512256_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

/* --- threads --- */

static void free_job(struct sg_auth_job *job)
{
    sodium_memzero(job, sizeof *job);
    free(job);
}

/* On the loop that asked. */
static void deliver(void *ctx)
{
    struct sg_auth_job *job = ctx;
    sg_auth_fn *fn = job->fn;
    void *fn_ctx = job->ctx;
    bool good = job->good;
    free_job(job);
    if (fn)
        fn(fn_ctx, good);
}

static void *check_passwords(void *ctx)
{
    struct sg_auth *auth = ctx;
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
        auth->pending--;
        if (job->good)
            remember(auth, job->memory_key);
        else
            attempts_of(auth, &job->peer)->wrong++;
        job->done = (struct sg_letter){.fn = deliver, .ctx = job};
        sg_inbox_post(job->inbox, &job->done);
    }
    pthread_mutex_unlock(&auth->lock);
    return NULL;
}

/* --- the loops' side --- */

/* The lock is held. NULL: the queue is full. */
static struct sg_auth_job *start_job(struct sg_auth *auth, const struct sg_auth_request *request,
                                     const uint8_t memory_key[static crypto_auth_BYTES], sg_auth_fn *fn, void *ctx)
{
    struct sg_auth_job *job = auth->pending < auth->queue_max ? calloc(1, sizeof *job) : NULL;
    if (!job)
        return NULL;
    const char *hash = sg_users_password_hash(request->policy->users, request->user);
    job->is_known = hash != NULL;
    snprintf(job->hash, sizeof job->hash, "%s", hash ? hash : auth->decoy_hash);
    memcpy(job->password, request->password, request->password_len);
    job->password_len = request->password_len;
    memcpy(job->memory_key, memory_key, sizeof job->memory_key);
    job->inbox = request->inbox;
    job->peer = request->peer;
    job->fn = fn;
    job->ctx = ctx;
    auth->pending++;
    *auth->waiting_tail = job;
    auth->waiting_tail = &job->next;
    pthread_cond_signal(&auth->wake);
    return job;
}

/* The lock is held. */
static enum sg_auth_verdict check(struct sg_auth *auth, const struct sg_auth_request *request, sg_auth_fn *fn,
                                  void *ctx, struct sg_auth_job **job)
{
    uint8_t memory_key[crypto_auth_BYTES];
    struct attempts *attempts = attempts_of(auth, &request->peer);
    if (attempts->wrong >= ATTEMPTS_MAX)
        return SG_AUTH_BUSY;
    if (request->password_len > 255)
        return SG_AUTH_WRONG;
    if (sg_credential_is_token(request->password, request->password_len)) {
        bool good =
            sg_users_check_token(request->policy->users, request->user, request->password, request->password_len);
        attempts->wrong += !good;
        return good ? SG_AUTH_GOOD : SG_AUTH_WRONG;
    }
    make_memory_key(auth, request, memory_key);
    if (is_remembered(auth, memory_key))
        return SG_AUTH_GOOD;
    *job = start_job(auth, request, memory_key, fn, ctx);
    return *job ? SG_AUTH_LATER : SG_AUTH_BUSY;
}

enum sg_auth_verdict sg_auth_check(struct sg_auth *auth, const struct sg_auth_request *request, sg_auth_fn *fn,
                                   void *ctx, struct sg_auth_job **job)
{
    pthread_mutex_lock(&auth->lock);
    enum sg_auth_verdict verdict = check(auth, request, fn, ctx, job);
    pthread_mutex_unlock(&auth->lock);
    return verdict;
}

void sg_auth_cancel(struct sg_auth_job *job)
{
    job->fn = NULL; /* the pool still has it; deliver frees it */
}

struct sg_auth *sg_auth_new(unsigned queue)
{
    struct sg_auth *auth = calloc(1, sizeof *auth);
    if (!auth)
        return NULL;
    auth->queue_max = queue;
    auth->waiting_tail = &auth->waiting;
    pthread_mutex_init(&auth->lock, NULL);
    pthread_cond_init(&auth->wake, NULL);
    crypto_auth_keygen(auth->key);
    if (crypto_pwhash_str(auth->decoy_hash, "", 0, crypto_pwhash_OPSLIMIT_INTERACTIVE,
                          crypto_pwhash_MEMLIMIT_INTERACTIVE) == 0)
        return auth;
    sg_auth_free(auth);
    return NULL;
}

bool sg_auth_start(struct sg_auth *auth, unsigned threads)
{
    while (auth->thread_count < threads && auth->thread_count < THREADS_MAX) {
        errno = pthread_create(&auth->threads[auth->thread_count], NULL, check_passwords, auth);
        if (errno != 0)
            return false;
        auth->thread_count++;
    }
    return true;
}

void sg_auth_set_queue(struct sg_auth *auth, unsigned queue)
{
    pthread_mutex_lock(&auth->lock);
    auth->queue_max = queue;
    pthread_mutex_unlock(&auth->lock);
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
    for (struct sg_auth_job *job = auth->waiting, *next = NULL; job; job = next) {
        next = job->next;
        free_job(job);
    }
    pthread_cond_destroy(&auth->wake);
    pthread_mutex_destroy(&auth->lock);
    sodium_memzero(auth, sizeof *auth);
    free(auth);
}
