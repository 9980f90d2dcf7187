/*
 * Checking credentials. A token is checked at once; whatever else is presented costs one Argon2id on a thread of a
 * small pool, for known and unknown users alike: what is presented decides the work, never what is stored.
 */
#ifndef SG_SERVER_AUTH_H
#define SG_SERVER_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct event_base;
struct sg_auth;
struct sg_auth_job;
struct sg_server;

/* What a client presents; borrowed for the call. */
struct sg_auth_request {
    const char *user; /* empty: a name that cannot exist */
    const uint8_t *password;
    size_t password_len;
    struct sg_ip peer;
};

/* The verdict on a password, on the event loop; never after a cancel. */
typedef void sg_auth_fn(void *ctx, bool good);

/* A checker with so many threads and so many jobs waiting at most. NULL when threads or memory are short. */
struct sg_auth *sg_auth_new(struct sg_server *server, struct event_base *base, unsigned threads, unsigned queue);
void sg_auth_free(struct sg_auth *auth);

/*
 * Checks. NULL: *good has the verdict now (a token, a remembered password, too many attempts from there, or a full
 * queue); otherwise fn is called once, later.
 */
struct sg_auth_job *sg_auth_check(struct sg_auth *auth, const struct sg_auth_request *request, bool *good,
                                  sg_auth_fn *fn, void *ctx);
void sg_auth_cancel(struct sg_auth_job *job);

/* The user file changed: nothing is remembered any more, and what is being checked is not good any more. */
void sg_auth_forget(struct sg_auth *auth);

#endif
