/*
 * Checking credentials. A token is checked at once; whatever else is presented costs one Argon2id on a thread of a
 * small pool, for known and unknown users alike: what is presented decides the work, never what is stored.
 */
#ifndef SG_SERVER_AUTH_H
#define SG_SERVER_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct sg_auth;
struct sg_auth_job;
struct sg_inbox;
struct sg_policy;

/* What a client presents, and by which users; borrowed for the call. */
struct sg_auth_request {
    const struct sg_policy *policy;
    const char *user; /* empty: a name that cannot exist */
    const uint8_t *password;
    size_t password_len;
    struct sg_ip peer;
    struct sg_inbox *inbox; /* of the loop that asks */
};

/* The verdict on a password, on the loop that asked; never after a cancel. */
typedef void sg_auth_fn(void *ctx, bool good);

/*
 * A checker for all workers, with so many jobs waiting at most. NULL when memory is short. It is freed after all jobs were cancelled, and before the inboxes of the loops that asked, which are then
 * worked off once more.
 */
struct sg_auth *sg_auth_new(unsigned queue);
/* Starts so many threads. False with errno: not all could be. */
bool sg_auth_start(struct sg_auth *auth, unsigned threads);
/* Another length of the queue, at any time. */
void sg_auth_set_queue(struct sg_auth *auth, unsigned queue);
void sg_auth_free(struct sg_auth *auth);

enum sg_auth_verdict {
    SG_AUTH_GOOD,
    SG_AUTH_WRONG,
    SG_AUTH_BUSY, /* not looked at: too many attempts from there, or a full queue */
    SG_AUTH_LATER,
};

/*
 * Checks. The verdict on a token or a remembered password comes at once; LATER: *job is set, and fn is called once,
 * later.
 */
enum sg_auth_verdict sg_auth_check(struct sg_auth *auth, const struct sg_auth_request *request, sg_auth_fn *fn,
                                   void *ctx, struct sg_auth_job **job);
void sg_auth_cancel(struct sg_auth_job *job);

#endif
