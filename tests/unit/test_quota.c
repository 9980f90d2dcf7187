/* Quotas: what passes in a second and in a day, what waits, limits that change, many threads at once. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/quota.h"

static const uint64_t start_ms = 1000000;

/* Offers datagrams of a size, one a millisecond; returns how many passed. */
static unsigned offer(struct sg_quota *quota, enum sg_quota_way way, size_t bytes, uint64_t from_ms, unsigned count)
{
    unsigned passed = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct sg_quota_time at = {.now_ms = from_ms + i};
        enum sg_reason reason = sg_quota_take(quota, way, bytes, &at);
        assert_true(reason == SG_REASON_NONE || reason == SG_REASON_RATE);
        passed += reason == SG_REASON_NONE;
    }
    return passed;
}

static void nothing_is_limited_by_zeroes(void **state)
{
    (void)state;
    struct sg_quota quota = {0};
    const struct sg_quota_time at = {.now_ms = start_ms};
    uint32_t wait_ms = 0;
    assert_int_equal(offer(&quota, SG_QUOTA_UP, 65535, start_ms, 1000), 1000);
    assert_int_equal(sg_quota_room(&quota, SG_QUOTA_UP, &at, &wait_ms), SIZE_MAX);
    assert_false(sg_quota_is_spent(&quota, 0));
    assert_int_equal(sg_quota_bytes(&quota, 0), 0);
}

static void bits_are_policed_each_way(void **state)
{
    (void)state;
    struct sg_quota quota = {0};
    /* 8 Mbit/s are 1000 bytes a millisecond; a quarter of a second is in the bucket */
    sg_quota_set(&quota, &(struct sg_quota_limits){.bits_per_second = {8000000, 4000000}});
    assert_int_equal(offer(&quota, SG_QUOTA_UP, 1000, start_ms, 10000), 10000);
    /* twice as much: the bucket first, then every second one */
    unsigned passed = offer(&quota, SG_QUOTA_UP, 2000, start_ms + 10000, 10000);
    assert_in_range(passed, 5000, 5126);
    /* the other way has a bucket of its own, and half the rate */
    assert_in_range(offer(&quota, SG_QUOTA_DOWN, 1000, start_ms, 10000), 5000, 5126);
}

static void any_datagram_fits_a_slow_bucket(void **state)
{
    (void)state;
    struct sg_quota quota = {0};
    sg_quota_set(&quota, &(struct sg_quota_limits){.bits_per_second = {8000, 8000}});
    assert_int_equal(offer(&quota, SG_QUOTA_UP, 65535, start_ms, 1), 1);
    assert_int_equal(offer(&quota, SG_QUOTA_UP, 65535, start_ms + 1, 60000), 0);
    assert_int_equal(offer(&quota, SG_QUOTA_UP, 65535, start_ms + 65536, 1), 1);
}

static void datagrams_are_counted_whatever_their_size(void **state)
{
    (void)state;
    struct sg_quota quota = {0};
    sg_quota_set(&quota, &(struct sg_quota_limits){.datagrams_per_second = 100});
    assert_in_range(offer(&quota, SG_QUOTA_UP, 0, start_ms, 10000), 1000, 1025);
    assert_in_range(offer(&quota, SG_QUOTA_DOWN, 65535, start_ms, 10000), 1000, 1025);
    sg_quota_set(&quota, &(struct sg_quota_limits){.datagrams_per_second = 1});
    struct sg_quota slow = {0};
    sg_quota_set(&slow, &(struct sg_quota_limits){.datagrams_per_second = 1});
    assert_int_equal(offer(&slow, SG_QUOTA_UP, 10, start_ms, 500), 4);
}

static void a_day_ends_at_its_limit_and_another_begins(void **state)
{
    (void)state;
    struct sg_quota quota = {0};
    struct sg_quota_time at = {.now_ms = start_ms, .day = 7};
    sg_quota_set(&quota, &(struct sg_quota_limits){.bytes_per_day = 1000});
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(sg_quota_take(&quota, i & 1, 250, &at), SG_REASON_NONE);
    assert_int_equal(sg_quota_bytes(&quota, 7), 1000);
    assert_true(sg_quota_is_spent(&quota, 7));
    assert_int_equal(sg_quota_take(&quota, SG_QUOTA_UP, 1, &at), SG_REASON_QUOTA);
    assert_int_equal(sg_quota_bytes(&quota, 7), 1000);
    at.day = 8;
    assert_false(sg_quota_is_spent(&quota, 8));
    assert_int_equal(sg_quota_take(&quota, SG_QUOTA_UP, 10, &at), SG_REASON_NONE);
    assert_int_equal(sg_quota_bytes(&quota, 8), 10);
    assert_int_equal(sg_quota_bytes(&quota, 7), 0);
}

static void streams_wait_and_leave_room_for_datagrams(void **state)
{
    (void)state;
    struct sg_quota quota = {0};
    uint64_t now_ms = start_ms, moved = 0;
    sg_quota_set(&quota, &(struct sg_quota_limits){.bits_per_second = {8000000, 8000000}});
    while (now_ms < start_ms + 10000) {
        const struct sg_quota_time at = {.now_ms = now_ms};
        uint32_t wait_ms = 0;
        size_t room = sg_quota_room(&quota, SG_QUOTA_DOWN, &at, &wait_ms);
        if (room == 0) {
            assert_in_range(wait_ms, 1, 100);
            now_ms += wait_ms;
            continue;
        }
        room = room < 65536 ? room : 65536;
        sg_quota_pay(&quota, SG_QUOTA_DOWN, room, &at);
        moved += room;
    }
    /* 10 s at 1000 bytes a millisecond, and half of the bucket that was full at first */
    assert_in_range(moved, 9900000, 10200000);
    /* a greedy stream has left a datagram's half of the bucket */
    const struct sg_quota_time at = {.now_ms = now_ms};
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(sg_quota_take(&quota, SG_QUOTA_DOWN, 1200, &at), SG_REASON_NONE);
    /* what datagrams took, the stream waits for */
    uint32_t wait_ms = 0;
    assert_int_equal(sg_quota_room(&quota, SG_QUOTA_DOWN, &at, &wait_ms), 0);
    assert_in_range(wait_ms, 100, 250);
}

static void limits_change_while_tokens_are_out(void **state)
{
    (void)state;
    struct sg_quota quota = {0};
    const struct sg_quota_time at = {.now_ms = start_ms};
    uint32_t wait_ms = 0;
    sg_quota_set(&quota, &(struct sg_quota_limits){.bits_per_second = {8000, 0}});
    assert_int_equal(offer(&quota, SG_QUOTA_UP, 65535, start_ms, 1), 1);
    assert_int_equal(offer(&quota, SG_QUOTA_UP, 65535, start_ms, 1), 0);
    sg_quota_set(&quota, &(struct sg_quota_limits){.bytes_per_day = 0});
    assert_int_equal(offer(&quota, SG_QUOTA_UP, 65535, start_ms, 100), 100);
    assert_int_equal(sg_quota_room(&quota, SG_QUOTA_UP, &at, &wait_ms), SIZE_MAX);
}

static void *take_many(void *ctx)
{
    struct sg_quota *quota = ctx;
    const struct sg_quota_time at = {.now_ms = start_ms, .day = 1};
    uintptr_t passed = 0;
    for (unsigned i = 0; i < 100000; i++)
        passed += sg_quota_take(quota, SG_QUOTA_UP, 100, &at) == SG_REASON_NONE;
    return (void *)passed;
}

static void threads_share_one_bucket(void **state)
{
    (void)state;
    struct sg_quota quota = {0};
    pthread_t threads[4];
    uintptr_t passed = 0;
    sg_quota_set(&quota, &(struct sg_quota_limits){.bits_per_second = {80000000, 0}, .bytes_per_day = 1000000000});
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_many, &quota), 0);
    for (unsigned i = 0; i < 4; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        passed += (uintptr_t)result;
    }
    /* a quarter of a second of 10 000 000 bytes, and not one more */
    assert_int_equal(passed, 25000);
    assert_int_equal(sg_quota_bytes(&quota, 1), 2500000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_limited_by_zeroes),
        cmocka_unit_test(bits_are_policed_each_way),
        cmocka_unit_test(any_datagram_fits_a_slow_bucket),
        cmocka_unit_test(datagrams_are_counted_whatever_their_size),
        cmocka_unit_test(a_day_ends_at_its_limit_and_another_begins),
        cmocka_unit_test(streams_wait_and_leave_room_for_datagrams),
        cmocka_unit_test(limits_change_while_tokens_are_out),
        cmocka_unit_test(threads_share_one_bucket),
    };
    return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
