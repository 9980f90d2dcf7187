/*
 * TLS 1.3 by OpenSSL over libevent's bufferevents. Identity is decided in two ways that never mix:
 * a client context with a pin replaces the whole chain check by one comparison of the key's hash;
 * one without asks the usual chain and name.
 */
#include "net/tls.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "net/tls_gate.h"
#include "net/tls_pass.h"
#include "net/tls_text.h"

static const unsigned char alpn_sealgram[] = "\x0asealgram/1";
static const unsigned char alpn_socks5[] = "\x06socks5";

/* close_notify that waits for room in the socket; belongs to the SSL and goes with it. */
struct close_wait {
    struct bufferevent *bev;
    struct event *event;
    bool pending;
};

static pthread_once_t indexes_once = PTHREAD_ONCE_INIT;
static int pin_index = -1;
static int wait_index = -1;

static void free_pin(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    OPENSSL_free(ptr);
}

static void free_wait(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    struct close_wait *wait = ptr;
    if (!wait)
        return;
    event_free(wait->event);
    OPENSSL_free(wait);
}

static void make_indexes(void)
{
    pin_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_pin);
    wait_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_wait);
}

/* A key file with a passphrase is an error, not a question on the terminal. */
static int refuse_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf, (void)size, (void)rwflag, (void)arg;
    return -1;
}

/*
 * Key shares of other groups are never computed with: one of ffdhe8192 costs a hundred times what one of these costs
 * (CVE-2002-20001). A hybrid of X25519 and ML-KEM comes first where OpenSSL has it (3.5), and a client sends a share of
 * X25519 beside it then, so that no server makes it begin again.
 */
static bool set_groups(SSL_CTX *ctx)
{
    /* arrays, since the macro of OpenSSL casts to char * */
    char with_hybrid[] = "*X25519MLKEM768:*X25519:P-256", without[] = "X25519:P-256";
    bool set = SSL_CTX_set1_groups_list(ctx, with_hybrid) == 1 || SSL_CTX_set1_groups_list(ctx, without) == 1;
    ERR_clear_error();
    return set;
}

static SSL_CTX *new_ctx(const SSL_METHOD *method)
{
    pthread_once(&indexes_once, make_indexes);
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx)
        return NULL;
    if (pin_index < 0 || wait_index < 0 || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
        !SSL_CTX_set_num_tickets(ctx, 0) || !set_groups(ctx) || !sg_tls_pass_allow(ctx)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_options(ctx,
                        SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CLEANSE_PLAINTEXT);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY); /* or one call works off key updates for as long as they come */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(ctx, refuse_passphrase);
    return ctx;
}

/* "file: cause" from OpenSSL's oldest error; a system error (no such file, permission) is the more telling one. */
static void file_error(const char *file, char text[static SG_TLS_TEXT_MAX])
{
    unsigned long code = ERR_peek_error();
    const char *cause = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    snprintf(text, SG_TLS_TEXT_MAX, "%s: %s", file, cause ? cause : "cannot be used");
    ERR_clear_error();
}

static bool load_identity(SSL_CTX *ctx, const char *certificate, const char *key, char text[static SG_TLS_TEXT_MAX])
{
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1) {
        file_error(certificate, text);
        return false;
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        file_error(key, text);
        return false;
    }
    return true;
}

/* The server's choice: sealgram/1 before socks5. Whoever offers other protocols only is no client of ours. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *arg)
{
    (void)ssl, (void)arg;
    const unsigned char *const known[] = {alpn_sealgram, alpn_socks5};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < in_len; i += 1U + in[i]) {
            if (in[i] == known[k][0] && in[i] < in_len - i && memcmp(in + i, known[k], in[i] + 1U) == 0) {
                *out = in + i + 1;
                *out_len = in[i];
                return SSL_TLSEXT_ERR_OK;
            }
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

SSL_CTX *sg_tls_server_ctx(const char *certificate, const char *key, const char *client_ca,
                           char text[static SG_TLS_TEXT_MAX])
{
    SSL_CTX *ctx = new_ctx(TLS_server_method());
    if (!ctx) {
        snprintf(text, SG_TLS_TEXT_MAX, "TLS cannot be set up");
        return NULL;
    }
    if (!load_identity(ctx, certificate, key, text))
        goto fail;
    SSL_CTX_set_max_early_data(ctx, 0);
    SSL_CTX_set_recv_max_early_data(ctx, 0);
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    sg_tls_gate_watch(ctx);
    if (client_ca) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(client_ca);
        if (!names || SSL_CTX_load_verify_locations(ctx, client_ca, NULL) != 1) {
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            file_error(client_ca, text);
            goto fail;
        }
        SSL_CTX_set_client_CA_list(ctx, names);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    }
    return ctx;
fail:
    SSL_CTX_free(ctx);
    return NULL;
}

static bool key_matches(X509 *certificate, const uint8_t pin[static SG_TLS_PIN_BYTES])
{
    unsigned char *der = NULL;
    uint8_t digest[EVP_MAX_MD_SIZE];
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    bool hashed = len > 0 && EVP_Digest(der, (size_t)len, digest, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return hashed && CRYPTO_memcmp(digest, pin, SG_TLS_PIN_BYTES) == 0;
}

/* Takes the place of the chain check where there is a pin: the key is all that counts. */
static int verify_pin(X509_STORE_CTX *store, void *arg)
{
    (void)arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const uint8_t *pin = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), pin_index);
    X509 *certificate = X509_STORE_CTX_get0_cert(store);
    bool good = pin && certificate && key_matches(certificate, pin);
    X509_STORE_CTX_set_error(store, good ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
    return good;
}

static bool set_pin(SSL_CTX *ctx, const uint8_t pin[static SG_TLS_PIN_BYTES])
{
    uint8_t *copy = OPENSSL_memdup(pin, SG_TLS_PIN_BYTES);
    if (!copy || SSL_CTX_set_ex_data(ctx, pin_index, copy) != 1) {
        OPENSSL_free(copy);
        return false;
    }
    SSL_CTX_set_cert_verify_callback(ctx, verify_pin, NULL);
    return true;
}

SSL_CTX *sg_tls_client_ctx(const struct sg_tls_client_options *options, char text[static SG_TLS_TEXT_MAX])
{
    SSL_CTX *ctx = new_ctx(TLS_client_method());
    if (!ctx || SSL_CTX_set_alpn_protos(ctx, alpn_sealgram, sizeof alpn_sealgram - 1) != 0 ||
        (options->has_pin && !set_pin(ctx, options->pin))) {
        snprintf(text, SG_TLS_TEXT_MAX, "TLS cannot be set up");
        goto fail;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    ERR_clear_error();
    if (!options->has_pin && options->ca_file && SSL_CTX_load_verify_locations(ctx, options->ca_file, NULL) != 1) {
        file_error(options->ca_file, text);
        goto fail;
    }
    if (!options->has_pin && !options->ca_file && SSL_CTX_set_default_verify_paths(ctx) != 1) {
        file_error("the system's CA certificates", text);
        goto fail;
    }
    if (options->certificate && !load_identity(ctx, options->certificate, options->key, text))
        goto fail;
    return ctx;
fail:
    SSL_CTX_free(ctx);
    return NULL;
}

/*
 * Takes over ssl (may be NULL) and fd in any case. libevent 2.1.12 tells of an end before it has put the bytes of the
 * same read into the input: callbacks are deferred, so that every owner reads before it hears of the end.
 */
static struct bufferevent *wrap(struct event_base *base, SSL *ssl, int fd)
{
    int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
    struct bufferevent *bev =
        ssl ? bufferevent_openssl_socket_new(base, fd, ssl, BUFFEREVENT_SSL_CONNECTING, options) : NULL;
    if (!bev) {
        SSL_free(ssl);
        close(fd);
    }
    return bev;
}

/* SNI carries names only (RFC 6066 section 3). The expected name is set in any case; a pin does not look at it. */
static bool set_host(SSL *ssl, const char *host)
{
    char name[TLSEXT_MAXLEN_host_name + 1];
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1)
        return true;
    if (snprintf(name, sizeof name, "%s", host) >= (int)sizeof name)
        return false;
    size_t len = strlen(name);
    if (len > 1 && name[len - 1] == '.') /* neither SNI nor certificates have the dot (RFC 6066 section 3) */
        name[len - 1] = '\0';
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

struct bufferevent *sg_tls_connect(struct event_base *base, SSL_CTX *ctx, int fd, const char *host, const uint8_t *pass,
                                   size_t pass_len)
{
    SSL *ssl = SSL_new(ctx);
    if (ssl && (!set_host(ssl, host) || (pass && !sg_tls_pass_set(ssl, pass, pass_len)))) {
        SSL_free(ssl);
        ssl = NULL;
    }
    return wrap(base, ssl, fd);
}

enum sg_tls_alpn sg_tls_alpn(struct bufferevent *bev)
{
    const unsigned char *name = NULL;
    unsigned len = 0;
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    if (ssl)
        SSL_get0_alpn_selected(ssl, &name, &len);
    if (len == alpn_sealgram[0] && memcmp(name, alpn_sealgram + 1, len) == 0)
        return SG_TLS_ALPN_SEALGRAM;
    if (len == alpn_socks5[0] && memcmp(name, alpn_socks5 + 1, len) == 0)
        return SG_TLS_ALPN_SOCKS5;
    return SG_TLS_ALPN_NONE;
}

enum sg_err sg_tls_export(struct bufferevent *bev, const uint8_t channel_id[static 8], uint16_t suite,
                          uint8_t secret[static 32])
{
    static const char label[] = "EXPORTER-sealgram-v1";
    uint8_t context[10];
    memcpy(context, channel_id, 8);
    context[8] = (uint8_t)(suite >> 8);
    context[9] = (uint8_t)suite;
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    if (!ssl || SSL_version(ssl) != TLS1_3_VERSION ||
        SSL_export_keying_material(ssl, secret, 32, label, sizeof label - 1, context, sizeof context, 1) != 1)
        return SG_ERR_CRYPTO;
    return SG_OK;
}

/* SSL_is_init_finished is false again after any fatal error, so ask whether the peer's Finished
 * ever came. */
static bool is_established(const SSL *ssl)
{
    uint8_t finished[EVP_MAX_MD_SIZE];
    return SSL_get_peer_finished(ssl, finished, sizeof finished) > 0;
}

/*
 * The first error that libevent kept; 0 when only errno tells (libevent then keeps a bare SSL_get_error code). In TLS
 * 1.3 a client has finished before the server judges its certificate: a write that fails then is not the cause, but
 * the alert that came before it and waits to be read.
 */
static unsigned long take_error(struct bufferevent *bev, SSL *ssl, short what)
{
    unsigned long code = bufferevent_get_openssl_error(bev);
    while (bufferevent_get_openssl_error(bev) != 0)
        continue;
    if (ERR_GET_LIB(code) == 0 && (what & BEV_EVENT_WRITING)) {
        uint8_t byte;
        ERR_clear_error();
        code = SSL_read(ssl, &byte, 1) <= 0 ? ERR_get_error() : 0;
    }
    return ERR_GET_LIB(code) != 0 && !ERR_SYSTEM_ERROR(code) ? code : 0;
}

void sg_tls_handshake_text(const SSL *ssl, int error, char text[static SG_TLS_TEXT_MAX])
{
    unsigned long code = ERR_get_error();
    ERR_clear_error();
    if (SSL_get_verify_result(ssl) != X509_V_OK)
        sg_tls_verify_text(SSL_is_server(ssl), SSL_get_verify_result(ssl), text);
    else if (ERR_GET_LIB(code) != 0 && !ERR_SYSTEM_ERROR(code))
        (void)sg_tls_library_text(code, false, text);
    else
        sg_tls_system_text(error, false, text);
}

bool sg_tls_error_text(struct bufferevent *bev, short what, char text[static SG_TLS_TEXT_MAX])
{
    int error = errno;
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    bool established = !ssl || is_established(ssl);
    unsigned long code = ssl ? take_error(bev, ssl, what) : 0;
    if (ssl && SSL_get_verify_result(ssl) != X509_V_OK) {
        sg_tls_verify_text(SSL_is_server(ssl), SSL_get_verify_result(ssl), text);
        return true;
    }
    if (what & BEV_EVENT_TIMEOUT) {
        snprintf(text, SG_TLS_TEXT_MAX, established ? "connection timed out" : "handshake timed out");
        return false;
    }
    if (code != 0)
        return sg_tls_library_text(code, established, text);
    if (what & BEV_EVENT_EOF)
        snprintf(text, SG_TLS_TEXT_MAX, established ? "connection ended by the peer" : "handshake ended by the peer");
    else
        sg_tls_system_text(error, established, text);
    return false;
}

/* Room in the socket again: sends what waited, then lets the owner of the bufferevent ask once
 * more. */
static void on_room(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct close_wait *wait = arg;
    bufferevent_data_cb on_write = NULL;
    void *owner = NULL;
    /* A bufferevent that was freed and waits for its destruction has no callbacks any more. */
    bufferevent_getcb(wait->bev, NULL, &on_write, NULL, &owner);
    if (on_write)
        on_write(wait->bev, owner);
}

static struct close_wait *new_wait(struct bufferevent *bev, SSL *ssl)
{
    struct close_wait *wait = OPENSSL_zalloc(sizeof *wait);
    if (!wait)
        return NULL;
    wait->bev = bev;
    wait->event = event_new(bufferevent_get_base(bev), bufferevent_getfd(bev), EV_WRITE, on_room, wait);
    if (wait->event && SSL_set_ex_data(ssl, wait_index, wait) == 1)
        return wait;
    if (wait->event)
        event_free(wait->event);
    OPENSSL_free(wait);
    return NULL;
}

bool sg_tls_close_write(struct bufferevent *bev)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    if (!ssl)
        return true;
    if (evbuffer_get_length(bufferevent_get_output(bev)) > 0)
        return false;
    /* A further SSL_shutdown would read for the peer's close_notify, and take its data for an error. */
    struct close_wait *wait = SSL_get_ex_data(ssl, wait_index);
    bool waits = wait && wait->pending;
    if (!SSL_is_init_finished(ssl) || ((SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN) && !waits))
        return true;
    ERR_clear_error();
    int rc = SSL_shutdown(ssl);
    waits = rc < 0 && SSL_get_error(ssl, rc) == SSL_ERROR_WANT_WRITE;
    ERR_clear_error();
    if (waits && !wait)
        wait = new_wait(bev, ssl);
    if (wait)
        wait->pending = waits && event_add(wait->event, NULL) == 0;
    return !wait || !wait->pending;
}

bool sg_tls_input_ended(struct bufferevent *bev)
{
    const SSL *ssl = bufferevent_openssl_get_ssl(bev);
    return ssl && (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN);
}

void sg_tls_write_now(struct bufferevent *bev)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    struct evbuffer *output = bufferevent_get_output(bev);
    evbuffer_unfreeze(output, 1); /* a bufferevent guards its output's front */
    size_t len;
    while ((len = evbuffer_get_contiguous_space(output)) > 0) {
        const unsigned char *bytes = evbuffer_pullup(output, (ev_ssize_t)len);
        ssize_t n = ssl ? SSL_write(ssl, bytes, len < INT_MAX ? (int)len : INT_MAX)
                        : send(bufferevent_getfd(bev), bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            break;
        evbuffer_drain(output, (size_t)n);
    }
    ERR_clear_error();
}
