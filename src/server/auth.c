/*
 * The pool, its queue, and two small tables: passwords that were right a short while ago (as HMACs under a key of
 * this process, with the user's credentials by which they were), and who guessed wrong too often. An attempt is counted
 * when it begins, so that many at once are counted, too, and is forgiven if it was right. Where too many were wrong a
 * remembered password counts only for the address that it came from, or for a session of its user: else it would be an
 * oracle for those who guess. One lock for all of it.
 */
#include "server/auth.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "net/clock.h"
#include "net/inbox.h"
#include "net/log.h"
#include "server/attempts.h"
#include "server/authenticator.h"
#include "server/devices.h"
#include "server/policy.h"
#include "server/users.h"

enum {
    REMEMBERED = 256,
    REMEMBER_MS = 5 * 60 * 1000,
    ATTEMPTS_MAX = 20, /* wrong ones at once, and as many a minute */
    ATTEMPTS_INTERVAL_MS = 60 * 1000 / ATTEMPTS_MAX,
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
    struct sg_attempts_key who; /* counted as an attempt of theirs */
    struct sg_auth *auth;
    bool is_token; /* that the user file does not know: for the authenticator alone */
    bool is_known;
    struct sg_users *users; /* a device joins by claim: they, and no password */
    struct sg_device_claim claim;
    char user[SG_USER_NAME_MAX + 1];
    struct sg_auth_result result;
    sg_auth_fn *fn; /* NULL: cancelled; of the loop that asked */
    void *ctx;
};

struct remembered {
    uint8_t mac[crypto_auth_BYTES];
    uint64_t until_ms;
    struct sg_attempts_key from;
    bool is_external;
    char user[SG_USER_NAME_MAX + 1];
    struct sg_group_names groups;
};

struct sg_auth {
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
    unsigned queue_max;
    struct sg_devices *devices;
    struct sg_authenticator *authenticator;  /* or NULL */
    char decoy_hash[crypto_pwhash_STRBYTES]; /* for users without a password: costs the same, matches nothing */
    uint8_t key[crypto_auth_KEYBYTES];
    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t wake;
    bool stopping;
    struct sg_auth_job *waiting, **waiting_tail;
    unsigned pending; /* waiting, or on a thread */
    struct remembered remembered[REMEMBERED];
    unsigned next_remembered;
    struct sg_attempts *attempts;
};

/* --- attempts and memory --- */

/* The lock is held in each of these. */

static bool is_remembered(struct sg_auth *auth, const struct sg_auth_request *request,
                          const uint8_t mac[static crypto_auth_BYTES], struct sg_auth_result *result)
{
    uint64_t now_ms = sg_now_ms();
    const struct remembered *found = NULL;
    const struct sg_attempts_key from = sg_attempts_of_host(&request->peer);
    const bool from_anywhere = request->is_in_session || !sg_attempts_are_over(auth->attempts, &from, now_ms);
    for (unsigned i = 0; i < REMEMBERED; i++)
        if (auth->remembered[i].until_ms > now_ms &&
            (from_anywhere || sodium_memcmp(&auth->remembered[i].from, &from, sizeof from) == 0) &&
            sodium_memcmp(auth->remembered[i].mac, mac, crypto_auth_BYTES) == 0)
            found = &auth->remembered[i];
    if (!found)
        return false;
    *result = (struct sg_auth_result){.good = true, .is_external = found->is_external, .groups = found->groups};
    memcpy(result->user, found->user, sizeof result->user);
    return true;
}

static void remember(struct sg_auth *auth, const struct sg_auth_job *job)
{
    struct remembered *slot = &auth->remembered[auth->next_remembered++ % REMEMBERED];
    *slot = (struct remembered){.until_ms = sg_now_ms() + REMEMBER_MS,
                                .from = sg_attempts_of_host(&job->peer),
                                .is_external = job->result.is_external,
                                .groups = job->result.groups};
    memcpy(slot->mac, job->memory_key, sizeof slot->mac);
    memcpy(slot->user, job->result.user, sizeof slot->user);
}

/*
 * What another credential of this user, by the file, made right has another key. Of users that the file does not have
 * the authenticator is asked again when the file is another one.
 */
static void make_memory_key(const struct sg_auth *auth, const struct sg_auth_request *request,
                            uint8_t out[static crypto_auth_BYTES])
{
    crypto_auth_hmacsha512256_state state;
    uint8_t credential[32] = {0};
    if (sg_users_has(request->policy->users, request->user))
        sg_policy_credential(request->policy, request->user, credential);
    else
        memcpy(credential, &request->policy->generation, sizeof request->policy->generation);
    crypto_auth_hmacsha512256_init(&state, auth->key, sizeof auth->key);
    crypto_auth_hmacsha512256_update(&state, credential, sizeof credential);
    crypto_auth_hmacsha512256_update(&state, (const uint8_t *)request->user, strlen(request->user) + 1);
    crypto_auth_hmacsha512256_update(&state, request->password, request->password_len);
    crypto_auth_hmacsha512256_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

/* --- threads --- */

static void free_job(struct sg_auth_job *job)
{
    sg_users_free(job->users);
    sodium_memzero(job, sizeof *job);
    free(job);
}

/* On the loop that asked. */
static void deliver(void *ctx)
{
    struct sg_auth_job *job = ctx;
    sg_auth_fn *fn = job->fn;
    void *fn_ctx = job->ctx;
    struct sg_auth_result result = job->result;
    free_job(job);
    if (fn)
        fn(fn_ctx, &result);
}

static const char invite_used_up[] = "as many devices as may have joined by this invite";
static const char unknown_token[] = "it is the token of no user: revoked, replaced, or not of this server";
static const char unknown_password[] = "no such user, or another password";

static void say_why(struct sg_auth_result *result, const char *why)
{
    result->why = why;
    result->names_user = true;
}

static void check_password(struct sg_auth_job *job)
{
    bool matches = crypto_pwhash_str_verify(job->hash, job->password, job->password_len) == 0;
    job->result.good = matches && job->is_known;
}

static void let_join(struct sg_auth *auth, struct sg_auth_job *job)
{
    enum sg_err err = sg_devices_join(auth->devices, job->user, &job->claim, job->users);
    int error = errno;
    if (err == SG_OK)
        sg_log_event(SG_LOG_INFO, "device_joined", SG_LOG_FIELDS(sg_log_word("user", job->user)),
                     "a device of %s joined: %zu of %u", job->user, sg_devices_count(auth->devices, job->claim.token),
                     job->claim.uses);
    else if (err != SG_ERR_FULL)
        sg_log_event(
            SG_LOG_ERROR, "device_refused", SG_LOG_FIELDS(sg_log_word("user", job->user)),
            "a device of %s cannot join, the list of devices cannot be written: %s: `devices` in server.yaml names "
            "a file for it in a directory that the server may write to",
            job->user, strerror(error));
    job->result.good = err == SG_OK;
    say_why(&job->result, err == SG_ERR_FULL ? invite_used_up : "the list of devices cannot be written");
}

/* The lock is held. The job is done: its loop is told. */
static void settle(struct sg_auth *auth, struct sg_auth_job *job)
{
    auth->pending--;
    if (job->result.good && !job->users)
        remember(auth, job);
    if ((job->result.good || job->result.busy) && !job->users)
        sg_attempts_forgive(auth->attempts, &job->who);
    job->done = (struct sg_letter){.fn = deliver, .ctx = job};
    sg_inbox_post(job->inbox, &job->done);
}

/* On the authenticator's loop. */
static void on_answer(void *ctx, const struct sg_authenticator_answer *answer)
{
    struct sg_auth_job *job = ctx;
    struct sg_auth *auth = job->auth;
    job->result = (struct sg_auth_result){
        .good = !answer->failed && answer->ok, .busy = answer->failed, .is_external = true, .groups = answer->groups};
    job->result.why = job->is_token ? unknown_token : unknown_password;
    memcpy(job->result.user, answer->user, sizeof job->result.user);
    pthread_mutex_lock(&auth->lock);
    settle(auth, job);
    pthread_mutex_unlock(&auth->lock);
}

/* What the user file does not let in. True: on_answer goes on with it. */
static bool ask_authenticator(struct sg_auth *auth, struct sg_auth_job *job)
{
    const struct sg_authenticator_question question = {.user = job->user,
                                                       .secret = (const uint8_t *)job->password,
                                                       .secret_len = job->password_len,
                                                       .is_token = job->is_token,
                                                       .address = job->peer};
    uint8_t password[sizeof job->password];
    if (!auth->authenticator || job->users)
        return false;
    /* once it is asked the job may be gone at any time */
    memcpy(password, job->password, sizeof password);
    sodium_memzero(job->password, sizeof job->password);
    struct sg_authenticator_question copy = question;
    copy.secret = password;
    enum sg_authenticator_asked asked = sg_authenticator_ask(auth->authenticator, &copy, on_answer, job);
    sodium_memzero(password, sizeof password);
    if (asked == SG_AUTHENTICATOR_BUSY)
        job->result.busy = true;
    return asked == SG_AUTHENTICATOR_ASKED;
}

static void *work(void *ctx)
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
        if (job->users)
            let_join(auth, job);
        else if (!job->is_token)
            check_password(job);
        bool asked = !job->result.good && ask_authenticator(auth, job);
        pthread_mutex_lock(&auth->lock);
        if (asked)
            continue;
        sodium_memzero(job->password, sizeof job->password);
        settle(auth, job);
    }
    pthread_mutex_unlock(&auth->lock);
    return NULL;
}

/* --- the loops' side --- */

/* The lock is held in each of these. */

/* why: it is refused, if it will be. NULL: the queue is full. */
static struct sg_auth_job *make_job(struct sg_auth *auth, const struct sg_auth_request *request, const char *why,
                                    sg_auth_fn *fn, void *ctx)
{
    struct sg_auth_job *job = auth->pending < auth->queue_max ? calloc(1, sizeof *job) : NULL;
    if (!job)
        return NULL;
    snprintf(job->user, sizeof job->user, "%s", request->user);
    memcpy(job->result.user, job->user, sizeof job->result.user);
    job->result.why = why;
    memcpy(job->password, request->password, request->password_len);
    job->password_len = request->password_len;
    job->auth = auth;
    job->inbox = request->inbox;
    job->peer = request->peer;
    job->fn = fn;
    job->ctx = ctx;
    return job;
}

static void start_job(struct sg_auth *auth, struct sg_auth_job *job)
{
    auth->pending++;
    *auth->waiting_tail = job;
    auth->waiting_tail = &job->next;
    pthread_cond_signal(&auth->wake);
}

static void fill_password_job(const struct sg_auth *auth, const struct sg_auth_request *request,
                              struct sg_auth_job *job)
{
    const char *hash = sg_users_password_hash(request->policy->users, request->user);
    job->is_known = hash != NULL;
    snprintf(job->hash, sizeof job->hash, "%s", hash ? hash : auth->decoy_hash);
}

/* A token: done, or *claim is that of a device that may join, or has no uses: only the authenticator can tell. */
static bool check_token(struct sg_auth *auth, const struct sg_auth_request *request, struct sg_auth_result *result,
                        struct sg_device_claim *claim)
{
    switch (sg_users_check_token(request->policy->users, request->user, request->password, request->password_len,
                                 time(NULL), claim)) {
    case SG_TOKEN_GOOD:
        result->good = true;
        break;
    case SG_TOKEN_WRONG:
        return auth->authenticator == NULL; /* it may know */
    case SG_TOKEN_EXPIRED:
        say_why(result, "the invite has expired");
        break;
    case SG_TOKEN_NO_DEVICE:
        say_why(result, "the invite counts devices, and the client names none");
        break;
    case SG_TOKEN_DEVICE:
        result->good = sg_devices_has(auth->devices, claim);
        if (result->good)
            break;
        if (sg_devices_count(auth->devices, claim->token) >= claim->uses)
            say_why(result, invite_used_up);
        else if (!claim->may_join)
            say_why(result, "the invite has expired");
        else
            return false;
        break;
    }
    return true;
}

/* False: there were too many of theirs. */
static bool begin_attempt(struct sg_auth *auth, const struct sg_auth_request *request, struct sg_attempts_key *who)
{
    *who = request->is_in_session ? sg_attempts_of_user(request->user) : sg_attempts_of_host(&request->peer);
    return sg_attempts_begin(auth->attempts, who, sg_now_ms());
}

static enum sg_auth_verdict check(struct sg_auth *auth, const struct sg_auth_request *request, sg_auth_fn *fn,
                                  void *ctx, struct sg_auth_result *result, struct sg_auth_job **job)
{
    struct sg_device_claim claim = {.uses = 0};
    struct sg_attempts_key who = {{0}};
    uint8_t memory_key[crypto_auth_BYTES];
    if (request->password_len > 255)
        return SG_AUTH_DONE;
    bool is_token = sg_credential_is_token(request->password, request->password_len);
    if (is_token && check_token(auth, request, result, &claim))
        return SG_AUTH_DONE;
    bool joins = is_token && claim.uses > 0;
    make_memory_key(auth, request, memory_key);
    if (!joins && is_remembered(auth, request, memory_key, result))
        return SG_AUTH_DONE;
    if (!joins && !begin_attempt(auth, request, &who))
        return SG_AUTH_BUSY;
    *job = make_job(auth, request, result->why, fn, ctx);
    if (!*job) {
        if (!joins)
            sg_attempts_forgive(auth->attempts, &who);
        return SG_AUTH_BUSY;
    }
    memcpy((*job)->memory_key, memory_key, sizeof memory_key);
    (*job)->who = who;
    (*job)->is_token = is_token;
    if (joins) {
        (*job)->users = sg_users_share(request->policy->users);
        (*job)->claim = claim;
    } else if (!is_token) {
        fill_password_job(auth, request, *job);
    }
    start_job(auth, *job);
    return SG_AUTH_LATER;
}

enum sg_auth_verdict sg_auth_check(struct sg_auth *auth, const struct sg_auth_request *request, sg_auth_fn *fn,
                                   void *ctx, struct sg_auth_result *result, struct sg_auth_job **job)
{
    *result = (struct sg_auth_result){.good = false, .why = unknown_password};
    if (request->password_len <= 255 && sg_credential_is_token(request->password, request->password_len))
        result->why = unknown_token;
    pthread_mutex_lock(&auth->lock);
    enum sg_auth_verdict verdict = check(auth, request, fn, ctx, result, job);
    pthread_mutex_unlock(&auth->lock);
    return verdict;
}

void sg_auth_cancel(struct sg_auth_job *job)
{
    job->fn = NULL; /* the pool still has it; deliver frees it */
}

struct sg_auth *sg_auth_new(unsigned queue, struct sg_devices *devices, struct sg_authenticator *authenticator)
{
    struct sg_auth *auth = calloc(1, sizeof *auth);
    if (!auth) {
        sg_authenticator_free(authenticator);
        return NULL;
    }
    auth->authenticator = authenticator;
    auth->queue_max = queue;
    auth->devices = devices;
    auth->waiting_tail = &auth->waiting;
    pthread_mutex_init(&auth->lock, NULL);
    pthread_cond_init(&auth->wake, NULL);
    crypto_auth_keygen(auth->key);
    auth->attempts = sg_attempts_new(ATTEMPTS_MAX, ATTEMPTS_INTERVAL_MS);
    if (auth->attempts && crypto_pwhash_str(auth->decoy_hash, "", 0, crypto_pwhash_OPSLIMIT_INTERACTIVE,
                                            crypto_pwhash_MEMLIMIT_INTERACTIVE) == 0)
        return auth;
    sg_auth_free(auth);
    return NULL;
}

bool sg_auth_start(struct sg_auth *auth, unsigned threads)
{
    while (auth->thread_count < threads && auth->thread_count < THREADS_MAX) {
        errno = pthread_create(&auth->threads[auth->thread_count], NULL, work, auth);
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
    sg_authenticator_free(auth->authenticator); /* what it was asked comes to nothing */
    for (struct sg_auth_job *job = auth->waiting, *next = NULL; job; job = next) {
        next = job->next;
        free_job(job);
    }
    sg_attempts_free(auth->attempts);
    pthread_cond_destroy(&auth->wake);
    pthread_mutex_destroy(&auth->lock);
    sodium_memzero(auth, sizeof *auth);
    free(auth);
}
