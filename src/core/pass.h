/*
 * What a client shows of its session in the clear, in a ClientHello, so that the server can tell it from strangers
 * before it has logged in (docs/protocol.md section 3.1). It lets nobody in: it gives a connection a place.
 */
#ifndef SG_CORE_PASS_H
#define SG_CORE_PASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/datagram.h"

enum {
    SG_PASS_TAG_BYTES = 16,
    SG_PASS_BYTES = SG_RECORD_CHANNEL_BYTES + 8 + SG_PASS_TAG_BYTES, /* channel id, number, tag */
    SG_PASS_WINDOW_WORDS = 17,                                       /* of 64 numbers: 1024 may be under way at once */
};

/* Which numbers of a pass were shown; all 0 at first. */
struct sg_pass_window {
    uint64_t highest;
    uint64_t words[SG_PASS_WINDOW_WORDS];
};

/* The client's side; each number once, 0 first. */
void sg_pass_show(const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES], const uint8_t key[static SG_KEY_BYTES],
                  uint64_t number, uint8_t out[static SG_PASS_BYTES]);

/* The server's side: true if the tag is right, and its number was not shown before: it was now. */
bool sg_pass_take(const uint8_t shown[static SG_PASS_BYTES], const uint8_t key[static SG_KEY_BYTES],
                  struct sg_pass_window *window);

#endif
