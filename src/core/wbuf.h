/*
 * A bounds-checked write cursor over a buffer that somebody else owns. Its error sticks: a writer
 * writes every field, then asks once whether all fitted. After an error nothing more is written.
 */
#ifndef SG_CORE_WBUF_H
#define SG_CORE_WBUF_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sg_wbuf {
    uint8_t *start;
    uint8_t *pos;
    uint8_t *end;
    bool failed;
};

static inline struct sg_wbuf sg_wbuf_init(uint8_t *buffer, size_t size)
{
    return (struct sg_wbuf){.start = buffer, .pos = buffer, .end = buffer + size, .failed = false};
}

static inline size_t sg_wbuf_len(const struct sg_wbuf *w)
{
    return (size_t)(w->pos - w->start);
}

static inline bool sg_wbuf_ok(const struct sg_wbuf *w)
{
    return !w->failed;
}

/* Room for len bytes that the caller fills, or NULL (and the error sticks) when they do not fit. */
static inline uint8_t *sg_wbuf_room(struct sg_wbuf *w, size_t len)
{
    if (w->failed || (size_t)(w->end - w->pos) < len) {
        w->failed = true;
        return NULL;
    }
    uint8_t *room = w->pos;
    w->pos += len;
    return room;
}

static inline void sg_wbuf_bytes(struct sg_wbuf *w, const void *bytes, size_t len)
{
    uint8_t *room = sg_wbuf_room(w, len);
    if (room && len > 0)
        memcpy(room, bytes, len);
}

/* Big-endian unsigned integer of width bytes, 1 to 8. */
static inline void sg_wbuf_uint(struct sg_wbuf *w, uint64_t value, size_t width)
{
    uint8_t *room = sg_wbuf_room(w, width);
    if (room)
        for (size_t i = 0; i < width; i++)
            room[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

/* The same of one width, without a loop: several are written for each datagram. */
static inline void sg_wbuf_u8(struct sg_wbuf *w, uint8_t value)
{
    sg_wbuf_bytes(w, &value, sizeof value);
}
static inline void sg_wbuf_u16(struct sg_wbuf *w, uint16_t value)
{
    const uint16_t big = htobe16(value);
    sg_wbuf_bytes(w, &big, sizeof big);
}
static inline void sg_wbuf_u24(struct sg_wbuf *w, uint32_t value)
{
    sg_wbuf_uint(w, value, 3);
}
static inline void sg_wbuf_u32(struct sg_wbuf *w, uint32_t value)
{
    const uint32_t big = htobe32(value);
    sg_wbuf_bytes(w, &big, sizeof big);
}
static inline void sg_wbuf_u64(struct sg_wbuf *w, uint64_t value)
{
    const uint64_t big = htobe64(value);
    sg_wbuf_bytes(w, &big, sizeof big);
}

#endif
