/* The key schedule: values from another implementation (Python's hmac), and what is wiped. */
#include "core/keys.h"
#include "core/pass.h"
#include "record_util.h"

static void test_keys_known_answer(void **state)
{
    (void)state;
    uint8_t secret[SG_KEY_BYTES], expected[SG_KEY_BYTES];
    struct sg_direction_keys keys;
    for (unsigned i = 0; i < SG_KEY_BYTES; i++)
        secret[i] = (uint8_t)i;
    assert_int_equal(sg_keys_derive(secret, &keys), SG_OK);
    read_hex("b3e6028b9bd48f808d50e7e565811df849148d603d63bb0f9e68daf4d897899a", expected, sizeof expected);
    assert_memory_equal(keys.c2s, expected, sizeof expected);
    read_hex("75ced52919839702c81cc62a8d8a8373e86c2cdd10c05c6253e16d744ef2e033", expected, sizeof expected);
    assert_memory_equal(keys.s2c, expected, sizeof expected);
    read_hex("5041a4a4afccba057c6d2aa476afbaf682c9e0d4b334ac6365282160d66a1d7a", expected, sizeof expected);
    assert_memory_equal(keys.pass, expected, sizeof expected);
}

/* The tag by Python's hmac; and that a number is taken once, whatever its order, and none from far below. */
static void test_keys_pass(void **state)
{
    (void)state;
    static const uint8_t channel_id[] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t key[SG_KEY_BYTES], shown[SG_PASS_BYTES], expected[SG_PASS_TAG_BYTES];
    struct sg_pass_window window = {0};
    for (unsigned i = 0; i < SG_KEY_BYTES; i++)
        key[i] = (uint8_t)i;
    sg_pass_show(channel_id, key, 0x0102030405060708, shown);
    assert_memory_equal(shown, channel_id, 8);
    assert_memory_equal(shown + 8, channel_id, 8);
    read_hex("e23d7dee6ae8201ea7e0fc5562f2ce3f", expected, sizeof expected);
    assert_memory_equal(shown + 16, expected, sizeof expected);
    static const uint64_t fresh[] = {0, 3, 1, 1030, 7, 1029, 1031, 100000, 99000};
    for (size_t i = 0; i < sizeof fresh / sizeof *fresh; i++) {
        sg_pass_show(channel_id, key, fresh[i], shown);
        assert_true(sg_pass_take(shown, key, &window));
        assert_false(sg_pass_take(shown, key, &window));
        sg_pass_show(channel_id, key, fresh[i] + 1000000, shown);
        shown[SG_PASS_BYTES - 1] ^= 1; /* what is wrong moves nothing */
        assert_false(sg_pass_take(shown, key, &window));
    }
    sg_pass_show(channel_id, key, 100000 - 1024, shown);
    assert_false(sg_pass_take(shown, key, &window));
}

static void test_keys_wiped(void **state)
{
    (void)state;
    static const uint8_t zero[sizeof(struct sg_direction_keys)];
    uint8_t secret[SG_KEY_BYTES];
    struct sg_direction_keys keys;
    memset(secret, 0x5a, sizeof secret);
    assert_int_equal(sg_keys_derive(secret, &keys), SG_OK);
    assert_memory_equal(secret, zero, sizeof secret);
    sg_keys_wipe(&keys);
    assert_memory_equal(&keys, zero, sizeof keys);
}

static void test_keys_exporter_context(void **state)
{
    (void)state;
    static const uint8_t channel_id[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t expected[] = {1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x34};
    uint8_t context[SG_EXPORTER_CONTEXT_BYTES];
    sg_keys_exporter_context(channel_id, 0x1234, context);
    assert_memory_equal(context, expected, sizeof expected);
    assert_int_equal(sizeof expected, sizeof context);
    assert_string_equal(SG_EXPORTER_LABEL, "EXPORTER-sealgram-v1");
}

/* RFC 5869 appendix A.1, the second step; and the lengths that section 2.3 forbids. */
static void test_keys_expand(void **state)
{
    (void)state;
    uint8_t prk[32], info[10], expected[42], out[255 * 32 + 1];
    read_hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", prk, sizeof prk);
    read_hex("f0f1f2f3f4f5f6f7f8f9", info, sizeof info);
    read_hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865", expected,
             sizeof expected);
    assert_int_equal(sg_keys_expand(prk, sizeof prk, info, sizeof info, out, sizeof expected), SG_OK);
    assert_memory_equal(out, expected, sizeof expected);
    assert_int_equal(sg_keys_expand(prk, sizeof prk, info, sizeof info, out, 0), SG_ERR_INVALID);
    assert_int_equal(sg_keys_expand(prk, sizeof prk, info, sizeof info, out, sizeof out), SG_ERR_INVALID);
    assert_int_equal(sg_keys_expand(prk, sizeof prk, info, sizeof info, out, sizeof out - 1), SG_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_known_answer), cmocka_unit_test(test_keys_pass),
        cmocka_unit_test(test_keys_wiped),        cmocka_unit_test(test_keys_exporter_context),
        cmocka_unit_test(test_keys_expand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
