/*
 * What holds at one moment: the configuration, the server's TLS identity with the revocation lists of client
 * certificates, the users of the user file, the guard of targets, and the rules. A policy does not change; when a file
 * or the machine's addresses do, a new one takes its place, and each worker turns to it in its own time.
 */
#ifndef SG_SERVER_POLICY_H
#define SG_SERVER_POLICY_H

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "core/guard.h"
#include "server/config.h"

struct sg_rules;
struct sg_users;

enum { SG_POLICY_ERROR_MAX = SG_YAML_ERROR_MAX };

/* Prefixes of translators to IPv4 that the network told of. */
struct sg_nat64 {
    unsigned count;
    struct sg_cidr prefixes[SG_GUARD_NAT64_MAX];
};

struct sg_policy {
    _Atomic unsigned refs;
    unsigned generation; /* of credentials: another number, other users, or other ways to be one */
    struct sg_config *config;
    SSL_CTX *tls;
    uint8_t ca_digest[32]; /* of what client certificates are checked against */
    struct sg_users *users;
    struct sg_nat64 nat64; /* the guard has them, and those of the configuration */
    struct sg_guard guard; /* comes before the rules */
    struct sg_rules *rules;
    uint64_t serial; /* another number: guard or rules may be others, and what they said does not count */
};

/*
 * The policy that a configuration asks for: its files are read and checked, and this machine's addresses listed. It
 * shares config, which stays the caller's too. What the network told of translators is taken from before, which may be
 * NULL. Everything that hangs on a configuration is made here and nowhere else. NULL, and error has the line to show.
 * On any thread.
 */
struct sg_policy *sg_policy_build(struct sg_config *config, const struct sg_policy *before,
                                  char error[static SG_POLICY_ERROR_MAX]);

/* One that was built follows the one that was in force: it has another generation if it lets in others. */
void sg_policy_follow(struct sg_policy *fresh, const struct sg_policy *before);

/*
 * The same as before, but for its users, or its TLS context, which are taken over; for its guard, and what the network
 * told of translators. NULL when memory is short.
 */
struct sg_policy *sg_policy_with_users(const struct sg_policy *before, struct sg_users *users);
struct sg_policy *sg_policy_with_tls(const struct sg_policy *before, SSL_CTX *tls);
struct sg_policy *sg_policy_with_guard(const struct sg_policy *before, const struct sg_guard *guard,
                                       const struct sg_nat64 *nat64);

/* The TLS context of a configuration. NULL, and error has the line to show. */
SSL_CTX *sg_policy_make_tls(const struct sg_config *config, char error[static SG_POLICY_ERROR_MAX]);

/*
 * The guard as it must be now: addresses of this machine come and go, and the network may tell of other translators.
 * False: the addresses cannot be listed (errno).
 */
bool sg_policy_make_guard(const struct sg_config *config, const struct sg_nat64 *nat64, struct sg_guard *guard);

/* A serial that no policy of this process has had. */
uint64_t sg_policy_next_serial(void);

struct sg_policy *sg_policy_ref(struct sg_policy *policy);
void sg_policy_release(struct sg_policy *policy); /* accepts NULL */

/* What a user logs in with, as a digest: equal as long as none of it changed. */
void sg_policy_credential(const struct sg_policy *policy, const char *user, uint8_t out[static 32]);

/* The digest of who is let in by the authenticator, and not by the user file. */
extern const uint8_t sg_policy_external_digest[32];

/*
 * What a session, relay or association belongs to must still be so: the user exists with the same credential. The
 * authenticator is not asked again.
 */
bool sg_policy_user_valid(const struct sg_policy *policy, const char *user, const uint8_t digest[static 32]);

#endif
