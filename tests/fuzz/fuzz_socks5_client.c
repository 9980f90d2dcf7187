/*
 * The client's SOCKS5 machine. First byte: whether it logs in, and the size of the pieces. The rest is what a server
 * answers. In pieces, byte by byte and at once must give the same result; a reply needs the method that was offered.
 */
#include <stdbool.h>
#include <string.h>

#include "check.h"
#include "core/socks5.h"

static void start(struct sg_socks5_client *client, bool login)
{
    static const struct sg_target target = {.atyp = SG_ATYP_IPV4, .ip = {.family = 4}, .port = 1};
    uint8_t out[SG_SOCKS5_FLIGHT_MAX];
    struct sg_wbuf w = sg_wbuf_init(out, sizeof out);
    const char *text = login ? "text" : NULL;
    CHECK(sg_socks5_client_flight(client, &w, text, text, SG_SOCKS5_CMD_CONNECT, &target) == SG_OK);
}

static enum sg_socks5_client_event feed(struct sg_socks5_client *client, const uint8_t *bytes, size_t len, size_t piece,
                                        size_t *at)
{
    enum sg_socks5_client_event event = SG_SOCKS5_CLIENT_NEED_MORE;
    *at = 0;
    for (size_t end = 0; end < len && event == SG_SOCKS5_CLIENT_NEED_MORE;) {
        end = len - end > piece ? end + piece : len;
        size_t offered = end - *at;
        uint8_t *copy = malloc(offered + 1); /* exactly as long as what is offered */
        size_t consumed = SIZE_MAX;
        CHECK(copy);
        memcpy(copy + 1, bytes + *at, offered);
        event = sg_socks5_client_input(client, copy + 1, offered, &consumed);
        free(copy);
        CHECK(consumed <= offered);
        *at += consumed;
    }
    return event;
}

static void check_reply(const struct sg_socks5_client *client, bool login, const uint8_t *bytes, size_t at)
{
    size_t head = login ? 4 : 2;
    uint8_t again[3 + SG_ADDR_MAX_BYTES];
    struct sg_wbuf w = sg_wbuf_init(again, sizeof again);
    CHECK(bytes[0] == SG_SOCKS5_VERSION);
    CHECK(bytes[1] == (login ? SG_SOCKS5_METHOD_PASSWORD : SG_SOCKS5_METHOD_NONE));
    CHECK(!login || (bytes[2] == SG_SOCKS5_LOGIN_VERSION && bytes[3] == 0));
    sg_wbuf_u8(&w, SG_SOCKS5_VERSION);
    sg_wbuf_u8(&w, client->rep);
    sg_wbuf_u8(&w, 0);
    sg_target_encode(&w, &client->bound);
    CHECK(sg_wbuf_ok(&w) && head + sg_wbuf_len(&w) == at);
    CHECK(memcmp(again, bytes + head, sg_wbuf_len(&w)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sg_socks5_client whole;
    static struct sg_socks5_client pieces;
    if (size == 0)
        return 0;
    bool login = data[0] & 1;
    const uint8_t *bytes = data + 1;
    size_t len = size - 1 < 1024 ? size - 1 : 1024;
    size_t whole_at;
    start(&whole, login);
    enum sg_socks5_client_event event = feed(&whole, bytes, len, len, &whole_at);
    if (PLANTED_BUG && event == SG_SOCKS5_CLIENT_REPLY && whole.bound.atyp == SG_ATYP_IPV6)
        whole.bound.port ^= 1;
    const size_t sizes[] = {1, (size_t)1 + (data[0] >> 1)};
    for (unsigned i = 0; i < 2; i++) {
        size_t at;
        start(&pieces, login);
        CHECK(feed(&pieces, bytes, len, sizes[i], &at) == event);
        CHECK(at == whole_at);
        CHECK(pieces.state == whole.state && pieces.rep == whole.rep);
    }
    if (event == SG_SOCKS5_CLIENT_REPLY)
        check_reply(&whole, login, bytes, whole_at);
    return 0;
}
