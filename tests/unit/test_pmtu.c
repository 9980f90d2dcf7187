/* The search for the longest record of a path, docs/protocol.md section 8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/datagram.h"
#include "core/path.h"
#include "core/pmtu.h"

enum { T = 5000, PROBES_MAX = 32 };

/* Sends what is due; the path carries records of up to path_max, and answers at once. How many probes there were. */
static unsigned run(struct sg_pmtu *pmtu, unsigned path_max, uint64_t now_ms)
{
    uint16_t sizes[PROBES_MAX];
    unsigned count = 0;
    while ((sizes[count] = sg_pmtu_due(pmtu, now_ms)) > 0) {
        assert_true(sizes[count] >= pmtu->record_max);
        assert_true(++count < PROBES_MAX);
    }
    for (unsigned i = 0; i < count; i++)
        if (sizes[i] <= path_max)
            sg_pmtu_answered(pmtu, pmtu->first_id + i, sizes[i], now_ms);
    return count;
}

static void path_carries_its_kernels_figure(void **state)
{
    (void)state;
    static const size_t figures[] = {513, 548, 1200, 1232, 1252, 1264, 1265, 1472, 1473, 8972, 65507};
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        struct sg_pmtu pmtu;
        sg_pmtu_init(&pmtu);
        assert_int_equal(pmtu.record_max, 512);
        assert_int_equal(sg_pmtu_next_timeout(&pmtu), SG_NEVER);
        sg_pmtu_start(&pmtu, figures[i], 50, T);
        assert_int_equal(sg_pmtu_next_timeout(&pmtu), T);
        run(&pmtu, 65535, T);
        assert_int_equal(pmtu.record_max, figures[i]);
        assert_int_equal(run(&pmtu, 65535, T + 250), 0); /* what was answered is not repeated */
    }
}

static void kernels_figure_is_bounded(void **state)
{
    (void)state;
    static const size_t figures[][2] = {{0, 1472},  {500, 512},     {512, 512},
                                        {600, 600}, {65508, 65507}, {1000000, 65507}};
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        struct sg_pmtu pmtu = {0};
        sg_pmtu_start(&pmtu, figures[i][0], 1, T);
        for (unsigned try = 0; try < 3; try++)
            run(&pmtu, 65535, T + 250 * try);
        assert_int_equal(pmtu.record_max, figures[i][1]);
    }
}

/* MTUs that are met, IPv4 and IPv6: found exactly, and within a second although the kernel says 1500. */
static void narrower_path_is_found(void **state)
{
    (void)state;
    static const unsigned paths[] = {512,       576 - 28,  1280 - 48, 1280 - 28, 1400 - 28,
                                     1420 - 28, 1492 - 48, 1492 - 28, 1500 - 48};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct sg_pmtu pmtu = {0};
        sg_pmtu_start(&pmtu, 1472, 1, T);
        for (uint64_t now = T; now <= T + 1000; now += 50)
            run(&pmtu, paths[i], now);
        assert_int_equal(pmtu.record_max, paths[i]);
    }
}

static void each_size_is_tried_three_times(void **state)
{
    (void)state;
    struct sg_pmtu pmtu = {0};
    sg_pmtu_start(&pmtu, 1472, 1, T);
    unsigned first = run(&pmtu, 0, T);
    assert_in_range(first, 2, SG_PMTU_RUNGS);
    assert_int_equal(sg_pmtu_next_timeout(&pmtu), T + 250);
    assert_int_equal(run(&pmtu, 0, T + 249), 0);
    assert_int_equal(run(&pmtu, 0, T + 250), first);
    assert_int_equal(run(&pmtu, 0, T + 500), first);
    assert_int_equal(sg_pmtu_next_timeout(&pmtu), SG_NEVER); /* nobody needs more */
    assert_int_equal(run(&pmtu, 0, T + 30000), 0);
    sg_pmtu_sent(&pmtu, 1300, T + 30000); /* somebody does, over the stream */
    assert_int_equal(sg_pmtu_next_timeout(&pmtu), T + 500 + 60000);
    assert_int_equal(run(&pmtu, 0, T + 60499), 0);
    assert_int_equal(pmtu.record_max, 512);
    assert_int_equal(run(&pmtu, 1264, T + 60500), first); /* the path may have grown */
    assert_int_equal(pmtu.record_max, 1264);
}

static void answer_of_another_path_or_size_is_nothing(void **state)
{
    (void)state;
    struct sg_pmtu pmtu = {0};
    sg_pmtu_start(&pmtu, 1472, 50, T);
    while (sg_pmtu_due(&pmtu, T) > 0)
        ;
    sg_pmtu_answered(&pmtu, 49, 1264, T);
    sg_pmtu_answered(&pmtu, 50, 511, T);
    sg_pmtu_answered(&pmtu, 50, 1473, T);
    assert_int_equal(pmtu.record_max, 512);
    sg_pmtu_answered(&pmtu, 51, 1264, T);
    assert_int_equal(pmtu.record_max, 1264);
    sg_pmtu_start(&pmtu, 1472, UINT32_MAX, T); /* ids wrap around */
    assert_int_equal(pmtu.record_max, 512);
    sg_pmtu_answered(&pmtu, UINT32_MAX - 1, 1264, T);
    assert_int_equal(pmtu.record_max, 512);
    sg_pmtu_answered(&pmtu, 0, 1264, T);
    assert_int_equal(pmtu.record_max, 1264);
}

static struct sg_pmtu on_ethernet(void)
{
    struct sg_pmtu pmtu = {0};
    sg_pmtu_start(&pmtu, 1472, 1, T);
    for (unsigned try = 0; try < 3; try++)
        run(&pmtu, 1472, T + 250 * try);
    assert_int_equal(pmtu.record_max, 1472);
    return pmtu;
}

static void size_in_use_is_confirmed_each_second(void **state)
{
    (void)state;
    struct sg_pmtu pmtu = on_ethernet();
    sg_pmtu_sent(&pmtu, 512, T + 10000); /* no long one */
    assert_int_equal(run(&pmtu, 1472, T + 20000), 0);
    unsigned probes = 0;
    for (uint64_t now = T + 20000; now < T + 30000; now += 10) {
        sg_pmtu_sent(&pmtu, 513, now);
        probes += run(&pmtu, 1472, now);
    }
    assert_in_range(probes, 9, 11);
    assert_int_equal(pmtu.record_max, 1472);
    assert_int_equal(run(&pmtu, 1472, T + 40000) + run(&pmtu, 1472, T + 50000), 1); /* the last long one, then none */
}

static void black_hole_is_seen_within_3_s(void **state)
{
    (void)state;
    for (unsigned offset = 0; offset < 1000; offset += 100) {
        struct sg_pmtu pmtu = on_ethernet();
        uint64_t now = T + 20000;
        for (; now < T + 22000 + offset; now += 10) {
            sg_pmtu_sent(&pmtu, 1472, now);
            run(&pmtu, 1472, now);
        }
        uint64_t since = now;
        for (; pmtu.record_max == 1472; now += 10) {
            sg_pmtu_sent(&pmtu, 1472, now);
            run(&pmtu, 1252, now);
        }
        assert_true(now - since <= 2500);
        assert_true(now - since >= 1000); /* a few lost probes are no black hole */
        run(&pmtu, 1252, now);
        assert_int_equal(pmtu.record_max, 1252); /* and what it still carries is found at once */
    }
}

static void few_lost_confirmations_change_nothing(void **state)
{
    (void)state;
    struct sg_pmtu pmtu = on_ethernet();
    sg_pmtu_sent(&pmtu, 1472, T + 20000);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(run(&pmtu, i < 4 ? 0 : 1472, T + 20000 + 250 * i), 1);
    assert_int_equal(run(&pmtu, 0, T + 25000), 0);
    assert_int_equal(pmtu.record_max, 1472);
}

/* A peer that chooses UDP again and again gets no more probes than that. */
static void searches_are_half_a_second_apart(void **state)
{
    (void)state;
    struct sg_pmtu pmtu = {0};
    unsigned probes = 0;
    sg_pmtu_start(&pmtu, 1472, 1, T);
    unsigned first = run(&pmtu, 0, T);
    for (uint64_t now = T; now < T + 10000; now += 10) {
        sg_pmtu_start(&pmtu, 1472, 1, now);
        probes += run(&pmtu, 0, now);
    }
    assert_in_range(probes, 1, 20 * first);
    probes = 0;
    for (uint64_t now = T + 10000; now < T + 11000; now += 10)
        probes += run(&pmtu, 1472, now);
    assert_int_equal(pmtu.record_max, 1472);
}

static void stopped_search_sends_nothing(void **state)
{
    (void)state;
    struct sg_pmtu pmtu = {0};
    sg_pmtu_start(&pmtu, 1472, 1, T);
    sg_pmtu_stop(&pmtu);
    assert_int_equal(sg_pmtu_next_timeout(&pmtu), SG_NEVER);
    assert_int_equal(sg_pmtu_due(&pmtu, T + 100000), 0);
    sg_pmtu_answered(&pmtu, 1, 1472, T);
    assert_int_equal(pmtu.record_max, 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_carries_its_kernels_figure),
        cmocka_unit_test(kernels_figure_is_bounded),
        cmocka_unit_test(narrower_path_is_found),
        cmocka_unit_test(each_size_is_tried_three_times),
        cmocka_unit_test(answer_of_another_path_or_size_is_nothing),
        cmocka_unit_test(size_in_use_is_confirmed_each_second),
        cmocka_unit_test(black_hole_is_seen_within_3_s),
        cmocka_unit_test(few_lost_confirmations_change_nothing),
        cmocka_unit_test(searches_are_half_a_second_apart),
        cmocka_unit_test(stopped_search_sends_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
