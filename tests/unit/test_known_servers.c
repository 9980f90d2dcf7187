/* Addresses of servers: the option, the lines of the file, and what is written to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/known_servers.h"

static void assert_addresses(const struct sg_ip_list *list, const char *expected)
{
    char text[SG_IP_LIST_TEXT_MAX];
    sg_ip_list_format(list, text);
    assert_string_equal(text, expected);
}

static void test_option(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        uint16_t port;
        const char *addresses;
    } cases[] = {
        {"vpn.example.org:1443:192.0.2.1", "vpn.example.org", 1443, "192.0.2.1"},
        {"h:1:192.0.2.1,192.0.2.2", "h", 1, "192.0.2.1,192.0.2.2"},
        {"h:65535:2001:db8::1", "h", 65535, "2001:db8::1"},
        {"h:1:[2001:db8::1],192.0.2.1,192.0.2.1", "h", 1, "2001:db8::1,192.0.2.1"},
    };
    static const char *const wrong[] = {"",
                                        "h",
                                        "h:1",
                                        "h:1:",
                                        "h::192.0.2.1",
                                        ":1:::1",
                                        "h:0:::1",
                                        "h:65536:::1",
                                        "h:1x:::1",
                                        "h:1:name",
                                        "h:1:1.2.3",
                                        "h:1:::1,",
                                        "h:1:,::1",
                                        "h:1:0.0.0.0",
                                        "h:1:::",
                                        "h h:1:::1",
                                        "h:1:[1.2.3.4]",
                                        "h:1:[::1",
                                        "h:1: 192.0.2.1",
                                        "[::1]:1:::1",
                                        "h:1:1.0.0.1,1.0.0.2,1.0.0.3,1.0.0.4,1.0.0.5,1.0.0.6,1.0.0.7,1.0.0.8,1.0.0.9"};
    struct sg_known_server server;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(sg_known_server_parse(cases[i].text, &server));
        assert_string_equal(server.host, cases[i].host);
        assert_int_equal(server.port, cases[i].port);
        assert_addresses(&server.addresses, cases[i].addresses);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (sg_known_server_parse(wrong[i], &server))
            fail_msg("%s was taken", wrong[i]);
}

static void test_lines(void **state)
{
    (void)state;
    static const char text[] = "a.test 1 192.0.2.1\nno line\n\na.test 2 2001:db8::1,192.0.2.2\nb.test 1";
    static struct sg_known_servers servers;
    sg_known_servers_parse(text, sizeof text - 1, &servers);
    assert_int_equal(servers.count, 2);
    assert_null(sg_known_servers_find(servers.servers, servers.count, "b.test", 1));
    assert_null(sg_known_servers_find(servers.servers, servers.count, "a.test", 3));
    const struct sg_known_server *found = sg_known_servers_find(servers.servers, servers.count, "A.Test", 2);
    assert_non_null(found);
    assert_addresses(&found->addresses, "2001:db8::1,192.0.2.2");
}

static void test_file(void **state)
{
    (void)state;
    static struct sg_known_servers servers;
    char dir[] = "/tmp/sg-known-XXXXXX", path[SG_STATE_PATH_MAX];
    struct stat st;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(setenv("STATE_DIRECTORY", dir, 1), 0);
    assert_true(sg_known_servers_open(path));
    sg_known_servers_load(path, &servers);
    assert_int_equal(servers.count, 0);
    for (unsigned i = 0; i < SG_KNOWN_SERVERS_MAX + 5; i++) {
        struct sg_known_server server;
        char text[64];
        snprintf(text, sizeof text, "h%u:1:192.0.2.%u", i % (SG_KNOWN_SERVERS_MAX + 2), i + 1);
        assert_true(sg_known_server_parse(text, &server));
        assert_int_equal(sg_known_servers_save(path, &server), SG_OK);
    }
    sg_known_servers_load(path, &servers);
    assert_int_equal(servers.count, SG_KNOWN_SERVERS_MAX);
    assert_string_equal(servers.servers[0].host, "h2");
    assert_addresses(&servers.servers[0].addresses, "192.0.2.69");
    assert_null(sg_known_servers_find(servers.servers + 1, servers.count - 1, "h2", 1));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(unlink(path), 0);
    *strrchr(path, '/') = '\0';
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_option),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
