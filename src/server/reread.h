/*
 * Reading again what a running server was made of: the configuration, and the files that it names. On a thread of its
 * own, because a file system may not answer and a file may be large; it touches nothing that the loops work with.
 */
#ifndef SG_SERVER_REREAD_H
#define SG_SERVER_REREAD_H

#include <sys/stat.h>

#include <openssl/ssl.h>

#include "server/policy.h"

struct sg_users;

enum { SG_REREAD_NAMES_MAX = 256 };

/* What was read last. */
struct sg_reread_seen {
    struct stat users; /* the user file as it was loaded */
    struct stat crl;   /* the revocation lists */
};

/* What was found: what is NULL has not changed, or could not be read, and then its error is not empty. */
struct sg_reread_found {
    struct sg_policy *policy;        /* of the configuration */
    char names[SG_REREAD_NAMES_MAX]; /* of what a start alone can change, and is as it was */
    struct sg_users *users;
    SSL_CTX *tls; /* with other revocation lists */
    char error[SG_POLICY_ERROR_MAX];
    char tls_error[SG_POLICY_ERROR_MAX];
};

/* What the files are that a configuration names: before they are loaded. */
void sg_reread_look(const struct sg_config *config, struct sg_reread_seen *seen);

/* The configuration, and all that it names. first is that of the start, before the policy in force. */
void sg_reread_config(const struct sg_config *first, const struct sg_policy *before, struct sg_reread_seen *seen,
                      struct sg_reread_found *out);

/* The user file and the revocation lists of the policy in force, if they are others than what was seen. */
void sg_reread_files(const struct sg_policy *before, struct sg_reread_seen *seen, struct sg_reread_found *out);

/* What nobody took out. */
void sg_reread_dispose(struct sg_reread_found *found);

#endif
