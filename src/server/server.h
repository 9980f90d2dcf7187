/*
 * The server as a whole: configuration, users, and its workers. What workers ask of it is read-only between reloads
 * of the user file.
 */
#ifndef SG_SERVER_SERVER_H
#define SG_SERVER_SERVER_H

#include <openssl/ssl.h>
#include <sodium.h>

#include "core/guard.h"
#include "server/config.h"

struct sg_auth;
struct sg_usage_table;
struct sg_users;
struct sg_worker;

struct sg_server {
    const struct sg_config *config;
    SSL_CTX *tls;
    struct sg_guard guard;
    struct sg_users *users;
    struct sg_auth *auth;
    struct sg_usage_table *usage;
    struct sg_worker *worker;                /* one today: the structure lets more stand beside it */
    char decoy_hash[crypto_pwhash_STRBYTES]; /* for users without a password */
    uint64_t started_ms;
};

/*
 * Runs until SIGTERM or SIGINT: prints `ready ADDR:PORT...` on standard output once it serves. Returns the exit code:
 * 0 after a signal, 1 if it could not start, 3 if certificates or users are unusable (logged).
 */
int sg_server_run(const struct sg_config *config);

/* Checks what sg_server_run would load, certificates and users too: 0, or 3 after logging why. */
int sg_server_check(const struct sg_config *config);

/* What a session, relay or association belongs to must still be so: the user exists with the same credential. */
bool sg_server_user_valid(const struct sg_server *server, const char *user, const uint8_t digest[static 32]);
void sg_server_user_digest(const struct sg_server *server, const char *user, uint8_t digest[static 32]);
bool sg_server_user_has_certificate(const struct sg_server *server, const char *user);
bool sg_server_check_token(const struct sg_server *server, const char *user, const uint8_t *password, size_t len);
/* The Argon2id string of the user; for one without, one that costs the same and matches nothing (*is_known false). */
const char *sg_server_password_hash(const struct sg_server *server, const char *user, bool *is_known);

#endif
