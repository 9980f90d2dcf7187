/*
 * The server's SOCKS5 machine. First byte: policy, whether a certificate names the user, the verdict on passwords. The
 * rest is what a client sends. At once and byte by byte must give the same events and replies, and no way may lead to a
 * request but through a method that was offered and permitted, and a good verdict where it needs one.
 */
#include <stdbool.h>
#include <string.h>

#include "check.h"
#include "core/socks5.h"

struct setup {
    unsigned may;
    bool user_known;
    bool verdict;
};

struct run {
    struct sg_socks5_server server;
    char events[16];
    size_t event_count;
    uint8_t replies[64];
    struct sg_wbuf w;
    size_t at;         /* consumed in all */
    size_t last_start; /* where the last message began */
    bool asked;
};

/* What a caller may hand over: until TLS could start, no more than the greeting. */
static size_t limit_of(const struct run *run, const uint8_t *bytes, size_t len)
{
    size_t greeting = len >= 2 ? (size_t)2 + bytes[1] : len;
    return run->server.state == SG_SOCKS5_AT_GREETING && greeting < len ? greeting : len;
}

/* bytes: the whole input; the spans lie in a copy of a part of it. */
static void answer_login(struct run *run, const struct setup *setup, const uint8_t *bytes, enum sg_socks5_event *event)
{
    const struct sg_socks5_server *server = &run->server;
    size_t lengths = (size_t)server->user_len + server->password_len;
    CHECK(server->user_len > 0 && server->password_len > 0);
    const uint8_t *login = bytes + run->last_start;
    CHECK(memcmp(server->user, login + 2, server->user_len) == 0);
    CHECK(memcmp(server->password, login + 3 + server->user_len, server->password_len) == 0);
    CHECK(run->at - run->last_start == lengths + 3);
    run->asked = true;
    *event = sg_socks5_server_auth_result(&run->server, setup->verdict, &run->w);
}

/* One call of the machine over a copy of exactly what bytes has from run->at to end. */
static enum sg_socks5_event step(struct run *run, const struct setup *setup, const uint8_t *bytes, size_t end)
{
    size_t len = end - run->at;
    uint8_t *copy = malloc(len + 1);
    CHECK(copy);
    if (len > 0)
        memcpy(copy + 1, bytes + run->at, len);
    size_t consumed = SIZE_MAX;
    enum sg_socks5_event event = sg_socks5_server_input(&run->server, copy + 1, len, &consumed, &run->w);
    CHECK(consumed <= len);
    if (PLANTED_BUG && event == SG_SOCKS5_REQUEST && run->server.target.atyp == SG_ATYP_NAME)
        consumed--;
    CHECK(event != SG_SOCKS5_NEED_MORE || consumed == 0);
    run->last_start = run->at;
    run->at += consumed;
    run->events[run->event_count++] = (char)('0' + event);
    if (event == SG_SOCKS5_AUTH_NEEDED)
        answer_login(run, setup, bytes, &event);
    if (event == SG_SOCKS5_UPGRADE_TLS) {
        bool started = sg_socks5_server_tls_started(&run->server, setup->user_known) == SG_OK;
        event = started ? SG_SOCKS5_SEND_REPLY : SG_SOCKS5_FAILED;
    }
    if (event == SG_SOCKS5_NEED_MORE)
        run->event_count--;
    free(copy);
    return event;
}

static enum sg_socks5_event feed(struct run *run, const struct setup *setup, const uint8_t *bytes, size_t len,
                                 size_t piece)
{
    enum sg_socks5_event event = SG_SOCKS5_NEED_MORE;
    memset(run, 0, sizeof *run);
    run->w = sg_wbuf_init(run->replies, sizeof run->replies);
    sg_socks5_server_init(&run->server, setup->may);
    for (size_t end = 0; end < len && (event == SG_SOCKS5_NEED_MORE);) {
        end = len - end > piece ? end + piece : len;
        do {
            size_t limit = limit_of(run, bytes, end);
            event = step(run, setup, bytes, limit);
        } while (event == SG_SOCKS5_SEND_REPLY);
    }
    CHECK(sg_wbuf_ok(&run->w));
    return event;
}

static void check_request(const struct run *run, const struct setup *setup, const uint8_t *bytes)
{
    static const struct {
        uint8_t method;
        unsigned may;
    } methods[] = {{0x00, SG_SOCKS5_MAY_NONE},
                   {0x02, SG_SOCKS5_MAY_PASSWORD},
                   {0x80, SG_SOCKS5_MAY_TLS_NONE},
                   {0x82, SG_SOCKS5_MAY_TLS_PASSWORD}};
    const struct sg_socks5_server *server = &run->server;
    bool permitted = false;
    for (size_t i = 0; i < 4; i++)
        permitted |= methods[i].method == server->method && (setup->may & methods[i].may) != 0;
    CHECK(permitted);
    CHECK(memchr(bytes + 2, server->method, bytes[1]));
    CHECK((server->method & 0x02) == 0 || (run->asked && setup->verdict));
    CHECK(server->method != 0x80 || setup->user_known);

    uint8_t again[SG_SOCKS5_REQUEST_MAX];
    struct sg_wbuf w = sg_wbuf_init(again, sizeof again);
    sg_wbuf_u8(&w, SG_SOCKS5_VERSION);
    sg_wbuf_u8(&w, server->command);
    sg_wbuf_u8(&w, 0);
    sg_target_encode(&w, &server->target);
    CHECK(sg_wbuf_ok(&w) && sg_wbuf_len(&w) == run->at - run->last_start);
    CHECK(memcmp(again, bytes + run->last_start, sg_wbuf_len(&w)) == 0);
}

/* Everything in the buffer at once: TLS is only started with nothing behind the greeting. */
static void check_unlimited(const struct setup *setup, const uint8_t *bytes, size_t len)
{
    struct sg_socks5_server server;
    uint8_t replies[SG_SOCKS5_REPLY_MAX];
    struct sg_wbuf w = sg_wbuf_init(replies, sizeof replies);
    size_t consumed;
    sg_socks5_server_init(&server, setup->may);
    if (sg_socks5_server_input(&server, bytes, len, &consumed, &w) == SG_SOCKS5_UPGRADE_TLS)
        CHECK(consumed == len);
    CHECK(sg_wbuf_ok(&w));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run whole;
    static struct run bytewise;
    if (size == 0)
        return 0;
    struct setup setup = {.may = data[0] & 15, .user_known = data[0] & 16, .verdict = data[0] & 32};
    const uint8_t *bytes = data + 1;
    size_t len = size - 1 < 2048 ? size - 1 : 2048;
    enum sg_socks5_event a = feed(&whole, &setup, bytes, len, len);
    enum sg_socks5_event b = feed(&bytewise, &setup, bytes, len, 1);
    CHECK(a == b);
    CHECK(whole.at == bytewise.at);
    CHECK(whole.event_count == bytewise.event_count);
    CHECK(memcmp(whole.events, bytewise.events, whole.event_count) == 0);
    CHECK(sg_wbuf_len(&whole.w) == sg_wbuf_len(&bytewise.w));
    CHECK(memcmp(whole.replies, bytewise.replies, sg_wbuf_len(&whole.w)) == 0);
    CHECK(a != SG_SOCKS5_FAILED || whole.server.reason != SG_REASON_NONE);
    if (a == SG_SOCKS5_REQUEST)
        check_request(&whole, &setup, bytes);
    check_unlimited(&setup, bytes, len);
    return 0;
}
