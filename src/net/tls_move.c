/*
 * libevent frees a bufferevent later than it is asked to, closes the socket that the SSL has then, and lets go of the
 * SSL. So the SSL gets its new descriptor only after that: a byte of the old input that is owned by us tells, when it
 * is given back, that the rest is gone.
 */
#include "net/tls_move.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "net/tls.h"

struct sg_tls_parcel {
    SSL *ssl;
    int fd;
    struct evbuffer *input; /* what was read and not looked at */
    sg_tls_detached_fn *fn;
    void *ctx;
};

void sg_tls_parcel_free(struct sg_tls_parcel *parcel)
{
    SSL_free(parcel->ssl);
    if (parcel->fd >= 0)
        close(parcel->fd);
    if (parcel->input)
        evbuffer_free(parcel->input);
    free(parcel);
}

static void on_gone(const void *data, size_t len, void *ctx)
{
    struct sg_tls_parcel *parcel = ctx;
    (void)data;
    (void)len;
    if (SSL_set_fd(parcel->ssl, parcel->fd) != 1) {
        ERR_clear_error();
        close(parcel->fd); /* attach will not find a socket, and say so */
        parcel->fd = -1;
    }
    parcel->fn(parcel->ctx, parcel);
}

/* What OpenSSL has decrypted and libevent has not fetched: the socket would not become readable for it. */
static bool fetch_pending(SSL *ssl, struct evbuffer *input)
{
    uint8_t bytes[SSL3_RT_MAX_PLAIN_LENGTH];
    bool good = true;
    ERR_clear_error();
    while (good && SSL_pending(ssl) > 0) {
        int n = SSL_read(ssl, bytes, sizeof bytes);
        good = n > 0 && evbuffer_add(input, bytes, (size_t)n) == 0;
    }
    return good;
}

bool sg_tls_detach(struct bufferevent *bev, sg_tls_detached_fn *fn, void *ctx)
{
    static const char mark = 0;
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    struct evbuffer *input = bufferevent_get_input(bev);
    struct sg_tls_parcel *parcel = calloc(1, sizeof *parcel);
    if (!parcel)
        return false;
    *parcel = (struct sg_tls_parcel){.fd = -1, .fn = fn, .ctx = ctx};
    sg_tls_write_now(bev);
    if (evbuffer_get_length(bufferevent_get_output(bev)) > 0)
        goto failed;
    parcel->input = evbuffer_new();
    parcel->fd = fcntl(bufferevent_getfd(bev), F_DUPFD_CLOEXEC, 3);
    if (!parcel->input || parcel->fd < 0 || evbuffer_add_buffer(parcel->input, input) != 0 ||
        !fetch_pending(ssl, parcel->input))
        goto failed;
    if (evbuffer_add_reference(input, &mark, sizeof mark, on_gone, parcel) != 0)
        goto failed;
    SSL_up_ref(ssl);
    parcel->ssl = ssl;
    bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    bufferevent_free(bev);
    return true;
failed:
    sg_tls_parcel_free(parcel);
    return false;
}

struct bufferevent *sg_tls_attach(struct event_base *base, struct sg_tls_parcel *parcel)
{
    int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS; /* as all others of tls.c */
    struct bufferevent *bev =
        parcel->fd < 0 ? NULL
                       : bufferevent_openssl_socket_new(base, parcel->fd, parcel->ssl, BUFFEREVENT_SSL_OPEN, options);
    if (bev) {
        (void)evbuffer_add_buffer(bufferevent_get_input(bev), parcel->input); /* moves chains: takes no memory */
        parcel->ssl = NULL;
        parcel->fd = -1;
    }
    sg_tls_parcel_free(parcel);
    return bev;
}
