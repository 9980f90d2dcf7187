/*
 * The end of a connection in good order: write, close_notify, FIN, and wait for the peer's end, all within a fixed
 * time. Closing at once would do harm: input that nobody read turns the close into a reset, which can destroy the
 * last answer on its way.
 */
#include "net/finish.h"

#include <stdlib.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "net/tls.h"

enum { LIMIT_S = 2 };

struct finishing {
    struct bufferevent *bev;
    struct event *limit;
};

static void end(struct finishing *finishing)
{
    if (finishing->limit)
        event_free(finishing->limit);
    bufferevent_free(finishing->bev);
    free(finishing);
}

static void on_limit(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    end(ctx);
}

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)bev;
    (void)what;
    end(ctx);
}

static void on_input(struct bufferevent *bev, void *ctx)
{
    (void)ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    evbuffer_drain(input, evbuffer_get_length(input));
}

static void on_written(struct bufferevent *bev, void *ctx)
{
    (void)ctx;
    if (evbuffer_get_length(bufferevent_get_output(bev)) == 0 && sg_tls_close_write(bev))
        shutdown(bufferevent_getfd(bev), SHUT_WR);
}

void sg_finish(struct bufferevent *bev)
{
    static const struct timeval limit = {.tv_sec = LIMIT_S};
    struct finishing *finishing = calloc(1, sizeof *finishing);
    if (!finishing) {
        bufferevent_free(bev);
        return;
    }
    finishing->bev = bev;
    finishing->limit = evtimer_new(bufferevent_get_base(bev), on_limit, finishing);
    if (!finishing->limit || evtimer_add(finishing->limit, &limit) != 0) {
        end(finishing);
        return;
    }
    bufferevent_setcb(bev, on_input, on_written, on_end, finishing);
    bufferevent_set_timeouts(bev, NULL, NULL);
    bufferevent_setwatermark(bev, EV_READ, 0, 0);
    bufferevent_setwatermark(bev, EV_WRITE, 0, 0);
    on_input(bev, NULL);
    if (bufferevent_enable(bev, EV_READ | EV_WRITE) != 0)
        end(finishing);
    else
        on_written(bev, NULL);
}

void sg_finish_now(struct bufferevent *bev)
{
    bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
    sg_tls_write_now(bev);
    (void)sg_tls_close_write(bev);
    bufferevent_free(bev);
}
