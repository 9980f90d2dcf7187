/*
 * Users in a sorted array, looked up by bisection. Tokens are kept as SHA-256: 32 random bytes need no slow hash.
 */
#include "server/users.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <sodium.h>

#include "server/user_line.h"

static int compare(const void *a, const void *b)
{
    const struct sg_user_line *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    if (order == 0 && x->kind != y->kind)
        order = x->kind < y->kind ? -1 : 1;
    return order != 0 ? order : x->number < y->number ? -1 : x->number > y->number;
}

enum sg_err sg_users_append(struct sg_users *users, size_t *room, const struct sg_user_line *line)
{
    if (users->count == *room) {
        size_t grown_room = *room ? *room * 2 : 16;
        struct sg_user_line *grown = realloc(users->list, grown_room * sizeof *grown);
        if (!grown)
            return SG_ERR_NOMEM;
        users->list = grown;
        *room = grown_room;
    }
    users->list[users->count++] = *line;
    return SG_OK;
}

static const char *find_duplicate(const struct sg_users *users, size_t *line)
{
    for (size_t i = 1; i < users->count; i++) {
        const struct sg_user_line *a = &users->list[i - 1], *b = &users->list[i];
        *line = b->number;
        if (strcmp(a->name, b->name) == 0 && a->kind == b->kind)
            return "this user has a credential of this kind already";
    }
    return NULL;
}

/* One line of len bytes, which it may change: NULL, or what is wrong with it. */
static const char *take_line(struct sg_users *users, size_t *room, char *line, size_t len, size_t number)
{
    struct sg_user_line c = {.number = number};
    if (len > 0 && line[len - 1] == '\n')
        line[--len] = '\0';
    if (len > SG_USER_LINE_MAX)
        return "line is too long";
    if (memchr(line, '\0', len))
        return "line has a NUL byte";
    if (line[0] == '#' || line[strspn(line, " \t")] == '\0')
        return NULL;
    const char *wrong = sg_user_line_parse(line, &c);
    if (!wrong && sg_users_append(users, room, &c) != SG_OK)
        wrong = "out of memory";
    sodium_memzero(&c, sizeof c);
    return wrong;
}

/* Its time is over. A token that counts devices ends in no other way than by its number: its devices go on. */
static bool is_over(const struct sg_user_line *line, int64_t now)
{
    return line->terms.expires != 0 && line->terms.uses == 0 && line->terms.expires <= now;
}

/* When the set of those that are over becomes another one. */
static void note_ends(struct sg_users *users)
{
    users->last_over = users->next_over = 0;
    for (size_t i = 0; i < users->count; i++) {
        const struct sg_user_terms *terms = &users->list[i].terms;
        if (terms->expires == 0 || terms->uses != 0)
            continue;
        if (is_over(&users->list[i], users->loaded) && terms->expires > users->last_over)
            users->last_over = terms->expires;
        if (!is_over(&users->list[i], users->loaded) && (users->next_over == 0 || terms->expires < users->next_over))
            users->next_over = terms->expires;
    }
}

bool sg_users_is_stale(const struct sg_users *users, int64_t now)
{
    return (users->next_over != 0 && now >= users->next_over) || (users->last_over != 0 && now < users->last_over);
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
    if (users) {
        atomic_init(&users->refs, 1);
        users->loaded = time(NULL);
    }
    const char *wrong = users ? read_lines(file, users, &number) : "out of memory";
    *out = NULL;
    if (!wrong) {
        note_ends(users);
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

struct sg_users *sg_users_renew(const struct sg_users *users)
{
    struct sg_users *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return NULL;
    atomic_init(&fresh->refs, 1);
    fresh->loaded = time(NULL);
    fresh->list = users->count > 0 ? malloc(users->count * sizeof *fresh->list) : NULL;
    if (users->count > 0 && !fresh->list) {
        free(fresh);
        return NULL;
    }
    if (users->count > 0)
        memcpy(fresh->list, users->list, users->count * sizeof *fresh->list);
    fresh->count = users->count;
    note_ends(fresh);
    return fresh;
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
static const struct sg_user_line *find_user(const struct sg_users *users, const char *name, size_t *count)
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

static const struct sg_user_line *find_kind(const struct sg_users *users, const char *name, enum sg_user_kind kind)
{
    size_t count = 0;
    const struct sg_user_line *c = find_user(users, name, &count);
    for (size_t i = 0; i < count; i++)
        if (c[i].kind == kind)
            return &c[i];
    return NULL;
}

/* The same, unless its time was over when the file was loaded. */
static const struct sg_user_line *find_valid(const struct sg_users *users, const char *name, enum sg_user_kind kind)
{
    const struct sg_user_line *line = find_kind(users, name, kind);
    return line && !is_over(line, users->loaded) ? line : NULL;
}

bool sg_users_has(const struct sg_users *users, const char *name)
{
    for (enum sg_user_kind kind = SG_USER_TOKEN; kind <= SG_USER_CERTIFICATE; kind++)
        if (find_valid(users, name, kind))
            return true;
    return false;
}

bool sg_users_has_kind(const struct sg_users *users, const char *name, enum sg_user_kind kind)
{
    return find_valid(users, name, kind) != NULL;
}

static bool begins_with(const uint8_t *text, size_t len, size_t expected_len, const char *prefix)
{
    return len == expected_len && memcmp(text, prefix, strlen(prefix)) == 0;
}

bool sg_credential_is_token(const uint8_t *password, size_t len)
{
    return begins_with(password, len, SG_TOKEN_TEXT_BYTES, SG_TOKEN_PREFIX) ||
           begins_with(password, len, SG_TOKEN_TEXT_BYTES, SG_DEVICE_TOKEN_PREFIX) ||
           (begins_with(password, len, SG_DEVICE_PASSWORD_BYTES, SG_DEVICE_TOKEN_PREFIX) &&
            password[SG_TOKEN_TEXT_BYTES] == '.');
}

/* What is stored of a token: the SHA-256 of its text, in hexadecimal. */
static void hash_text(const uint8_t *text, size_t len, char value[static 65])
{
    uint8_t digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(digest, text, len);
    sodium_bin2hex(value, 65, digest, sizeof digest);
}

enum sg_token_verdict sg_users_check_token(const struct sg_users *users, const char *name, const uint8_t *text,
                                           size_t len, int64_t now, struct sg_device_claim *claim)
{
    static const char nothing[65] = "-";
    const struct sg_user_line *line = find_kind(users, name, SG_USER_TOKEN);
    char value[65];
    bool has_device = len == SG_DEVICE_PASSWORD_BYTES;
    hash_text(text, len < SG_TOKEN_TEXT_BYTES ? len : SG_TOKEN_TEXT_BYTES, value);
    /* the same work whether or not there is such a user */
    bool equal = sodium_memcmp(value, line ? line->value : nothing, 64) == 0;
    if (!equal || !line || (len != SG_TOKEN_TEXT_BYTES && !has_device))
        return SG_TOKEN_WRONG;
    if (line->terms.uses == 0)
        return has_device                                           ? SG_TOKEN_WRONG
               : is_over(line, now) || is_over(line, users->loaded) ? SG_TOKEN_EXPIRED
                                                                    : SG_TOKEN_GOOD;
    if (!has_device)
        return SG_TOKEN_NO_DEVICE;
    *claim = (struct sg_device_claim){.uses = line->terms.uses,
                                      .may_join = line->terms.expires == 0 || now < line->terms.expires};
    memcpy(claim->token, value, sizeof claim->token);
    hash_text(text + SG_TOKEN_TEXT_BYTES, len - SG_TOKEN_TEXT_BYTES, claim->device);
    return SG_TOKEN_DEVICE;
}

bool sg_users_has_token(const struct sg_users *users, const char *name, const char *value)
{
    const struct sg_user_line *line = find_kind(users, name, SG_USER_TOKEN);
    return line && strcmp(line->value, value) == 0;
}

const char *sg_users_password_hash(const struct sg_users *users, const char *name)
{
    const struct sg_user_line *c = find_valid(users, name, SG_USER_PASSWORD);
    return c ? c->value : NULL;
}

void sg_users_digest(const struct sg_users *users, const char *name, uint8_t out[static 32])
{
    crypto_hash_sha256_state state;
    size_t count = 0;
    const struct sg_user_line *c = find_user(users, name, &count);
    memset(out, 0, 32);
    if (!c || !sg_users_has(users, name))
        return;
    crypto_hash_sha256_init(&state);
    for (size_t i = 0; i < count; i++) {
        if (is_over(&c[i], users->loaded))
            continue;
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
               strcmp(a->list[i].value, b->list[i].value) == 0 &&
               is_over(&a->list[i], a->loaded) == is_over(&b->list[i], b->loaded);
    return same;
}

void sg_users_each(const struct sg_users *users, sg_users_fn *fn, void *ctx)
{
    for (size_t i = 0; i < users->count; i++)
        fn(ctx, &users->list[i]);
}

void sg_token_make(bool counts_devices, char text[static SG_TOKEN_TEXT_BYTES + 1], char value[static 65])
{
    uint8_t token[SG_TOKEN_BYTES];
    randombytes_buf(token, sizeof token);
    snprintf(text, SG_TOKEN_TEXT_BYTES + 1, "%s", counts_devices ? SG_DEVICE_TOKEN_PREFIX : SG_TOKEN_PREFIX);
    sodium_bin2base64(text + strlen(SG_TOKEN_PREFIX), SG_TOKEN_TEXT_BYTES + 1 - strlen(SG_TOKEN_PREFIX), token,
                      sizeof token, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    hash_text((const uint8_t *)text, SG_TOKEN_TEXT_BYTES, value);
    sodium_memzero(token, sizeof token);
}
