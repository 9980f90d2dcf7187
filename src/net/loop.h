/* An event loop with its inbox: on the thread that made it, or on one of its own. */
#ifndef SG_NET_LOOP_H
#define SG_NET_LOOP_H

#include <stdbool.h>

struct event_base;
struct sg_inbox;

struct sg_loop {
    struct event_base *base;
    struct sg_inbox *inbox;
};

/* NULL when memory or descriptors are short. */
struct sg_loop *sg_loop_new(void);

/* Runs it on a thread of its own, on which signals are blocked. False with errno. */
bool sg_loop_start(struct sg_loop *loop);
/* Ends that thread; nothing if there is none. Not from the loop itself. */
void sg_loop_stop(struct sg_loop *loop);
/* The same, if it takes at most limit_ms. False: the thread hangs in a letter, and the loop must not be freed. */
bool sg_loop_stop_within(struct sg_loop *loop, unsigned limit_ms);

/*
 * Once its thread has ended and nobody posts any more: works off the inbox, and gives what was handed to the loop for a
 * good end (CLOSE, close_notify) at most limit_ms to leave.
 */
void sg_loop_settle(struct sg_loop *loop, unsigned limit_ms);
void sg_loop_free(struct sg_loop *loop); /* accepts NULL */

#endif
