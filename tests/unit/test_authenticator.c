/* The authenticator's lines: what is asked, what counts as an answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/authenticator.h"

static struct sg_authenticator_question ask(const char *user, const char *secret, bool is_token, const char *address)
{
    struct sg_authenticator_question question = {
        .user = user, .secret = (const uint8_t *)secret, .secret_len = strlen(secret), .is_token = is_token};
    assert_int_equal(sg_ip_parse(address, &question.address), SG_OK);
    return question;
}

static void asks_in_json(void **state)
{
    (void)state;
    static const struct {
        const char *user, *secret, *address, *line;
        bool is_token;
    } cases[] = {
        {"alice", "s3cret", "192.0.2.1", "{\"user\":\"alice\",\"password\":\"s3cret\",\"address\":\"192.0.2.1\"}",
         false},
        {"alice", "sgt1_x", "2001:db8::1", "{\"user\":\"alice\",\"token\":\"sgt1_x\",\"address\":\"2001:db8::1\"}",
         true},
        {"a\"\\\n", "\x7f\"}\r", "192.0.2.1",
         "{\"user\":\"a\\u0022\\u005c\\u000a\",\"password\":\"\\u007f\\u0022}\\u000d\",\"address\":\"192.0.2.1\"}",
         false},
        {"\303\274", "\342\202\254\360\237\230\200", "192.0.2.1",
         "{\"user\":\"\303\274\",\"password\":\"\342\202\254\360\237\230\200\",\"address\":\"192.0.2.1\"}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[512] = "";
        size_t len = 0;
        struct sg_authenticator_question question =
            ask(cases[i].user, cases[i].secret, cases[i].is_token, cases[i].address);
        assert_true(sg_authenticator_encode(&question, line, sizeof line - 1, &len));
        assert_int_equal(len, strlen(cases[i].line));
        assert_memory_equal(line, cases[i].line, len);
    }
}

static void asks_no_nonsense(void **state)
{
    (void)state;
    static const char *const bad[] = {"\377",     "\300\200", "\355\240\200", "\364\220\200\200",
                                      "\342\202", "x\200",    "\340\200\257", "\370\210\200\200\200"};
    char line[512];
    size_t len = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct sg_authenticator_question question = ask("alice", bad[i], false, "192.0.2.1");
        assert_false(sg_authenticator_encode(&question, line, sizeof line, &len));
        question = ask(bad[i], "x", false, "192.0.2.1");
        assert_false(sg_authenticator_encode(&question, line, sizeof line, &len));
    }
    struct sg_authenticator_question question = ask("alice", "s3cret", false, "192.0.2.1");
    assert_false(sg_authenticator_encode(&question, line, 30, &len));
}

static bool decode(const char *line, struct sg_authenticator_answer *answer)
{
    return sg_authenticator_decode(line, strlen(line), "alice", answer);
}

static void takes_answers(void **state)
{
    (void)state;
    struct sg_authenticator_answer answer;
    assert_true(decode("{\"ok\":true}", &answer) && answer.ok);
    assert_string_equal(answer.user, "alice");
    assert_int_equal(answer.groups.count, 0);
    assert_true(
        decode("{\"ok\": true, \"user\": \"bob@x\", \"groups\": [\"staff\", \"night\"], \"more\": 1}", &answer));
    assert_string_equal(answer.user, "bob@x");
    assert_int_equal(answer.groups.count, 2);
    assert_string_equal(answer.groups.names[1], "night");
    assert_true(decode("{\"ok\":false}", &answer) && !answer.ok);
}

static void refuses_what_is_no_answer(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "true",
        "[]",
        "{}",
        "{\"ok\":1}",
        "{\"ok\":\"true\"}",
        "{\"ok\":null}",
        "{\"ok\":false,\"ok\":true}",
        "{\"ok\":true}{",
        "{\"ok\":true,\"user\":\"\"}",
        "{\"ok\":true,\"user\":\"a b\"}",
        "{\"ok\":true,\"user\":5}",
        "{\"ok\":true,\"groups\":\"staff\"}",
        "{\"ok\":true,\"groups\":[5]}",
        "{\"ok\":true,\"groups\":[\"a b\"]}",
        "{\"ok\":true,\"groups\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]}",
    };
    struct sg_authenticator_answer answer;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (decode(bad[i], &answer))
            fail_msg("taken: %s", bad[i]);
    static const char no_user[] = "{\"ok\":true}";
    assert_false(sg_authenticator_decode(no_user, strlen(no_user), "a b", &answer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_in_json),
        cmocka_unit_test(asks_no_nonsense),
        cmocka_unit_test(takes_answers),
        cmocka_unit_test(refuses_what_is_no_answer),
    };
    return cmocka_run_group_tests_name("authenticator", tests, NULL, NULL);
}
