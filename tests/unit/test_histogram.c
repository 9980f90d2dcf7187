/* Histograms: which bucket a value counts in, and that none is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/histogram.h"

static void expect_bucket(uint64_t value, unsigned bucket)
{
    struct sg_histogram histogram = {0};
    sg_histogram_add(&histogram, value);
    assert_int_equal(histogram.sum, value);
    for (unsigned i = 0; i < SG_HISTOGRAM_BUCKETS; i++)
        assert_int_equal(histogram.buckets[i], i == bucket);
}

static void a_bucket_ends_at_a_power_of_two(void **state)
{
    (void)state;
    expect_bucket(0, 0);
    expect_bucket(1, 0);
    expect_bucket(2, 1);
    expect_bucket(3, 2);
    expect_bucket(4, 2);
    expect_bucket(5, 3);
    for (unsigned i = 1; i < SG_HISTOGRAM_BUCKETS - 1; i++) {
        expect_bucket(UINT64_C(1) << i, i);
        expect_bucket((UINT64_C(1) << i) + 1, i + 1);
    }
}

static void the_last_has_all_that_is_larger(void **state)
{
    (void)state;
    expect_bucket(UINT64_C(1) << SG_HISTOGRAM_BUCKETS, SG_HISTOGRAM_BUCKETS - 1);
    expect_bucket(UINT64_MAX, SG_HISTOGRAM_BUCKETS - 1);
}

static void values_add_up(void **state)
{
    struct sg_histogram histogram = {0};
    uint64_t count = 0;
    (void)state;
    for (uint64_t value = 0; value < 1000; value++)
        sg_histogram_add(&histogram, value);
    for (unsigned i = 0; i < SG_HISTOGRAM_BUCKETS; i++)
        count += histogram.buckets[i];
    assert_int_equal(count, 1000);
    assert_int_equal(histogram.sum, 999 * 1000 / 2);
    assert_int_equal(histogram.buckets[9], 512 - 257 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_ends_at_a_power_of_two),
        cmocka_unit_test(the_last_has_all_that_is_larger),
        cmocka_unit_test(values_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
