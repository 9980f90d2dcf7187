/* The user file: what is read and refused, credentials, editing, and many who edit at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <sodium.h>

#include "server/user_line.h"
#include "server/users.h"

#define DIGEST "73e0585434f37c2a6255a7e99c3b7db5f9403151c04900399b1ade2b59c07242"
#define WHEN "2026-11-23T08:40:47Z"

static char folder[] = "/tmp/sg-test-users-XXXXXX";
static char path[64];
static char error[SG_USERS_ERROR_MAX];
static char hash[crypto_pwhash_STRBYTES];

static void write_users(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

static struct sg_users *load(void)
{
    struct sg_users *users = NULL;
    if (sg_users_load(path, &users, error) != SG_OK)
        fail_msg("%s", error);
    return users;
}

static void add(const char *name, enum sg_user_kind kind, const char *value, bool replace)
{
    if (sg_users_add(path, name, kind, value, NULL, replace, error) != SG_OK)
        fail_msg("%s", error);
}

static void knows_names(void **state)
{
    (void)state;
    char name[70] = "";
    static const char *const good[] = {"a", "Alice", "a.b-c_d@example.org", "0", "..", "-"};
    static const char *const bad[] = {"", "a b", "a/b", "a:b", "a\n", "\303\244", "a#", "%41", "a,b"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(sg_user_name_is_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(sg_user_name_is_valid(bad[i]));
    memset(name, 'a', 64);
    assert_true(sg_user_name_is_valid(name));
    name[64] = 'a';
    assert_false(sg_user_name_is_valid(name));
}

static void reads_every_kind(void **state)
{
    (void)state;
    char text[1024];
    snprintf(text, sizeof text,
             "# a comment\n\n  \t\nzoe token " DIGEST " " WHEN "\n"
             "alice password %s " WHEN "\nalice\t token   " DIGEST " " WHEN "\nbob certificate - " WHEN,
             hash);
    write_users(text);
    struct sg_users *users = load();
    assert_int_equal(sg_users_count(users), 3);
    assert_true(sg_users_has(users, "zoe") && sg_users_has(users, "alice") && sg_users_has(users, "bob"));
    assert_false(sg_users_has(users, "alic") || sg_users_has(users, "alice2") || sg_users_has(users, ""));
    assert_true(sg_users_has_kind(users, "alice", SG_USER_PASSWORD) &&
                sg_users_has_kind(users, "alice", SG_USER_TOKEN));
    assert_false(sg_users_has_kind(users, "alice", SG_USER_CERTIFICATE));
    assert_true(sg_users_has_kind(users, "bob", SG_USER_CERTIFICATE));
    assert_string_equal(sg_users_password_hash(users, "alice"), hash);
    assert_null(sg_users_password_hash(users, "bob"));
    assert_null(sg_users_password_hash(users, "nobody"));
    sg_users_free(users);
    write_users("");
    users = load();
    assert_int_equal(sg_users_count(users), 0);
    assert_false(sg_users_has(users, "alice"));
    sg_users_free(users);
}

static void refuse(const char *text, const char *reason)
{
    struct sg_users *users = NULL;
    char expected[SG_USERS_ERROR_MAX];
    write_users(text);
    assert_int_equal(sg_users_load(path, &users, error), SG_ERR_MALFORMED);
    assert_null(users);
    snprintf(expected, sizeof expected, "%s:%s", path, reason);
    assert_string_equal(error, expected);
}

#define LINE "alice token " DIGEST " " WHEN "\n"

static void names_the_line(void **state)
{
    (void)state;
    char text[1024];
    refuse(LINE "bob token\n", "2: four fields are needed: NAME KIND VALUE CREATED");
    refuse("# x\n\nbob token " DIGEST " " WHEN " more\n",
           "3: after the fourth field only expires=DATE and uses=N are known, each once");
    refuse("b:b token " DIGEST " " WHEN "\n", "1: not a user name (1 to 64 of letters, digits and . _ - @)");
    refuse("bob key " DIGEST " " WHEN "\n", "1: unknown kind (token, password or certificate)");
    refuse("bob token 1234 " WHEN "\n", "1: a token's value is its SHA-256, 64 hexadecimal digits");
    refuse("bob password secret " WHEN "\n", "1: a password's value is an Argon2id string, $argon2id$...");
    refuse("bob password $argon2id$v=19$m=65536,t=2,p=1$x " WHEN "\n",
           "1: a password's value is an Argon2id string, $argon2id$...");
    refuse("bob certificate bob " WHEN "\n", "1: a certificate's value is '-': its subject CN is the user name");
    refuse(LINE "# between\n" LINE, "3: this user has a credential of this kind already");
    snprintf(text, sizeof text, LINE "alice password %s " WHEN "\n" LINE, hash);
    refuse(text, "3: this user has a credential of this kind already");
    memset(text, 'a', 600);
    text[600] = '\0';
    refuse(text, "1: line is too long");
}

static void refuses_nul(void **state)
{
    (void)state;
    struct sg_users *users = NULL;
    static const char text[] = LINE "bob\0 token " DIGEST " " WHEN "\n";
    write_users("");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, sizeof text - 1, file), sizeof text - 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(sg_users_load(path, &users, error), SG_ERR_MALFORMED);
    assert_non_null(strstr(error, ":2: line has a NUL byte"));
}

static void refuses_an_open_file(void **state)
{
    (void)state;
    static const mode_t modes[] = {0644, 0640, 0620, 0601, 0606};
    struct sg_users *users = NULL;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        write_users(LINE);
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(sg_users_load(path, &users, error), SG_ERR_DENIED);
        assert_null(users);
        assert_non_null(strstr(error, "chmod 600 /tmp/sg-test-users-"));
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(sg_users_load(path, &users, error), SG_ERR_SYSTEM);
    assert_non_null(strstr(error, "users: No such file or directory"));
}

static void checks_tokens(void **state)
{
    struct sg_device_claim claim;
    (void)state;
    char token[SG_TOKEN_TEXT_BYTES + 1], other[SG_TOKEN_TEXT_BYTES + 1], value[65], other_value[65];
    sg_token_make(false, token, value);
    sg_token_make(false, other, other_value);
    assert_string_not_equal(token, other);
    assert_int_equal(strlen(token), 48);
    assert_memory_equal(token, "sgt1_", 5);
    assert_true(sg_credential_is_token((const uint8_t *)token, 48));
    assert_false(sg_credential_is_token((const uint8_t *)token, 47));
    assert_false(sg_credential_is_token((const uint8_t *)"SGT1_", 5));
    write_users("");
    add("alice", SG_USER_TOKEN, value, false);
    struct sg_users *users = load();
    assert_true(sg_users_check_token(users, "alice", (const uint8_t *)token, 48, 1, &claim));
    assert_false(sg_users_check_token(users, "alice", (const uint8_t *)other, 48, 1, &claim));
    assert_false(sg_users_check_token(users, "bob", (const uint8_t *)token, 48, 1, &claim));
    for (size_t i = 0; i < 48; i++) {
        token[i] ^= 1;
        assert_false(sg_users_check_token(users, "alice", (const uint8_t *)token, 48, 1, &claim));
        token[i] ^= 1;
    }
    sg_users_free(users);
}

static void digest_of(const char *name, uint8_t out[static 32])
{
    struct sg_users *users = load();
    sg_users_digest(users, name, out);
    sg_users_free(users);
}

/* What ends a user's sessions: any change of the user's own credentials, and nothing else. */
static void tells_changes(void **state)
{
    (void)state;
    char token[SG_TOKEN_TEXT_BYTES + 1], value[65];
    uint8_t first[32], second[32], third[32];
    static const uint8_t none[32];
    write_users(LINE);
    digest_of("alice", first);
    assert_memory_not_equal(first, none, 32);
    sg_token_make(false, token, value);
    add("bob", SG_USER_TOKEN, value, false);
    digest_of("alice", second);
    assert_memory_equal(first, second, 32);
    add("alice", SG_USER_PASSWORD, hash, true);
    digest_of("alice", second);
    assert_memory_not_equal(first, second, 32);
    add("alice", SG_USER_TOKEN, value, true);
    digest_of("alice", third);
    assert_memory_not_equal(second, third, 32);
    assert_int_equal(sg_users_remove(path, "alice", error), SG_OK);
    digest_of("alice", third);
    assert_memory_equal(third, none, 32);
}

static void edits(void **state)
{
    (void)state;
    struct stat st;
    write_users(LINE);
    assert_int_equal(sg_users_add(path, "alice", SG_USER_TOKEN, DIGEST, NULL, false, error), SG_ERR_EXISTS);
    assert_string_equal(error, "user alice exists already");
    assert_int_equal(sg_users_add(path, "a b", SG_USER_TOKEN, DIGEST, NULL, false, error), SG_ERR_INVALID);
    assert_string_equal(error, "'a b' is not a user name: 1 to 64 of letters, digits and . _ - @");
    assert_int_equal(sg_users_add(path, "bob", SG_USER_TOKEN, "12", NULL, false, error), SG_ERR_INVALID);
    assert_int_equal(sg_users_remove(path, "bob", error), SG_ERR_NOT_FOUND);
    assert_string_equal(error, "there is no user bob");
    add("alice", SG_USER_PASSWORD, hash, true);
    add("alice", SG_USER_CERTIFICATE, "-", true);
    struct sg_users *users = load();
    assert_false(sg_users_has_kind(users, "alice", SG_USER_TOKEN)); /* the certificate took its place */
    assert_true(sg_users_has_kind(users, "alice", SG_USER_CERTIFICATE));
    assert_true(sg_users_has_kind(users, "alice", SG_USER_PASSWORD));
    sg_users_free(users);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(sg_users_remove(path, "alice", error), SG_OK);
    users = load();
    assert_int_equal(sg_users_count(users), 0);
    sg_users_free(users);
}

/* An edit of a file that does not parse changes nothing. */
static void keeps_a_broken_file(void **state)
{
    (void)state;
    char text[64] = "";
    write_users("nonsense\n");
    assert_int_equal(sg_users_add(path, "alice", SG_USER_TOKEN, DIGEST, NULL, false, error), SG_ERR_MALFORMED);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_string_equal(text, "nonsense\n");
}

static void keeps_the_owner(void **state)
{
    (void)state;
    struct stat st;
    if (geteuid() != 0) {
        print_message("skip: not root\n");
        skip();
    }
    write_users("");
    assert_int_equal(chown(path, 12345, 12346), 0);
    add("alice", SG_USER_TOKEN, DIGEST, false);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_uid == 12345 && st.st_gid == 12346 && (st.st_mode & 07777) == 0600);
    char lock[80];
    snprintf(lock, sizeof lock, "%s.lock", path);
    assert_int_equal(stat(lock, &st), 0);
    assert_true(st.st_uid == 12345 && st.st_gid == 12346);
    assert_int_equal(unlink(path), 0);
}

static void many_edit_at_once(void **state)
{
    (void)state;
    enum { WRITERS = 20 };
    pid_t pids[WRITERS];
    char name[16];
    write_users("gone token " DIGEST " " WHEN "\n");
    for (int i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] > 0)
            continue;
        snprintf(name, sizeof name, "user%d", i);
        bool good = sg_users_add(path, name, SG_USER_TOKEN, DIGEST, NULL, false, error) == SG_OK;
        if (good && i == 7)
            good = sg_users_remove(path, "gone", error) == SG_OK;
        _exit(good ? 0 : 1);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    struct sg_users *users = load();
    assert_int_equal(sg_users_count(users), WRITERS);
    for (int i = 0; i < WRITERS; i++) {
        snprintf(name, sizeof name, "user%d", i);
        assert_true(sg_users_has(users, name));
    }
    sg_users_free(users);
}

static void finds_each_of_many(void **state)
{
    (void)state;
    enum { USERS = 1000 };
    char name[16];
    FILE *file = tmpfile();
    struct sg_users *users = NULL;
    assert_non_null(file);
    for (int i = 0; i < USERS; i++)
        fprintf(file, "u%d token " DIGEST " " WHEN "\n", i * 7919 % USERS);
    rewind(file);
    assert_int_equal(sg_users_read(file, "memory", &users, error), SG_OK);
    fclose(file);
    assert_int_equal(sg_users_count(users), USERS);
    for (int i = 0; i < USERS; i++) {
        snprintf(name, sizeof name, "u%d", i);
        assert_true(sg_users_has_kind(users, name, SG_USER_TOKEN));
    }
    sg_users_free(users);
}

static int set_up(void **state)
{
    (void)state;
    if (sodium_init() < 0 || !mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/users", folder);
    return crypto_pwhash_str(hash, "secret", 6, crypto_pwhash_OPSLIMIT_MIN, crypto_pwhash_MEMLIMIT_MIN);
}

static int tear_down(void **state)
{
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void knows_terms(void **state)
{
    (void)state;
    struct sg_device_claim claim;
    char token[SG_TOKEN_TEXT_BYTES + 1], value[65], counted[SG_TOKEN_TEXT_BYTES + 1], counted_value[65], text[1024];
    char presented[SG_DEVICE_PASSWORD_BYTES + 1];
    sg_token_make(false, token, value);
    sg_token_make(true, counted, counted_value);
    assert_memory_equal(counted, "sgd1_", 5);
    snprintf(text, sizeof text,
             "alice token %s " WHEN " expires=2001-09-09T01:46:40Z\n"
             "bob token %s " WHEN " uses=2 expires=2001-09-09T01:46:40Z\n"
             "carol certificate - " WHEN " expires=2100-01-01T00:00:00Z\ncarol token %s " WHEN "\n",
             value, counted_value, value);
    write_users(text);
    struct sg_users *users = load();
    /* her time is over, and she is nobody; before it she was somebody */
    assert_false(sg_users_has(users, "alice"));
    users->loaded = 999999998;
    assert_int_equal(sg_users_check_token(users, "alice", (const uint8_t *)token, 48, 999999999, &claim),
                     SG_TOKEN_GOOD);
    users->loaded = time(NULL); /* a clock that was just set back: what it let in would end at once */
    assert_int_equal(sg_users_check_token(users, "alice", (const uint8_t *)token, 48, 999999999, &claim),
                     SG_TOKEN_EXPIRED);
    assert_int_equal(sg_users_check_token(users, "alice", (const uint8_t *)token, 48, 1000000000, &claim),
                     SG_TOKEN_EXPIRED);
    /* his devices live on, and no further one joins */
    assert_true(sg_users_has(users, "bob"));
    assert_int_equal(sg_users_check_token(users, "bob", (const uint8_t *)counted, 48, 1, &claim), SG_TOKEN_NO_DEVICE);
    snprintf(presented, sizeof presented, "%s.ABCDEFGHIJKLMNOPQRSTUV", counted);
    assert_true(sg_credential_is_token((const uint8_t *)presented, 71));
    assert_int_equal(sg_users_check_token(users, "bob", (const uint8_t *)presented, 71, 999999999, &claim),
                     SG_TOKEN_DEVICE);
    assert_string_equal(claim.token, counted_value);
    assert_int_equal(claim.uses, 2);
    assert_true(claim.may_join);
    assert_int_equal(sg_users_check_token(users, "bob", (const uint8_t *)presented, 71, 1000000000, &claim),
                     SG_TOKEN_DEVICE);
    assert_false(claim.may_join);
    presented[70] ^= 1;
    char device[65];
    memcpy(device, claim.device, sizeof device);
    assert_int_equal(sg_users_check_token(users, "bob", (const uint8_t *)presented, 71, 1, &claim), SG_TOKEN_DEVICE);
    assert_string_not_equal(device, claim.device);
    presented[20] ^= 1;
    assert_int_equal(sg_users_check_token(users, "bob", (const uint8_t *)presented, 71, 1, &claim), SG_TOKEN_WRONG);
    /* who counts no devices takes none */
    snprintf(presented, sizeof presented, "%s.ABCDEFGHIJKLMNOPQRSTUV", token);
    assert_false(sg_credential_is_token((const uint8_t *)presented, 71));
    assert_true(sg_users_has_kind(users, "carol", SG_USER_CERTIFICATE));
    assert_false(sg_users_is_stale(users, time(NULL)));
    assert_false(sg_users_is_stale(users, 4102444799));
    assert_true(sg_users_is_stale(users, 4102444800));
    assert_false(sg_users_is_stale(users, 1000000000));
    assert_true(sg_users_is_stale(users, 999999999)); /* alice would be somebody again */
    struct sg_users *renewed = sg_users_renew(users);
    assert_int_equal(sg_users_count(renewed), 3);
    sg_users_free(renewed);
    sg_users_free(users);
}

static void keeps_terms_when_it_edits(void **state)
{
    (void)state;
    const struct sg_user_terms terms = {.expires = 4102444800, .uses = 3};
    static const char line[] = "alice token " DIGEST " ";
    char text[2048] = "";
    write_users("");
    assert_int_equal(sg_users_add(path, "alice", SG_USER_TOKEN, DIGEST, &terms, false, error), SG_OK);
    add("bob", SG_USER_PASSWORD, hash, false);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    const char *at = strstr(text, line);
    assert_non_null(at);
    assert_memory_equal(at + strlen(line) + strlen(WHEN), " expires=2100-01-01T00:00:00Z uses=3\n", 36);
    assert_int_equal(sg_users_add(path, "dora", SG_USER_CERTIFICATE, "-", &terms, false, error), SG_ERR_INVALID);
    assert_string_equal(error, "only a token counts its uses");
    refuse("a token " DIGEST " " WHEN " expires=2026-02-30T00:00:00Z\n",
           "1: expires= takes a date, as in 2026-11-23T08:40:47Z");
    refuse("a token " DIGEST " " WHEN " uses=0\n", "1: uses= takes a number from 1 to 10000");
    refuse("a token " DIGEST " " WHEN " uses=10001\n", "1: uses= takes a number from 1 to 10000");
    refuse("a token " DIGEST " " WHEN " uses=1 uses=1\n",
           "1: after the fourth field only expires=DATE and uses=N are known, each once");
    refuse("a certificate - " WHEN " uses=1\n", "1: only a token counts its uses");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_terms),          cmocka_unit_test(keeps_terms_when_it_edits),
        cmocka_unit_test(knows_names),          cmocka_unit_test(reads_every_kind),
        cmocka_unit_test(names_the_line),       cmocka_unit_test(refuses_nul),
        cmocka_unit_test(refuses_an_open_file), cmocka_unit_test(checks_tokens),
        cmocka_unit_test(tells_changes),        cmocka_unit_test(edits),
        cmocka_unit_test(keeps_a_broken_file),  cmocka_unit_test(keeps_the_owner),
        cmocka_unit_test(many_edit_at_once),    cmocka_unit_test(finds_each_of_many),
    };
    return cmocka_run_group_tests_name("users", tests, set_up, tear_down);
}
