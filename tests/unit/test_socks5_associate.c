/* What a UDP ASSOCIATE says of the client's port, and what stands for nothing in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/socks5.h"

/* A request with an empty name, to a server that asks for no login: what it makes of the first len bytes. */
static enum sg_socks5_event request(struct sg_socks5_server *server, uint8_t command, size_t len)
{
    const uint8_t greeting[] = {5, 1, 0}, bytes[] = {5, command, 0, 3, 0, 0, 53};
    uint8_t reply[SG_SOCKS5_REPLY_MAX];
    struct sg_wbuf w = sg_wbuf_init(reply, sizeof reply);
    size_t consumed = 0;
    sg_socks5_server_init(server, SG_SOCKS5_MAY_NONE);
    assert_int_equal(sg_socks5_server_input(server, greeting, sizeof greeting, &consumed, &w), SG_SOCKS5_SEND_REPLY);
    w = sg_wbuf_init(reply, sizeof reply);
    return sg_socks5_server_input(server, bytes, len, &consumed, &w);
}

static void an_empty_name_stands_only_in_an_associate(void **state)
{
    struct sg_socks5_server server;
    (void)state;
    for (size_t cut = 0; cut < 7; cut++)
        assert_int_equal(request(&server, SG_SOCKS5_CMD_UDP_ASSOCIATE, cut), SG_SOCKS5_NEED_MORE);
    assert_int_equal(request(&server, SG_SOCKS5_CMD_UDP_ASSOCIATE, 7), SG_SOCKS5_REQUEST);
    assert_int_equal(server.target.atyp, SG_ATYP_NAME);
    assert_int_equal(server.target.name_len, 0);
    assert_int_equal(server.target.port, 53);
    assert_int_equal(request(&server, SG_SOCKS5_CMD_CONNECT, 7), SG_SOCKS5_FAILED);
    assert_int_equal(request(&server, SG_SOCKS5_CMD_BIND, 7), SG_SOCKS5_FAILED);
}

static void a_port_is_promised_with_the_own_address_alone(void **state)
{
    static const struct {
        const char *dst, *client;
        uint16_t promised;
    } rows[] = {
        {"0.0.0.0:9", "192.0.2.1", 9},
        {"[::]:9", "192.0.2.1", 9},
        {"192.0.2.1:9", "192.0.2.1", 9},
        {"[::ffff:192.0.2.1]:9", "192.0.2.1", 9},
        {"192.0.2.1:9", "::ffff:192.0.2.1", 9},
        {"[2001:db8::1]:9", "2001:db8::1", 9},
        {"192.0.2.2:9", "192.0.2.1", 0},
        {"[2001:db8::1]:9", "192.0.2.1", 0},
        {"8.8.8.8:53", "192.0.2.1", 0},
        {"example.org:443", "192.0.2.1", 0},
        {"127.0.0.1:9", "::1", 0},
        {"[2001:db8::2]:9", "2001:db8::1", 0},
        {"0.0.0.0:0", "192.0.2.1", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sg_target dst;
        struct sg_ip client;
        assert_int_equal(sg_target_parse(rows[i].dst, true, &dst), SG_OK);
        assert_int_equal(sg_ip_parse(rows[i].client, &client), SG_OK);
        assert_int_equal(sg_socks5_promised_port(&dst, &client), rows[i].promised);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_name_stands_only_in_an_associate),
        cmocka_unit_test(a_port_is_promised_with_the_own_address_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
