/*
 * The replay window of one sender id: which counters were received already (after RFC 6479: a ring
 * of words, of which the one ahead is cleared as the window moves, so that nothing is ever
 * shifted).
 *
 * The window is exact: it is the `size` counters that end at the highest one received. check reads,
 * update moves; between the two the record must have verified, or an attacker moves the window
 * (OpenSSL CVE-2016-2181).
 *
 * The _in forms take the shape as arguments, so that tests can go through every state of a small
 * window; with the constants of the record they compile to the same code as if written for it. A
 * ring of n words of b bits has a window of (n - 1) * b.
 */
#ifndef SG_CORE_REPLAY_H
#define SG_CORE_REPLAY_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/datagram.h"
#include "core/err.h"

enum { SG_REPLAY_WORD_BITS = 64, SG_REPLAY_WORDS = SG_REPLAY_WINDOW / SG_REPLAY_WORD_BITS + 1 };

static_assert(SG_REPLAY_WINDOW % SG_REPLAY_WORD_BITS == 0, "the window is whole words, plus the one that is filled");

/* All 0 is the empty window: the highest counter is then taken for 0, but its bit is not set. */
struct sg_replay {
    uint64_t highest;
    uint64_t words[SG_REPLAY_WORDS];
};

/* OK: not received yet. REPLAYED: received. TOO_OLD: below the window. */
static inline enum sg_err sg_replay_check_in(uint64_t highest, const uint64_t *words, size_t word_count,
                                             unsigned word_bits, uint64_t counter)
{
    if (counter > highest)
        return SG_OK;
    if (highest - counter >= (word_count - 1) * word_bits)
        return SG_ERR_TOO_OLD;
    bool received = words[counter / word_bits % word_count] >> (counter % word_bits) & 1;
    return received ? SG_ERR_REPLAYED : SG_OK;
}

/* Marks a counter for which check gives OK. */
static inline void sg_replay_update_in(uint64_t *highest, uint64_t *words, size_t word_count, unsigned word_bits,
                                       uint64_t counter)
{
    if (counter > *highest) {
        uint64_t steps = counter / word_bits - *highest / word_bits;
        if (steps > word_count)
            steps = word_count; /* every word is cleared once */
        for (uint64_t i = 0; i < steps; i++)
            words[(counter / word_bits - i) % word_count] = 0;
        *highest = counter;
    }
    words[counter / word_bits % word_count] |= UINT64_C(1) << (counter % word_bits);
}

static inline enum sg_err sg_replay_check(const struct sg_replay *window, uint64_t counter)
{
    return sg_replay_check_in(window->highest, window->words, SG_REPLAY_WORDS, SG_REPLAY_WORD_BITS, counter);
}

static inline void sg_replay_update(struct sg_replay *window, uint64_t counter)
{
    sg_replay_update_in(&window->highest, window->words, SG_REPLAY_WORDS, SG_REPLAY_WORD_BITS, counter);
}

#endif
