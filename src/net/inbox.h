/*
 * What one thread asks of another thread's event loop. The only way in: loops share no state on the data path.
 */
#ifndef SG_NET_INBOX_H
#define SG_NET_INBOX_H

#include <stdbool.h>

struct event_base;
struct sg_inbox;

typedef void sg_inbox_fn(void *ctx);

/* NULL when memory or descriptors are short. Made and freed while no other thread uses it; what waits is not run. */
struct sg_inbox *sg_inbox_new(struct event_base *base);
void sg_inbox_free(struct sg_inbox *inbox);

/* fn(ctx) runs on the loop, soon, in the order of posting. From any thread. False: out of memory, it will not run. */
bool sg_inbox_post(struct sg_inbox *inbox, sg_inbox_fn *fn, void *ctx);

/*
 * Posts, and returns when fn has returned. From any thread but the loop's own; the loop must be running. False: out of
 * memory, it did not run.
 */
bool sg_inbox_call(struct sg_inbox *inbox, sg_inbox_fn *fn, void *ctx);

#endif
