/*
 * The search sends every size of the table at once, since on a path that drops long records each size that fails costs
 * a wait; what is answered is kept. Sizes are UDP payloads, and stand for MTUs that are met: 576 and 1006 (old links),
 * 1280 (IPv6's least), 1400 and 1420 (tunnels), 1492 (PPPoE), 1500 (Ethernet), 4470, 9000 (jumbo frames), each less 28
 * and 48 bytes.
 */
#include "core/pmtu.h"

#include "core/datagram.h"
#include "core/path.h"

/* 1264: what a datagram of 1200 bytes needs at most. */
enum { COMMON_CEILING = 1472 };
static const uint16_t common_sizes[] = {548,  978,  1200, 1232, 1252, 1264, 1352, 1372, 1392,
                                        1424, 1444, 1452, 1464, 1472, 4422, 8952, 8972};

void sg_pmtu_init(struct sg_pmtu *pmtu)
{
    *pmtu = (struct sg_pmtu){.record_max = SG_PLPMTU_MIN};
}

/* The sizes above what is known to work. */
static void start_search(struct sg_pmtu *pmtu, uint64_t now_ms)
{
    pmtu->rung_count = 0;
    for (unsigned i = 0; i < sizeof common_sizes / sizeof *common_sizes; i++)
        if (common_sizes[i] > pmtu->record_max && common_sizes[i] < pmtu->ceiling)
            pmtu->rungs[pmtu->rung_count++] = common_sizes[i];
    if (pmtu->ceiling > pmtu->record_max)
        pmtu->rungs[pmtu->rung_count++] = pmtu->ceiling;
    pmtu->left = pmtu->rung_count;
    pmtu->tries = 0;
    pmtu->next_ms = now_ms;
    pmtu->used = false;
}

/* A search that was made, and nobody who would need a further one. */
static bool is_idle(const struct sg_pmtu *pmtu)
{
    return pmtu->tries == SG_PMTU_TRIES && !pmtu->used;
}

void sg_pmtu_start(struct sg_pmtu *pmtu, size_t kernel_max, uint32_t next_id, uint64_t now_ms)
{
    bool has_searched = pmtu->has_searched;
    uint64_t searched_ms = pmtu->searched_ms;
    bool is_early = has_searched && now_ms < searched_ms + SG_PMTU_SPACING_MS;
    sg_pmtu_init(pmtu);
    pmtu->running = true;
    pmtu->has_searched = has_searched;
    pmtu->searched_ms = searched_ms;
    pmtu->first_id = next_id;
    if (kernel_max == 0)
        kernel_max = COMMON_CEILING;
    pmtu->ceiling = kernel_max < SG_RECORD_MAX ? (uint16_t)kernel_max : SG_RECORD_MAX;
    start_search(pmtu, is_early ? searched_ms + SG_PMTU_SPACING_MS : now_ms);
}

void sg_pmtu_stop(struct sg_pmtu *pmtu)
{
    pmtu->running = false;
}

void sg_pmtu_sent(struct sg_pmtu *pmtu, size_t record_bytes, uint64_t now_ms)
{
    pmtu->used = true;
    if (record_bytes <= SG_PLPMTU_MIN || record_bytes > pmtu->record_max || pmtu->long_sent)
        return;
    pmtu->long_sent = true;
    if (pmtu->confirm_ms < now_ms)
        pmtu->confirm_ms = now_ms;
}

static bool needs_confirmation(const struct sg_pmtu *pmtu)
{
    return pmtu->long_sent && pmtu->record_max > SG_PLPMTU_MIN;
}

/* A probe of the size in use, or 0. Without an answer to the last of them the size is given up. */
static uint16_t confirmation_due(struct sg_pmtu *pmtu, uint64_t now_ms)
{
    if (!needs_confirmation(pmtu) || now_ms < pmtu->confirm_ms)
        return 0;
    if (pmtu->unconfirmed == SG_PMTU_CONFIRM_TRIES) {
        pmtu->record_max = SG_PLPMTU_MIN;
        pmtu->settled = false;
        pmtu->long_sent = false;
        pmtu->unconfirmed = 0;
        start_search(pmtu, now_ms);
        return 0;
    }
    pmtu->unconfirmed++;
    pmtu->confirm_ms = now_ms + SG_PMTU_REPEAT_MS;
    return pmtu->record_max;
}

/* The next size of a try, largest first, or 0 when all of them are out. */
static uint16_t search_due(struct sg_pmtu *pmtu, uint64_t now_ms)
{
    if (now_ms < pmtu->next_ms || is_idle(pmtu))
        return 0;
    if (pmtu->tries == SG_PMTU_TRIES)
        start_search(pmtu, now_ms);
    if (pmtu->tries == 0 && pmtu->left == pmtu->rung_count) {
        pmtu->has_searched = true;
        pmtu->searched_ms = now_ms;
    }
    while (pmtu->left > 0) {
        uint16_t size = pmtu->rungs[--pmtu->left];
        if (size > pmtu->record_max)
            return size;
    }
    pmtu->left = pmtu->rung_count;
    pmtu->tries++;
    pmtu->settled |= pmtu->tries == SG_PMTU_TRIES;
    pmtu->next_ms = now_ms + (pmtu->tries < SG_PMTU_TRIES ? SG_PMTU_REPEAT_MS : SG_PMTU_RAISE_MS);
    return 0;
}

uint16_t sg_pmtu_due(struct sg_pmtu *pmtu, uint64_t now_ms)
{
    if (!pmtu->running)
        return 0;
    uint16_t size = confirmation_due(pmtu, now_ms);
    return size > 0 ? size : search_due(pmtu, now_ms);
}

void sg_pmtu_answered(struct sg_pmtu *pmtu, uint32_t id, uint16_t size, uint64_t now_ms)
{
    bool is_of_this_path = id - pmtu->first_id < UINT32_MAX / 2; /* ids wrap around */
    if (!pmtu->running || !is_of_this_path || size < pmtu->record_max || size > pmtu->ceiling)
        return;
    pmtu->record_max = size;
    pmtu->settled |= size == pmtu->ceiling;
    pmtu->long_sent = false;
    pmtu->unconfirmed = 0;
    pmtu->confirm_ms = now_ms + SG_PMTU_CONFIRM_MS;
}

uint64_t sg_pmtu_next_timeout(const struct sg_pmtu *pmtu)
{
    if (!pmtu->running)
        return SG_NEVER;
    uint64_t next_ms = is_idle(pmtu) ? SG_NEVER : pmtu->next_ms;
    return needs_confirmation(pmtu) && pmtu->confirm_ms < next_ms ? pmtu->confirm_ms : next_ms;
}
