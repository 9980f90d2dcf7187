/* One extension, of a type that is for private use: a server that does not know it ignores it. */
#include "net/tls_pass.h"

#include <pthread.h>
#include <string.h>

#include <openssl/crypto.h>

enum { EXTENSION = 0xff53 };

struct pass {
    size_t len;
    uint8_t bytes[];
};

static pthread_once_t index_once = PTHREAD_ONCE_INIT;
static int pass_index = -1;

static void free_pass(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    OPENSSL_free(ptr);
}

static void make_index(void)
{
    pass_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_pass);
}

/* Once for each ClientHello: a second one, that the server asks for, shows the same. */
static int add_pass(SSL *ssl, unsigned type, unsigned context, const unsigned char **out, size_t *len, X509 *x,
                    size_t chain, int *alert, void *arg)
{
    (void)type, (void)context, (void)x, (void)chain, (void)alert, (void)arg;
    const struct pass *pass = SSL_get_ex_data(ssl, pass_index);
    if (!pass)
        return 0;
    *out = pass->bytes;
    *len = pass->len;
    return 1;
}

/* OpenSSL keeps extensions of a ClientHello only of types that somebody wants to parse. */
static int ignore_pass(SSL *ssl, unsigned type, unsigned context, const unsigned char *in, size_t len, X509 *x,
                       size_t chain, int *alert, void *arg)
{
    (void)ssl, (void)type, (void)context, (void)in, (void)len, (void)x, (void)chain, (void)alert, (void)arg;
    return 1;
}

bool sg_tls_pass_allow(SSL_CTX *tls)
{
    pthread_once(&index_once, make_index);
    return pass_index >= 0 &&
           SSL_CTX_add_custom_ext(tls, EXTENSION, SSL_EXT_CLIENT_HELLO, add_pass, NULL, NULL, ignore_pass, NULL) == 1;
}

bool sg_tls_pass_set(SSL *client, const uint8_t *bytes, size_t len)
{
    struct pass *pass = OPENSSL_malloc(sizeof *pass + len);
    if (!pass)
        return false;
    pass->len = len;
    memcpy(pass->bytes, bytes, len);
    if (SSL_set_ex_data(client, pass_index, pass) == 1)
        return true;
    OPENSSL_free(pass);
    return false;
}

const uint8_t *sg_tls_pass_get(SSL *server, size_t *len)
{
    const unsigned char *bytes = NULL;
    *len = 0;
    return SSL_client_hello_get0_ext(server, EXTENSION, &bytes, len) == 1 ? bytes : NULL;
}
