/*
 * Checking credentials. A token is checked at once; whatever else is presented costs one Argon2id on a thread of a
 * small pool, for known and unknown users alike: what is presented decides the work, never what is stored. What is not
 * good by the user file is asked of the authenticator, where there is one.
 */
#ifndef SG_SERVER_AUTH_H
#define SG_SERVER_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "server/group_names.h"

struct sg_auth;
struct sg_auth_job;
struct sg_authenticator;
struct sg_devices;
struct sg_inbox;
struct sg_policy;

/* What a client presents, and by which users; borrowed for the call. */
struct sg_auth_request {
    const struct sg_policy *policy;
    const char *user; /* empty: a name that cannot exist */
    const uint8_t *password;
    size_t password_len;
    struct sg_ip peer;
    bool is_in_session;     /* the connection showed that it belongs to a session of this user */
    struct sg_inbox *inbox; /* of the loop that asks */
};

/* What became of it. */
struct sg_auth_result {
    bool good;
    bool busy;        /* not good, and not wrong: nobody could tell */
    const char *why;  /* for the log, where neither good nor busy. Static */
    bool names_user;  /* they were right once: whose they are is no guess */
    bool is_external; /* good by the authenticator's word: user and groups are what it says */
    char user[65];
    struct sg_group_names groups;
};

/* The verdict on what takes time, on the loop that asked; never after a cancel. */
typedef void sg_auth_fn(void *ctx, const struct sg_auth_result *result);

/*
 * A checker for all workers, with so many jobs waiting at most; devices that joined are looked up, and join, in
 * devices, which lives longer; authenticator may be NULL, and is taken over in any case. NULL when memory is short.
 * It is freed after all jobs were cancelled, and before the inboxes of the loops that asked, which are then worked
 * off once more.
 */
struct sg_auth *sg_auth_new(unsigned queue, struct sg_devices *devices, struct sg_authenticator *authenticator);
/* Starts so many threads. False with errno: not all could be. */
bool sg_auth_start(struct sg_auth *auth, unsigned threads);
/* Another length of the queue, at any time. */
void sg_auth_set_queue(struct sg_auth *auth, unsigned queue);
void sg_auth_free(struct sg_auth *auth);

enum sg_auth_verdict {
    SG_AUTH_DONE,  /* result is set */
    SG_AUTH_BUSY,  /* not looked at: too many wrong ones from there, or a full queue */
    SG_AUTH_LATER, /* *job is set, and fn is called once */
};

/*
 * Checks. The verdict on a token or a remembered password comes at once; a device that joins waits for the disk. Only
 * what costs Argon2id, or a question to the authenticator, is refused where too many were wrong of late: 20 in a minute
 * of one address (or /64), or of one user's sessions.
 */
enum sg_auth_verdict sg_auth_check(struct sg_auth *auth, const struct sg_auth_request *request, sg_auth_fn *fn,
                                   void *ctx, struct sg_auth_result *result, struct sg_auth_job **job);
void sg_auth_cancel(struct sg_auth_job *job);

#endif
