/* Blocks of the CHANNEL command: round trips, and every way to break the form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/block.h"

static enum sg_err request(const void *bytes, size_t len, struct sg_open_request *out)
{
    struct sg_rbuf r = sg_rbuf_init(bytes, len);
    return sg_open_request_decode(&r, out);
}

static void a_request_survives(void **state)
{
    (void)state;
    struct sg_open_request in = {.verb = SG_VERB_OPEN, .suite_count = 2, .suites = {2, 1}, .agent = "x/1"}, out;
    uint8_t bytes[128];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_open_request_encode(&w, &in);
    for (size_t len = 0; len < sg_wbuf_len(&w); len++)
        assert_int_equal(request(bytes, len, &out), SG_ERR_AGAIN);
    assert_int_equal(request(bytes, sg_wbuf_len(&w), &out), SG_OK);
    assert_int_equal(out.suite_count, 2);
    assert_int_equal(out.suites[0], 2);
    assert_string_equal(out.agent, "x/1");
}

static void a_reply_survives(void **state)
{
    (void)state;
    struct sg_open_reply in = {.suite = 1, .max_senders = 16, .assoc_idle_s = 120, .dns_idle_s = 17}, out;
    memset(in.channel_id, 0xab, sizeof in.channel_id);
    memset(in.handle, 0xcd, sizeof in.handle);
    uint8_t bytes[256];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_open_reply_encode(&w, &in);
    struct sg_rbuf r = sg_rbuf_init(bytes, sg_wbuf_len(&w));
    assert_int_equal(sg_open_reply_decode(&r, false, &out), SG_OK);
    assert_memory_equal(out.channel_id, in.channel_id, sizeof in.channel_id);
    assert_int_equal(out.dns_idle_s, 17);

    w = sg_wbuf_init(bytes, sizeof bytes);
    sg_open_refusal_encode(&w, 7);
    r = sg_rbuf_init(bytes, sg_wbuf_len(&w));
    assert_int_equal(sg_open_reply_decode(&r, true, &out), SG_OK);
    assert_int_equal(out.reason, 7);
    r = sg_rbuf_init(bytes, sg_wbuf_len(&w));
    assert_int_equal(sg_open_reply_decode(&r, false, &out), SG_ERR_MALFORMED);
}

/* A well-formed OPEN (verb, one suite) and what a field more makes of it. */
#define OPEN_FIELDS 0x80, 1, 0, 1, 1, 0x80, 2, 0, 2, 0, 1

static void form_is_enforced(void **state)
{
    (void)state;
    struct sg_open_request out;
    const uint8_t good[] = {0, 11, OPEN_FIELDS};
    const uint8_t unknown[] = {0, 15, OPEN_FIELDS, 0x7f, 0xff, 0, 0};
    const uint8_t unknown_critical[] = {0, 15, OPEN_FIELDS, 0xff, 0xff, 0, 0};
    const uint8_t duplicate[] = {0, 16, OPEN_FIELDS, 0x80, 1, 0, 1, 1};
    const uint8_t duplicate_not_critical[] = {0, 16, OPEN_FIELDS, 0, 1, 0, 1, 1};
    const uint8_t duplicate_unknown[] = {0, 19, OPEN_FIELDS, 0x7f, 0xff, 0, 0, 0x7f, 0xff, 0, 0};
    const uint8_t past_the_end[] = {0, 15, OPEN_FIELDS, 0x7f, 0xff, 0, 1};
    const uint8_t half_a_field[] = {0, 13, OPEN_FIELDS, 0x7f, 0xff};
    const uint8_t no_verb[] = {0, 6, 0x80, 2, 0, 2, 0, 1};
    const uint8_t no_suites[] = {0, 5, 0x80, 1, 0, 1, 1};
    const uint8_t bad_verb[] = {0, 11, 0x80, 1, 0, 1, 3, 0x80, 2, 0, 2, 0, 1};
    const uint8_t long_verb[] = {0, 12, 0x80, 1, 0, 2, 0, 1, 0x80, 2, 0, 2, 0, 1};
    const uint8_t odd_suites[] = {0, 12, 0x80, 1, 0, 1, 1, 0x80, 2, 0, 3, 0, 1, 0};
    const uint8_t resume_without_handle[] = {0, 11, 0x80, 1, 0, 1, 2, 0x80, 2, 0, 2, 0, 1};
    const uint8_t agent_not_ascii[] = {0, 16, OPEN_FIELDS, 0, 4, 0, 1, 0x1b};
    const uint8_t known_elsewhere[] = {0, 17, OPEN_FIELDS, 0, 13, 0, 2, 0, 7};
    const uint8_t known_elsewhere_long[] = {0, 18, OPEN_FIELDS, 0, 13, 0, 3, 0, 7, 0};
    const uint8_t too_long[] = {0x10, 0x01};
    assert_int_equal(request(good, sizeof good, &out), SG_OK);
    assert_int_equal(request(unknown, sizeof unknown, &out), SG_OK);
    assert_int_equal(request(unknown_critical, sizeof unknown_critical, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(duplicate, sizeof duplicate, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(duplicate_not_critical, sizeof duplicate_not_critical, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(duplicate_unknown, sizeof duplicate_unknown, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(past_the_end, sizeof past_the_end, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(half_a_field, sizeof half_a_field, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(no_verb, sizeof no_verb, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(no_suites, sizeof no_suites, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(bad_verb, sizeof bad_verb, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(long_verb, sizeof long_verb, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(odd_suites, sizeof odd_suites, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(resume_without_handle, sizeof resume_without_handle, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(agent_not_ascii, sizeof agent_not_ascii, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(known_elsewhere, sizeof known_elsewhere, &out), SG_OK);
    assert_int_equal(request(known_elsewhere_long, sizeof known_elsewhere_long, &out), SG_ERR_MALFORMED);
    assert_int_equal(request(too_long, sizeof too_long, &out), SG_ERR_MALFORMED);
}

static void as_many_unknown_fields_as_fit_are_skipped(void **state)
{
    (void)state;
    static const uint8_t fields[] = {OPEN_FIELDS};
    uint8_t bytes[SG_BLOCK_MAX];
    struct sg_open_request out;
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_wbuf_u16(&w, 0);
    sg_wbuf_bytes(&w, fields, sizeof fields);
    for (uint16_t type = 100; sg_wbuf_len(&w) + 4 <= sizeof bytes; type++)
        sg_wbuf_u32(&w, (uint32_t)type << 16);
    size_t len = sg_wbuf_len(&w);
    w = sg_wbuf_init(bytes, 2);
    sg_wbuf_u16(&w, (uint16_t)(len - 2));
    assert_int_equal(request(bytes, len, &out), SG_OK);
}

/* More sender ids than a sender may have would be a caller's bug further on; here it is a server's. */
static void sender_ids_are_1_to_16(void **state)
{
    (void)state;
    for (uint16_t ids = 0; ids <= 18; ids++) {
        struct sg_open_reply in = {.suite = 1, .max_senders = ids}, out;
        uint8_t bytes[256];
        struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
        sg_open_reply_encode(&w, &in);
        struct sg_rbuf r = sg_rbuf_init(bytes, sg_wbuf_len(&w));
        bool fits = ids >= 1 && ids <= 16;
        assert_int_equal(sg_open_reply_decode(&r, false, &out), fits ? SG_OK : SG_ERR_MALFORMED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_survives),     cmocka_unit_test(a_reply_survives),
        cmocka_unit_test(form_is_enforced),       cmocka_unit_test(as_many_unknown_fields_as_fit_are_skipped),
        cmocka_unit_test(sender_ids_are_1_to_16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
