/*
 * Datagrams that wait for the stream: a bounded queue in one ring of bytes. At most 256 KiB wait, none longer than
 * 500 ms; the oldest goes first (docs/protocol.md section 7).
 */
#ifndef SG_CORE_SQUEUE_H
#define SG_CORE_SQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SG_SQUEUE_BYTES = 256 * 1024, SG_SQUEUE_AGE_MS = 500 };

struct sg_squeue {
    uint8_t *ring; /* made by the first push, kept until dispose */
    size_t head;   /* offset of the oldest entry */
    size_t bytes;  /* in use, entry headers included */
    size_t count;
};

void sg_squeue_dispose(struct sg_squeue *queue);

/*
 * Appends a plaintext of len bytes. Returns how many datagrams were dropped for it: older ones that made room, or
 * this one itself (then *queued is false: memory is short).
 */
size_t sg_squeue_push(struct sg_squeue *queue, const uint8_t *bytes, size_t len, uint64_t now_ms, bool *queued);

/* Drops what is too old; returns how many. And when there will be such, if nothing is taken out; UINT64_MAX: never. */
size_t sg_squeue_expire(struct sg_squeue *queue, uint64_t now_ms);
uint64_t sg_squeue_next_timeout(const struct sg_squeue *queue);

/* Length of the oldest datagram, 0 if there is none (none is empty: each has at least its header). */
size_t sg_squeue_peek(const struct sg_squeue *queue);

/* Moves the oldest datagram to out (sg_squeue_peek bytes). */
void sg_squeue_pop(struct sg_squeue *queue, uint8_t *out);

#endif
