/* A queue under a lock, and an eventfd that wakes the loop. */
#include "net/inbox.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

struct sg_inbox {
    pthread_mutex_t lock;
    struct sg_letter *first, **last; /* under lock */
    int fd;
    struct event *readable;
};

static struct sg_letter *take_all(struct sg_inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    struct sg_letter *first = inbox->first;
    inbox->first = NULL;
    inbox->last = &inbox->first;
    pthread_mutex_unlock(&inbox->lock);
    return first;
}

static void work_off(struct sg_inbox *inbox)
{
    for (struct sg_letter *letter = take_all(inbox), *next = NULL; letter; letter = next) {
        next = letter->next;
        letter->fn(letter->ctx);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    uint64_t count = 0;
    (void)what;
    if (read(fd, &count, sizeof count) < 0) {
        /* what woke us was worked off with an earlier letter */
    }
    work_off(ctx);
}

struct sg_inbox *sg_inbox_new(struct event_base *base)
{
    struct sg_inbox *inbox = calloc(1, sizeof *inbox);
    if (!inbox)
        return NULL;
    pthread_mutex_init(&inbox->lock, NULL);
    inbox->last = &inbox->first;
    inbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    inbox->readable = inbox->fd < 0 ? NULL : event_new(base, inbox->fd, EV_READ | EV_PERSIST, on_readable, inbox);
    if (inbox->readable && event_add(inbox->readable, NULL) == 0)
        return inbox;
    sg_inbox_free(inbox);
    return NULL;
}

void sg_inbox_free(struct sg_inbox *inbox)
{
    if (!inbox)
        return;
    work_off(inbox);
    if (inbox->readable)
        event_free(inbox->readable);
    if (inbox->fd >= 0)
        close(inbox->fd);
    pthread_mutex_destroy(&inbox->lock);
    free(inbox);
}

void sg_inbox_post(struct sg_inbox *inbox, struct sg_letter *letter)
{
    const uint64_t one = 1;
    letter->next = NULL;
    pthread_mutex_lock(&inbox->lock);
    *inbox->last = letter;
    inbox->last = &letter->next;
    pthread_mutex_unlock(&inbox->lock);
    if (write(inbox->fd, &one, sizeof one) < 0) {
        /* the counter is full: the loop is awake anyway */
    }
}

/* --- calls --- */

struct call {
    struct sg_letter letter;
    void (*fn)(void *ctx);
    void *ctx;
    pthread_mutex_t lock;
    pthread_cond_t returned;
    bool done; /* under lock */
};

static void run_call(void *ctx)
{
    struct call *call = ctx;
    call->fn(call->ctx);
    pthread_mutex_lock(&call->lock);
    call->done = true;
    pthread_cond_signal(&call->returned);
    pthread_mutex_unlock(&call->lock);
}

void sg_inbox_call(struct sg_inbox *inbox, void (*fn)(void *ctx), void *ctx)
{
    struct call call = {.letter.fn = run_call, .fn = fn, .ctx = ctx};
    call.letter.ctx = &call;
    pthread_mutex_init(&call.lock, NULL);
    pthread_cond_init(&call.returned, NULL);
    sg_inbox_post(inbox, &call.letter);
    pthread_mutex_lock(&call.lock);
    while (!call.done)
        pthread_cond_wait(&call.returned, &call.lock);
    pthread_mutex_unlock(&call.lock);
    pthread_cond_destroy(&call.returned);
    pthread_mutex_destroy(&call.lock);
}
