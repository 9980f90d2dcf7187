/*
 * Editing of the user file: it is replaced whole under flock, so that concurrent calls lose nobody and a reader never
 * sees half of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "net/file.h"
#include "server/user_line.h"
#include "server/users.h"

static const char file_head[] =
    "# Sealgram users, edited by `sealgram invite`, `passwd` and `revoke`. A line: NAME KIND VALUE CREATED [TERMS].\n"
    "# KIND and VALUE: token, its SHA-256; password, its Argon2id string; certificate, - (its subject CN is NAME).\n"
    "# TERMS: expires=DATE; uses=N, the number of devices that may join with a token.\n";

/*
 * Root makes the lock file for the owner of the user file, who must be able to open it later. That owner may have put
 * something else in its place: a second name of a file that must not change hands.
 */
static bool give_to_owner(int fd, const char *path)
{
    struct stat lock, users;
    if (geteuid() != 0 || stat(path, &users) != 0)
        return true;
    if (fstat(fd, &lock) != 0)
        return false;
    if (!S_ISREG(lock.st_mode) || lock.st_nlink != 1 || lock.st_size != 0) {
        errno = EEXIST;
        return false;
    }
    if (fchown(fd, users.st_uid, users.st_gid) != 0)
        errno = 0; /* the owner then needs root to edit: no reason to stop here */
    return true;
}

/* Holds the lock file beside the user file until it is closed. */
static int lock_file(const char *path, char *error)
{
    char *lock_path = NULL;
    if (asprintf(&lock_path, "%s.lock", path) < 0) {
        snprintf(error, SG_USERS_ERROR_MAX, "out of memory");
        return -1;
    }
    int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || !give_to_owner(fd, path) || flock(fd, LOCK_EX) != 0) {
        snprintf(error, SG_USERS_ERROR_MAX, "%.400s: %s", lock_path, strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    free(lock_path);
    return fd;
}

static int compare_lines(const void *a, const void *b)
{
    const struct sg_user_line *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static bool write_all(FILE *file, void *ctx)
{
    struct sg_users *users = ctx;
    if (users->count > 0)
        qsort(users->list, users->count, sizeof *users->list, compare_lines);
    bool good = fputs(file_head, file) >= 0;
    for (size_t i = 0; good && i < users->count; i++)
        good = sg_user_line_write(file, &users->list[i]);
    return good;
}

bool sg_users_write_empty(FILE *file, void *ctx)
{
    (void)ctx;
    return fputs(file_head, file) >= 0;
}

static enum sg_err replace_file(const char *path, struct sg_users *users, char *error)
{
    enum sg_err err = sg_file_replace(path, write_all, users);
    if (err != SG_OK)
        snprintf(error, SG_USERS_ERROR_MAX, "%.400s: %s", path, strerror(errno));
    return err;
}

/* Takes out the user's credentials of the kinds in the set (a bit each). Returns how many. */
static size_t remove_matching(struct sg_users *users, const char *name, unsigned kinds)
{
    size_t kept = 0, before = users->count;
    for (size_t i = 0; i < before; i++)
        if (strcmp(users->list[i].name, name) != 0 || !(kinds & 1u << users->list[i].kind))
            users->list[kept++] = users->list[i];
    users->count = kept;
    return before - kept;
}

/* Whatever its terms. */
static bool has_name(const struct sg_users *users, const char *name)
{
    for (size_t i = 0; i < users->count; i++)
        if (strcmp(users->list[i].name, name) == 0)
            return true;
    return false;
}

static enum sg_err add_credential(struct sg_users *users, const struct sg_user_line *c, bool replace, char *error)
{
    static const unsigned password = 1u << SG_USER_PASSWORD;
    static const unsigned invited = 1u << SG_USER_TOKEN | 1u << SG_USER_CERTIFICATE;
    size_t room = users->count;
    if (replace) {
        remove_matching(users, c->name, c->kind == SG_USER_PASSWORD ? password : invited);
        room = users->count;
    } else if (has_name(users, c->name)) {
        snprintf(error, SG_USERS_ERROR_MAX, "user %s exists already", c->name);
        return SG_ERR_EXISTS;
    }
    enum sg_err err = sg_users_append(users, &room, c);
    if (err != SG_OK)
        snprintf(error, SG_USERS_ERROR_MAX, "out of memory");
    return err;
}

/* A new credential, made now; fails where the file's own reader would refuse it. */
static enum sg_err make_credential(struct sg_user_line *c, const char *name, enum sg_user_kind kind, const char *value,
                                   const struct sg_user_terms *terms, char *error)
{
    *c = (struct sg_user_line){.kind = kind, .number = SIZE_MAX};
    if (terms)
        c->terms = *terms;
    if (!sg_user_name_is_valid(name)) {
        snprintf(error, SG_USERS_ERROR_MAX, "'%.100s' is not a user name: 1 to 64 of letters, digits and . _ - @",
                 name);
        return SG_ERR_INVALID;
    }
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->value, sizeof c->value, "%s", value);
    sg_user_date_write(time(NULL), c->created);
    const char *wrong = sg_user_line_check(c);
    if (!wrong)
        return SG_OK;
    snprintf(error, SG_USERS_ERROR_MAX, "%s", wrong);
    return SG_ERR_INVALID;
}

enum sg_err sg_users_add(const char *path, const char *name, enum sg_user_kind kind, const char *value,
                         const struct sg_user_terms *terms, bool replace, char error[static SG_USERS_ERROR_MAX])
{
    struct sg_users *users = NULL;
    struct sg_user_line c;
    enum sg_err err = make_credential(&c, name, kind, value, terms, error);
    int lock = err == SG_OK ? lock_file(path, error) : -1;
    if (err == SG_OK && lock < 0)
        err = SG_ERR_SYSTEM;
    if (err == SG_OK)
        err = sg_users_load(path, &users, error);
    if (err == SG_OK)
        err = add_credential(users, &c, replace, error);
    if (err == SG_OK)
        err = replace_file(path, users, error);
    sg_users_free(users);
    sodium_memzero(&c, sizeof c);
    if (lock >= 0)
        close(lock);
    return err;
}

enum sg_err sg_users_remove(const char *path, const char *name, char error[static SG_USERS_ERROR_MAX])
{
    struct sg_users *users = NULL;
    int lock = lock_file(path, error);
    if (lock < 0)
        return SG_ERR_SYSTEM;
    enum sg_err err = sg_users_load(path, &users, error);
    if (err == SG_OK && remove_matching(users, name, UINT_MAX) == 0) {
        snprintf(error, SG_USERS_ERROR_MAX, "there is no user %s", name);
        err = SG_ERR_NOT_FOUND;
    }
    if (err == SG_OK)
        err = replace_file(path, users, error);
    sg_users_free(users);
    close(lock);
    return err;
}
