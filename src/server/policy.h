/*
 * Who may, and where to, at one moment: the users of the user file, the guard of targets, the rules, and the TLS
 * context with the revocation lists of client certificates. A policy does not change; when a file or the machine's
 * addresses do, a new one takes its place, and each worker turns to it in its own time.
 */
#ifndef SG_SERVER_POLICY_H
#define SG_SERVER_POLICY_H

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "core/guard.h"

struct sg_rules;
struct sg_users;

struct sg_policy {
    _Atomic unsigned refs;
    unsigned generation; /* of the user file: another number, other users */
    struct sg_users *users;
    struct sg_guard guard; /* comes before the rules */
    struct sg_rules *rules;
    SSL_CTX *tls;
};

/*
 * Takes over users, and takes a reference of rules and tls. One reference is the caller's. NULL when memory is short:
 * users are freed then.
 */
struct sg_policy *sg_policy_new(struct sg_users *users, unsigned generation, const struct sg_guard *guard,
                                struct sg_rules *rules, SSL_CTX *tls);
struct sg_policy *sg_policy_ref(struct sg_policy *policy);
void sg_policy_release(struct sg_policy *policy); /* accepts NULL */

/* The digest of who is let in by the authenticator, and not by the user file. */
extern const uint8_t sg_policy_external_digest[32];

/*
 * What a session, relay or association belongs to must still be so: the user exists with the same credential. The
 * authenticator is not asked again.
 */
bool sg_policy_user_valid(const struct sg_policy *policy, const char *user, const uint8_t digest[static 32]);

#endif
