/* A ring of entries: length (4 bytes), time (8 bytes), then the plaintext. Entries may wrap around the ring's end. */
#include "core/squeue.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    uint64_t at_ms;
    uint64_t len;
};

void sg_squeue_dispose(struct sg_squeue *queue)
{
    free(queue->ring);
    *queue = (struct sg_squeue){0};
}

static void copy_in(struct sg_squeue *queue, size_t at, const void *bytes, size_t len)
{
    size_t first = SG_SQUEUE_BYTES - at < len ? SG_SQUEUE_BYTES - at : len;
    memcpy(queue->ring + at, bytes, first);
    memcpy(queue->ring, (const uint8_t *)bytes + first, len - first);
}

static void copy_out(const struct sg_squeue *queue, size_t at, void *bytes, size_t len)
{
    size_t first = SG_SQUEUE_BYTES - at < len ? SG_SQUEUE_BYTES - at : len;
    memcpy(bytes, queue->ring + at, first);
    memcpy((uint8_t *)bytes + first, queue->ring, len - first);
}

static struct entry oldest(const struct sg_squeue *queue)
{
    struct entry entry = {0};
    if (queue->count > 0)
        copy_out(queue, queue->head, &entry, sizeof entry);
    return entry;
}

static void drop_oldest(struct sg_squeue *queue)
{
    size_t size = sizeof(struct entry) + (size_t)oldest(queue).len;
    queue->head = (queue->head + size) % SG_SQUEUE_BYTES;
    queue->bytes -= size;
    queue->count--;
}

size_t sg_squeue_push(struct sg_squeue *queue, const uint8_t *bytes, size_t len, uint64_t now_ms, bool *queued)
{
    struct entry entry = {.at_ms = now_ms, .len = len};
    size_t size = sizeof entry + len;
    size_t dropped = 0;

    *queued = false;
    if (!queue->ring)
        queue->ring = malloc(SG_SQUEUE_BYTES);
    if (!queue->ring || size > SG_SQUEUE_BYTES)
        return 1;
    for (; SG_SQUEUE_BYTES - queue->bytes < size; dropped++)
        drop_oldest(queue);
    size_t tail = (queue->head + queue->bytes) % SG_SQUEUE_BYTES;
    copy_in(queue, tail, &entry, sizeof entry);
    copy_in(queue, (tail + sizeof entry) % SG_SQUEUE_BYTES, bytes, len);
    queue->bytes += size;
    queue->count++;
    *queued = true;
    return dropped;
}

size_t sg_squeue_expire(struct sg_squeue *queue, uint64_t now_ms)
{
    size_t dropped = 0;
    for (; queue->count > 0 && now_ms - oldest(queue).at_ms > SG_SQUEUE_AGE_MS; dropped++)
        drop_oldest(queue);
    return dropped;
}

uint64_t sg_squeue_next_timeout(const struct sg_squeue *queue)
{
    return queue->count > 0 ? oldest(queue).at_ms + SG_SQUEUE_AGE_MS + 1 : UINT64_MAX;
}

size_t sg_squeue_peek(const struct sg_squeue *queue)
{
    return (size_t)oldest(queue).len;
}

void sg_squeue_pop(struct sg_squeue *queue, uint8_t *out)
{
    copy_out(queue, (queue->head + sizeof(struct entry)) % SG_SQUEUE_BYTES, out, (size_t)oldest(queue).len);
    drop_oldest(queue);
}
