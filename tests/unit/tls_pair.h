/* Two ends of TLS over a socketpair, with certificates made here, for the tests of net/tls.h. */
#ifndef TLS_PAIR_H
#define TLS_PAIR_H

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
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "net/tls.h"

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

static inline const char *path_of(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline void write_pem(const char *name, X509 *certificate, EVP_PKEY *key)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    if (certificate)
        assert_int_equal(PEM_write_X509(file, certificate), 1);
    if (key)
        assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
}

static inline void add_ext(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(certificate, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

/* NAME.crt and NAME.key, valid from -2 days to `days` from now, signed by issuer (NULL: itself). */
static inline X509 *make_cert(const char *cn, int days, const char *san, X509 *issuer, EVP_PKEY *issuer_key,
                              EVP_PKEY **key)
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

static inline void pin_of(const char *cn, uint8_t pin[SG_TLS_PIN_BYTES])
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

static inline int make_files(void **state)
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

static inline int remove_files(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static inline void on_event(struct bufferevent *bev, short what, void *ctx)
{
    struct side *side = ctx;
    if (what & BEV_EVENT_CONNECTED) {
        side->connected = true;
        return;
    }
    side->ended = true;
    side->final = sg_tls_error_text(bev, what, side->text);
}

static inline SSL_CTX *server_ctx(const char *cn, const char *client_ca)
{
    char text[SG_TLS_TEXT_MAX], crt[64], key[64];
    snprintf(crt, sizeof crt, "%s.crt", cn);
    snprintf(key, sizeof key, "%s.key", cn);
    SSL_CTX *ctx = sg_tls_server_ctx(path_of(crt), path_of(key), client_ca ? path_of(client_ca) : NULL, text);
    assert_non_null(ctx);
    return ctx;
}

static inline SSL_CTX *client_ctx(const struct sg_tls_client_options *options)
{
    char text[SG_TLS_TEXT_MAX];
    SSL_CTX *ctx = sg_tls_client_ctx(options, text);
    assert_non_null(ctx);
    return ctx;
}

static inline SSL_CTX *pinned_ctx(const char *cn)
{
    struct sg_tls_client_options options = {.has_pin = true};
    pin_of(cn, options.pin);
    return client_ctx(&options);
}

static inline void watch(struct side *side)
{
    assert_non_null(side->bev);
    bufferevent_setcb(side->bev, NULL, NULL, on_event, side);
    bufferevent_enable(side->bev, EV_READ | EV_WRITE);
}

/* Some rounds of the loop: enough for a handshake, its alerts, and small writes. */
static inline void spin(struct pair *pair)
{
    for (int i = 0; i < 40; i++) {
        event_base_loop(pair->base, EVLOOP_NONBLOCK);
        if (i > 10)
            usleep(500);
    }
}

/* The server's side without a gate. */
static inline struct bufferevent *accept_tls(struct event_base *base, SSL_CTX *ctx, int fd)
{
    return bufferevent_openssl_socket_new(base, fd, SSL_new(ctx), BUFFEREVENT_SSL_ACCEPTING,
                                          BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
}

/* Connects both contexts (freed here) and runs the handshake to its end. */
static inline void join(struct pair *pair, SSL_CTX *client, SSL_CTX *server, const char *host)
{
    int fds[2];
    memset(pair, 0, sizeof *pair);
    pair->base = event_base_new();
    assert_non_null(pair->base);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    pair->client.bev = sg_tls_connect(pair->base, client, fds[0], host, NULL, 0);
    pair->server.bev = accept_tls(pair->base, server, fds[1]);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
    watch(&pair->client);
    watch(&pair->server);
    spin(pair);
}

static inline void part(struct pair *pair)
{
    bufferevent_free(pair->client.bev);
    bufferevent_free(pair->server.bev);
    event_base_loop(pair->base, EVLOOP_NONBLOCK);
    event_base_free(pair->base);
}

static inline size_t input_len(const struct side *side)
{
    return evbuffer_get_length(bufferevent_get_input(side->bev));
}

#endif
