/* SOCKS5: reply codes, and the server's machine whole, byte by byte and cut at every place. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/socks5.h"

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

/* A server, what it got, and what it wrote. */
struct rig {
    struct sg_socks5_server server;
    uint8_t reply[64];
    struct sg_wbuf w;
    size_t consumed;
};

static void start(struct rig *rig, unsigned may)
{
    memset(rig, 0, sizeof *rig);
    rig->w = sg_wbuf_init(rig->reply, sizeof rig->reply);
    sg_socks5_server_init(&rig->server, may);
}

/* Offers a heap copy of exactly len bytes, so that a sanitizer sees a byte too far. */
static enum sg_socks5_event offer(struct rig *rig, const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    assert_non_null(copy);
    if (len > 0)
        memcpy(copy + 1, bytes, len);
    rig->w = sg_wbuf_init(rig->reply, sizeof rig->reply);
    enum sg_socks5_event event = sg_socks5_server_input(&rig->server, copy + 1, len, &rig->consumed, &rig->w);
    if (event == SG_SOCKS5_AUTH_NEEDED) { /* keep the spans valid: they lie in what was offered */
        rig->server.user = bytes + (rig->server.user - (copy + 1));
        rig->server.password = bytes + (rig->server.password - (copy + 1));
    }
    free(copy);
    assert_true(sg_wbuf_ok(&rig->w));
    assert_true(rig->consumed <= len);
    return event;
}

static void wrote(const struct rig *rig, const uint8_t *bytes, size_t len)
{
    assert_int_equal(sg_wbuf_len(&rig->w), len);
    assert_memory_equal(rig->reply, bytes, len);
}

static enum sg_socks5_event verdict(struct rig *rig, bool ok)
{
    rig->w = sg_wbuf_init(rig->reply, sizeof rig->reply);
    return sg_socks5_server_auth_result(&rig->server, ok, &rig->w);
}

static const uint8_t connect_v4[] = {5, 1, 0, 1, 192, 0, 2, 1, 0, 80};

/* --- reply codes --- */

static void replies_have_names(void **state)
{
    (void)state;
    for (unsigned rep = 0; rep < 256; rep++) {
        bool known = rep <= 8;
        assert_int_equal(strcmp(sg_socks5_rep_name(rep), "unknown") != 0, known);
        assert_int_equal(strcmp(sg_socks5_rep_text(rep), "unknown reply code") != 0, known);
    }
    assert_string_equal(sg_socks5_rep_name(SG_SOCKS5_REP_NO_ROUTE), "no_route");
    assert_string_equal(sg_socks5_rep_text(SG_SOCKS5_REP_REFUSED), "connection refused");
}

static void replies_of_errno(void **state)
{
    static const struct {
        int error;
        uint8_t rep;
    } rows[] = {
        {0, 0},
        {ECONNREFUSED, 5},
        {ETIMEDOUT, 6},
        {ENETUNREACH, 3},
        {ENETDOWN, 3}, /* as the RFC says */
        {EHOSTUNREACH, 4},
        {EHOSTDOWN, 4},
        {EACCES, 2},
        {EPERM, 2},
        {EAFNOSUPPORT, 8}, /* or near it */
        {EADDRNOTAVAIL, 3},
        {EMFILE, 1},
        {ECONNRESET, 1},
        {EINVAL, 1},
        {-1, 1}, /* the rest */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(sg_socks5_rep_of_errno(rows[i].error), rows[i].rep);
}

static void replies_of_reasons(void **state)
{
    (void)state;
    assert_int_equal(sg_socks5_rep_of_reason(SG_REASON_RESOLVE_FAILED), 4);
    assert_int_equal(sg_socks5_rep_of_reason(SG_REASON_UNREACHABLE), 3);
    assert_int_equal(sg_socks5_rep_of_reason(SG_REASON_REFUSED), 5);
    assert_int_equal(sg_socks5_rep_of_reason(SG_REASON_TIMEOUT), 6);
    assert_int_equal(sg_socks5_rep_of_reason(SG_REASON_POLICY), 2);
    assert_int_equal(sg_socks5_rep_of_reason(SG_REASON_NOT_OFFERED), 7);
    assert_int_equal(sg_socks5_rep_of_reason(SG_REASON_LIMIT), 1);
    assert_int_equal(sg_socks5_rep_of_reason(9999), 1);
}

static void reply_encoding(void **state)
{
    (void)state;
    uint8_t bytes[SG_SOCKS5_REPLY_MAX];
    struct sg_endpoint ep = {.port = 0x1234};
    assert_int_equal(sg_ip_parse("192.0.2.1", &ep.ip), SG_OK);
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_socks5_reply_encode(&w, SG_SOCKS5_REP_SUCCEEDED, &ep);
    static const uint8_t v4[] = {5, 0, 0, 1, 192, 0, 2, 1, 0x12, 0x34};
    assert_int_equal(sg_wbuf_len(&w), sizeof v4);
    assert_memory_equal(bytes, v4, sizeof v4);

    w = sg_wbuf_init(bytes, sizeof bytes);
    sg_socks5_reply_encode(&w, SG_SOCKS5_REP_COMMAND, NULL);
    static const uint8_t none[] = {5, 7, 0, 1, 0, 0, 0, 0, 0, 0};
    assert_int_equal(sg_wbuf_len(&w), sizeof none);
    assert_memory_equal(bytes, none, sizeof none);

    assert_int_equal(sg_ip_parse("2001:db8::1", &ep.ip), SG_OK);
    w = sg_wbuf_init(bytes, sizeof bytes);
    sg_socks5_reply_encode(&w, 0, &ep);
    assert_true(sg_wbuf_ok(&w));
    assert_int_equal(sg_wbuf_len(&w), SG_SOCKS5_REPLY_MAX);
}

/* --- server: methods --- */

/* The method that RFC and policy give for a mask and an offer: by the order of preference. */
static uint8_t best_method(unsigned may, unsigned offered)
{
    if (may & offered & SG_SOCKS5_MAY_TLS_PASSWORD)
        return 0x82;
    if (may & offered & SG_SOCKS5_MAY_TLS_NONE)
        return 0x80;
    if (may & offered & SG_SOCKS5_MAY_NONE)
        return 0x00;
    if (may & offered & SG_SOCKS5_MAY_PASSWORD)
        return 0x02;
    return 0xff;
}

static void every_policy_against_every_offer(void **state)
{
    static const uint8_t codes[4] = {0x00, 0x02, 0x80, 0x82};
    (void)state;
    for (unsigned may = 0; may < 16; may++)
        for (unsigned offered = 0; offered < 16; offered++) {
            struct rig rig;
            uint8_t greeting[16] = {5, 0, 0x01, 0x7f}; /* GSSAPI and an unknown one are always offered */
            size_t len = 4;
            for (unsigned i = 0; i < 4; i++)
                if (offered & 1u << i)
                    greeting[len++] = codes[i];
            greeting[1] = (uint8_t)(len - 2);
            uint8_t want = best_method(may, offered);
            start(&rig, may);
            enum sg_socks5_event event = offer(&rig, greeting, len);
            wrote(&rig, BYTES(5, want));
            assert_int_equal(event, want == 0xff  ? SG_SOCKS5_FAILED
                                    : want & 0x80 ? SG_SOCKS5_UPGRADE_TLS
                                                  : SG_SOCKS5_SEND_REPLY);
            assert_int_equal(rig.consumed, want == 0xff ? 0 : len);
            assert_int_equal(rig.server.method, want);
            if (want == 0xff)
                assert_int_equal(rig.server.reason, SG_REASON_NOT_OFFERED);
        }
}

static void greeting_without_methods(void **state)
{
    struct rig rig;
    (void)state;
    start(&rig, 15);
    assert_int_equal(offer(&rig, BYTES(5, 0)), SG_SOCKS5_FAILED);
    wrote(&rig, BYTES(5, 0xff));
}

static void greeting_with_255_methods(void **state)
{
    struct rig rig;
    uint8_t greeting[SG_SOCKS5_GREETING_MAX];
    (void)state;
    memset(greeting, 0x7f, sizeof greeting);
    greeting[0] = 5;
    greeting[1] = 255;
    greeting[256] = 2;
    start(&rig, SG_SOCKS5_MAY_PASSWORD);
    for (size_t len = 0; len < sizeof greeting; len++) {
        assert_int_equal(offer(&rig, greeting, len), SG_SOCKS5_NEED_MORE);
        assert_int_equal(rig.consumed, 0);
    }
    assert_int_equal(offer(&rig, greeting, sizeof greeting), SG_SOCKS5_SEND_REPLY);
    wrote(&rig, BYTES(5, 2));
}

static void wrong_version_is_refused_at_its_first_byte(void **state)
{
    struct rig rig;
    (void)state;
    for (unsigned version = 0; version < 256; version++) {
        uint8_t byte = (uint8_t)version;
        start(&rig, 15);
        enum sg_socks5_event event = offer(&rig, &byte, 1);
        assert_int_equal(event, version == 5 ? SG_SOCKS5_NEED_MORE : SG_SOCKS5_FAILED);
        if (version != 5) {
            assert_int_equal(rig.server.reason, SG_REASON_PROTOCOL);
            assert_int_equal(sg_wbuf_len(&rig.w), 0);
        }
    }
}

/* --- server: login --- */

static void to_login(struct rig *rig)
{
    start(rig, SG_SOCKS5_MAY_PASSWORD);
    assert_int_equal(offer(rig, BYTES(5, 1, 2)), SG_SOCKS5_SEND_REPLY);
}

static void login_of_every_length(void **state)
{
    static const unsigned lengths[] = {1, 2, 254, 255};
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        struct rig rig;
        unsigned user_len = lengths[i / 4];
        unsigned password_len = lengths[i % 4];
        uint8_t bytes[SG_SOCKS5_LOGIN_MAX] = {1, (uint8_t)user_len};
        memset(bytes + 2, 'u', user_len);
        bytes[2 + user_len] = (uint8_t)password_len;
        memset(bytes + 3 + user_len, 'p', password_len);
        size_t len = 3 + user_len + password_len;
        to_login(&rig);
        for (size_t cut = 0; cut < len; cut++) {
            assert_int_equal(offer(&rig, bytes, cut), SG_SOCKS5_NEED_MORE);
            assert_int_equal(rig.consumed, 0);
        }
        assert_int_equal(offer(&rig, bytes, len), SG_SOCKS5_AUTH_NEEDED);
        assert_int_equal(rig.consumed, len);
        assert_int_equal(sg_wbuf_len(&rig.w), 0);
        assert_ptr_equal(rig.server.user, bytes + 2);
        assert_ptr_equal(rig.server.password, bytes + 3 + user_len);
        assert_int_equal(rig.server.user_len, user_len);
        assert_int_equal(rig.server.password_len, password_len);
    }
}

static void login_that_is_none(void **state)
{
    struct rig rig;
    (void)state;
    to_login(&rig);
    assert_int_equal(offer(&rig, BYTES(5)), SG_SOCKS5_FAILED); /* a request instead */
    wrote(&rig, BYTES(1, 1));
    assert_int_equal(rig.server.reason, SG_REASON_PROTOCOL);
    to_login(&rig);
    assert_int_equal(offer(&rig, BYTES(1, 0)), SG_SOCKS5_FAILED); /* no user */
    wrote(&rig, BYTES(1, 1));
    to_login(&rig);
    assert_int_equal(offer(&rig, BYTES(1, 1, 'u', 0)), SG_SOCKS5_FAILED); /* no password */
    wrote(&rig, BYTES(1, 1));
}

static void refused_login_ends_it(void **state)
{
    struct rig rig;
    (void)state;
    to_login(&rig);
    assert_int_equal(offer(&rig, BYTES(1, 1, 'u', 1, 'p')), SG_SOCKS5_AUTH_NEEDED);
    assert_int_equal(verdict(&rig, false), SG_SOCKS5_FAILED);
    wrote(&rig, BYTES(1, 1));
    assert_int_equal(rig.server.reason, SG_REASON_UNAUTHORIZED);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_FAILED);
    assert_int_equal(rig.consumed, 0);
    assert_int_equal(sg_wbuf_len(&rig.w), 0);
}

static void no_request_before_the_verdict(void **state)
{
    struct rig rig;
    (void)state;
    to_login(&rig);
    assert_int_equal(offer(&rig, BYTES(1, 1, 'u', 1, 'p')), SG_SOCKS5_AUTH_NEEDED);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_NEED_MORE);
        assert_int_equal(rig.consumed, 0);
    }
    assert_int_equal(verdict(&rig, true), SG_SOCKS5_SEND_REPLY);
    wrote(&rig, BYTES(1, 0));
    assert_null(rig.server.password);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_REQUEST);
}

static void no_request_in_place_of_greeting_or_login(void **state)
{
    struct rig rig;
    (void)state;
    start(&rig, SG_SOCKS5_MAY_PASSWORD);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_FAILED); /* a greeting with method 0 */
    wrote(&rig, BYTES(5, 0xff));
    to_login(&rig);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_FAILED);
}

/* --- server: request --- */

static void to_request(struct rig *rig)
{
    start(rig, SG_SOCKS5_MAY_NONE);
    assert_int_equal(offer(rig, BYTES(5, 1, 0)), SG_SOCKS5_SEND_REPLY);
}

static void requests_of_each_address_type(void **state)
{
    static const uint8_t v6[] = {5, 2, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff};
    uint8_t named[SG_SOCKS5_REQUEST_MAX] = {5, 0xE8, 0, 3, 255};
    struct rig rig;
    char text[SG_TARGET_TEXT_MAX];
    (void)state;
    to_request(&rig);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_REQUEST);
    assert_int_equal(rig.server.command, SG_SOCKS5_CMD_CONNECT);
    sg_target_format(&rig.server.target, text);
    assert_string_equal(text, "192.0.2.1:80");

    to_request(&rig);
    assert_int_equal(offer(&rig, v6, sizeof v6), SG_SOCKS5_REQUEST);
    assert_int_equal(rig.server.command, SG_SOCKS5_CMD_BIND);
    sg_target_format(&rig.server.target, text);
    assert_string_equal(text, "[2001:db8::1]:65535");

    memset(named + 5, 'n', 255);
    to_request(&rig);
    for (size_t cut = 0; cut < sizeof named; cut++)
        assert_int_equal(offer(&rig, named, cut), SG_SOCKS5_NEED_MORE);
    assert_int_equal(offer(&rig, named, sizeof named), SG_SOCKS5_REQUEST);
    assert_int_equal(rig.server.command, SG_SOCKS5_CMD_CHANNEL);
    assert_ptr_equal(rig.server.target.name, rig.server.name); /* a copy: the input may go */
    assert_int_equal(rig.server.target.name_len, 255);
    assert_memory_equal(rig.server.name, named + 5, 255);
}

static void every_command_byte_reaches_the_caller(void **state)
{
    (void)state;
    for (unsigned command = 0; command < 256; command++) {
        struct rig rig;
        uint8_t bytes[sizeof connect_v4];
        memcpy(bytes, connect_v4, sizeof bytes);
        bytes[1] = (uint8_t)command;
        to_request(&rig);
        assert_int_equal(offer(&rig, bytes, sizeof bytes), SG_SOCKS5_REQUEST);
        assert_int_equal(rig.server.command, command);
    }
}

static void malformed_requests(void **state)
{
    static const struct {
        uint8_t bytes[8];
        size_t len;
        uint8_t rep;
    } rows[] = {
        {{4}, 1, 1},          /* version */
        {{5, 1, 1}, 3, 1},    /* RSV */
        {{5, 1, 0, 2}, 4, 8}, /* address type */
        {{5, 1, 0, 0}, 4, 8},
        {{5, 9, 0, 0xff}, 4, 8},
        {{5, 1, 0, 3, 0}, 5, 1},           /* empty name */
        {{5, 1, 0, 3, 1, 0, 0, 80}, 8, 1}, /* NUL in the name */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig rig;
        to_request(&rig);
        assert_int_equal(offer(&rig, rows[i].bytes, rows[i].len), SG_SOCKS5_FAILED);
        wrote(&rig, BYTES(5, rows[i].rep, 0, 1, 0, 0, 0, 0, 0, 0));
        assert_int_equal(rig.server.reason, SG_REASON_PROTOCOL);
    }
}

static void nothing_after_the_request(void **state)
{
    struct rig rig;
    (void)state;
    to_request(&rig);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_REQUEST);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_FAILED);
    assert_int_equal(sg_wbuf_len(&rig.w), 0);
}

/* --- server: whole flights --- */

/* greeting, login, request, and what follows it */
static const uint8_t flight[] = "\5\3\0\2\1"
                                "\1\4user\3pwd"
                                "\5\1\0\3\4host\0P"
                                "data";
enum { FLIGHT_ALL = sizeof flight - 1, FLIGHT_LEN = FLIGHT_ALL - 4 };

/* Feeds have bytes of the flight in pieces of step; the events as letters, what was consumed in *at. */
static void run_flight(size_t have, size_t step, char *events, size_t *at)
{
    struct rig rig;
    size_t end = 0;
    size_t n = 0;
    *at = 0;
    start(&rig, SG_SOCKS5_MAY_PASSWORD);
    enum sg_socks5_event event = SG_SOCKS5_NEED_MORE;
    while (end < have && event != SG_SOCKS5_REQUEST) {
        end = end + step < have ? end + step : have;
        do {
            event = offer(&rig, flight + *at, end - *at);
            *at += rig.consumed;
            if (event == SG_SOCKS5_AUTH_NEEDED) {
                assert_memory_equal(rig.server.user, "user", rig.server.user_len);
                assert_memory_equal(rig.server.password, "pwd", rig.server.password_len);
                events[n++] = 'A';
                event = verdict(&rig, true);
            }
            if (event == SG_SOCKS5_SEND_REPLY)
                events[n++] = 'S';
            else if (event == SG_SOCKS5_REQUEST)
                events[n++] = 'R';
            else if (event == SG_SOCKS5_FAILED)
                events[n++] = 'F';
        } while (event == SG_SOCKS5_SEND_REPLY);
    }
    events[n] = '\0';
    if (event == SG_SOCKS5_REQUEST) {
        assert_int_equal(rig.server.target.port, 80);
        assert_memory_equal(rig.server.target.name, "host", 4);
    }
}

static void one_flight_in_pieces_of_every_size(void **state)
{
    (void)state;
    for (size_t step = 1; step <= FLIGHT_ALL; step++) {
        char events[64];
        size_t at;
        run_flight(FLIGHT_ALL, step, events, &at);
        assert_string_equal(events, "SASR");
        assert_int_equal(at, FLIGHT_LEN); /* data stays in the caller's buffer */
    }
}

static void one_flight_cut_at_every_place(void **state)
{
    (void)state;
    for (size_t have = 0; have <= FLIGHT_LEN; have++) {
        char events[64];
        size_t at;
        run_flight(have, FLIGHT_ALL, events, &at);
        assert_string_equal(events, have < 5 ? "" : have < 15 ? "S" : have < FLIGHT_LEN ? "SAS" : "SASR");
        assert_int_equal(at, have < 5 ? 0 : have < 15 ? 5 : have < FLIGHT_LEN ? 15 : FLIGHT_LEN);
    }
}

/* --- server: in-band TLS --- */

static void tls_with_password(void **state)
{
    struct rig rig;
    (void)state;
    start(&rig, SG_SOCKS5_MAY_TLS_PASSWORD | SG_SOCKS5_MAY_PASSWORD);
    assert_int_equal(offer(&rig, BYTES(5, 2, 2, 0x82)), SG_SOCKS5_UPGRADE_TLS);
    wrote(&rig, BYTES(5, 0x82));
    assert_int_equal(sg_socks5_server_tls_started(&rig.server, false), SG_OK);
    assert_int_equal(offer(&rig, BYTES(5, 1, 0)), SG_SOCKS5_FAILED); /* no second greeting */

    start(&rig, SG_SOCKS5_MAY_TLS_PASSWORD);
    assert_int_equal(offer(&rig, BYTES(5, 1, 0x82)), SG_SOCKS5_UPGRADE_TLS);
    assert_int_equal(sg_socks5_server_tls_started(&rig.server, true), SG_OK);
    assert_int_equal(offer(&rig, BYTES(1, 1, 'u', 1, 'p')), SG_SOCKS5_AUTH_NEEDED);
    assert_int_equal(verdict(&rig, true), SG_SOCKS5_SEND_REPLY);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_REQUEST);
}

static void tls_with_certificate(void **state)
{
    struct rig rig;
    (void)state;
    start(&rig, SG_SOCKS5_MAY_TLS_NONE);
    assert_int_equal(offer(&rig, BYTES(5, 1, 0x80)), SG_SOCKS5_UPGRADE_TLS);
    wrote(&rig, BYTES(5, 0x80));
    assert_int_equal(sg_socks5_server_tls_started(&rig.server, true), SG_OK);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_REQUEST);

    start(&rig, SG_SOCKS5_MAY_TLS_NONE);
    assert_int_equal(offer(&rig, BYTES(5, 1, 0x80)), SG_SOCKS5_UPGRADE_TLS);
    assert_int_equal(sg_socks5_server_tls_started(&rig.server, false), SG_ERR_DENIED);
    assert_int_equal(rig.server.reason, SG_REASON_UNAUTHORIZED);
    assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_FAILED);
}

static void clear_text_before_tls_is_refused(void **state)
{
    static const uint8_t methods[2] = {0x80, 0x82};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig rig;
        start(&rig, 15);
        assert_int_equal(offer(&rig, BYTES(5, 1, methods[i], 0x16)), SG_SOCKS5_FAILED);
        assert_int_equal(rig.server.reason, SG_REASON_PROTOCOL);
        assert_int_equal(sg_wbuf_len(&rig.w), 0);

        start(&rig, 15); /* and input in the clear after the method was chosen */
        assert_int_equal(offer(&rig, BYTES(5, 1, methods[i])), SG_SOCKS5_UPGRADE_TLS);
        assert_int_equal(offer(&rig, connect_v4, sizeof connect_v4), SG_SOCKS5_FAILED);
    }
}

/* Every short string over the bytes that mean something: no request without login, never a byte too far. */
static void no_short_input_skips_the_login(void **state)
{
    static const uint8_t alphabet[] = {0, 1, 2, 3, 5, 0x80, 0x82};
    enum { DEPTH = 6, COUNT = sizeof alphabet };
    (void)state;
    unsigned total = 1;
    for (int i = 0; i < DEPTH; i++)
        total *= COUNT;
    for (unsigned code = 0; code < total; code++) {
        struct rig rig;
        uint8_t bytes[DEPTH + sizeof connect_v4];
        unsigned rest = code;
        for (int i = 0; i < DEPTH; i++, rest /= COUNT)
            bytes[i] = alphabet[rest % COUNT];
        memcpy(bytes + DEPTH, connect_v4, sizeof connect_v4);
        size_t at = 0;
        enum sg_socks5_event event;
        start(&rig, SG_SOCKS5_MAY_PASSWORD | SG_SOCKS5_MAY_TLS_PASSWORD | SG_SOCKS5_MAY_TLS_NONE);
        do {
            rig.w = sg_wbuf_init(rig.reply, sizeof rig.reply);
            event = sg_socks5_server_input(&rig.server, bytes + at, sizeof bytes - at, &rig.consumed, &rig.w);
            at += rig.consumed;
        } while (event == SG_SOCKS5_SEND_REPLY);
        assert_int_not_equal(event, SG_SOCKS5_REQUEST);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_have_names),
        cmocka_unit_test(replies_of_errno),
        cmocka_unit_test(replies_of_reasons),
        cmocka_unit_test(reply_encoding),
        cmocka_unit_test(every_policy_against_every_offer),
        cmocka_unit_test(greeting_without_methods),
        cmocka_unit_test(greeting_with_255_methods),
        cmocka_unit_test(wrong_version_is_refused_at_its_first_byte),
        cmocka_unit_test(login_of_every_length),
        cmocka_unit_test(login_that_is_none),
        cmocka_unit_test(refused_login_ends_it),
        cmocka_unit_test(no_request_before_the_verdict),
        cmocka_unit_test(no_request_in_place_of_greeting_or_login),
        cmocka_unit_test(requests_of_each_address_type),
        cmocka_unit_test(every_command_byte_reaches_the_caller),
        cmocka_unit_test(malformed_requests),
        cmocka_unit_test(nothing_after_the_request),
        cmocka_unit_test(one_flight_in_pieces_of_every_size),
        cmocka_unit_test(one_flight_cut_at_every_place),
        cmocka_unit_test(tls_with_password),
        cmocka_unit_test(tls_with_certificate),
        cmocka_unit_test(clear_text_before_tls_is_refused),
        cmocka_unit_test(no_short_input_skips_the_login),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
