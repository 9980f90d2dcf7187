/*
 * The end of a connection in good order: write, close_notify, FIN, and wait for the peer's end, all within a fixed
 * time. Closing at once would do harm: input that nobody read turns the close into a reset, which can destroy the
 * last answer on its way.
 */
#include "net/finish.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>

#include "net/tls.h"

enum { LIMIT_S = 2 };

struct sg_finishing {
    struct sg_finishing *next, **link;
    struct bufferevent *bev;
    struct event *limit;
    sg_finish_fn *fn; /* or NULL */
    void *ctx;
    bool input_ended; /* the peer sends no more; what waits is still written */
};

static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sg_finishing *all; /* of every thread */

static void enlist(struct sg_finishing *finishing)
{
    pthread_mutex_lock(&all_lock);
    finishing->next = all;
    finishing->link = &all;
    if (finishing->next)
        finishing->next->link = &finishing->next;
    all = finishing;
    pthread_mutex_unlock(&all_lock);
}

static void unlink_finishing(struct sg_finishing *finishing)
{
    pthread_mutex_lock(&all_lock);
    *finishing->link = finishing->next;
    if (finishing->next)
        finishing->next->link = finishing->link;
    pthread_mutex_unlock(&all_lock);
}

static void dispose(struct sg_finishing *finishing)
{
    if (finishing->limit)
        event_free(finishing->limit);
    bufferevent_free(finishing->bev);
    free(finishing);
}

void sg_finish_cancel(struct sg_finishing *finishing)
{
    unlink_finishing(finishing);
    dispose(finishing);
}

/* One that is in no list any more. */
static void end_unlinked(struct sg_finishing *finishing)
{
    sg_finish_fn *fn = finishing->fn;
    void *ctx = finishing->ctx;
    dispose(finishing);
    if (fn)
        fn(ctx);
}

static void end(struct sg_finishing *finishing)
{
    unlink_finishing(finishing);
    end_unlinked(finishing);
}

void sg_finish_rest(void)
{
    while (all) {
        struct sg_finishing *first = all;
        all = first->next;
        if (all)
            all->link = &all;
        end_unlinked(first);
    }
}

static void on_limit(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    end(ctx);
}

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    struct sg_finishing *finishing = ctx;
    finishing->input_ended = what & BEV_EVENT_EOF;
    if (!finishing->input_ended || evbuffer_get_length(bufferevent_get_output(bev)) == 0) {
        end(finishing);
        return;
    }
    bufferevent_disable(bev, EV_READ);
    bufferevent_enable(bev, EV_WRITE); /* with TLS libevent has stopped both */
}

static void on_input(struct bufferevent *bev, void *ctx)
{
    (void)ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    evbuffer_drain(input, evbuffer_get_length(input));
}

/*
 * Tells the peer that this was all, once all is written. False: later. The socket of TLS stays open for what TLS has to
 * answer while the peer's input goes on: an answer that fails would end that, and turn the close into a reset.
 */
static bool end_output(struct bufferevent *bev)
{
    if (evbuffer_get_length(bufferevent_get_output(bev)) > 0 || !sg_tls_close_write(bev))
        return false;
    if (!bufferevent_openssl_get_ssl(bev))
        shutdown(bufferevent_getfd(bev), SHUT_WR);
    return true;
}

static void on_written(struct bufferevent *bev, void *ctx)
{
    struct sg_finishing *finishing = ctx;
    if (end_output(bev) && finishing->input_ended)
        end(finishing);
}

struct sg_finishing *sg_finish_then(struct bufferevent *bev, sg_finish_fn *fn, void *ctx)
{
    static const struct timeval limit = {.tv_sec = LIMIT_S};
    struct sg_finishing *finishing = calloc(1, sizeof *finishing);
    if (!finishing) {
        bufferevent_free(bev);
        return NULL;
    }
    *finishing = (struct sg_finishing){.bev = bev, .fn = fn, .ctx = ctx, .input_ended = sg_tls_input_ended(bev)};
    enlist(finishing);
    finishing->limit = evtimer_new(bufferevent_get_base(bev), on_limit, finishing);
    if (!finishing->limit || evtimer_add(finishing->limit, &limit) != 0) {
        sg_finish_cancel(finishing);
        return NULL;
    }
    bufferevent_setcb(bev, on_input, on_written, on_end, finishing);
    bufferevent_set_timeouts(bev, NULL, NULL);
    bufferevent_setwatermark(bev, EV_READ, 0, 0);
    bufferevent_setwatermark(bev, EV_WRITE, 0, 0);
    on_input(bev, NULL);
    if (bufferevent_enable(bev, EV_READ | EV_WRITE) != 0) {
        sg_finish_cancel(finishing);
        return NULL;
    }
    if (end_output(bev) && finishing->input_ended)
        event_active(finishing->limit, EV_TIMEOUT, 0); /* nothing is left to wait for */
    return finishing;
}

void sg_finish(struct bufferevent *bev)
{
    (void)sg_finish_then(bev, NULL, NULL);
}

void sg_finish_now(struct bufferevent *bev)
{
    bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
    sg_tls_write_now(bev);
    (void)sg_tls_close_write(bev);
    bufferevent_free(bev);
}

void sg_finish_for(struct bufferevent *bev, enum sg_reason reason)
{
    if (!bev)
        return;
    if (reason == SG_REASON_NONE)
        bufferevent_free(bev);
    else if (reason == SG_REASON_SHUTDOWN)
        sg_finish_now(bev);
    else
        sg_finish(bev);
}
