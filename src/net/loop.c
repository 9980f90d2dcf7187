/* Threads around event bases; each base is used by one thread at a time. */
#include "net/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include <event2/event.h>

#include "net/done.h"
#include "net/inbox.h"

struct own_loop {
    struct sg_loop public; /* first: what others see of it */
    pthread_t thread;
    struct sg_done ended; /* told by the thread */
    bool has_thread;
    struct sg_letter stop;
};

struct sg_loop *sg_loop_new(void)
{
    struct own_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return NULL;
    loop->public.base = sg_done_init(&loop->ended) ? event_base_new() : NULL;
    loop->public.inbox = loop->public.base ? sg_inbox_new(loop->public.base) : NULL;
    if (loop->public.inbox)
        return &loop->public;
    sg_loop_free(&loop->public);
    return NULL;
}

static void *run(void *ctx)
{
    struct own_loop *loop = ctx;
    event_base_dispatch(loop->public.base);
    sg_done_tell(&loop->ended);
    return NULL;
}

bool sg_loop_start(struct sg_loop *public)
{
    struct own_loop *loop = (struct own_loop *)public;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errno = pthread_create(&loop->thread, NULL, run, loop);
    loop->has_thread = errno == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return loop->has_thread;
}

static void break_loop(void *ctx)
{
    event_base_loopbreak(ctx);
}

static void post_stop(struct own_loop *loop)
{
    loop->stop = (struct sg_letter){.fn = break_loop, .ctx = loop->public.base};
    sg_inbox_post(loop->public.inbox, &loop->stop);
}

void sg_loop_stop(struct sg_loop *public)
{
    struct own_loop *loop = (struct own_loop *)public;
    if (!loop->has_thread)
        return;
    post_stop(loop);
    pthread_join(loop->thread, NULL);
    loop->has_thread = false;
}

bool sg_loop_stop_within(struct sg_loop *public, unsigned limit_ms)
{
    struct own_loop *loop = (struct own_loop *)public;
    if (!loop->has_thread)
        return true;
    post_stop(loop);
    if (!sg_done_wait(&loop->ended, limit_ms))
        return false;
    pthread_join(loop->thread, NULL);
    loop->has_thread = false;
    return true;
}

void sg_loop_settle(struct sg_loop *loop, unsigned limit_ms)
{
    struct timeval limit = {.tv_sec = (time_t)(limit_ms / 1000), .tv_usec = (suseconds_t)(limit_ms % 1000) * 1000};
    sg_inbox_free(loop->inbox);
    loop->inbox = NULL;
    if (event_base_loopexit(loop->base, &limit) != 0)
        return;
    /* more than the limit's own event: something still leaves */
    while (!event_base_got_exit(loop->base) &&
           event_base_get_num_events(loop->base, EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE) > 1)
        if (event_base_loop(loop->base, EVLOOP_ONCE) != 0)
            return;
}

void sg_loop_free(struct sg_loop *public)
{
    if (!public)
        return;
    sg_inbox_free(public->inbox);
    if (public->base)
        event_base_free(public->base);
    sg_done_dispose(&((struct own_loop *)public)->ended);
    free(public);
}
