/* TLS contexts of both roles against each other: who is believed, and what is agreed. */
#include "net/tls_client_cert.h"
#include "tls_pair.h"

static void expect_refused(SSL_CTX *client, SSL_CTX *server, const char *host, const char *text)
{
    struct pair pair;
    join(&pair, client, server, host);
    assert_false(pair.client.connected);
    assert_true(pair.client.ended);
    assert_true(pair.client.final);
    assert_string_equal(pair.client.text, text);
    assert_false(pair.server.connected);
    part(&pair);
}

static void expect_accepted(SSL_CTX *client, SSL_CTX *server, const char *host)
{
    struct pair pair;
    join(&pair, client, server, host);
    assert_string_equal(pair.client.text, "");
    assert_true(pair.client.connected && pair.server.connected);
    assert_int_equal(sg_tls_alpn(pair.client.bev), SG_TLS_ALPN_SEALGRAM);
    assert_int_equal(sg_tls_alpn(pair.server.bev), SG_TLS_ALPN_SEALGRAM);
    part(&pair);
}

static void test_pin(void **state)
{
    (void)state;
    expect_accepted(pinned_ctx("self"), server_ctx("self", NULL), "some.other.name");
    expect_accepted(pinned_ctx("expired"), server_ctx("expired", NULL), "192.0.2.7");
    expect_refused(
        pinned_ctx("self"), server_ctx("good", NULL), "server.test",
        "server's key does not match the pin in the invite: if the server was made anew, ask whoever runs it for "
        "a new invite; if it was not, somebody stands between you and it");
}

static void test_ca(void **state)
{
    (void)state;
    char ca[128];
    snprintf(ca, sizeof ca, "%s/ca.crt", folder);
    struct sg_tls_client_options options = {.ca_file = ca};
    expect_accepted(client_ctx(&options), server_ctx("good", NULL), "server.test");
    expect_accepted(client_ctx(&options), server_ctx("good", NULL), "127.0.0.1");
    expect_refused(client_ctx(&options), server_ctx("good", NULL), "other.test",
                   "server's certificate is for another name than the invite's");
    expect_refused(client_ctx(&options), server_ctx("good", NULL), "127.0.0.2",
                   "server's certificate is for another name than the invite's");
    expect_refused(client_ctx(&options), server_ctx("expired", NULL), "server.test",
                   "server's certificate has expired; `sealgram renew-cert DIR` on the server makes a new one");
    expect_refused(
        client_ctx(&options), server_ctx("self", NULL), "server.test",
        "server's certificate is not from a trusted CA: the invite has no pin (is it whole?), and neither the "
        "system nor --ca FILE knows a CA that signed it");
    options.ca_file = NULL;
    expect_refused(
        client_ctx(&options), server_ctx("good", NULL), "server.test",
        "server's certificate is not from a trusted CA: the invite has no pin (is it whole?), and neither the "
        "system nor --ca FILE knows a CA that signed it");
}

static enum sg_tls_alpn alpn_with(const char *protocols, size_t len, bool *refused)
{
    struct pair pair;
    SSL_CTX *client = pinned_ctx("self");
    assert_int_equal(SSL_CTX_set_alpn_protos(client, (const unsigned char *)protocols, (unsigned)len), 0);
    join(&pair, client, server_ctx("self", NULL), "server.test");
    *refused = pair.client.ended;
    if (*refused) {
        assert_string_equal(pair.client.text, "no common application protocol (ALPN sealgram/1)");
        assert_true(pair.client.final);
    }
    enum sg_tls_alpn alpn = sg_tls_alpn(pair.server.bev);
    part(&pair);
    return alpn;
}

static void test_alpn(void **state)
{
    (void)state;
    bool refused;
    assert_int_equal(alpn_with("", 0, &refused), SG_TLS_ALPN_NONE);
    assert_false(refused);
    assert_int_equal(alpn_with("\x06socks5", 7, &refused), SG_TLS_ALPN_SOCKS5);
    assert_false(refused);
    assert_int_equal(alpn_with("\x06socks5\x0asealgram/1", 18, &refused), SG_TLS_ALPN_SEALGRAM);
    assert_false(refused);
    assert_int_equal(alpn_with("\x02h2\x06socks5", 10, &refused), SG_TLS_ALPN_SOCKS5);
    assert_false(refused);
    alpn_with("\x02h2\x08http/1.1", 12, &refused);
    assert_true(refused);
}

static void test_exporter(void **state)
{
    (void)state;
    static const uint8_t id1[8] = {1}, id2[8] = {2};
    uint8_t c[32], s[32], other[32];
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    assert_int_equal(sg_tls_export(pair.client.bev, id1, 1, c), SG_OK);
    assert_int_equal(sg_tls_export(pair.server.bev, id1, 1, s), SG_OK);
    assert_memory_equal(c, s, 32);
    assert_int_equal(sg_tls_export(pair.server.bev, id2, 1, other), SG_OK);
    assert_memory_not_equal(c, other, 32);
    assert_int_equal(sg_tls_export(pair.server.bev, id1, 2, other), SG_OK);
    assert_memory_not_equal(c, other, 32);
    part(&pair);
}

static void test_old_versions(void **state)
{
    (void)state;
    struct pair pair;
    SSL_CTX *client = pinned_ctx("self");
    SSL_CTX_set_min_proto_version(client, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(client, TLS1_2_VERSION);
    join(&pair, client, server_ctx("self", NULL), "server.test");
    assert_false(pair.client.connected || pair.server.connected);
    assert_string_equal(pair.client.text, "peer does not speak TLS 1.3");
    part(&pair);

    SSL_CTX *server = server_ctx("self", NULL);
    SSL_CTX_set_min_proto_version(server, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
    join(&pair, pinned_ctx("self"), server, "server.test");
    assert_false(pair.client.connected || pair.server.connected);
    assert_string_equal(pair.client.text, "peer does not speak TLS 1.3");
    part(&pair);
}

static void join_with_certificate(struct pair *pair, const char *cn)
{
    struct sg_tls_client_options options = {.has_pin = true};
    char crt[64], key[64];
    pin_of("self", options.pin);
    if (cn) {
        snprintf(crt, sizeof crt, "%s.crt", cn);
        snprintf(key, sizeof key, "%s.key", cn);
        options.certificate = path_of(crt);
        options.key = path_of(key);
    }
    SSL_CTX *client = client_ctx(&options);
    join(pair, client, server_ctx("self", "ca.crt"), "server.test");
}

static void test_client_certificate(void **state)
{
    (void)state;
    struct pair pair;
    char name[SG_TLS_NAME_MAX + 1];
    join_with_certificate(&pair, "alice");
    assert_true(pair.server.connected);
    assert_true(sg_tls_client_name(pair.server.bev, name));
    assert_string_equal(name, "alice");
    assert_false(sg_tls_client_name(pair.client.bev, name));
    part(&pair);

    join_with_certificate(&pair, NULL);
    assert_true(pair.server.connected);
    assert_false(sg_tls_client_name(pair.server.bev, name));
    part(&pair);

    join_with_certificate(&pair, "expired-client");
    assert_false(pair.server.connected);
    assert_string_equal(pair.server.text, "client's certificate has expired");
    part(&pair);

    join_with_certificate(&pair, "self"); /* not from the CA */
    assert_false(pair.server.connected);
    assert_string_equal(pair.server.text, "client's certificate is not from a trusted CA");
    part(&pair);
}

static void test_file_errors(void **state)
{
    (void)state;
    char text[SG_TLS_TEXT_MAX], expected[SG_TLS_TEXT_MAX];
    const char *missing = path_of("missing.crt");
    assert_null(sg_tls_server_ctx(missing, path_of("self.key"), NULL, text));
    snprintf(expected, sizeof expected, "%s: No such file or directory", missing);
    assert_string_equal(text, expected);
    const char *key = path_of("good.key");
    assert_null(sg_tls_server_ctx(path_of("self.crt"), key, NULL, text));
    snprintf(expected, sizeof expected, "%s: key values mismatch", key);
    assert_string_equal(text, expected);
    struct sg_tls_client_options options = {.ca_file = path_of("missing.pem")};
    assert_null(sg_tls_client_ctx(&options, text));
    snprintf(expected, sizeof expected, "%s: No such file or directory", options.ca_file);
    assert_string_equal(text, expected);
}

static void test_no_tls(void **state)
{
    (void)state;
    int fds[2];
    struct pair pair = {.base = event_base_new()};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    SSL_CTX *ctx = pinned_ctx("self");
    pair.client.bev = sg_tls_connect(pair.base, ctx, fds[0], "server.test", NULL, 0);
    pair.server.bev = bufferevent_socket_new(pair.base, fds[1], BEV_OPT_CLOSE_ON_FREE);
    SSL_CTX_free(ctx);
    watch(&pair.client);
    watch(&pair.server);
    bufferevent_write(pair.server.bev, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    spin(&pair);
    assert_string_equal(pair.client.text, "peer does not speak TLS");
    assert_false(pair.client.connected);
    part(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pin),          cmocka_unit_test(test_ca),
        cmocka_unit_test(test_alpn),         cmocka_unit_test(test_exporter),
        cmocka_unit_test(test_old_versions), cmocka_unit_test(test_client_certificate),
        cmocka_unit_test(test_file_errors),  cmocka_unit_test(test_no_tls),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
