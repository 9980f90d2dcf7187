/* The end of a connection in good order: flush, close_notify, close; bounded in time. */
#include "net/finish.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "net/tls.h"

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)what;
    (void)ctx;
    bufferevent_free(bev);
}

static void on_written(struct bufferevent *bev, void *ctx)
{
    (void)ctx;
    if (evbuffer_get_length(bufferevent_get_output(bev)) > 0)
        return;
    if (sg_tls_close_write(bev))
        bufferevent_free(bev);
}

static void on_input(struct bufferevent *bev, void *ctx)
{
    (void)ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    evbuffer_drain(input, evbuffer_get_length(input));
}

void sg_finish(struct bufferevent *bev)
{
    static const struct timeval limit = {.tv_sec = 2};
    bufferevent_setcb(bev, on_input, on_written, on_end, NULL);
    bufferevent_setwatermark(bev, EV_WRITE, 0, 0);
    bufferevent_set_timeouts(bev, &limit, &limit);
    on_input(bev, NULL);
    if (bufferevent_enable(bev, EV_READ | EV_WRITE) != 0)
        bufferevent_free(bev);
    else if (evbuffer_get_length(bufferevent_get_output(bev)) == 0)
        on_written(bev, NULL);
}

void sg_finish_now(struct bufferevent *bev)
{
    bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
    (void)bufferevent_flush(bev, EV_WRITE, BEV_FINISHED);
    sg_tls_close_write(bev);
    bufferevent_free(bev);
}
