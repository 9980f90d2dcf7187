/*
 * The key arena: where all record keys of a process live, in slots of one size. Its memory is
 * locked, kept out of core dumps, and wiped in the child of a fork.
 *
 * Each slot starts with a marker. In a forked child every slot is 0, marker too: whoever uses a
 * slot asks sg_arena_is_alive first, and refuses to seal or open (WIPED), so that parent and child
 * never seal under one nonce. Several threads may take and give; a slot is one thread's.
 */
#ifndef SG_CORE_ARENA_H
#define SG_CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/aead.h"
#include "core/replay.h"

enum { SG_ARENA_ALIGN = SG_AEAD_STATE_ALIGN };

/* The largest user is the receiver's slot of one sender id: state and window, with one line for
 * marker and ids. */
enum {
    SG_ARENA_SLOT_BYTES = SG_ARENA_ALIGN + SG_AEAD_STATE_BYTES +
                          (sizeof(struct sg_replay) + SG_ARENA_ALIGN - 1) / SG_ARENA_ALIGN * SG_ARENA_ALIGN
};

/* The first member of whatever lives in a slot. */
struct sg_arena_mark {
    uint64_t alive;
};

struct sg_arena;

/*
 * An arena of that many slots, at least 1. Address space is taken at once, memory as slots are
 * first used. *locked tells whether the kernel agreed to lock it (RLIMIT_MEMLOCK counts the whole
 * size): if not, the caller warns once and goes on. NULL when there is no memory, or the kernel
 * cannot wipe it in forks.
 */
struct sg_arena *sg_arena_new(size_t slots, bool *locked);
/* Wipes and unmaps; accepts NULL. No slot may be used afterwards. */
void sg_arena_free(struct sg_arena *arena);

/* How many slots so many channels need at most: one to send, one to receive, one for each sender id
 * of the peer. */
size_t sg_arena_slots(size_t channels, uint32_t max_senders);

/* A slot, all 0 but its marker, aligned to SG_ARENA_ALIGN; NULL if none is left. */
void *sg_arena_take(struct sg_arena *arena);
/* Wipes the slot and gives it back; accepts NULL. */
void sg_arena_give(struct sg_arena *arena, void *slot);
size_t sg_arena_in_use(struct sg_arena *arena);

/* False for NULL, for a slot that was given back, and for every slot in a forked child. */
bool sg_arena_is_alive(const void *slot);

#endif
