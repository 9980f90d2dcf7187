/* The queue before the stream: in order, bounded in bytes and in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/squeue.h"

static void what_goes_in_comes_out_in_order(void **state)
{
    (void)state;
    struct sg_squeue queue = {0};
    uint8_t in[1000], out[1000];
    bool queued = false;
    uint32_t next = 0;
    srand(3);
    for (uint32_t i = 0; i < 20000; i++) {
        size_t len = 4 + (size_t)rand() % 900;
        memset(in, (int)(i & 0xff), sizeof in);
        memcpy(in, &i, 4);
        assert_int_equal(sg_squeue_push(&queue, in, len, 0, &queued), 0);
        assert_true(queued);
        while (queue.count > (size_t)rand() % 100) {
            uint32_t got = 0;
            size_t expected = sg_squeue_peek(&queue);
            sg_squeue_pop(&queue, out);
            memcpy(&got, out, 4);
            assert_int_equal(got, next);
            assert_int_equal(out[expected - 1], expected > 4 ? (next & 0xff) : out[3]);
            next++;
        }
    }
    sg_squeue_dispose(&queue);
}

static void the_oldest_makes_room(void **state)
{
    (void)state;
    struct sg_squeue queue = {0};
    static uint8_t big[60000], out[60000];
    bool queued = false;
    size_t dropped = 0;
    for (unsigned i = 0; i < 10; i++) {
        big[0] = (uint8_t)i;
        dropped += sg_squeue_push(&queue, big, sizeof big, i, &queued);
        assert_true(queued);
    }
    assert_int_equal(queue.count, 4);
    assert_int_equal(dropped, 6);
    assert_true(queue.bytes <= SG_SQUEUE_BYTES);
    sg_squeue_pop(&queue, out);
    assert_int_equal(out[0], 6);
    sg_squeue_dispose(&queue);
}

static void nothing_waits_longer_than_half_a_second(void **state)
{
    (void)state;
    struct sg_squeue queue = {0};
    uint8_t bytes[8] = {0};
    bool queued = false;
    sg_squeue_push(&queue, bytes, sizeof bytes, 1000, &queued);
    sg_squeue_push(&queue, bytes, sizeof bytes, 1400, &queued);
    assert_int_equal(sg_squeue_next_timeout(&queue), 1501);
    assert_int_equal(sg_squeue_expire(&queue, 1500), 0);
    assert_int_equal(sg_squeue_expire(&queue, 1501), 1);
    assert_int_equal(sg_squeue_next_timeout(&queue), 1901);
    assert_int_equal(sg_squeue_expire(&queue, 1901), 1);
    assert_true(sg_squeue_next_timeout(&queue) == UINT64_MAX);
    assert_int_equal(sg_squeue_peek(&queue), 0);
    sg_squeue_dispose(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out_in_order),
        cmocka_unit_test(the_oldest_makes_room),
        cmocka_unit_test(nothing_waits_longer_than_half_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
