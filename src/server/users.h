/*
 * The user file: one credential a line, `NAME KIND VALUE CREATED [TERMS]`. A loaded file is a snapshot that does not
 * change. The command line edits the file under a lock, and replaces it whole.
 */
#ifndef SG_SERVER_USERS_H
#define SG_SERVER_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "core/err.h"
#include "net/invite.h"

enum { SG_USER_NAME_MAX = 64, SG_TOKEN_BYTES = 32, SG_TOKEN_TEXT_BYTES = 48, SG_USERS_ERROR_MAX = 512 };

/* A token that counts devices comes with a dot and the device's name, 22 characters of base64url. */
enum { SG_DEVICE_PASSWORD_BYTES = SG_TOKEN_TEXT_BYTES + 1 + 22 };

enum sg_user_kind { SG_USER_TOKEN, SG_USER_PASSWORD, SG_USER_CERTIFICATE };

struct sg_users;
struct sg_user_line;

/* Under which terms a credential is good. */
struct sg_user_terms {
    int64_t expires; /* 0: never. With uses: no device joins from then on */
    uint32_t uses;   /* devices that may join; 0: it does not count them */
};

/* Names: 1 to 64 of letters, digits and . _ - @ */
bool sg_user_name_is_valid(const char *name);

/*
 * Loads a file. error has FILE:LINE and the reason: unreadable, readable by others (mode & 077), a line that does not
 * parse, a credential twice. An empty file is a file without users.
 */
SG_MUST_CHECK enum sg_err sg_users_load(const char *path, struct sg_users **out, char error[static SG_USERS_ERROR_MAX]);
/* The same from an open file, whose mode the caller has checked; path is for error alone. */
SG_MUST_CHECK enum sg_err sg_users_read(FILE *file, const char *path, struct sg_users **out,
                                        char error[static SG_USERS_ERROR_MAX]);
/* The same users as they are at this moment: others may have expired. NULL: out of memory. */
struct sg_users *sg_users_renew(const struct sg_users *users);
/* The same users once more, for another owner, who frees them too. */
struct sg_users *sg_users_share(struct sg_users *users);
void sg_users_free(struct sg_users *users); /* wipes when the last owner is gone; NULL is nothing */

size_t sg_users_count(const struct sg_users *users);
/* In each of these a credential whose time was over when the file was loaded is as good as none. */
bool sg_users_has(const struct sg_users *users, const char *name);
bool sg_users_has_kind(const struct sg_users *users, const char *name, enum sg_user_kind kind);

/*
 * True if another set of credentials is over now than when the file was loaded: time has gone on, or the clock was set
 * back. sg_users_renew then.
 */
bool sg_users_is_stale(const struct sg_users *users, int64_t now);

/* What is presented decides the work: 48 bytes with a prefix, or 71 with that of devices, are a token, all else is a
 * password. */
bool sg_credential_is_token(const uint8_t *password, size_t len);

/* A device with a token that counts them. */
struct sg_device_claim {
    char token[65], device[65]; /* SHA-256 of each, in hexadecimal */
    uint32_t uses;              /* how many may join */
    bool may_join;              /* the time for it is not over */
};

enum sg_token_verdict {
    SG_TOKEN_WRONG,
    SG_TOKEN_GOOD,
    SG_TOKEN_EXPIRED,
    SG_TOKEN_NO_DEVICE, /* it counts devices, and none was named */
    SG_TOKEN_DEVICE,    /* good for a device that has joined, or may: claim is set */
};

/* What is to be said of a token, sg_credential_is_token; constant time in it. */
enum sg_token_verdict sg_users_check_token(const struct sg_users *users, const char *name, const uint8_t *text,
                                           size_t len, int64_t now, struct sg_device_claim *claim);
/* True if that is what is stored of the user's token. */
bool sg_users_has_token(const struct sg_users *users, const char *name, const char *value);

/* The user's Argon2id string, or NULL. Lives as long as users. */
const char *sg_users_password_hash(const struct sg_users *users, const char *name);

/* SHA-256 over all credentials of the user (all 0 for none): equal as long as none changed. */
void sg_users_digest(const struct sg_users *users, const char *name, uint8_t out[static 32]);

/* True if both let in the same users with the same credentials. */
bool sg_users_equal(const struct sg_users *a, const struct sg_users *b);

/* Each credential, by name and kind (server/user_line.h). */
typedef void sg_users_fn(void *ctx, const struct sg_user_line *line);
void sg_users_each(const struct sg_users *users, sg_users_fn *fn, void *ctx);
const char *sg_user_kind_name(enum sg_user_kind kind);

/*
 * Editing. add puts a credential in (value: as in the file; terms may be NULL); with replace, the user's others of
 * that kind go, without it an existing user is EXISTS. remove takes a user out, NOT_FOUND if there is none. Both lock,
 * write a new file, sync and rename. error tells.
 */
SG_MUST_CHECK enum sg_err sg_users_add(const char *path, const char *name, enum sg_user_kind kind, const char *value,
                                       const struct sg_user_terms *terms, bool replace,
                                       char error[static SG_USERS_ERROR_MAX]);
SG_MUST_CHECK enum sg_err sg_users_remove(const char *path, const char *name, char error[static SG_USERS_ERROR_MAX]);

/* Writes the contents of a file without users: a sg_file_write_fn. */
bool sg_users_write_empty(FILE *file, void *ctx);

/* A new token: its text for the invite, and the value to store. */
void sg_token_make(bool counts_devices, char text[static SG_TOKEN_TEXT_BYTES + 1], char value[static 65]);

#endif
