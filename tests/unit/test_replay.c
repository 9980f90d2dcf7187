/* The replay window: one-line cases, small windows in every sequence, and a set oracle for the real one. */
#include "core/replay.h"

#include <stdlib.h>

#include "record_util.h"

static void test_replay_table(void **state)
{
    (void)state;
    /* After `first` was received: what `second` gets. */
    static const struct {
        uint64_t first, second;
        enum sg_err expected;
    } cases[] = {
        {0, 0, SG_ERR_REPLAYED},
        {0, 1, SG_OK},
        {1, 0, SG_OK},
        {8191, 0, SG_OK}, /* the oldest of 8192 */
        {8192, 0, SG_ERR_TOO_OLD},
        {8192, 1, SG_OK},
        {8192, 8192, SG_ERR_REPLAYED},
        {8255, 63, SG_ERR_TOO_OLD}, /* exact, not only by whole words */
        {8255, 64, SG_OK},
        {100000, 100000 - 8191, SG_OK},
        {100000, 100000 - 8192, SG_ERR_TOO_OLD},
        {UINT64_C(1) << 32, 5, SG_ERR_TOO_OLD},
        {5, UINT64_C(1) << 63, SG_OK},
        {UINT64_MAX - 1, UINT64_MAX, SG_OK},
        {UINT64_MAX, UINT64_MAX, SG_ERR_REPLAYED},
        {UINT64_MAX, UINT64_MAX - 8191, SG_OK},
        {UINT64_MAX, UINT64_MAX - 8192, SG_ERR_TOO_OLD},
        {UINT64_MAX, 0, SG_ERR_TOO_OLD},
        {0, UINT64_MAX, SG_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sg_replay window = {0};
        assert_int_equal(sg_replay_check(&window, cases[i].first), SG_OK);
        sg_replay_update(&window, cases[i].first);
        assert_int_equal(sg_replay_check(&window, cases[i].second), cases[i].expected);
    }
}

static void test_replay_check_moves_nothing(void **state)
{
    (void)state;
    struct sg_replay window = {0}, before;
    sg_replay_update(&window, 70000);
    before = window;
    for (uint64_t counter = 0; counter < 200000; counter += 7)
        (void)(sg_replay_check(&window, counter) == SG_OK);
    assert_memory_equal(&window, &before, sizeof window);
}

/* --- every sequence over a small domain, on small windows --- */

struct small {
    uint64_t highest;
    uint64_t words[8];
};

struct shape {
    size_t word_count;
    unsigned word_bits;
    unsigned domain; /* counters 0 to domain - 1 */
    unsigned depth;
};

static enum sg_err oracle(uint32_t received, uint64_t highest, uint64_t size, uint64_t counter)
{
    if (received >> counter & 1)
        return counter + size > highest ? SG_ERR_REPLAYED : SG_ERR_TOO_OLD;
    return received != 0 && counter + size <= highest ? SG_ERR_TOO_OLD : SG_OK;
}

static uint64_t walk(const struct shape *shape, const struct small *window, uint32_t received, unsigned depth)
{
    uint64_t size = (shape->word_count - 1) * shape->word_bits, steps = 0;
    for (uint64_t counter = 0; counter < shape->domain; counter++) {
        enum sg_err got =
            sg_replay_check_in(window->highest, window->words, shape->word_count, shape->word_bits, counter);
        assert_int_equal(got, oracle(received, window->highest, size, counter));
        steps++;
        if (got != SG_OK || depth == 0)
            continue;
        struct small next = *window;
        sg_replay_update_in(&next.highest, next.words, shape->word_count, shape->word_bits, counter);
        assert_int_equal(next.highest, counter > window->highest ? counter : window->highest);
        steps += walk(shape, &next, received | UINT32_C(1) << counter, depth - 1);
    }
    return steps;
}

static void test_replay_exhaustive_small(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {2, 1, 8, 8}, {2, 4, 16, 5}, {3, 2, 16, 5}, {5, 1, 12, 6}, {3, 3, 18, 5}, {4, 2, 24, 4},
    };
    uint64_t steps = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct small window = {0};
        steps += walk(&shapes[i], &window, 0, shapes[i].depth);
    }
    assert_true(steps > 1000000);
}

/* --- the real window against a set --- */

enum { SEQUENCES = 1000000, STEPS = 16 };

/* Near the edges of window and words, and now and then anywhere. */
static uint64_t choose_counter(uint64_t *seed, uint64_t highest)
{
    static const int64_t edges[] = {-8193, -8192, -8191, -8190, -128, -65,  -64,  -63,  -1,   0,    1,
                                    2,     63,    64,    65,    128,  8191, 8192, 8193, 8256, 16384};
    uint64_t r = next_random(seed);
    switch (r % 4) {
    case 0:
        return highest + (uint64_t)edges[r / 4 % (sizeof edges / sizeof edges[0])];
    case 1:
        return highest - r / 4 % 8300;
    case 2:
        return highest + r / 4 % 20;
    default:
        return highest + r / 4 % 3 - 1;
    }
}

struct set {
    uint64_t items[STEPS];
    unsigned count;
    uint64_t highest;
};

static enum sg_err set_check(const struct set *set, uint64_t counter)
{
    if (set->count > 0 && counter <= set->highest && set->highest - counter >= SG_REPLAY_WINDOW)
        return SG_ERR_TOO_OLD;
    for (unsigned i = 0; i < set->count; i++)
        if (set->items[i] == counter)
            return SG_ERR_REPLAYED;
    return SG_OK;
}

static void test_replay_random_sequences(void **state)
{
    (void)state;
    static const uint64_t starts[] = {0, 8192, UINT64_C(1) << 28, UINT64_MAX - 9000, UINT64_MAX - 5};
    uint64_t seed = 20, refused = 0;
    for (unsigned i = 0; i < SEQUENCES; i++) {
        struct sg_replay window = {0};
        struct set set = {.count = 0};
        uint64_t at = starts[i % (sizeof starts / sizeof starts[0])];
        for (unsigned step = 0; step < STEPS; step++) {
            uint64_t counter = step == 0 ? at : choose_counter(&seed, set.highest);
            enum sg_err got = sg_replay_check(&window, counter);
            if (got != set_check(&set, counter))
                fail_msg("sequence %u step %u", i, step);
            if (got != SG_OK) {
                refused++;
                continue;
            }
            sg_replay_update(&window, counter);
            set.items[set.count++] = counter;
            set.highest = counter > set.highest ? counter : set.highest;
        }
    }
    assert_true(refused > SEQUENCES); /* the cases are worth something */
}

/* One long run, so that every word of the ring is full and reused many times. */
static void test_replay_long_run(void **state)
{
    (void)state;
    enum { DOMAIN = 1 << 22, LONG_STEPS = 3000000 };
    uint8_t *received = calloc(DOMAIN, 1);
    assert_non_null(received);
    struct sg_replay window = {0};
    uint64_t seed = 7, highest = 0, accepted = 0;
    for (unsigned step = 0; step < LONG_STEPS; step++) {
        uint64_t back = next_random(&seed) % 9000, ahead = next_random(&seed) % 3;
        uint64_t counter = step % 2 == 0 ? highest + ahead : highest - (back > highest ? highest : back);
        if (counter >= DOMAIN)
            break;
        enum sg_err expected = highest - counter >= SG_REPLAY_WINDOW && counter <= highest ? SG_ERR_TOO_OLD
                               : received[counter]                                         ? SG_ERR_REPLAYED
                                                                                           : SG_OK;
        assert_int_equal(sg_replay_check(&window, counter), expected);
        if (expected != SG_OK)
            continue;
        sg_replay_update(&window, counter);
        received[counter] = 1;
        highest = counter > highest ? counter : highest;
        accepted++;
    }
    assert_true(accepted > 1000000);
    free(received);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replay_table),
        cmocka_unit_test(test_replay_check_moves_nothing),
        cmocka_unit_test(test_replay_exhaustive_small),
        cmocka_unit_test(test_replay_random_sequences),
        cmocka_unit_test(test_replay_long_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
