/* Association numbers: used once, kept in a window, idle by the rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/assoc.h"

enum { IDLE_MS = 120000, DNS_MS = 17000 };

static const uint64_t HASH_KEY = 0x9e3779b97f4a7c15;

static void a_number_opens_once(void **state)
{
    (void)state;
    struct sg_assoc_table table;
    struct sg_assoc_node node;
    assert_int_equal(sg_assoc_table_init(&table, HASH_KEY, IDLE_MS, DNS_MS), SG_OK);
    assert_int_equal(sg_assoc_state(&table, 5), SG_ASSOC_IS_NEW);
    assert_int_equal(sg_assoc_open(&table, &node, 5, 0), SG_OK);
    assert_int_equal(sg_assoc_state(&table, 5), SG_ASSOC_IS_OPEN);
    assert_ptr_equal(sg_assoc_find(&table, 5), &node);
    assert_int_equal(sg_assoc_state(&table, 4), SG_ASSOC_IS_NEW); /* overtaken on the way */
    sg_assoc_close(&table, &node);
    assert_int_equal(sg_assoc_state(&table, 5), SG_ASSOC_IS_USED);
    sg_assoc_use_up(&table, 9);
    assert_int_equal(sg_assoc_state(&table, 9), SG_ASSOC_IS_USED);
    assert_int_equal(sg_assoc_state(&table, 8), SG_ASSOC_IS_NEW);
    sg_assoc_table_dispose(&table);
}

static void numbers_below_the_window_are_used(void **state)
{
    (void)state;
    struct sg_assoc_table table;
    assert_int_equal(sg_assoc_table_init(&table, HASH_KEY, IDLE_MS, DNS_MS), SG_OK);
    sg_assoc_use_up(&table, 1);
    sg_assoc_use_up(&table, 1 + SG_ASSOC_WINDOW); /* 1 falls out, and its bit is that of the new number */
    assert_int_equal(sg_assoc_state(&table, 1), SG_ASSOC_IS_USED);
    assert_int_equal(sg_assoc_state(&table, 2), SG_ASSOC_IS_NEW);
    sg_assoc_use_up(&table, UINT32_MAX);
    assert_int_equal(sg_assoc_state(&table, UINT32_MAX), SG_ASSOC_IS_USED);
    assert_int_equal(sg_assoc_state(&table, UINT32_MAX - SG_ASSOC_WINDOW + 1), SG_ASSOC_IS_NEW);
    assert_int_equal(sg_assoc_state(&table, UINT32_MAX - SG_ASSOC_WINDOW), SG_ASSOC_IS_USED);
    sg_assoc_table_dispose(&table);
}

/* Against a set: random jumps forwards and backwards within what the window covers. */
static void the_window_agrees_with_a_set(void **state)
{
    (void)state;
    enum { SPAN = 400000 };
    struct sg_assoc_table table;
    uint8_t *used = calloc(SPAN, 1);
    uint32_t highest = 0;
    assert_non_null(used);
    assert_int_equal(sg_assoc_table_init(&table, HASH_KEY, IDLE_MS, DNS_MS), SG_OK);
    srand(7);
    for (unsigned i = 0; i < 200000; i++) {
        uint32_t number = highest + (uint32_t)(rand() % 5);
        if (rand() % 3 == 0 && highest > 70000)
            number = highest - (uint32_t)(rand() % 70000);
        if (number == 0 || number >= SPAN)
            continue;
        bool below = highest >= number && highest - number >= SG_ASSOC_WINDOW;
        enum sg_assoc_state expected = below || used[number] ? SG_ASSOC_IS_USED : SG_ASSOC_IS_NEW;
        assert_int_equal(sg_assoc_state(&table, number), expected);
        if (expected == SG_ASSOC_IS_USED)
            continue;
        sg_assoc_use_up(&table, number);
        used[number] = 1;
        highest = number > highest ? number : highest;
    }
    sg_assoc_table_dispose(&table);
    free(used);
}

static void idle_time_follows_the_rules(void **state)
{
    (void)state;
    struct sg_assoc_table table;
    struct sg_assoc_node dns, ordinary;
    assert_int_equal(sg_assoc_table_init(&table, HASH_KEY, IDLE_MS, DNS_MS), SG_OK);
    assert_int_equal(sg_assoc_open(&table, &dns, 1, 0), SG_OK);
    assert_int_equal(sg_assoc_open(&table, &ordinary, 2, 0), SG_OK);
    sg_assoc_touch_up(&table, &dns, 53, 0);
    sg_assoc_touch_up(&table, &ordinary, 443, 0);
    assert_int_equal(sg_assoc_next_timeout(&table), DNS_MS);

    sg_assoc_touch_alive(&table, &dns, 10000); /* ALIVE does not keep port 53 */
    assert_null(sg_assoc_expired(&table, DNS_MS - 1));
    assert_ptr_equal(sg_assoc_expired(&table, DNS_MS), &dns);
    sg_assoc_touch_down(&table, &dns, 15000); /* an answer does */
    assert_null(sg_assoc_expired(&table, 15000 + DNS_MS - 1));
    assert_ptr_equal(sg_assoc_expired(&table, 15000 + DNS_MS), &dns);
    sg_assoc_close(&table, &dns);

    sg_assoc_touch_down(&table, &ordinary, 100000); /* what comes down does not keep it */
    assert_ptr_equal(sg_assoc_expired(&table, IDLE_MS), &ordinary);
    sg_assoc_touch_alive(&table, &ordinary, 100000);
    assert_null(sg_assoc_expired(&table, IDLE_MS));
    assert_int_equal(sg_assoc_next_timeout(&table), 100000 + IDLE_MS);
    sg_assoc_touch_up(&table, &ordinary, 53, 110000); /* it once sent elsewhere: it stays ordinary */
    assert_int_equal(sg_assoc_next_timeout(&table), 110000 + IDLE_MS);
    sg_assoc_close(&table, &ordinary);
    assert_int_equal(sg_assoc_next_timeout(&table), UINT64_MAX);
    sg_assoc_table_dispose(&table);
}

static void close_it(void *ctx, struct sg_assoc_node *node)
{
    sg_assoc_close(ctx, node);
}

static void many_are_found_and_closed(void **state)
{
    (void)state;
    enum { COUNT = 15000 };
    struct sg_assoc_table table;
    struct sg_assoc_node *nodes = calloc(COUNT, sizeof *nodes);
    assert_non_null(nodes);
    assert_int_equal(sg_assoc_table_init(&table, HASH_KEY, IDLE_MS, DNS_MS), SG_OK);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(sg_assoc_open(&table, &nodes[i], i + 1, i), SG_OK);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_ptr_equal(sg_assoc_find(&table, i + 1), &nodes[i]);
    assert_int_equal(table.count, COUNT);
    sg_assoc_each(&table, close_it, &table);
    assert_int_equal(table.count, 0);
    sg_assoc_table_dispose(&table);
    free(nodes);
}

static size_t longest_chain(const struct sg_assoc_table *table)
{
    size_t longest = 0;
    for (size_t i = 0; i < table->bucket_count; i++) {
        size_t length = 0;
        for (const struct sg_assoc_node *node = table->buckets[i]; node; node = node->chain)
            length++;
        longest = length > longest ? length : longest;
    }
    return longest;
}

/* A peer that picks its numbers must not make every look-up walk through all of its associations. */
static void chosen_numbers_do_not_collide(void **state)
{
    (void)state;
    enum { COUNT = 8192 };
    struct sg_assoc_table table;
    struct sg_assoc_node *nodes = calloc(COUNT, sizeof *nodes);
    assert_non_null(nodes);
    for (unsigned bits = 0; bits <= 18; bits++) {
        assert_int_equal(sg_assoc_table_init(&table, HASH_KEY, IDLE_MS, DNS_MS), SG_OK);
        for (uint32_t i = 0; i < COUNT; i++)
            assert_int_equal(sg_assoc_open(&table, &nodes[i], (i + 1) << bits, 0), SG_OK);
        assert_in_range(longest_chain(&table), 1, COUNT / 8);
        sg_assoc_table_dispose(&table);
    }
    free(nodes);
}

/* Against a set again, with jumps of every size up to beyond the window: word borders and wrap-around. */
static void the_window_survives_jumps(void **state)
{
    (void)state;
    enum { SPAN = 40000000 };
    struct sg_assoc_table table;
    uint8_t *used = calloc(SPAN, 1);
    uint32_t highest = 0;
    assert_non_null(used);
    assert_int_equal(sg_assoc_table_init(&table, HASH_KEY, IDLE_MS, DNS_MS), SG_OK);
    srand(11);
    while (highest < SPAN - 200000) {
        uint32_t number = highest + 1 + (uint32_t)rand() % (1u << (rand() % 18));
        sg_assoc_use_up(&table, number);
        used[number] = 1;
        highest = number;
        for (unsigned i = 0; i < 300; i++) {
            uint32_t below = (uint32_t)rand() % (i < 100 ? 200 : SG_ASSOC_WINDOW + 64);
            if (i >= 200)
                below = SG_ASSOC_WINDOW - 64 + (uint32_t)rand() % 64;
            if (below >= highest)
                continue;
            bool expected = below >= SG_ASSOC_WINDOW || used[highest - below];
            assert_int_equal(sg_assoc_state(&table, highest - below), expected ? SG_ASSOC_IS_USED : SG_ASSOC_IS_NEW);
            if (!expected && i % 8 == 0) {
                sg_assoc_use_up(&table, highest - below);
                used[highest - below] = 1;
            }
        }
    }
    sg_assoc_table_dispose(&table);
    free(used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_opens_once),          cmocka_unit_test(numbers_below_the_window_are_used),
        cmocka_unit_test(the_window_agrees_with_a_set), cmocka_unit_test(idle_time_follows_the_rules),
        cmocka_unit_test(many_are_found_and_closed),    cmocka_unit_test(chosen_numbers_do_not_collide),
        cmocka_unit_test(the_window_survives_jumps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
