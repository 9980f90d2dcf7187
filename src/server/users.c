/*
 * Users in a sorted array, looked up by bisection. Tokens are kept as SHA-256: 32 random bytes need no slow hash. The
 * file is replaced whole under flock, so that concurrent calls lose nobody and a reader never sees half of it.
 */
#include "server/users.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "net/file.h"

enum { VALUE_MAX = 160, LINE_MAX_BYTES = 512, CREATED_MAX = 32 };

struct credential {
    char name[SG_USER_NAME_MAX + 1];
    enum sg_user_kind kind;
    char value[VALUE_MAX];
    char created[CREATED_MAX];
    size_t line; /* keeps the file's order among equals */
};

struct sg_users {
    _Atomic unsigned refs;
    struct credential *list; /* sorted by name, kind, line */
    size_t count;
};

static const char file_head[] =
    "# Sealgram users, edited by `sealgram invite`, `passwd` and `revoke`. A line: NAME KIND VALUE CREATED.\n"
    "# KIND and VALUE: token, its SHA-256; password, its Argon2id string; certificate, - (its subject CN is NAME).\n";

const char *sg_user_kind_name(enum sg_user_kind kind)
{
    switch (kind) {
    case SG_USER_TOKEN:
        return "token";
    case SG_USER_PASSWORD:
        return "password";
    case SG_USER_CERTIFICATE:
        return "certificate";
    }
    return "unknown";
}

bool sg_user_name_is_valid(const char *name)
{
    size_t len = strlen(name);
    return len >= 1 && len <= SG_USER_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@") == len;
}

static bool parse_kind(const char *text, enum sg_user_kind *out)
{
    for (enum sg_user_kind kind = SG_USER_TOKEN; kind <= SG_USER_CERTIFICATE; kind++) {
        *out = kind;
        if (strcmp(text, sg_user_kind_name(kind)) == 0)
            return true;
    }
    return false;
}

static bool is_hex(const char *text, size_t len)
{
    return strlen(text) == len && strspn(text, "0123456789abcdef") == len;
}

/* needs_rehash decodes the string: 1 (other costs than asked for) is as good as 0, -1 is malformed. */
static bool is_argon2id(const char *text)
{
    return strncmp(text, crypto_pwhash_argon2id_STRPREFIX, strlen(crypto_pwhash_argon2id_STRPREFIX)) == 0 &&
           crypto_pwhash_str_needs_rehash(text, crypto_pwhash_OPSLIMIT_INTERACTIVE,
                                          crypto_pwhash_MEMLIMIT_INTERACTIVE) >= 0;
}

static const char *check_value(const struct credential *c)
{
    switch (c->kind) {
    case SG_USER_TOKEN:
        return is_hex(c->value, 64) ? NULL : "a token's value is its SHA-256, 64 hexadecimal digits";
    case SG_USER_PASSWORD:
        return is_argon2id(c->value) ? NULL : "a password's value is an Argon2id string, $argon2id$...";
    case SG_USER_CERTIFICATE:
        return strcmp(c->value, "-") == 0 ? NULL : "a certificate's value is '-': its subject CN is the user name";
    }
    return "unknown kind";
}

/* One line into a credential: NULL, or what is wrong with it. */
static const char *parse_line(char *line, struct credential *out)
{
    char *rest = NULL;
    const char *fields[4] = {NULL};
    unsigned count = 0;
    for (char *field = strtok_r(line, " \t", &rest); field; field = strtok_r(NULL, " \t", &rest)) {
        if (count == 4)
            return "more than four fields";
        fields[count++] = field;
    }
    if (count != 4)
        return "four fields are needed: NAME KIND VALUE CREATED";
    if (!sg_user_name_is_valid(fields[0]))
        return "not a user name (1 to 64 of letters, digits and . _ - @)";
    if (!parse_kind(fields[1], &out->kind))
        return "unknown kind (token, password or certificate)";
    if (strlen(fields[2]) >= sizeof out->value || strlen(fields[3]) >= sizeof out->created)
        return "a field is too long";
    snprintf(out->name, sizeof out->name, "%s", fields[0]);
    snprintf(out->value, sizeof out->value, "%s", fields[2]);
    snprintf(out->created, sizeof out->created, "%s", fields[3]);
    return check_value(out);
}

static int compare(const void *a, const void *b)
{
    const struct credential *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    if (order == 0 && x->kind != y->kind)
        order = x->kind < y->kind ? -1 : 1;
    return order != 0 ? order : x->line < y->line ? -1 : x->line > y->line;
}

static enum sg_err append(struct sg_users *users, size_t *room, const struct credential *c)
{
    if (users->count == *room) {
        size_t grown_room = *room ? *room * 2 : 16;
        struct credential *grown = realloc(users->list, grown_room * sizeof *grown);
        if (!grown)
            return SG_ERR_NOMEM;
        users->list = grown;
        *room = grown_room;
    }
    users->list[users->count++] = *c;
    return SG_OK;
}

static const char *find_duplicate(const struct sg_users *users, size_t *line)
{
    for (size_t i = 1; i < users->count; i++) {
        const struct credential *a = &users->list[i - 1], *b = &users->list[i];
        *line = b->line;
        if (strcmp(a->name, b->name) == 0 && a->kind == b->kind)
            return "this user has a credential of this kind already";
    }
    return NULL;
}

/* One line of len bytes, which it may change: NULL, or what is wrong with it. */
static const char *take_line(struct sg_users *users, size_t *room, char *line, size_t len, size_t number)
{
    struct credential c = {.line = number};
    if (len > 0 && line[len - 1] == '\n')
        line[--len] = '\0';
    if (len > LINE_MAX_BYTES)
        return "line is too long";
    if (memchr(line, '\0', len))
        return "line has a NUL byte";
    if (line[0] == '#' || line[strspn(line, " \t")] == '\0')
        return NULL;
    const char *wrong = parse_line(line, &c);
    if (!wrong && append(users, room, &c) != SG_OK)
        wrong = "out of memory";
    sodium_memzero(&c, sizeof c);
    return wrong;
}

static const char *read_lines(FILE *file, struct sg_users *users, size_t *number)
{
    char *line = NULL;
    size_t size = 0, room = 0;
    ssize_t len = 0;
    const char *wrong = NULL;
    while (!wrong && (len = getline(&line, &size, file)) >= 0) {
        ++*number;
        wrong = take_line(users, &room, line, (size_t)len, *number);
    }
    if (line)
        sodium_memzero(line, size);
    free(line);
    if (!wrong && ferror(file))
        return strerror(errno);
    if (!wrong && users->count > 0) {
        qsort(users->list, users->count, sizeof *users->list, compare);
        wrong = find_duplicate(users, number);
    }
    return wrong;
}

enum sg_err sg_users_read(FILE *file, const char *path, struct sg_users **out, char error[static SG_USERS_ERROR_MAX])
{
    size_t number = 0;
    struct sg_users *users = calloc(1, sizeof *users);
    if (users)
        atomic_init(&users->refs, 1);
    const char *wrong = users ? read_lines(file, users, &number) : "out of memory";
    *out = NULL;
    if (!wrong) {
        *out = users;
        return SG_OK;
    }
    snprintf(error, SG_USERS_ERROR_MAX, "%.400s:%zu: %s", path, number, wrong);
    sg_users_free(users);
    return SG_ERR_MALFORMED;
}

enum sg_err sg_users_load(const char *path, struct sg_users **out, char error[static SG_USERS_ERROR_MAX])
{
    struct stat st;
    enum sg_err err = SG_ERR_SYSTEM;
    FILE *file = fopen(path, "re");
    *out = NULL;
    if (!file || fstat(fileno(file), &st) != 0) {
        snprintf(error, SG_USERS_ERROR_MAX, "%.400s: %s", path, strerror(errno));
    } else if (st.st_mode & 077) {
        snprintf(error, SG_USERS_ERROR_MAX, "%.200s: others may read or write it (mode %04o): chmod 600 %.200s", path,
                 (unsigned)st.st_mode & 07777, path);
        err = SG_ERR_DENIED;
    } else {
        err = sg_users_read(file, path, out, error);
    }
    if (file)
        fclose(file);
    return err;
}

struct sg_users *sg_users_share(struct sg_users *users)
{
    atomic_fetch_add(&users->refs, 1);
    return users;
}

void sg_users_free(struct sg_users *users)
{
    if (!users || atomic_fetch_sub(&users->refs, 1) > 1)
        return;
    if (users->list)
        sodium_memzero(users->list, users->count * sizeof *users->list);
    free(users->list);
    free(users);
}

size_t sg_users_count(const struct sg_users *users)
{
    size_t names = 0;
    for (size_t i = 0; i < users->count; i++)
        names += i == 0 || strcmp(users->list[i].name, users->list[i - 1].name) != 0;
    return names;
}

/* The first credential of a user, and how many there are. */
static const struct credential *find_user(const struct sg_users *users, const char *name, size_t *count)
{
    size_t low = 0, high = users->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(users->list[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *count = 0;
    while (low + *count < users->count && strcmp(users->list[low + *count].name, name) == 0)
        ++*count;
    return *count > 0 ? &users->list[low] : NULL;
}

static const struct credential *find_kind(const struct sg_users *users, const char *name, enum sg_user_kind kind)
{
    size_t count = 0;
    const struct credential *c = find_user(users, name, &count);
    for (size_t i = 0; i < count; i++)
        if (c[i].kind == kind)
            return &c[i];
    return NULL;
}

bool sg_users_has(const struct sg_users *users, const char *name)
{
    size_t count = 0;
    return find_user(users, name, &count) != NULL;
}

bool sg_users_has_kind(const struct sg_users *users, const char *name, enum sg_user_kind kind)
{
    return find_kind(users, name, kind) != NULL;
}

bool sg_credential_is_token(const uint8_t *password, size_t len)
{
    return len == SG_TOKEN_TEXT_BYTES && memcmp(password, SG_TOKEN_PREFIX, strlen(SG_TOKEN_PREFIX)) == 0;
}

/* What is stored of a token: the SHA-256 of its text, in hexadecimal. */
static void token_value(const uint8_t *text, size_t len, char value[static 65])
{
    uint8_t digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(digest, text, len);
    sodium_bin2hex(value, 65, digest, sizeof digest);
}

bool sg_users_check_token(const struct sg_users *users, const char *name, const uint8_t *token, size_t len)
{
    static const char nothing[65] = "-";
    char value[65];
    const struct credential *c = find_kind(users, name, SG_USER_TOKEN);
    token_value(token, len, value);
    /* the same work whether or not there is such a user */
    bool equal = sodium_memcmp(value, c ? c->value : nothing, 64) == 0;
    return equal && c;
}

const char *sg_users_password_hash(const struct sg_users *users, const char *name)
{
    const struct credential *c = find_kind(users, name, SG_USER_PASSWORD);
    return c ? c->value : NULL;
}

void sg_users_digest(const struct sg_users *users, const char *name, uint8_t out[static 32])
{
    crypto_hash_sha256_state state;
    size_t count = 0;
    const struct credential *c = find_user(users, name, &count);
    memset(out, 0, 32);
    if (!c)
        return;
    crypto_hash_sha256_init(&state);
    for (size_t i = 0; i < count; i++) {
        const uint8_t kind = (uint8_t)c[i].kind;
        crypto_hash_sha256_update(&state, &kind, 1);
        crypto_hash_sha256_update(&state, (const uint8_t *)c[i].value, strlen(c[i].value) + 1);
    }
    crypto_hash_sha256_final(&state, out);
}

bool sg_users_equal(const struct sg_users *a, const struct sg_users *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = strcmp(a->list[i].name, b->list[i].name) == 0 && a->list[i].kind == b->list[i].kind &&
               strcmp(a->list[i].value, b->list[i].value) == 0;
    return same;
}

void sg_users_each(const struct sg_users *users,
                   void (*fn)(void *ctx, const char *name, enum sg_user_kind kind, const char *created), void *ctx)
{
    for (size_t i = 0; i < users->count; i++)
        fn(ctx, users->list[i].name, users->list[i].kind, users->list[i].created);
}

void sg_token_make(char text[static SG_TOKEN_TEXT_BYTES + 1], char value[static 65])
{
    uint8_t token[SG_TOKEN_BYTES];
    randombytes_buf(token, sizeof token);
    snprintf(text, SG_TOKEN_TEXT_BYTES + 1, "%s", SG_TOKEN_PREFIX);
    sodium_bin2base64(text + strlen(SG_TOKEN_PREFIX), SG_TOKEN_TEXT_BYTES + 1 - strlen(SG_TOKEN_PREFIX), token,
                      sizeof token, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    token_value((const uint8_t *)text, SG_TOKEN_TEXT_BYTES, value);
    sodium_memzero(token, sizeof token);
}

/* --- editing --- */

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
    const struct credential *x = a, *y = b;
    return x->line < y->line ? -1 : x->line > y->line;
}

static bool write_all(FILE *file, void *ctx)
{
    struct sg_users *users = ctx;
    if (users->count > 0)
        qsort(users->list, users->count, sizeof *users->list, compare_lines);
    bool good = fputs(file_head, file) >= 0;
    for (size_t i = 0; good && i < users->count; i++) {
        const struct credential *c = &users->list[i];
        good = fprintf(file, "%s %s %s %s\n", c->name, sg_user_kind_name(c->kind), c->value, c->created) > 0;
    }
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

static void write_date(char out[static CREATED_MAX])
{
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(out, CREATED_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static enum sg_err add_credential(struct sg_users *users, const struct credential *c, bool replace, char *error)
{
    static const unsigned password = 1u << SG_USER_PASSWORD;
    static const unsigned invited = 1u << SG_USER_TOKEN | 1u << SG_USER_CERTIFICATE;
    size_t room = users->count;
    if (replace) {
        remove_matching(users, c->name, c->kind == SG_USER_PASSWORD ? password : invited);
        room = users->count;
    } else if (sg_users_has(users, c->name)) {
        snprintf(error, SG_USERS_ERROR_MAX, "user %s exists already", c->name);
        return SG_ERR_EXISTS;
    }
    enum sg_err err = append(users, &room, c);
    if (err != SG_OK)
        snprintf(error, SG_USERS_ERROR_MAX, "out of memory");
    return err;
}

/* A new credential, made now; fails where the file's own reader would refuse it. */
static enum sg_err make_credential(struct credential *c, const char *name, enum sg_user_kind kind, const char *value,
                                   char *error)
{
    *c = (struct credential){.kind = kind, .line = SIZE_MAX};
    if (!sg_user_name_is_valid(name)) {
        snprintf(error, SG_USERS_ERROR_MAX, "'%.100s' is not a user name: 1 to 64 of letters, digits and . _ - @",
                 name);
        return SG_ERR_INVALID;
    }
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->value, sizeof c->value, "%s", value);
    write_date(c->created);
    const char *wrong = check_value(c);
    if (!wrong)
        return SG_OK;
    snprintf(error, SG_USERS_ERROR_MAX, "%s", wrong);
    return SG_ERR_INVALID;
}

enum sg_err sg_users_add(const char *path, const char *name, enum sg_user_kind kind, const char *value, bool replace,
                         char error[static SG_USERS_ERROR_MAX])
{
    struct sg_users *users = NULL;
    struct credential c;
    enum sg_err err = make_credential(&c, name, kind, value, error);
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
