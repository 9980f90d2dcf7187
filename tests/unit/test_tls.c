/* TLS contexts of both roles against each other over socketpairs, with certificates made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "net/finish.h"
#include "net/tls.h"
#include "net/tls_client_cert.h"

static char folder[] = "/tmp/sg-test-tls-XXXXXX";

struct side {
    struct bufferevent *bev;
    bool connected;
    bool ended;
    bool final;
    char text[SG_TLS_TEXT_MAX];
};

struct pair {
    struct event_base *base;
    struct side client;
    struct side server;
};

static const char *path_of(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_pem(const char *name, X509 *certificate, EVP_PKEY *key)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    if (certificate)
        assert_int_equal(PEM_write_X509(file, certificate), 1);
    if (key)
        assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
}

static void add_ext(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(certificate, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

/* NAME.crt and NAME.key, valid from -2 days to `days` from now, signed by issuer (NULL: itself). */
static X509 *make_cert(const char *cn, int days, const char *san, X509 *issuer, EVP_PKEY *issuer_key, EVP_PKEY **key)
{
    static long serial = 1;
    *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    assert_true(*key && certificate);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -172800);
    X509_gmtime_adj(X509_getm_notAfter(certificate), days * 86400L);
    X509_set_pubkey(certificate, *key);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : subject);
    if (san)
        add_ext(certificate, NID_subject_alt_name, san);
    else
        add_ext(certificate, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(certificate, issuer_key ? issuer_key : *key, EVP_sha256()) > 0);
    char file[64];
    snprintf(file, sizeof file, "%s.crt", cn);
    write_pem(file, certificate, NULL);
    snprintf(file, sizeof file, "%s.key", cn);
    write_pem(file, NULL, *key);
    return certificate;
}

static void pin_of(const char *cn, uint8_t pin[SG_TLS_PIN_BYTES])
{
    char file[64];
    snprintf(file, sizeof file, "%s.crt", cn);
    FILE *in = fopen(path_of(file), "r");
    assert_non_null(in);
    X509 *certificate = PEM_read_X509(in, NULL, NULL, NULL);
    fclose(in);
    assert_non_null(certificate);
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(X509_get0_pubkey(certificate), &der);
    assert_true(len > 0);
    assert_int_equal(EVP_Digest(der, (size_t)len, pin, NULL, EVP_sha256(), NULL), 1);
    OPENSSL_free(der);
    X509_free(certificate);
}

static int make_files(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    EVP_PKEY *ca_key, *key;
    X509 *ca = make_cert("ca", 10, NULL, NULL, NULL, &ca_key);
    static const struct {
        const char *cn;
        int days;
        const char *san;
    } list[] = {{"good", 10, "DNS:server.test,IP:127.0.0.1"},
                {"expired", -1, "DNS:server.test"},
                {"alice", 10, "email:alice@x.test"},
                {"expired-client", -1, "email:a@x.test"}};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        X509_free(make_cert(list[i].cn, list[i].days, list[i].san, ca, ca_key, &key));
        EVP_PKEY_free(key);
    }
    X509_free(make_cert("self", 10, "DNS:server.test", NULL, NULL, &key));
    EVP_PKEY_free(key);
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void on_event(struct bufferevent *bev, short what, void *ctx)
{
    struct side *side = ctx;
    if (what & BEV_EVENT_CONNECTED) {
        side->connected = true;
        return;
    }
    side->ended = true;
    side->final = sg_tls_error_text(bev, what, side->text);
}

static SSL_CTX *server_ctx(const char *cn, const char *client_ca)
{
    char text[SG_TLS_TEXT_MAX], crt[64], key[64];
    snprintf(crt, sizeof crt, "%s.crt", cn);
    snprintf(key, sizeof key, "%s.key", cn);
    SSL_CTX *ctx = sg_tls_server_ctx(path_of(crt), path_of(key), client_ca ? path_of(client_ca) : NULL, text);
    assert_non_null(ctx);
    return ctx;
}

static SSL_CTX *client_ctx(const struct sg_tls_client_options *options)
{
    char text[SG_TLS_TEXT_MAX];
    SSL_CTX *ctx = sg_tls_client_ctx(options, text);
    assert_non_null(ctx);
    return ctx;
}

static SSL_CTX *pinned_ctx(const char *cn)
{
    struct sg_tls_client_options options = {.has_pin = true};
    pin_of(cn, options.pin);
    return client_ctx(&options);
}

static void watch(struct side *side)
{
    assert_non_null(side->bev);
    bufferevent_setcb(side->bev, NULL, NULL, on_event, side);
    bufferevent_enable(side->bev, EV_READ | EV_WRITE);
}

/* Some rounds of the loop: enough for a handshake, its alerts, and small writes. */
static void spin(struct pair *pair)
{
    for (int i = 0; i < 40; i++) {
        event_base_loop(pair->base, EVLOOP_NONBLOCK);
        if (i > 10)
            usleep(500);
    }
}

/* Connects both contexts (freed here) and runs the handshake to its end. */
static void join(struct pair *pair, SSL_CTX *client, SSL_CTX *server, const char *host)
{
    int fds[2];
    memset(pair, 0, sizeof *pair);
    pair->base = event_base_new();
    assert_non_null(pair->base);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    pair->client.bev = sg_tls_connect(pair->base, client, fds[0], host);
    pair->server.bev = sg_tls_accept(pair->base, server, fds[1]);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
    watch(&pair->client);
    watch(&pair->server);
    spin(pair);
}

static void part(struct pair *pair)
{
    bufferevent_free(pair->client.bev);
    bufferevent_free(pair->server.bev);
    event_base_loop(pair->base, EVLOOP_NONBLOCK);
    event_base_free(pair->base);
}

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
    expect_refused(pinned_ctx("self"), server_ctx("good", NULL), "server.test",
                   "server's key does not match the pin in the invite");
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
                   "server's certificate is for another name");
    expect_refused(client_ctx(&options), server_ctx("good", NULL), "127.0.0.2",
                   "server's certificate is for another name");
    expect_refused(client_ctx(&options), server_ctx("expired", NULL), "server.test",
                   "server's certificate has expired");
    expect_refused(client_ctx(&options), server_ctx("self", NULL), "server.test",
                   "server's certificate is not from a trusted CA");
    options.ca_file = NULL;
    expect_refused(client_ctx(&options), server_ctx("good", NULL), "server.test",
                   "server's certificate is not from a trusted CA");
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
    pair.client.bev = sg_tls_connect(pair.base, ctx, fds[0], "server.test");
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

static size_t input_len(const struct side *side)
{
    return evbuffer_get_length(bufferevent_get_input(side->bev));
}

/* After its close_notify a side still reads; the other sees the end, and can still write. */
static void test_half_close(void **state)
{
    (void)state;
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    bufferevent_write(pair.client.bev, "last", 4);
    assert_false(sg_tls_close_write(pair.client.bev));
    spin(&pair);
    assert_true(sg_tls_close_write(pair.client.bev));
    assert_true(sg_tls_close_write(pair.client.bev));
    spin(&pair);
    assert_int_equal(input_len(&pair.server), 4);
    assert_true(pair.server.ended);
    assert_string_equal(pair.server.text, "connection ended by the peer");
    assert_false(pair.client.ended);
    bufferevent_disable(pair.server.bev, EV_READ);
    bufferevent_enable(pair.server.bev, EV_WRITE);
    bufferevent_write(pair.server.bev, "answer", 6);
    spin(&pair);
    assert_int_equal(input_len(&pair.client), 6);
    assert_true(sg_tls_close_write(pair.server.bev));
    spin(&pair);
    assert_true(pair.client.ended);
    assert_string_equal(pair.client.text, "connection ended by the peer");
    part(&pair);
}

static void on_room_again(struct bufferevent *bev, void *ctx)
{
    if (evbuffer_get_length(bufferevent_get_output(bev)) == 0 && sg_tls_close_write(bev))
        ((struct side *)ctx)->final = true;
}

/* A socket that is full when close_notify is due gets it later, and the owner is asked again. */
static void test_close_into_full_socket(void **state)
{
    (void)state;
    static uint8_t chunk[16384];
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    bufferevent_disable(pair.server.bev, EV_READ);
    bufferevent_write(pair.client.bev, chunk, sizeof chunk);
    spin(&pair);
    /* A smaller buffer leaves no room now, although all output was written. */
    int size = 1;
    setsockopt(bufferevent_getfd(pair.client.bev), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    bufferevent_setcb(pair.client.bev, NULL, on_room_again, on_event, &pair.client);
    assert_false(sg_tls_close_write(pair.client.bev));
    spin(&pair);
    assert_false(pair.client.final);
    bufferevent_enable(pair.server.bev, EV_READ);
    spin(&pair);
    assert_int_equal(input_len(&pair.server), sizeof chunk);
    assert_true(pair.client.final);
    assert_true(pair.server.ended);
    assert_string_equal(pair.server.text, "connection ended by the peer");
    part(&pair);
}

/* An end in good order: all output arrives although the peer's own bytes were never read. */
static void test_finish(void **state)
{
    (void)state;
    static uint8_t chunk[300000];
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    bufferevent_write(pair.client.bev, chunk, sizeof chunk);
    bufferevent_write(pair.server.bev, "answer", 6);
    sg_finish(pair.server.bev);
    spin(&pair);
    assert_int_equal(input_len(&pair.client), 6);
    assert_true(pair.client.ended);
    assert_string_equal(pair.client.text, "connection ended by the peer");
    bufferevent_free(pair.client.bev);
    event_base_dispatch(pair.base); /* ends: the peer's end ended the other too */
    event_base_free(pair.base);
}

static void note_gone(void *ctx)
{
    *(bool *)ctx = true;
}

/* The peer ended its side before the answer was written: it gets all of it, and then the connection is gone at once. */
static void test_finish_after_the_peers_end(void **state)
{
    (void)state;
    static uint8_t chunk[600000];
    for (unsigned backlog = 0; backlog < 2; backlog++) {
        const size_t len = backlog ? sizeof chunk : 6;
        struct pair pair;
        bool gone = false;
        join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
        if (backlog)
            bufferevent_disable(pair.client.bev, EV_READ);
        assert_true(sg_tls_close_write(pair.client.bev));
        if (!backlog) {
            spin(&pair);
            assert_true(pair.server.ended);
        }
        bufferevent_write(pair.server.bev, chunk, len);
        assert_non_null(sg_finish_then(pair.server.bev, note_gone, &gone));
        spin(&pair);
        assert_int_equal(gone, !backlog);
        bufferevent_enable(pair.client.bev, EV_READ);
        spin(&pair);
        assert_int_equal(input_len(&pair.client), len);
        assert_string_equal(pair.client.text, "connection ended by the peer");
        assert_true(gone);
        bufferevent_free(pair.client.bev);
        event_base_loop(pair.base, EVLOOP_NONBLOCK);
        event_base_free(pair.base);
    }
}

/* A peer that never ends does not hold a connection for longer than 2 s. */
static void test_finish_limit(void **state)
{
    (void)state;
    int fds[2];
    struct event_base *base = event_base_new();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    sg_finish(bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE));
    time_t before = time(NULL);
    event_base_dispatch(base);
    assert_in_range(time(NULL) - before, 1, 4);
    event_base_free(base);
    close(fds[1]);
}

static void test_finish_now(void **state)
{
    (void)state;
    static uint8_t chunk[50000];
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    bufferevent_write(pair.server.bev, chunk, sizeof chunk);
    sg_finish_now(pair.server.bev);
    spin(&pair);
    assert_int_equal(input_len(&pair.client), sizeof chunk);
    assert_string_equal(pair.client.text, "connection ended by the peer");
    bufferevent_free(pair.client.bev);
    event_base_loop(pair.base, EVLOOP_NONBLOCK);
    event_base_free(pair.base);
}

static void test_cut(void **state)
{
    (void)state;
    struct pair pair;
    join(&pair, pinned_ctx("self"), server_ctx("self", NULL), "server.test");
    shutdown(bufferevent_getfd(pair.client.bev), SHUT_WR);
    spin(&pair);
    assert_true(pair.server.ended);
    assert_string_equal(pair.server.text, "connection cut by the peer");
    part(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pin),
        cmocka_unit_test(test_ca),
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_exporter),
        cmocka_unit_test(test_old_versions),
        cmocka_unit_test(test_client_certificate),
        cmocka_unit_test(test_file_errors),
        cmocka_unit_test(test_no_tls),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_close_into_full_socket),
        cmocka_unit_test(test_finish),
        cmocka_unit_test(test_finish_limit),
        cmocka_unit_test(test_finish_now),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_finish_after_the_peers_end),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
