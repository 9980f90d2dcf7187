/* SOCKS5: the client's machine whole, in pieces and cut at every place, against our server, and the UDP header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/socks5.h"

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

static const uint8_t connect_v4[] = {5, 1, 0, 1, 192, 0, 2, 1, 0, 80};

/* --- client --- */

static struct sg_target target_of(const char *text)
{
    struct sg_target t;
    assert_int_equal(sg_target_parse(text, true, &t), SG_OK);
    return t;
}

static void client_flights(void **state)
{
    struct sg_socks5_client client;
    uint8_t out[SG_SOCKS5_FLIGHT_MAX];
    struct sg_target target = target_of("host:80");
    (void)state;
    struct sg_wbuf w = sg_wbuf_init(out, sizeof out);
    static const uint8_t with_login[] = {5,   1, 2, 1, 4, 'u', 's', 'e', 'r', 3,   'p', 'w',
                                         'd', 5, 1, 0, 3, 4,   'h', 'o', 's', 't', 0,   80};
    assert_int_equal(sg_socks5_client_flight(&client, &w, "user", "pwd", SG_SOCKS5_CMD_CONNECT, &target), SG_OK);
    assert_int_equal(sg_wbuf_len(&w), sizeof with_login);
    assert_memory_equal(out, with_login, sizeof with_login);

    static const uint8_t without[] = {5, 1, 0, 5, 0xE8, 0, 1, 0, 0, 0, 0, 0, 0};
    target = target_of("0.0.0.0:0");
    w = sg_wbuf_init(out, sizeof out);
    assert_int_equal(sg_socks5_client_flight(&client, &w, NULL, NULL, SG_SOCKS5_CMD_CHANNEL, &target), SG_OK);
    assert_int_equal(sg_wbuf_len(&w), sizeof without);
    assert_memory_equal(out, without, sizeof without);
}

static void client_flight_limits(void **state)
{
    struct sg_socks5_client client;
    uint8_t out[SG_SOCKS5_FLIGHT_MAX];
    char text[257];
    uint8_t name[255];
    (void)state;
    memset(text, 'x', sizeof text);
    memset(name, 'n', sizeof name);
    text[255] = '\0';
    struct sg_target target = {.atyp = SG_ATYP_NAME, .name = name, .name_len = 255, .port = 1};
    struct sg_wbuf w = sg_wbuf_init(out, sizeof out);
    assert_int_equal(sg_socks5_client_flight(&client, &w, text, text, 1, &target), SG_OK);
    assert_int_equal(sg_wbuf_len(&w), SG_SOCKS5_FLIGHT_MAX);
    w = sg_wbuf_init(out, sizeof out - 1);
    assert_int_equal(sg_socks5_client_flight(&client, &w, text, text, 1, &target), SG_ERR_TOO_LONG);
    text[255] = 'x';
    text[256] = '\0';
    w = sg_wbuf_init(out, sizeof out);
    assert_int_equal(sg_socks5_client_flight(&client, &w, text, "p", 1, &target), SG_ERR_INVALID);
    assert_int_equal(sg_socks5_client_flight(&client, &w, "u", text, 1, &target), SG_ERR_INVALID);
    assert_int_equal(sg_socks5_client_flight(&client, &w, "", "p", 1, &target), SG_ERR_INVALID);
    assert_int_equal(sg_socks5_client_flight(&client, &w, "u", "", 1, &target), SG_ERR_INVALID);
    assert_int_equal(sg_socks5_client_flight(&client, &w, "u", NULL, 1, &target), SG_ERR_INVALID);
    assert_int_equal(sg_socks5_client_flight(&client, &w, NULL, "p", 1, &target), SG_ERR_INVALID);
    assert_int_equal(sg_wbuf_len(&w), 0);
}

static void start_client(struct sg_socks5_client *client, bool login)
{
    uint8_t out[SG_SOCKS5_FLIGHT_MAX];
    struct sg_wbuf w = sg_wbuf_init(out, sizeof out);
    struct sg_target target = target_of("host:80");
    assert_int_equal(
        sg_socks5_client_flight(client, &w, login ? "u" : NULL, login ? "p" : NULL, SG_SOCKS5_CMD_CONNECT, &target),
        SG_OK);
}

/* Feeds bytes in pieces of step. *at: how many were consumed in all. */
static enum sg_socks5_client_event feed_client(struct sg_socks5_client *client, const uint8_t *bytes, size_t len,
                                               size_t step, size_t *at)
{
    enum sg_socks5_client_event event = SG_SOCKS5_CLIENT_NEED_MORE;
    *at = 0;
    for (size_t end = 0; end < len && event == SG_SOCKS5_CLIENT_NEED_MORE;) {
        size_t consumed;
        end = end + step < len ? end + step : len;
        event = sg_socks5_client_input(client, bytes + *at, end - *at, &consumed);
        assert_true(consumed <= end - *at);
        *at += consumed;
    }
    return event;
}

static void client_answers_in_pieces_and_cuts(void **state)
{
    static const uint8_t answer[] = {5, 2, 1, 0, 5, 0, 0, 1, 192, 0, 2, 9, 0x05, 0xa3, 'd', 'a', 't', 'a'};
    const size_t whole = sizeof answer - 4;
    struct sg_socks5_client client;
    size_t at;
    (void)state;
    for (size_t step = 1; step <= sizeof answer; step++) {
        start_client(&client, true);
        assert_int_equal(feed_client(&client, answer, sizeof answer, step, &at), SG_SOCKS5_CLIENT_REPLY);
        assert_int_equal(at, whole);
        assert_int_equal(client.rep, 0);
        assert_int_equal(client.bound.port, 1443);
        assert_int_equal(client.bound.ip.bytes[3], 9);
    }
    for (size_t have = 0; have < whole; have++) {
        start_client(&client, true);
        assert_int_equal(feed_client(&client, answer, have, 99, &at), SG_SOCKS5_CLIENT_NEED_MORE);
        assert_int_equal(at, have < 2 ? 0 : have < 4 ? 2 : 4);
    }
}

static void client_answer_with_a_name(void **state)
{
    uint8_t answer[2 + 3 + SG_ADDR_MAX_BYTES] = {5, 0, 5, 5, 0, 3, 255};
    struct sg_socks5_client client;
    size_t at;
    (void)state;
    memset(answer + 7, 'b', 255);
    start_client(&client, false);
    assert_int_equal(feed_client(&client, answer, sizeof answer, 1, &at), SG_SOCKS5_CLIENT_REPLY);
    assert_int_equal(client.rep, SG_SOCKS5_REP_REFUSED);
    assert_ptr_equal(client.bound.name, client.name);
    assert_int_equal(client.bound.name_len, 255);
    assert_memory_equal(client.name, answer + 7, 255);
}

static void client_errors_are_exact(void **state)
{
    static const struct {
        uint8_t bytes[10];
        size_t len;
        bool login;
        enum sg_socks5_client_event event;
    } rows[] = {
        {{5, 0xff}, 2, true, SG_SOCKS5_CLIENT_METHOD_REFUSED},
        {{5, 0xff}, 2, false, SG_SOCKS5_CLIENT_METHOD_REFUSED},
        {{5, 0}, 2, true, SG_SOCKS5_CLIENT_MALFORMED}, /* the server skips the login: not offered */
        {{5, 2}, 2, false, SG_SOCKS5_CLIENT_MALFORMED},
        {{5, 0x82}, 2, true, SG_SOCKS5_CLIENT_MALFORMED},
        {{4}, 1, true, SG_SOCKS5_CLIENT_MALFORMED},
        {{'H', 'T', 'T', 'P'}, 4, true, SG_SOCKS5_CLIENT_MALFORMED},
        {{5, 2, 1, 1}, 4, true, SG_SOCKS5_CLIENT_PASSWORD_REFUSED},
        {{5, 2, 1, 0xff}, 4, true, SG_SOCKS5_CLIENT_PASSWORD_REFUSED},
        {{5, 2, 5}, 3, true, SG_SOCKS5_CLIENT_MALFORMED},
        {{5, 0, 4}, 3, false, SG_SOCKS5_CLIENT_MALFORMED},
        {{5, 0, 5, 0, 1}, 5, false, SG_SOCKS5_CLIENT_MALFORMED},
        {{5, 0, 5, 0, 0, 9}, 6, false, SG_SOCKS5_CLIENT_MALFORMED},
        {{5, 0, 5, 0, 0, 3, 0}, 7, false, SG_SOCKS5_CLIENT_MALFORMED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (size_t step = 1; step < 10; step += 8) {
            struct sg_socks5_client client;
            size_t at;
            start_client(&client, rows[i].login);
            assert_int_equal(feed_client(&client, rows[i].bytes, rows[i].len, step, &at), rows[i].event);
            size_t consumed;
            assert_int_equal(sg_socks5_client_input(&client, connect_v4, sizeof connect_v4, &consumed), rows[i].event);
            assert_int_equal(consumed, 0);
            assert_true(strlen(sg_socks5_client_text(rows[i].event)) > 0);
        }
}

static void client_carries_every_reply_code(void **state)
{
    (void)state;
    for (unsigned rep = 0; rep < 256; rep++) {
        struct sg_socks5_client client;
        const uint8_t answer[] = {5, 0, 5, (uint8_t)rep, 0, 1, 0, 0, 0, 0, 0, 0};
        size_t at;
        start_client(&client, false);
        assert_int_equal(feed_client(&client, answer, sizeof answer, 99, &at), SG_SOCKS5_CLIENT_REPLY);
        assert_int_equal(client.rep, rep);
    }
}

static void client_takes_the_second_reply_of_bind(void **state)
{
    static const uint8_t answers[] = {5, 0, 5, 0, 0, 1, 1, 2, 3, 4, 0, 1, 5, 0, 0, 1, 5, 6, 7, 8, 0, 2, 'x'};
    struct sg_socks5_client client;
    size_t at;
    size_t more;
    (void)state;
    start_client(&client, false);
    assert_int_equal(feed_client(&client, answers, sizeof answers, 99, &at), SG_SOCKS5_CLIENT_REPLY);
    assert_int_equal(client.bound.port, 1);
    sg_socks5_client_expect_second(&client);
    assert_int_equal(feed_client(&client, answers + at, sizeof answers - at, 1, &more), SG_SOCKS5_CLIENT_REPLY);
    assert_int_equal(client.bound.port, 2);
    assert_int_equal(at + more, sizeof answers - 1);
}

/* Runs a server over all of the flight; every login is accepted. Gives the last event. */
static enum sg_socks5_event serve(struct sg_socks5_server *server, const uint8_t *bytes, size_t len,
                                  struct sg_wbuf *replies)
{
    enum sg_socks5_event event;
    size_t at = 0;
    do {
        size_t consumed;
        event = sg_socks5_server_input(server, bytes + at, len - at, &consumed, replies);
        at += consumed;
        if (event == SG_SOCKS5_AUTH_NEEDED)
            event = sg_socks5_server_auth_result(server, true, replies);
    } while (event == SG_SOCKS5_SEND_REPLY);
    return event;
}

static void client_and_server_agree(void **state)
{
    (void)state;
    for (int login = 0; login < 2; login++) {
        struct sg_socks5_client client;
        struct sg_socks5_server server;
        uint8_t out[SG_SOCKS5_FLIGHT_MAX];
        uint8_t back[64];
        struct sg_wbuf w = sg_wbuf_init(out, sizeof out);
        struct sg_wbuf replies = sg_wbuf_init(back, sizeof back);
        struct sg_target target = target_of("[2001:db8::5]:5");
        const char *word = login ? "word" : NULL;
        size_t at;
        assert_int_equal(sg_socks5_client_flight(&client, &w, word, word, SG_SOCKS5_CMD_BIND, &target), SG_OK);
        sg_socks5_server_init(&server, login ? SG_SOCKS5_MAY_PASSWORD : SG_SOCKS5_MAY_NONE);
        assert_int_equal(serve(&server, out, sg_wbuf_len(&w), &replies), SG_SOCKS5_REQUEST);
        assert_int_equal(server.command, SG_SOCKS5_CMD_BIND);
        assert_true(sg_ip_equal(&server.target.ip, &target.ip));
        sg_socks5_reply_encode(&replies, 0, NULL);
        assert_int_equal(feed_client(&client, back, sg_wbuf_len(&replies), 1, &at), SG_SOCKS5_CLIENT_REPLY);
    }
}

/* --- UDP --- */

static enum sg_err decode_udp(const uint8_t *bytes, size_t len, struct sg_socks5_udp *header)
{
    uint8_t *copy = malloc(len + 1);
    assert_non_null(copy);
    if (len > 0)
        memcpy(copy + 1, bytes, len);
    enum sg_err err = sg_socks5_udp_decode(copy + 1, len, header);
    header->target.name = NULL;
    free(copy);
    return err;
}

static void udp_headers_round_trip(void **state)
{
    uint8_t name[255];
    (void)state;
    memset(name, 'n', sizeof name);
    struct sg_target targets[] = {target_of("192.0.2.1:53"),
                                  target_of("[2001:db8::1]:53"),
                                  {.atyp = SG_ATYP_NAME, .name = name, .name_len = 1, .port = 1},
                                  {.atyp = SG_ATYP_NAME, .name = name, .name_len = 255, .port = 65535}};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        uint8_t bytes[SG_SOCKS5_UDP_HEADER_MAX + 5];
        struct sg_socks5_udp header;
        struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
        sg_socks5_udp_encode_header(&w, &targets[i]);
        assert_true(sg_wbuf_ok(&w));
        size_t len = sg_wbuf_len(&w);
        assert_true(len <= SG_SOCKS5_UDP_HEADER_MAX);
        assert_memory_equal(bytes, "\0\0\0", 3);
        for (size_t data = 0; data <= 5; data += 5) { /* an empty payload is one too */
            assert_int_equal(decode_udp(bytes, len + data, &header), SG_OK);
            assert_int_equal(header.data_offset, len);
            assert_int_equal(header.target.atyp, targets[i].atyp);
            assert_int_equal(header.target.port, targets[i].port);
            assert_int_equal(header.target.name_len, targets[i].name_len);
        }
        for (size_t cut = 0; cut < len; cut++)
            assert_int_equal(decode_udp(bytes, cut, &header), SG_ERR_TRUNCATED);
    }
}

static void udp_errors_by_kind(void **state)
{
    struct sg_socks5_udp header;
    (void)state;
    for (unsigned frag = 1; frag < 256; frag++) {
        const uint8_t bytes[] = {0, 0, (uint8_t)frag, 1, 1, 2, 3, 4, 0, 53};
        assert_int_equal(decode_udp(bytes, sizeof bytes, &header), SG_ERR_UNSUPPORTED);
        assert_int_equal(header.frag, frag);
        assert_int_equal(decode_udp(bytes, 3, &header), SG_ERR_UNSUPPORTED); /* whatever follows */
    }
    assert_int_equal(decode_udp(BYTES(0, 1, 0, 1, 1, 2, 3, 4, 0, 53), &header), SG_ERR_MALFORMED);
    assert_int_equal(decode_udp(BYTES(1, 0, 9, 1, 1, 2, 3, 4, 0, 53), &header), SG_ERR_MALFORMED);
    assert_int_equal(decode_udp(BYTES(0, 0, 0, 2, 1, 2, 3, 4, 0, 53), &header), SG_ERR_MALFORMED);
    assert_int_equal(decode_udp(BYTES(0, 0, 0, 3, 0, 0, 53), &header), SG_ERR_MALFORMED);
    assert_int_equal(decode_udp(BYTES(0, 0, 0, 3, 1, 0, 0, 53), &header), SG_ERR_MALFORMED);
    assert_int_equal(header.frag, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client_flights),
        cmocka_unit_test(client_flight_limits),
        cmocka_unit_test(client_answers_in_pieces_and_cuts),
        cmocka_unit_test(client_answer_with_a_name),
        cmocka_unit_test(client_errors_are_exact),
        cmocka_unit_test(client_carries_every_reply_code),
        cmocka_unit_test(client_takes_the_second_reply_of_bind),
        cmocka_unit_test(client_and_server_agree),
        cmocka_unit_test(udp_headers_round_trip),
        cmocka_unit_test(udp_errors_by_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
