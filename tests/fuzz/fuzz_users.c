/*
 * A user file: what is read has users that can be looked up, each by the kinds that it has; what is refused is refused
 * with a line and a reason.
 */
#include <string.h>

#include <sodium.h>

#include "check.h"
#include "server/user_line.h"
#include "server/users.h"

struct seen {
    const struct sg_users *users;
    char last[SG_USER_NAME_MAX + 1];
    size_t names;
};

static void check_one(void *ctx, const struct sg_user_line *line)
{
    struct seen *seen = ctx;
    struct sg_device_claim claim;
    const char *name = line->name;
    bool is_over = line->terms.expires != 0 && line->terms.uses == 0 && line->terms.expires <= seen->users->loaded;
    uint8_t digest[32], none[32] = {0};
    int order = strcmp(seen->last, name);
    CHECK(sg_user_name_is_valid(name) && line->created[0] != '\0');
    CHECK(order <= 0); /* by name, so that bisection finds each */
    seen->names += order != 0;
    snprintf(seen->last, sizeof seen->last, "%s", name);
    CHECK(sg_users_has_kind(seen->users, name, line->kind) == !is_over);
    CHECK(is_over || sg_users_has(seen->users, name));
    CHECK((sg_users_password_hash(seen->users, name) != NULL) ==
          sg_users_has_kind(seen->users, name, SG_USER_PASSWORD));
    CHECK(!sg_users_check_token(seen->users, name, (const uint8_t *)name, strlen(name), 1, &claim));
    sg_users_digest(seen->users, name, digest);
    CHECK(is_over || memcmp(digest, none, 32) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char path[] = "users";
    char error[SG_USERS_ERROR_MAX] = "";
    struct sg_users *users = NULL;
    struct seen seen = {.last = ""};
    if (size == 0) /* fmemopen takes no empty buffer */
        return 0;
    FILE *file = fmemopen((void *)(uintptr_t)data, size, "r");
    CHECK(file && sodium_init() >= 0);
    enum sg_err err = sg_users_read(file, path, &users, error);
    fclose(file);
    CHECK((err == SG_OK) == (users != NULL));
    CHECK(err == SG_OK || (err == SG_ERR_MALFORMED && strncmp(error, "users:", 6) == 0 && strlen(error) > 10));
    if (!users)
        return 0;
    seen.users = users;
    sg_users_each(users, check_one, &seen);
    if (PLANTED_BUG && sg_users_count(users) > 1)
        seen.names++;
    CHECK(seen.names == sg_users_count(users));
    sg_users_free(users);
    return 0;
}
