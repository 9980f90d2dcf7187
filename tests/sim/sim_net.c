/*
 * The network: events in order of time, a UDP leg with every fault, a stream that is slow but true, and the attacker.
 */
#include "sim.h"

#include "../unit/record_util.h"

uint64_t sim_draw(struct sim *sim, uint64_t below)
{
    return next_random(&sim->random) % below;
}

bool sim_chance(struct sim *sim, unsigned percent)
{
    return sim_draw(sim, 100) < percent;
}

/* --- events: a binary heap --- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

static void swap_events(struct sim *sim, size_t a, size_t b)
{
    struct sim_event kept = sim->heap[a];
    sim->heap[a] = sim->heap[b];
    sim->heap[b] = kept;
}

void sim_schedule(struct sim *sim, const struct sim_event *event)
{
    if (sim->heap_count == sim->heap_size) {
        sim->heap_size = sim->heap_size ? 2 * sim->heap_size : 64;
        sim->heap = realloc(sim->heap, sim->heap_size * sizeof *sim->heap);
        assert_non_null(sim->heap);
    }
    size_t at = sim->heap_count++;
    sim->heap[at] = *event;
    sim->heap[at].order = sim->order++;
    for (; at > 0 && before(&sim->heap[at], &sim->heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap_events(sim, at, (at - 1) / 2);
}

struct sim_event sim_next_event(struct sim *sim)
{
    struct sim_event first = sim->heap[0];
    sim->heap[0] = sim->heap[--sim->heap_count];
    for (size_t at = 0, child = 1; child < sim->heap_count; child = 2 * at + 1) {
        if (child + 1 < sim->heap_count && before(&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (!before(&sim->heap[child], &sim->heap[at]))
            break;
        swap_events(sim, at, child);
        at = child;
    }
    return first;
}

uint64_t sim_next_event_ms(const struct sim *sim)
{
    return sim->heap_count > 0 ? sim->heap[0].at_ms : SG_NEVER;
}

static uint8_t *copy_bytes(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    return copy;
}

void sim_free_network(struct sim *sim)
{
    for (size_t i = 0; i < sim->heap_count; i++)
        free(sim->heap[i].bytes);
    free(sim->heap);
    for (unsigned d = 0; d < 2; d++)
        for (unsigned i = 0; i < 16; i++)
            free(sim->old[d][i].bytes);
}

/* --- UDP --- */

static bool is_blocked(const struct sim *sim, enum sim_direction direction)
{
    const struct sim_config *config = &sim->config;
    return config->blocked[direction] ||
           (config->cut_ms && sim->now_ms >= config->cut_ms && (!config->back_ms || sim->now_ms < config->back_ms));
}

/* Changes one bit, or the length; what is left is another byte string for sure. */
static void damage(struct sim *sim, struct sim_event *event)
{
    event->intact = false;
    if (event->len == 0)
        return;
    switch (sim_draw(sim, 8)) {
    case 0: /* cut short */
        event->len = (size_t)sim_draw(sim, event->len);
        return;
    case 1: /* a byte more: there is room for it */
        event->bytes[event->len++] = (uint8_t)sim_draw(sim, 256);
        return;
    default: {
        uint64_t bit = sim_draw(sim, 8 * event->len);
        event->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    }
}

/* One copy of a record on its way; it is subject to every fault of the leg. */
static void travel(struct sim *sim, const struct sim_event *record, uint64_t delay_ms)
{
    if (is_blocked(sim, record->direction) || sim_chance(sim, sim->config.loss))
        return;
    struct sim_event event = *record;
    event.kind = SIM_UDP;
    event.bytes = copy_bytes(record->bytes, record->len);
    event.at_ms = sim->now_ms + delay_ms + sim_draw(sim, sim->config.jitter_ms + 1);
    if (sim_chance(sim, sim->config.damaged))
        damage(sim, &event);
    sim_schedule(sim, &event);
}

/*
 * The attacker sees a record, keeps some, and sends copies from addresses of its own, sometimes ahead of the
 * original.
 */
static void overhear(struct sim *sim, const struct sim_event *record)
{
    if (sim->calm)
        return;
    struct sim_event *kept = &sim->old[record->direction][sim_draw(sim, 16)];
    free(kept->bytes);
    *kept = *record;
    kept->bytes = copy_bytes(record->bytes, record->len);
    if (!sim_chance(sim, sim->config.copied))
        return;
    struct sim_event copy = *record;
    copy.addr = SIM_CLIENT_ADDRS + (unsigned)sim_draw(sim, SIM_ADDRS - SIM_CLIENT_ADDRS);
    if (record->direction == SIM_UP)
        travel(sim, &copy, sim_chance(sim, 50) ? 0 : sim->config.delay_ms);
}

void sim_send_record(struct sim *sim, enum sim_direction direction, unsigned addr, const uint8_t *bytes, size_t len)
{
    struct sim_event record = {.kind = SIM_UDP, .direction = direction, .addr = addr, .intact = true, .len = len};
    record.serial = sim->records_sent[direction]++;
    SIM_CHECK(sim, record.serial < SIM_RECORDS_MAX);
    if (len > sim->config.mtu)
        return;
    record.bytes = copy_bytes(bytes, len);
    overhear(sim, &record);
    bool reaches = direction == SIM_UP || addr == sim->client_addr ||
                   (addr >= SIM_CLIENT_ADDRS && sim->config.attacker_relays && !sim->calm);
    if (reaches) {
        travel(sim, &record, sim->config.delay_ms);
        if (sim_chance(sim, sim->config.doubled))
            travel(sim, &record, sim->config.delay_ms);
    }
    free(record.bytes);
}

void sim_attack(struct sim *sim, enum sim_direction direction)
{
    uint8_t noise[80];
    struct sim_event *old = &sim->old[direction][sim_draw(sim, 16)];
    struct sim_event event = {.direction = direction, .len = (size_t)sim_draw(sim, sizeof noise), .bytes = noise};
    if (old->bytes && sim_chance(sim, 70)) {
        event = *old;
    } else {
        fill_random(&sim->random, noise, sizeof noise);
        noise[0] = sim_chance(sim, 80) ? SG_RECORD_INDICATOR : noise[0];
        if (sim_chance(sim, 50))
            memcpy(noise + SG_RECORD_CHANNEL_OFFSET, sim->channel_id, sizeof sim->channel_id);
    }
    event.addr = (unsigned)sim_draw(sim, SIM_ADDRS);
    travel(sim, &event, 0);
}

/* --- the stream --- */

void sim_send_stream(struct sim *sim, enum sim_direction direction, const uint8_t *bytes, size_t len)
{
    uint64_t at_ms = sim->now_ms + sim->config.stream_delay_ms + sim_draw(sim, 20);
    while (len > 0) { /* in pieces that know nothing of messages */
        size_t piece = sim_chance(sim, 50) ? len : 1 + (size_t)sim_draw(sim, len);
        if (at_ms < sim->stream_at_ms[direction])
            at_ms = sim->stream_at_ms[direction];
        sim->stream_at_ms[direction] = at_ms;
        struct sim_event event = {.at_ms = at_ms, .kind = SIM_STREAM, .direction = direction, .len = piece};
        event.bytes = copy_bytes(bytes, piece);
        sim_schedule(sim, &event);
        bytes += piece;
        len -= piece;
        at_ms += sim_draw(sim, 3);
    }
}
