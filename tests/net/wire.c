/*
 * The wire: packets in a heap by the time at which they come out.
 */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

/* Of the network of tests/e2e/network.py: the router that ICMP errors come from, and where outside addresses begin. */
static const uint8_t router4[4] = {10, 77, 0, 254}, nat4[4] = {10, 77, 0, 100};
static const uint8_t router6[16] = {0xfd, 0x77, [15] = 0xfe}, nat6[16] = {0xfd, 0x77, [15] = 100};

struct emu_wire *emu_wire_new(uint64_t seed)
{
    struct emu_wire *wire = calloc(1, sizeof *wire);
    if (!wire)
        return NULL;
    emu_impair_init(&wire->impair, seed);
    emu_nat_init(&wire->nat, seed, nat4, nat6);
    return wire;
}

void emu_wire_free(struct emu_wire *wire)
{
    if (!wire)
        return;
    for (size_t i = 0; i < wire->count; i++)
        free(wire->heap[i]);
    free(wire->heap);
    free(wire);
}

/* --- the heap --- */

static bool before(const struct emu_flight *a, const struct emu_flight *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static bool make_room(struct emu_wire *wire)
{
    if (wire->count < wire->size)
        return true;
    size_t size = wire->size ? 2 * wire->size : 1024;
    struct emu_flight **heap = realloc(wire->heap, size * sizeof(struct emu_flight *));
    if (!heap)
        return false;
    wire->heap = heap;
    wire->size = size;
    return true;
}

static void push(struct emu_wire *wire, struct emu_flight *flight)
{
    size_t at = wire->count++;
    for (; at > 0 && before(flight, wire->heap[(at - 1) / 2]); at = (at - 1) / 2)
        wire->heap[at] = wire->heap[(at - 1) / 2];
    wire->heap[at] = flight;
    wire->bytes += sizeof *flight + flight->len;
}

static struct emu_flight *pop(struct emu_wire *wire)
{
    struct emu_flight *first = wire->heap[0], *last = wire->heap[--wire->count];
    size_t at = 0;
    for (size_t child = 1; child < wire->count; child = 2 * at + 1) {
        if (child + 1 < wire->count && before(wire->heap[child + 1], wire->heap[child]))
            child++;
        if (!before(wire->heap[child], last))
            break;
        wire->heap[at] = wire->heap[child];
        at = child;
    }
    wire->heap[at] = last;
    wire->bytes -= sizeof *first + first->len;
    return first;
}

/* --- in --- */

static void fly(struct emu_wire *wire, enum emu_direction direction, const struct emu_packet *packet,
                const uint8_t *bytes, size_t len, const struct emu_copy *copy)
{
    size_t size = sizeof(struct emu_flight) + len;
    struct emu_flight *flight = NULL;
    if (wire->bytes + size <= EMU_WIRE_BYTES_MAX && make_room(wire))
        flight = malloc(size);
    if (!flight) {
        emu_impair_end(&wire->impair, direction, packet->class, EMU_NO_ROOM);
        return;
    }
    *flight = (struct emu_flight){
        .due_ns = copy->due_ns, .order = wire->order++, .direction = direction, .len = len, .packet = *packet};
    memcpy(flight->bytes, bytes, len);
    if (copy->corrupt && emu_packet_corrupt(flight->bytes, packet, copy->corrupt_how))
        wire->impair.lanes[direction][packet->class].ledger.corrupted++;
    push(wire, flight);
}

static void rebind_in_time(struct emu_wire *wire, enum emu_class class, uint64_t now_ns)
{
    if (wire->rebind_every_ns[class] == 0 || now_ns < wire->rebind_at_ns[class])
        return;
    uint64_t late_ns = (now_ns - wire->rebind_at_ns[class]) % wire->rebind_every_ns[class];
    wire->rebind_at_ns[class] = now_ns - late_ns + wire->rebind_every_ns[class];
    emu_wire_rebind(wire, class);
}

/* What the client sends gets the source that the server sees. False: it has no ports to map. */
static bool map_outward(struct emu_wire *wire, uint8_t *bytes, const struct emu_packet *packet)
{
    if (!emu_nat_maps(&wire->nat, packet->class))
        return true;
    if (!packet->has_ports)
        return false;
    struct emu_end_point source = emu_packet_source(bytes, packet);
    struct emu_end_point outside = emu_nat_outward(&wire->nat, packet->class, &source);
    emu_packet_set_source(bytes, packet, &outside);
    return true;
}

size_t emu_wire_send(struct emu_wire *wire, enum emu_direction direction, uint8_t *bytes, size_t len, uint64_t now_ns,
                     uint8_t *answer)
{
    struct emu_packet packet = emu_packet_parse(bytes, len);
    struct emu_verdict verdict = emu_impair_decide(&wire->impair, direction, packet.class, len, now_ns);
    const struct emu_link *link = &wire->impair.links[direction];
    if (verdict.fate == EMU_TOO_BIG && link->icmp) {
        size_t answered =
            emu_packet_answer_too_big(bytes, &packet, link->mtu, packet.family == 4 ? router4 : router6, answer);
        wire->impair.lanes[direction][packet.class].ledger.icmp_sent += answered > 0;
        return answered;
    }
    rebind_in_time(wire, packet.class, now_ns);
    bool mapped = verdict.count == 0 || direction == EMU_DOWN || map_outward(wire, bytes, &packet);
    for (unsigned i = 0; i < verdict.count; i++) {
        if (mapped)
            fly(wire, direction, &packet, bytes, len, &verdict.copies[i]);
        else
            emu_impair_end(&wire->impair, direction, packet.class, EMU_NO_MAPPING);
    }
    return 0;
}

/* --- out --- */

static bool map_inward(struct emu_wire *wire, struct emu_flight *flight)
{
    if (!emu_nat_maps(&wire->nat, flight->packet.class))
        return true;
    if (!flight->packet.has_ports)
        return false;
    struct emu_end_point target = emu_packet_target(flight->bytes, &flight->packet), inside;
    if (!emu_nat_inward(&wire->nat, flight->packet.class, &target, &inside))
        return false;
    emu_packet_set_target(flight->bytes, &flight->packet, &inside);
    return true;
}

struct emu_flight *emu_wire_take(struct emu_wire *wire, uint64_t now_ns)
{
    while (wire->count > 0 && wire->heap[0]->due_ns <= now_ns) {
        struct emu_flight *flight = pop(wire);
        rebind_in_time(wire, flight->packet.class, now_ns);
        if (flight->direction == EMU_UP || map_inward(wire, flight))
            return flight;
        emu_impair_end(&wire->impair, flight->direction, flight->packet.class, EMU_NO_MAPPING);
        free(flight);
    }
    return NULL;
}

void emu_wire_done(struct emu_wire *wire, struct emu_flight *flight, bool delivered)
{
    emu_impair_end(&wire->impair, flight->direction, flight->packet.class, delivered ? EMU_DELIVERED : EMU_FAILED);
    free(flight);
}

uint64_t emu_wire_next_ns(const struct emu_wire *wire)
{
    return wire->count > 0 ? wire->heap[0]->due_ns : EMU_FOREVER;
}

void emu_wire_rebind(struct emu_wire *wire, enum emu_class class)
{
    emu_nat_rebind(&wire->nat, class);
    wire->rebindings++;
}
