/*
 * A bounds-checked read cursor over bytes that somebody else owns. Its error sticks: a parser reads
 * every field, then asks once whether all were there. After an error every read gives 0 or NULL and
 * moves nothing.
 */
#ifndef SG_CORE_RBUF_H
#define SG_CORE_RBUF_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sg_rbuf {
    const uint8_t *pos;
    const uint8_t *end;
    bool failed;
};

/* bytes may be NULL, as an empty buffer's is; len is 0 then. */
static inline struct sg_rbuf sg_rbuf_init(const uint8_t *bytes, size_t len)
{
    return (struct sg_rbuf){.pos = bytes, .end = bytes ? bytes + len : NULL, .failed = false};
}

static inline size_t sg_rbuf_left(const struct sg_rbuf *r)
{
    return (size_t)(r->end - r->pos);
}

/* The next len bytes in place, or NULL (and the error sticks) when fewer are left. */
static inline const uint8_t *sg_rbuf_bytes(struct sg_rbuf *r, size_t len)
{
    if (r->failed || sg_rbuf_left(r) < len) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *bytes = r->pos;
    r->pos += len;
    return bytes;
}

/* The next len bytes to out, or 0 (and the error sticks). */
static inline void sg_rbuf_copy(struct sg_rbuf *r, void *out, size_t len)
{
    const uint8_t *bytes = sg_rbuf_bytes(r, len);
    if (bytes)
        memcpy(out, bytes, len);
    else
        memset(out, 0, len);
}

/* Big-endian unsigned integer of width bytes, 1 to 8. */
static inline uint64_t sg_rbuf_uint(struct sg_rbuf *r, size_t width)
{
    const uint8_t *bytes = sg_rbuf_bytes(r, width);
    uint64_t value = 0;
    if (bytes)
        for (size_t i = 0; i < width; i++)
            value = value << 8 | bytes[i];
    return value;
}

/* The same of one width, without a loop: several are read for each datagram. */
static inline uint8_t sg_rbuf_u8(struct sg_rbuf *r)
{
    uint8_t value = 0;
    sg_rbuf_copy(r, &value, sizeof value);
    return value;
}
static inline uint16_t sg_rbuf_u16(struct sg_rbuf *r)
{
    uint16_t big = 0;
    sg_rbuf_copy(r, &big, sizeof big);
    return be16toh(big);
}
static inline uint32_t sg_rbuf_u24(struct sg_rbuf *r)
{
    return (uint32_t)sg_rbuf_uint(r, 3);
}
static inline uint32_t sg_rbuf_u32(struct sg_rbuf *r)
{
    uint32_t big = 0;
    sg_rbuf_copy(r, &big, sizeof big);
    return be32toh(big);
}
static inline uint64_t sg_rbuf_u64(struct sg_rbuf *r)
{
    uint64_t big = 0;
    sg_rbuf_copy(r, &big, sizeof big);
    return be64toh(big);
}

/* True when every read so far succeeded. */
static inline bool sg_rbuf_ok(const struct sg_rbuf *r)
{
    return !r->failed;
}

/* True when every read succeeded and nothing is left over: a message is consumed exactly. */
static inline bool sg_rbuf_done(const struct sg_rbuf *r)
{
    return !r->failed && r->pos == r->end;
}

#endif
