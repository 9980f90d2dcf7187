/*
 * What one thread asks of another thread's event loop. The only way in: loops share no state on the data path.
 */
#ifndef SG_NET_INBOX_H
#define SG_NET_INBOX_H

struct event_base;
struct sg_inbox;

/* The asker's memory: it stays as it is until fn(ctx) is called, and is fn's from then on. */
struct sg_letter {
    struct sg_letter *next; /* of the inbox */
    void (*fn)(void *ctx);
    void *ctx;
};

/* NULL when memory or descriptors are short. */
struct sg_inbox *sg_inbox_new(struct event_base *base);
/* Accepts NULL. Letters that wait are worked off first, on the calling thread: nobody may post any more. */
void sg_inbox_free(struct sg_inbox *inbox);

/* fn(ctx) runs on the loop, soon, in the order of posting. From any thread. */
void sg_inbox_post(struct sg_inbox *inbox, struct sg_letter *letter);

/* Posts, and returns when fn has returned. From any thread but the loop's own; the loop must be running. */
void sg_inbox_call(struct sg_inbox *inbox, void (*fn)(void *ctx), void *ctx);

#endif
