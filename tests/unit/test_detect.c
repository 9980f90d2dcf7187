/* The record detector: every first byte at every length from 0 to 80, whatever follows. */
#include "core/detect.h"
#include "record_util.h"

static enum sg_detect expected(const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return SG_DETECT_NEITHER;
    if (bytes[0] == 8)
        return SG_DETECT_SEALED;
    return bytes[0] == 0 && len > 1 && bytes[1] == 0 ? SG_DETECT_PLAIN : SG_DETECT_NEITHER;
}

static void test_detect_is_total(void **state)
{
    (void)state;
    static const uint8_t seconds[] = {0x00, 0x01, 0x08, 0x80, 0xff};
    unsigned seen[3] = {0};
    for (unsigned first = 0; first < 256; first++)
        for (size_t len = 0; len <= 80; len++)
            for (size_t i = 0; i < sizeof seconds; i++) {
                uint8_t bytes[80];
                memset(bytes, seconds[i], sizeof bytes);
                bytes[0] = (uint8_t)first;
                enum sg_detect got = sg_detect(bytes, len);
                assert_int_equal(got, expected(bytes, len));
                seen[got]++;
            }
    assert_int_equal(seen[SG_DETECT_SEALED], 80 * sizeof seconds);
    assert_int_equal(seen[SG_DETECT_PLAIN], 79);
    assert_int_equal(seen[0] + seen[1] + seen[2], 256 * 81 * sizeof seconds);
}

static void test_detect_reserved_bits(void **state)
{
    (void)state;
    for (uint8_t low = 0; low < 8; low++) {
        uint8_t bytes[64] = {(uint8_t)(SG_RECORD_INDICATOR | low)};
        assert_int_equal(sg_detect(bytes, sizeof bytes), low == 0 ? SG_DETECT_SEALED : SG_DETECT_NEITHER);
    }
}

/* The other protocols of RFC 7983 and RFC 9443, and those that share ports with proxies. */
static void test_detect_other_protocols(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[2];
        enum sg_detect expected;
    } cases[] = {
        {{0x00, 0x00}, SG_DETECT_PLAIN},   {{0x00, 0x01}, SG_DETECT_NEITHER}, /* SOCKS UDP; STUN */
        {{0x01, 0x00}, SG_DETECT_NEITHER}, {{0x04, 0x00}, SG_DETECT_NEITHER}, /* WireGuard */
        {{0x16, 0xfe}, SG_DETECT_NEITHER}, {{0x40, 0x00}, SG_DETECT_NEITHER}, /* DTLS; TURN channel */
        {{0xc0, 0x00}, SG_DETECT_NEITHER}, {{0x08, 0x00}, SG_DETECT_SEALED},  /* QUIC; ours */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(sg_detect(cases[i].bytes, 2), cases[i].expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detect_is_total),
        cmocka_unit_test(test_detect_reserved_bits),
        cmocka_unit_test(test_detect_other_protocols),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
