/*
 * The key arena: one anonymous mapping with the kernel's help against swap, dumps and forks, cut
 * into slots of equal size. What says which slots are free lies outside of it, so a forked child
 * can still tidy up.
 */
#include "core/arena.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <sodium.h>
#include <sys/mman.h>

/* Any value but 0, and not one that stray text would have. */
#define MARK_ALIVE UINT64_C(0x9d5c3a71e2f0b846)

struct sg_arena {
    uint8_t *memory;
    size_t bytes;
    size_t slot_count;
    pthread_mutex_t lock; /* for what follows */
    size_t fresh;         /* slots from here on were never used: their pages are not even there */
    size_t free_count;
    size_t in_use;
    uint32_t free_slots[]; /* a stack, so that few pages are ever touched */
};

static_assert(SG_ARENA_SLOT_BYTES % SG_ARENA_ALIGN == 0, "every slot is aligned when the first is");

static bool map_memory(struct sg_arena *arena)
{
    void *memory = mmap(NULL, arena->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    if (madvise(memory, arena->bytes, MADV_WIPEONFORK) != 0 || madvise(memory, arena->bytes, MADV_DONTDUMP) != 0) {
        munmap(memory, arena->bytes);
        return false;
    }
    arena->memory = memory;
    return true;
}

struct sg_arena *sg_arena_new(size_t slots, bool *locked)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *locked = false;
    if (slots == 0 || slots > UINT32_MAX / SG_ARENA_SLOT_BYTES)
        return NULL;
    struct sg_arena *arena = calloc(1, sizeof *arena + slots * sizeof arena->free_slots[0]);
    if (!arena)
        return NULL;
    pthread_mutex_init(&arena->lock, NULL);
    arena->slot_count = slots;
    arena->bytes = (slots * SG_ARENA_SLOT_BYTES + page - 1) / page * page;
    if (!map_memory(arena)) {
        free(arena);
        return NULL;
    }
    /* ONFAULT: pages are locked as they come into use, so an arena sized for the worst case costs
     * nothing while idle. */
    *locked = mlock2(arena->memory, arena->bytes, MLOCK_ONFAULT) == 0;
    return arena;
}

void sg_arena_free(struct sg_arena *arena)
{
    if (!arena)
        return;
    sodium_memzero(arena->memory, arena->fresh * SG_ARENA_SLOT_BYTES);
    munmap(arena->memory, arena->bytes);
    pthread_mutex_destroy(&arena->lock);
    free(arena);
}

size_t sg_arena_slots(size_t channels, uint32_t max_senders)
{
    return channels * (2 + (size_t)max_senders);
}

/* The number of a free slot; slot_count if there is none. The lock is held. */
static size_t take_index(struct sg_arena *arena)
{
    if (arena->free_count > 0)
        return arena->free_slots[--arena->free_count];
    return arena->fresh < arena->slot_count ? arena->fresh++ : arena->slot_count;
}

void *sg_arena_take(struct sg_arena *arena)
{
    pthread_mutex_lock(&arena->lock);
    size_t index = take_index(arena);
    arena->in_use += index < arena->slot_count;
    pthread_mutex_unlock(&arena->lock);
    if (index == arena->slot_count)
        return NULL;
    struct sg_arena_mark *mark = (void *)(arena->memory + index * SG_ARENA_SLOT_BYTES);
    mark->alive = MARK_ALIVE;
    return mark;
}

void sg_arena_give(struct sg_arena *arena, void *slot)
{
    if (!slot)
        return;
    size_t offset = (size_t)((uint8_t *)slot - arena->memory);
    assert(offset % SG_ARENA_SLOT_BYTES == 0 && offset / SG_ARENA_SLOT_BYTES < arena->slot_count);
    sodium_memzero(slot, SG_ARENA_SLOT_BYTES);
    pthread_mutex_lock(&arena->lock);
    arena->free_slots[arena->free_count++] = (uint32_t)(offset / SG_ARENA_SLOT_BYTES);
    arena->in_use--;
    pthread_mutex_unlock(&arena->lock);
}

size_t sg_arena_in_use(struct sg_arena *arena)
{
    pthread_mutex_lock(&arena->lock);
    size_t in_use = arena->in_use;
    pthread_mutex_unlock(&arena->lock);
    return in_use;
}

bool sg_arena_is_alive(const void *slot)
{
    const struct sg_arena_mark *mark = slot;
    return mark && mark->alive == MARK_ALIVE;
}
