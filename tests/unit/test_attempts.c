/* Attempts: how many, when they come back, and that nobody can undo those of another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "server/attempts.h"

enum { MOST = 20, INTERVAL_MS = 3000, HOSTS = 400 };

static const uint64_t start_ms = 1000 * 1000;

static struct sg_attempts_key host(const char *text)
{
    struct sg_ip ip;
    assert_int_equal(sg_ip_parse(text, &ip), SG_OK);
    return sg_attempts_of_host(&ip);
}

/* How many of 100 may begin. */
static unsigned try_many(struct sg_attempts *attempts, const struct sg_attempts_key *who, uint64_t now_ms)
{
    unsigned began = 0;
    for (unsigned i = 0; i < 100; i++)
        began += sg_attempts_begin(attempts, who, now_ms);
    return began;
}

static void so_many_at_once_and_more_as_time_goes(void **state)
{
    (void)state;
    struct sg_attempts *attempts = sg_attempts_new(MOST, INTERVAL_MS);
    struct sg_attempts_key who = host("192.0.2.1"), other = host("192.0.2.2"), user = sg_attempts_of_user("alice");
    assert_int_equal(try_many(attempts, &who, start_ms), MOST);
    assert_true(sg_attempts_are_over(attempts, &who, start_ms));
    assert_false(sg_attempts_are_over(attempts, &other, start_ms));
    assert_int_equal(try_many(attempts, &who, start_ms + INTERVAL_MS - 1), 0);
    assert_int_equal(try_many(attempts, &who, start_ms + INTERVAL_MS), 1);
    assert_int_equal(try_many(attempts, &who, start_ms + 1000 * INTERVAL_MS), MOST);
    assert_int_equal(try_many(attempts, &user, start_ms), MOST);
    sg_attempts_free(attempts);
}

/* Neither locked out for as long as it went back, nor free to guess for so long. */
static void a_clock_that_goes_back_changes_no_limit(void **state)
{
    (void)state;
    struct sg_attempts *attempts = sg_attempts_new(MOST, INTERVAL_MS);
    struct sg_attempts_key who = host("192.0.2.1");
    (void)try_many(attempts, &who, start_ms + 1000 * INTERVAL_MS);
    assert_int_equal(try_many(attempts, &who, start_ms), MOST);
    assert_int_equal(try_many(attempts, &who, start_ms), 0);
    sg_attempts_free(attempts);
}

static void what_was_right_does_not_count(void **state)
{
    (void)state;
    struct sg_attempts *attempts = sg_attempts_new(MOST, INTERVAL_MS);
    struct sg_attempts_key who = host("192.0.2.1");
    for (unsigned i = 0; i < 100; i++) {
        assert_true(sg_attempts_begin(attempts, &who, start_ms));
        sg_attempts_forgive(attempts, &who);
    }
    assert_int_equal(try_many(attempts, &who, start_ms), MOST);
    sg_attempts_free(attempts);
}

static void a_network_of_64_bits_is_one_host(void **state)
{
    (void)state;
    struct sg_attempts *attempts = sg_attempts_new(MOST, INTERVAL_MS);
    unsigned began = 0;
    for (unsigned i = 0; i < 100; i++) {
        char text[64];
        snprintf(text, sizeof text, "2001:db8:0:1:%x:%x::%x", i, i * 7, i * 13);
        struct sg_attempts_key who = host(text);
        began += sg_attempts_begin(attempts, &who, start_ms);
    }
    assert_int_equal(began, MOST);
    struct sg_attempts_key next = host("2001:db8:0:2::1");
    assert_int_equal(try_many(attempts, &next, start_ms), MOST);
    sg_attempts_free(attempts);
}

/* In turn, so that each comes after all others: what one did is still known. */
static void addresses_do_not_undo_each_other(void **state)
{
    (void)state;
    struct sg_attempts *attempts = sg_attempts_new(MOST, INTERVAL_MS);
    unsigned began[HOSTS] = {0};
    for (unsigned round = 0; round < 2 * MOST; round++) {
        for (unsigned i = 0; i < HOSTS; i++) {
            char text[32];
            snprintf(text, sizeof text, "198.18.%u.%u", i / 200, i % 200);
            struct sg_attempts_key who = host(text);
            began[i] += sg_attempts_begin(attempts, &who, start_ms);
        }
    }
    for (unsigned i = 0; i < HOSTS; i++)
        assert_int_equal(began[i], MOST);
    sg_attempts_free(attempts);
}

/* However many others try once: who has tried much stays where it is. */
static void a_crowd_does_not_hide_who_tried_much(void **state)
{
    (void)state;
    struct sg_attempts *attempts = sg_attempts_new(MOST, INTERVAL_MS);
    struct sg_attempts_key who = host("192.0.2.1");
    assert_int_equal(try_many(attempts, &who, start_ms), MOST);
    for (unsigned i = 0; i < 100000; i++) {
        struct sg_ip ip = {6, {0x20, 1, 0xd, 0xb8, 0, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};
        struct sg_attempts_key other = sg_attempts_of_host(&ip);
        (void)sg_attempts_begin(attempts, &other, start_ms);
    }
    assert_int_equal(try_many(attempts, &who, start_ms), 0);
    sg_attempts_free(attempts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(so_many_at_once_and_more_as_time_goes),
        cmocka_unit_test(what_was_right_does_not_count),
        cmocka_unit_test(a_network_of_64_bits_is_one_host),
        cmocka_unit_test(addresses_do_not_undo_each_other),
        cmocka_unit_test(a_crowd_does_not_hide_who_tried_much),
        cmocka_unit_test(a_clock_that_goes_back_changes_no_limit),
    };
    return cmocka_run_group_tests_name("attempts", tests, NULL, NULL);
}
