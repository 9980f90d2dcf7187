/* What users may have: their own setting, their groups', the default; slots taken and given back; a day's bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "server/usage.h"
#include "server/user_limits.h"

static const struct sg_group_names no_groups;
static const uint32_t all[SG_USAGE_KINDS] = {10, 10, 10, 1000};

static bool is_member(void *ctx, const char *group)
{
    const char *const *groups = ctx;
    for (; *groups; groups++)
        if (strcmp(*groups, group) == 0)
            return true;
    return false;
}

static void takes_own_then_largest_of_groups_then_default(void **state)
{
    (void)state;
    struct sg_user_limits_entry staff = {
        .name = "staff",
        .values = {[SG_USER_LIMIT_SESSIONS] = 5, [SG_USER_LIMIT_UP_BITS] = 8000, [SG_USER_LIMIT_DAY_BYTES] = 70}};
    struct sg_user_limits_entry night = {
        .name = "night", .values = {[SG_USER_LIMIT_SESSIONS] = 7, [SG_USER_LIMIT_UP_BITS] = 9000}, .next = &staff};
    struct sg_user_limits_entry other = {
        .name = "other", .values = {[SG_USER_LIMIT_SESSIONS] = 99, [SG_USER_LIMIT_DOWN_BITS] = 99000}, .next = &night};
    struct sg_user_limits_entry alice = {.name = "alice",
                                         .values = {[SG_USER_LIMIT_UP_BITS] = 8500, [SG_USER_LIMIT_CONNECTIONS] = 3}};
    const struct sg_user_limits users = {.first = &alice}, groups = {.first = &other};
    const char *of_alice[] = {"staff", "night", NULL}, *of_nobody[] = {NULL};
    struct sg_usage_limits limits = {.most = {64, 4096, 1024}};
    sg_user_limits_apply(&users, &groups, "alice", is_member, of_alice, &limits);
    assert_int_equal(limits.most[SG_USAGE_SESSION], 7);
    assert_int_equal(limits.most[SG_USAGE_ASSOCIATION], 4096);
    assert_int_equal(limits.most[SG_USAGE_CONNECTION], 3);
    assert_int_equal(limits.rates.bits_per_second[SG_QUOTA_UP], 8500);
    assert_int_equal(limits.rates.bits_per_second[SG_QUOTA_DOWN], 0);
    assert_int_equal(limits.rates.bytes_per_day, 70);
    struct sg_usage_limits defaults = {.most = {64, 4096, 1024}};
    sg_user_limits_apply(&users, &groups, "bob", is_member, of_nobody, &defaults);
    assert_int_equal(defaults.most[SG_USAGE_SESSION], 64);
    assert_int_equal(defaults.rates.bits_per_second[SG_QUOTA_UP], 0);
}

/* Limits for tests: those in ctx, for everybody. */
static void find(void *ctx, const char *user, const struct sg_group_names *groups, struct sg_usage_limits *out)
{
    (void)user;
    (void)groups;
    *out = *(const struct sg_usage_limits *)ctx;
}

static uint64_t refused(const struct sg_usage_table *table, const char *name)
{
    json_t *status = json_object();
    sg_usage_status(table, status);
    uint64_t count = (uint64_t)json_integer_value(json_object_get(json_object_get(status, "refused_limits"), name));
    json_decref(status);
    return count;
}

static void gives_each_user_so_many_and_all_so_many(void **state)
{
    (void)state;
    struct sg_usage_limits limits = {.most = {2, 2, 9}};
    struct sg_usage_table *table = sg_usage_table_new(all, find, &limits);
    struct sg_usage *alice = sg_usage_acquire(table, "alice", &no_groups),
                    *bob = sg_usage_acquire(table, "bob", &no_groups);
    assert_ptr_equal(sg_usage_acquire(table, "alice", &no_groups), alice);
    sg_usage_release(alice);
    assert_true(sg_usage_take(alice, SG_USAGE_SESSION) && sg_usage_take(alice, SG_USAGE_SESSION));
    assert_false(sg_usage_take(alice, SG_USAGE_SESSION));
    assert_true(sg_usage_take(alice, SG_USAGE_ASSOCIATION));
    assert_true(sg_usage_take(bob, SG_USAGE_SESSION));
    assert_int_equal(sg_usage_total(table, SG_USAGE_SESSION), 3);
    for (unsigned i = 0; i < 5; i++)
        assert_true(sg_usage_take(alice, SG_USAGE_CONNECTION) && sg_usage_take(bob, SG_USAGE_CONNECTION));
    assert_false(sg_usage_take(alice, SG_USAGE_CONNECTION)); /* ten in all */
    assert_int_equal(refused(table, "sessions"), 1);
    assert_int_equal(refused(table, "connections"), 1);
    assert_int_equal(refused(table, "associations"), 0);
    sg_usage_give(bob, SG_USAGE_CONNECTION);
    assert_true(sg_usage_take(alice, SG_USAGE_CONNECTION));
    /* lower limits end nothing, and give nothing more */
    limits.most[SG_USAGE_SESSION] = 1;
    sg_usage_table_turn_to(table, all, find, &limits);
    assert_int_equal(sg_usage_total(table, SG_USAGE_SESSION), 3);
    sg_usage_give(alice, SG_USAGE_SESSION);
    assert_false(sg_usage_take(alice, SG_USAGE_SESSION));
    sg_usage_give(alice, SG_USAGE_SESSION);
    assert_true(sg_usage_take(alice, SG_USAGE_SESSION));
    sg_usage_release(alice);
    sg_usage_release(bob);
    sg_usage_table_free(table);
}

static void memory_is_counted_in_bytes(void **state)
{
    (void)state;
    struct sg_usage_limits limits = {.most = {[SG_USAGE_MEMORY] = 700}};
    struct sg_usage_table *table = sg_usage_table_new(all, find, &limits);
    struct sg_usage *alice = sg_usage_acquire(table, "alice", &no_groups);
    struct sg_usage *bob = sg_usage_acquire(table, "bob", &no_groups);
    assert_true(sg_usage_take_memory(alice, 600));
    assert_false(sg_usage_take_memory(alice, 101));
    assert_true(sg_usage_take_memory(alice, 100));
    assert_false(sg_usage_take_memory(bob, 301)); /* 1000 in all */
    assert_false(sg_usage_take_memory(bob, SIZE_MAX));
    assert_true(sg_usage_take_memory(bob, 300));
    assert_int_equal(refused(table, "memory"), 2);
    sg_usage_give_memory(alice, 700);
    assert_true(sg_usage_take_memory(bob, 400));
    assert_int_equal(sg_usage_total(table, SG_USAGE_MEMORY), 700);
    sg_usage_give_memory(bob, 700);
    assert_int_equal(sg_usage_total(table, SG_USAGE_MEMORY), 0);
    sg_usage_release(alice);
    sg_usage_release(bob);
    sg_usage_table_free(table);
}

static void remembers_a_day_of_a_user_who_left(void **state)
{
    (void)state;
    struct sg_usage_limits limits = {.most = {2, 2, 2}};
    struct sg_usage_table *table = sg_usage_table_new(all, find, &limits);
    struct sg_usage *alice = sg_usage_acquire(table, "alice", &no_groups);
    assert_null(sg_usage_quota(alice));
    assert_int_equal(sg_usage_police(alice, SG_QUOTA_UP, 1000, 5), SG_REASON_NONE);
    limits.rates.bytes_per_day = 100;
    sg_usage_table_turn_to(table, all, find, &limits);
    assert_non_null(sg_usage_quota(alice));
    assert_true(sg_usage_has_day(alice));
    assert_int_equal(sg_usage_police(alice, SG_QUOTA_UP, 100, 5), SG_REASON_NONE);
    sg_usage_release(alice);
    struct sg_usage *bob = sg_usage_acquire(table, "bob", &no_groups);
    alice = sg_usage_acquire(table, "alice", &no_groups);
    assert_int_equal(sg_usage_police(alice, SG_QUOTA_DOWN, 1, 5), SG_REASON_QUOTA);
    assert_false(sg_usage_has_day(alice));
    assert_true(sg_usage_has_day(bob));
    assert_int_equal(refused(table, "bytes_per_day"), 1);
    sg_usage_release(alice);
    sg_usage_release(bob);
    sg_usage_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_own_then_largest_of_groups_then_default),
        cmocka_unit_test(gives_each_user_so_many_and_all_so_many),
        cmocka_unit_test(memory_is_counted_in_bytes),
        cmocka_unit_test(remembers_a_day_of_a_user_who_left),
    };
    return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
