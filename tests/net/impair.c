/*
 * The decisions of a bad network; see impair.h.
 */
#include "impair.h"

uint64_t emu_random_next(uint64_t *state)
{
    uint64_t mixed = *state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

/* From 0 to below 1. */
static double draw(uint64_t *state)
{
    return (double)(emu_random_next(state) >> 11) * 0x1p-53;
}

void emu_impair_init(struct emu_impair *impair, uint64_t seed)
{
    *impair = (struct emu_impair){.seed = seed};
}

static uint64_t packet_random(const struct emu_impair *impair, enum emu_direction direction, enum emu_class class,
                              uint64_t number)
{
    uint64_t state = impair->seed;
    state = emu_random_next(&state) ^ (number * EMU_DIRECTIONS * EMU_CLASSES + direction * EMU_CLASSES + class);
    return emu_random_next(&state);
}

static bool is_blackholed(const struct emu_faults *faults, uint64_t now_ns)
{
    if (now_ns < faults->blackhole_from_ns)
        return false;
    uint64_t into_ns = now_ns - faults->blackhole_from_ns;
    if (faults->blackhole_every_ns > 0)
        into_ns %= faults->blackhole_every_ns;
    return into_ns < faults->blackhole_until_ns - faults->blackhole_from_ns;
}

/* Both draws are made for each packet, whatever the state. */
static bool is_lost_in_burst(struct emu_lane *lane, uint64_t *random)
{
    double change = draw(random), loss = draw(random);
    if (change < (lane->bad ? lane->faults.burst_leave : lane->faults.burst_enter))
        lane->bad = !lane->bad;
    return loss < (lane->bad ? lane->faults.burst_loss_bad : lane->faults.burst_loss_good);
}

/* When the last bit of a packet has left the queue; false if there is no room for it. */
static bool pass_queue(struct emu_impair *impair, enum emu_direction direction, size_t len, uint64_t now_ns,
                       uint64_t *left_ns)
{
    const struct emu_link *link = &impair->links[direction];
    *left_ns = now_ns;
    if (link->rate_bps == 0)
        return true;
    uint64_t free_ns = impair->free_ns[direction] > now_ns ? impair->free_ns[direction] : now_ns;
    double ns_per_byte = 8e9 / (double)link->rate_bps;
    if (free_ns > now_ns && (double)(free_ns - now_ns) / ns_per_byte + (double)len > (double)link->queue_bytes)
        return false;
    *left_ns = impair->free_ns[direction] = free_ns + (uint64_t)((double)len * ns_per_byte);
    return true;
}

/* Each draw is made for each copy. */
static void send_copy(struct emu_impair *impair, enum emu_direction direction, enum emu_class class, size_t len,
                      uint64_t now_ns, uint64_t *random, struct emu_verdict *verdict)
{
    struct emu_lane *lane = &impair->lanes[direction][class];
    const struct emu_faults *faults = &lane->faults;
    struct emu_copy copy = {.corrupt = draw(random) < faults->corrupt, .corrupt_how = emu_random_next(random)};
    bool held_back = draw(random) < faults->reorder;
    uint64_t jitter_ns = (uint64_t)(draw(random) * (double)faults->jitter_ns);
    if (!pass_queue(impair, direction, len, now_ns, &copy.due_ns)) {
        lane->ledger.queue_dropped++;
        return;
    }
    copy.due_ns += faults->delay_ns + jitter_ns;
    if (held_back) {
        copy.due_ns += faults->reorder_ns;
        lane->ledger.reordered++;
    } else {
        if (copy.due_ns < lane->last_due_ns)
            copy.due_ns = lane->last_due_ns;
        lane->last_due_ns = copy.due_ns;
    }
    lane->ledger.queued++;
    verdict->copies[verdict->count++] = copy;
}

struct emu_verdict emu_impair_decide(struct emu_impair *impair, enum emu_direction direction, enum emu_class class,
                                     size_t len, uint64_t now_ns)
{
    struct emu_lane *lane = &impair->lanes[direction][class];
    const struct emu_faults *faults = &lane->faults;
    struct emu_ledger *ledger = &lane->ledger;
    uint64_t random = packet_random(impair, direction, class, lane->number++);
    ledger->received++;

    bool lost = draw(&random) < faults->loss;
    bool burst_lost = is_lost_in_burst(lane, &random);
    bool duplicated = draw(&random) < faults->duplicate;
    if (impair->links[direction].mtu > 0 && len > impair->links[direction].mtu) {
        ledger->too_big++;
        return (struct emu_verdict){.fate = EMU_TOO_BIG};
    }
    struct emu_verdict verdict = {.fate = EMU_TAKEN};
    if (is_blackholed(faults, now_ns)) {
        ledger->blackholed++;
    } else if (lost) {
        ledger->lost++;
    } else if (burst_lost) {
        ledger->burst_lost++;
    } else {
        verdict.fate = EMU_PASSES;
        send_copy(impair, direction, class, len, now_ns, &random, &verdict);
        ledger->duplicated += duplicated;
        if (duplicated)
            send_copy(impair, direction, class, len, now_ns, &random, &verdict);
    }
    return verdict;
}

void emu_impair_end(struct emu_impair *impair, enum emu_direction direction, enum emu_class class, enum emu_end end)
{
    struct emu_ledger *ledger = &impair->lanes[direction][class].ledger;
    ledger->queued--;
    switch (end) {
    case EMU_DELIVERED:
        ledger->delivered++;
        break;
    case EMU_NO_MAPPING:
        ledger->nat_dropped++;
        break;
    case EMU_FAILED:
        ledger->failed++;
        break;
    case EMU_NO_ROOM:
        ledger->queue_dropped++;
        break;
    }
}

bool emu_ledger_adds_up(const struct emu_ledger *l)
{
    return l->received + l->duplicated == l->delivered + l->queued + l->lost + l->burst_lost + l->blackholed +
                                              l->too_big + l->queue_dropped + l->nat_dropped + l->failed;
}
