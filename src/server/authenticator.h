/*
 * The server's side of an external authenticator: questions go to the helper process (server/helper.h) from any thread,
 * answers come on the loop of worker 0.
 */
#ifndef SG_SERVER_AUTHENTICATOR_H
#define SG_SERVER_AUTHENTICATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "server/group_names.h"

struct event_base;
struct sg_authenticator;

/* What a client presented; borrowed for the call. */
struct sg_authenticator_question {
    const char *user;
    const uint8_t *secret;
    size_t secret_len;
    bool is_token;
    struct sg_ip address;
};

struct sg_authenticator_answer {
    bool failed; /* there was none that can be used: the others are not set */
    bool ok;
    char user[65]; /* as the authenticator names the user, or as asked */
    struct sg_group_names groups;
};

/* On the loop that the answers come on; the answer is borrowed. */
typedef void sg_authenticator_fn(void *ctx, const struct sg_authenticator_answer *answer);

/* Takes over fd, of sg_helper_start. NULL when memory is short: fd is closed then. */
struct sg_authenticator *sg_authenticator_new(struct event_base *base, int fd);
/* When its loop runs no more, and nobody asks: those without an answer hear that it failed. Accepts NULL. */
void sg_authenticator_free(struct sg_authenticator *authenticator);

enum sg_authenticator_asked {
    SG_AUTHENTICATOR_ASKED,   /* fn is called once, later */
    SG_AUTHENTICATOR_NO_TEXT, /* what was presented is no UTF-8, which is all that can be asked */
    SG_AUTHENTICATOR_BUSY,    /* the helper is gone, or takes no more at the moment */
};

/* Asks, and never waits. */
enum sg_authenticator_asked sg_authenticator_ask(struct sg_authenticator *authenticator,
                                                 const struct sg_authenticator_question *question,
                                                 sg_authenticator_fn *fn, void *ctx);

/* A question as a line of JSON, and an answer out of one; for this file, and for tests. False: it cannot be one. */
bool sg_authenticator_encode(const struct sg_authenticator_question *question, char *line, size_t size, size_t *len);
bool sg_authenticator_decode(const char *line, size_t len, const char *asked, struct sg_authenticator_answer *out);

#endif
