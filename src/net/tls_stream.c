/* TLS read and written by its owner, through OpenSSL, without libevent. */
#include "net/tls_stream.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>

#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/bio.h>
#include <openssl/err.h>

enum {
    READ_AHEAD_BYTES = 4 * SSL3_RT_MAX_PACKET_SIZE, /* four records of the largest size */
    READS_WITHOUT_DATA = 64, /* so many key updates are worked off, then others have their turn */
};

/* --- where OpenSSL writes to: the socket, and an evbuffer for what that does not take --- */

static pthread_once_t method_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

/*
 * A record goes to the socket at once, without a copy, unless others wait before it. What the socket does not take
 * waits in the buffer, whatever the reason: an error is met again by whoever sends the buffer.
 */
static int write_unsent(BIO *bio, const char *bytes, int len)
{
    struct evbuffer *unsent = BIO_get_data(bio);
    int sent = 0;
    BIO_clear_retry_flags(bio);
    if (len <= 0)
        return -1;
    if (evbuffer_get_length(unsent) == 0)
        sent = BIO_write(BIO_next(bio), bytes, len);
    if (sent < 0)
        sent = 0;
    return evbuffer_add(unsent, bytes + sent, (size_t)(len - sent)) == 0 ? len : -1;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH ? 1 : BIO_ctrl(BIO_next(bio), command, number, pointer);
}

static int destroy(BIO *bio)
{
    if (BIO_get_data(bio))
        evbuffer_free(BIO_get_data(bio));
    return 1;
}

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_FILTER, "unsent");
    if (!method)
        return;
    BIO_meth_set_write(method, write_unsent);
    BIO_meth_set_ctrl(method, control);
    BIO_meth_set_destroy(method, destroy);
}

/* Before the socket, which libevent asks the last of the chain for when it closes it. */
static bool put_before_socket(SSL *ssl, struct evbuffer **unsent)
{
    pthread_once(&method_once, make_method);
    BIO *bio = method ? BIO_new(method) : NULL;
    if (!bio)
        return false;
    *unsent = evbuffer_new();
    BIO_set_data(bio, *unsent);
    BIO_set_init(bio, 1);
    BIO *socket = SSL_get_rbio(ssl);
    if (!*unsent || BIO_up_ref(socket) != 1) {
        BIO_free(bio);
        return false;
    }
    SSL_set0_wbio(ssl, BIO_push(bio, socket));
    return true;
}

bool sg_tls_take(struct bufferevent *bev, SSL **ssl, struct evbuffer **unsent)
{
    *ssl = bufferevent_openssl_get_ssl(bev);
    *unsent = NULL;
    if (!*ssl)
        return true;
    /* or an end without close_notify is an error after which nothing can be written either */
    SSL_set_options(*ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_set_read_ahead(*ssl, 1);
    SSL_set_default_read_buffer_len(*ssl, READ_AHEAD_BYTES);
    return put_before_socket(*ssl, unsent);
}

/* --- reading and writing --- */

/*
 * SSL_read that came back without bytes. It says WANT_READ after each message that is no data, and since OpenSSL 3.2 it
 * does so even if it has read ahead what follows; it has really asked the socket if errno is EAGAIN.
 */
static enum sg_tls_input judge_read(SSL *ssl, int rc, int error)
{
    switch (SSL_get_error(ssl, rc)) {
    case SSL_ERROR_ZERO_RETURN: /* the socket's end is not asked for once close_notify has come */
        return BIO_eof(SSL_get_rbio(ssl)) ? SG_TLS_CUT : SG_TLS_ENDED;
    case SSL_ERROR_WANT_READ:
        return error == EAGAIN ? SG_TLS_DRY : SG_TLS_MORE;
    case SSL_ERROR_SYSCALL:
        return SG_TLS_CUT;
    default:
        return SG_TLS_BROKEN;
    }
}

size_t sg_tls_read(SSL *ssl, uint8_t *bytes, size_t size, enum sg_tls_input *input)
{
    size_t len = 0;
    *input = SG_TLS_MORE;
    for (unsigned empty = 0; len < size && empty < READS_WITHOUT_DATA && *input == SG_TLS_MORE;) {
        size_t left = size - len;
        ERR_clear_error();
        errno = 0;
        int rc = SSL_read(ssl, bytes + len, left < INT_MAX ? (int)left : INT_MAX);
        int error = errno;
        if (rc > 0) {
            len += (size_t)rc;
            continue;
        }
        *input = judge_read(ssl, rc, error);
        empty++;
    }
    return len;
}

ssize_t sg_tls_write(SSL *ssl, const uint8_t *bytes, size_t len)
{
    size_t done = 0;
    ERR_clear_error();
    while (done < len) {
        size_t left = len - done;
        int rc = SSL_write(ssl, bytes + done, left < INT_MAX ? (int)left : INT_MAX);
        if (rc <= 0 && SSL_get_error(ssl, rc) == SSL_ERROR_WANT_READ)
            break;
        if (rc <= 0)
            return -1;
        done += (size_t)rc;
    }
    return (ssize_t)done;
}

int sg_tls_end(SSL *ssl)
{
    ERR_clear_error();
    int rc = SSL_in_init(ssl) ? SSL_do_handshake(ssl) : 1; /* a message that has begun has to be read first */
    if (rc == 1)
        rc = SSL_shutdown(ssl);
    if (rc >= 0)
        return 1;
    return SSL_get_error(ssl, rc) == SSL_ERROR_WANT_READ ? 0 : -1;
}
