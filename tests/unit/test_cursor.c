/* The read and write cursors: bounds, byte order, and the error that sticks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/rbuf.h"
#include "core/wbuf.h"

static const uint8_t counting[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18};

static void reads_are_big_endian(void **state)
{
    (void)state;
    struct sg_rbuf r = sg_rbuf_init(counting, sizeof counting);
    assert_int_equal(sg_rbuf_u8(&r), 0x01);
    assert_int_equal(sg_rbuf_u16(&r), 0x0203);
    assert_int_equal(sg_rbuf_u24(&r), 0x040506);
    assert_int_equal(sg_rbuf_u32(&r), 0x0708090a);
    assert_true(sg_rbuf_u64(&r) == 0x0b0c0d0e0f101112);
    assert_true(sg_rbuf_ok(&r) && sg_rbuf_done(&r));
}

static void read_error_sticks_and_moves_nothing(void **state)
{
    (void)state;
    struct sg_rbuf r = sg_rbuf_init(counting, 3);
    assert_int_equal(sg_rbuf_u16(&r), 0x0102);
    assert_int_equal(sg_rbuf_u16(&r), 0); /* one byte is left */
    assert_false(sg_rbuf_ok(&r));
    assert_int_equal(sg_rbuf_left(&r), 1);
    assert_int_equal(sg_rbuf_u8(&r), 0); /* though it would fit */
    assert_null(sg_rbuf_bytes(&r, 0));
    assert_ptr_equal(r.pos, counting + 2);
    assert_false(sg_rbuf_done(&r));
}

static void reads_at_every_length(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 9; len++)
        for (size_t width = 1; width <= 8; width++) {
            struct sg_rbuf r = sg_rbuf_init(counting, len);
            uint64_t value = sg_rbuf_uint(&r, width);
            assert_int_equal(sg_rbuf_ok(&r), width <= len);
            assert_int_equal(value & 0xff, width <= len ? width : 0);
        }
}

static void huge_length_does_not_wrap(void **state)
{
    (void)state;
    struct sg_rbuf r = sg_rbuf_init(counting, 4);
    assert_null(sg_rbuf_bytes(&r, SIZE_MAX));
    assert_false(sg_rbuf_ok(&r));

    uint8_t out[4];
    struct sg_wbuf w = sg_wbuf_init(out, sizeof out);
    assert_null(sg_wbuf_room(&w, SIZE_MAX));
    assert_false(sg_wbuf_ok(&w));
}

static void left_over_bytes_are_seen(void **state)
{
    (void)state;
    struct sg_rbuf r = sg_rbuf_init(counting, 3);
    (void)sg_rbuf_u16(&r);
    assert_true(sg_rbuf_ok(&r));
    assert_false(sg_rbuf_done(&r));
    (void)sg_rbuf_u8(&r);
    assert_true(sg_rbuf_done(&r));
}

static void nothing_may_be_null(void **state)
{
    (void)state;
    struct sg_rbuf r = sg_rbuf_init(NULL, 0);
    assert_true(sg_rbuf_done(&r));
    assert_int_equal(sg_rbuf_left(&r), 0);
    assert_int_equal(sg_rbuf_u8(&r), 0);
    assert_false(sg_rbuf_ok(&r));
}

static void writes_are_big_endian(void **state)
{
    (void)state;
    uint8_t out[18];
    struct sg_wbuf w = sg_wbuf_init(out, sizeof out);
    sg_wbuf_u8(&w, 0x01);
    sg_wbuf_u16(&w, 0x0203);
    sg_wbuf_u24(&w, 0x040506);
    sg_wbuf_u32(&w, 0x0708090a);
    sg_wbuf_u64(&w, 0x0b0c0d0e0f101112);
    assert_true(sg_wbuf_ok(&w));
    assert_int_equal(sg_wbuf_len(&w), sizeof out);
    assert_memory_equal(out, counting, sizeof out);
}

static void write_error_sticks_and_writes_nothing(void **state)
{
    (void)state;
    uint8_t out[4] = {0xaa, 0xaa, 0xaa, 0xaa};
    struct sg_wbuf w = sg_wbuf_init(out, 3);
    sg_wbuf_u16(&w, 0x0102);
    sg_wbuf_u16(&w, 0x0304);
    assert_false(sg_wbuf_ok(&w));
    sg_wbuf_u8(&w, 0x05); /* though it would fit */
    sg_wbuf_bytes(&w, counting, 1);
    assert_int_equal(sg_wbuf_len(&w), 2);
    assert_memory_equal(out, ((uint8_t[]){1, 2, 0xaa, 0xaa}), 4);
}

static void empty_bytes_need_no_room(void **state)
{
    (void)state;
    uint8_t out[1];
    struct sg_wbuf w = sg_wbuf_init(out, 0);
    sg_wbuf_bytes(&w, NULL, 0);
    assert_true(sg_wbuf_ok(&w));
    sg_wbuf_u8(&w, 1);
    assert_false(sg_wbuf_ok(&w));
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    for (size_t width = 1; width <= 8; width++) {
        uint64_t value = 0xf1e2d3c4b5a69788 >> (8 * (8 - width));
        uint8_t out[8];
        struct sg_wbuf w = sg_wbuf_init(out, width);
        sg_wbuf_uint(&w, value, width);
        struct sg_rbuf r = sg_rbuf_init(out, sg_wbuf_len(&w));
        assert_true(sg_rbuf_uint(&r, width) == value);
        assert_true(sg_wbuf_ok(&w) && sg_rbuf_done(&r));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_are_big_endian),     cmocka_unit_test(read_error_sticks_and_moves_nothing),
        cmocka_unit_test(reads_at_every_length),    cmocka_unit_test(huge_length_does_not_wrap),
        cmocka_unit_test(left_over_bytes_are_seen), cmocka_unit_test(nothing_may_be_null),
        cmocka_unit_test(writes_are_big_endian),    cmocka_unit_test(write_error_sticks_and_writes_nothing),
        cmocka_unit_test(empty_bytes_need_no_room), cmocka_unit_test(what_is_written_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
