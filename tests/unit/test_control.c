/* Control messages: what is written is read again, and nothing else is accepted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/control.h"
#include "core/plaintext.h"

static const uint8_t numbers[] = {0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff};
static const uint8_t plaintext[] = {0, 0, 0, 9, 1, 192, 0, 2, 1, 0, 53, 'h', 'i'};

static struct sg_msg message(enum sg_msg_type type)
{
    struct sg_msg msg = {.type = type};
    switch (type) {
    case SG_MSG_DATAGRAM:
        msg.datagram.bytes = plaintext;
        msg.datagram.len = sizeof plaintext;
        break;
    case SG_MSG_PATH:
    case SG_MSG_PROBE:
    case SG_MSG_PROBE_ANSWER:
        msg.path.n = 0x01020304;
        msg.path.choice = SG_PATH_UDP;
        msg.path.id = 77;
        msg.path.size = 1264;
        break;
    case SG_MSG_PING:
    case SG_MSG_PONG:
    case SG_MSG_CHALLENGE:
    case SG_MSG_RESPONSE:
        memcpy(msg.token, "12345678", 8);
        break;
    case SG_MSG_CLOSE:
        msg.reason = 2;
        break;
    case SG_MSG_DRAIN:
        msg.seconds = 0x01020304;
        break;
    case SG_MSG_CLOSED:
    case SG_MSG_ALIVE:
        msg.numbers.reason = type == SG_MSG_CLOSED ? 3 : 0;
        msg.numbers.count = 2;
        msg.numbers.bytes = numbers;
        break;
    case SG_MSG_REFUSED:
        msg.refused.association = 9;
        msg.refused.scope = SG_REFUSED_ASSOCIATION;
        msg.refused.reason = 8;
        msg.refused.size = 1200;
        msg.refused.target = (struct sg_target){.atyp = SG_ATYP_IPV4, .port = 53, .ip = {4, {192, 0, 2, 1}}};
        break;
    case SG_MSG_CONFIRM:
    case SG_MSG_RENEW:
    case SG_MSG_KEEPALIVE:
        break;
    }
    return msg;
}

struct travel {
    enum sg_msg_type type;
    bool stream_up, stream_down, udp_up, udp_down;
};

/* docs/protocol.md, the tables of sections 6.1 and 7 */
static const struct travel travels[] = {
    {SG_MSG_DATAGRAM, true, true, false, false},   {SG_MSG_PATH, true, false, true, false},
    {SG_MSG_PING, true, true, false, false},       {SG_MSG_PONG, true, true, false, false},
    {SG_MSG_CLOSE, true, true, false, false},      {SG_MSG_CLOSED, true, true, false, false},
    {SG_MSG_ALIVE, true, false, false, false},     {SG_MSG_REFUSED, false, true, false, false},
    {SG_MSG_PROBE, false, false, true, true},      {SG_MSG_PROBE_ANSWER, false, false, true, true},
    {SG_MSG_CHALLENGE, false, false, false, true}, {SG_MSG_RESPONSE, false, false, true, false},
    {SG_MSG_KEEPALIVE, false, false, true, true},  {SG_MSG_CONFIRM, true, false, false, false},
    {SG_MSG_RENEW, false, true, false, false},     {SG_MSG_DRAIN, false, true, false, false},
};

static enum sg_err stream_decode(uint8_t *bytes, size_t len, enum sg_role from, struct sg_msg *out)
{
    struct sg_rbuf r = sg_rbuf_init(bytes, len);
    return sg_control_decode(&r, from, out);
}

static void each_message_travels_only_where_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof travels / sizeof travels[0]; i++) {
        const struct travel *t = &travels[i];
        struct sg_msg in = message(t->type), out;
        uint8_t bytes[256];
        struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
        sg_control_encode(&w, &in);
        assert_true(sg_wbuf_ok(&w));
        bool any = t->stream_up || t->stream_down;
        enum sg_err otherwise = any ? SG_ERR_MALFORMED : SG_ERR_UNSUPPORTED;
        assert_int_equal(stream_decode(bytes, sg_wbuf_len(&w), SG_ROLE_CLIENT, &out), t->stream_up ? SG_OK : otherwise);
        assert_int_equal(stream_decode(bytes, sg_wbuf_len(&w), SG_ROLE_SERVER, &out),
                         t->stream_down ? SG_OK : otherwise);
        w = sg_wbuf_init(bytes, sizeof bytes);
        sg_session_message_encode(&w, &in);
        assert_int_equal(sg_session_message_decode(bytes, sg_wbuf_len(&w), SG_ROLE_CLIENT, &out),
                         t->udp_up ? SG_OK : SG_ERR_MALFORMED);
        assert_int_equal(sg_session_message_decode(bytes, sg_wbuf_len(&w), SG_ROLE_SERVER, &out),
                         t->udp_down ? SG_OK : SG_ERR_MALFORMED);
    }
}

static void fields_survive_the_stream(void **state)
{
    (void)state;
    uint8_t bytes[256];
    struct sg_msg in = message(SG_MSG_REFUSED), out;
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_control_encode(&w, &in);
    assert_int_equal(stream_decode(bytes, sg_wbuf_len(&w), SG_ROLE_SERVER, &out), SG_OK);
    assert_int_equal(out.refused.association, 9);
    assert_int_equal(out.refused.reason, 8);
    assert_int_equal(out.refused.target.port, 53);

    in = message(SG_MSG_CLOSED);
    w = sg_wbuf_init(bytes, sizeof bytes);
    sg_control_encode(&w, &in);
    assert_int_equal(stream_decode(bytes, sg_wbuf_len(&w), SG_ROLE_SERVER, &out), SG_OK);
    assert_int_equal(out.numbers.count, 2);
    assert_int_equal(sg_msg_number(&out, 0), 7);
    assert_int_equal(sg_msg_number(&out, 1), UINT32_MAX);
}

static void a_message_waits_until_it_is_whole(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct sg_msg in = message(SG_MSG_PING), out;
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_control_encode(&w, &in);
    for (size_t len = 0; len < sg_wbuf_len(&w); len++)
        assert_int_equal(stream_decode(bytes, len, SG_ROLE_CLIENT, &out), SG_ERR_AGAIN);
}

static void a_body_must_parse_exactly(void **state)
{
    (void)state;
    struct sg_msg out;
    uint8_t short_ping[] = {SG_MSG_PING, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7};
    uint8_t long_ping[] = {SG_MSG_PING, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    uint8_t bad_choice[] = {SG_MSG_PATH, 0, 0, 5, 0, 0, 0, 1, 3};
    uint8_t no_numbers[] = {SG_MSG_ALIVE, 0, 0, 0};
    uint8_t odd_numbers[] = {SG_MSG_ALIVE, 0, 0, 5, 0, 0, 0, 1, 2};
    uint8_t too_long[] = {SG_MSG_DATAGRAM, 0x01, 0x01, 0xd1}; /* 66 001 */
    assert_int_equal(stream_decode(short_ping, sizeof short_ping, SG_ROLE_CLIENT, &out), SG_ERR_MALFORMED);
    assert_int_equal(stream_decode(long_ping, sizeof long_ping, SG_ROLE_CLIENT, &out), SG_ERR_MALFORMED);
    assert_int_equal(stream_decode(bad_choice, sizeof bad_choice, SG_ROLE_CLIENT, &out), SG_ERR_MALFORMED);
    assert_int_equal(stream_decode(no_numbers, sizeof no_numbers, SG_ROLE_CLIENT, &out), SG_ERR_MALFORMED);
    assert_int_equal(stream_decode(odd_numbers, sizeof odd_numbers, SG_ROLE_CLIENT, &out), SG_ERR_MALFORMED);
    assert_int_equal(stream_decode(too_long, sizeof too_long, SG_ROLE_CLIENT, &out), SG_ERR_MALFORMED);
}

static void unknown_types_are_skipped_whole(void **state)
{
    (void)state;
    struct sg_msg out;
    uint8_t bytes[] = {0x7f, 0, 0, 3, 1, 2, 3, SG_MSG_CLOSE, 0, 0, 2, 0, 1};
    struct sg_rbuf r = sg_rbuf_init(bytes, sizeof bytes);
    assert_int_equal(sg_control_decode(&r, SG_ROLE_CLIENT, &out), SG_ERR_UNSUPPORTED);
    assert_int_equal(sg_control_decode(&r, SG_ROLE_CLIENT, &out), SG_OK);
    assert_int_equal(out.type, SG_MSG_CLOSE);
    assert_int_equal(out.reason, 1);
}

static void session_messages_may_be_padded_but_not_cut(void **state)
{
    (void)state;
    uint8_t bytes[64] = {0};
    struct sg_msg in = message(SG_MSG_PROBE), out;
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_session_message_encode(&w, &in);
    assert_int_equal(sg_session_message_decode(bytes, sizeof bytes, SG_ROLE_CLIENT, &out), SG_OK);
    assert_int_equal(out.path.id, 77);
    assert_int_equal(out.path.size, 1264);
    for (size_t len = 0; len < sg_wbuf_len(&w); len++)
        assert_int_equal(sg_session_message_decode(bytes, len, SG_ROLE_CLIENT, &out), SG_ERR_MALFORMED);
    bytes[3] = 1; /* an association's number */
    assert_int_equal(sg_session_message_decode(bytes, sizeof bytes, SG_ROLE_CLIENT, &out), SG_ERR_MALFORMED);
}

static void plaintext_is_parsed_and_made_in_place(void **state)
{
    (void)state;
    uint8_t bytes[sizeof plaintext];
    struct sg_datagram d;
    memcpy(bytes, plaintext, sizeof bytes);
    assert_int_equal(sg_plaintext_decode(bytes, sizeof bytes, &d), SG_OK);
    assert_int_equal(d.association, 9);
    assert_int_equal(d.address.port, 53);
    assert_int_equal(d.data_len, 2);
    assert_memory_equal(d.data, "hi", 2);
    assert_int_equal(sg_plaintext_decode(bytes, 11, &d), SG_OK); /* the datagram may be empty */
    assert_int_equal(d.data_len, 0);
    for (size_t len = 0; len < 11; len++)
        assert_int_equal(sg_plaintext_decode(bytes, len, &d), SG_ERR_MALFORMED);

    uint8_t room[64] = {0};
    struct sg_endpoint source = {.ip = {4, {192, 0, 2, 1}}, .port = 53};
    memcpy(room + 32, "hi", 2);
    uint8_t *made = sg_plaintext_prepend(room + 32, 9, &source);
    assert_int_equal(room + 32 - made, 11);
    assert_memory_equal(made, plaintext, sizeof plaintext);
    bytes[3] = 0;
    assert_int_equal(sg_plaintext_decode(bytes, sizeof bytes, &d), SG_ERR_MALFORMED);
}

/* Only the whole header makes a plaintext alike, whichever family; a name is never remembered. */
static void plaintexts_are_alike_by_their_whole_header(void **state)
{
    (void)state;
    static const size_t header_lens[] = {SG_ASSOC_BYTES + SG_ADDR_IPV4_BYTES, SG_PLAINTEXT_HEADER_IP_MAX};
    uint8_t bytes[SG_PLAINTEXT_HEADER_IP_MAX + 2];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i + 1);
    for (size_t k = 0; k < 2; k++) {
        struct sg_plaintext_memo memo = {0};
        assert_false(sg_plaintext_is_alike(&memo, bytes, sizeof bytes));
        sg_plaintext_remember(&memo, bytes, header_lens[k]);
        for (size_t len = 0; len <= sizeof bytes; len++)
            assert_int_equal(sg_plaintext_is_alike(&memo, bytes, len), len >= header_lens[k]);
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] ^= 1;
            assert_int_equal(sg_plaintext_is_alike(&memo, bytes, sizeof bytes), i >= header_lens[k]);
            bytes[i] ^= 1;
        }
        sg_plaintext_remember(&memo, bytes, SG_PLAINTEXT_HEADER_IP_MAX + 1);
        assert_false(sg_plaintext_is_alike(&memo, bytes, sizeof bytes));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_message_travels_only_where_the_table_says),
        cmocka_unit_test(fields_survive_the_stream),
        cmocka_unit_test(a_message_waits_until_it_is_whole),
        cmocka_unit_test(a_body_must_parse_exactly),
        cmocka_unit_test(unknown_types_are_skipped_whole),
        cmocka_unit_test(session_messages_may_be_padded_but_not_cut),
        cmocka_unit_test(plaintext_is_parsed_and_made_in_place),
        cmocka_unit_test(plaintexts_are_alike_by_their_whole_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
