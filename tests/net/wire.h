/*
 * A wire between two hosts that carries IP packets as impair.h decides and nat.h maps: packets in, packets out, at
 * times that the caller gives (nanoseconds, never going back). No I/O, so that a virtual clock can drive it as well.
 *
 * The NAT is at the client's end: what the client sends is mapped when it arrives here, what the server sends is mapped
 * back when it comes out. So a rebinding loses what is on its way to the old mapping, as in nature.
 */
#ifndef SG_TESTS_NET_WIRE_H
#define SG_TESTS_NET_WIRE_H

#include "impair.h"
#include "nat.h"
#include "packet.h"

/* What may be on its way at one time; packets that find no room are counted as queue_dropped. */
enum { EMU_WIRE_BYTES_MAX = 256 << 20 };

struct emu_flight {
    uint64_t due_ns, order;
    enum emu_direction direction;
    size_t len;
    struct emu_packet packet;
    uint8_t bytes[];
};

struct emu_wire {
    struct emu_impair impair;
    struct emu_nat nat;
    uint64_t rebind_at_ns[EMU_CLASSES], rebind_every_ns[EMU_CLASSES]; /* every 0: only on command */
    uint64_t rebindings;
    struct emu_flight **heap; /* owned, with what is in it */
    size_t count, size, bytes;
    uint64_t order;
};

/* NULL: no memory. Freed by emu_wire_free(). */
struct emu_wire *emu_wire_new(uint64_t seed);
void emu_wire_free(struct emu_wire *wire);

/* A packet leaves a host; bytes has len, at most EMU_PACKET_MAX, and is changed. answer has EMU_ICMP_MAX bytes: gives
 * the length of an ICMP error that goes back to the sender at once, or 0. */
size_t emu_wire_send(struct emu_wire *wire, enum emu_direction direction, uint8_t *bytes, size_t len, uint64_t now_ns,
                     uint8_t *answer);

/* The next packet that comes out until now, or NULL. The caller gives each to emu_wire_done(). */
struct emu_flight *emu_wire_take(struct emu_wire *wire, uint64_t now_ns);
/* Counts it as delivered, or as failed; frees it. */
void emu_wire_done(struct emu_wire *wire, struct emu_flight *flight, bool delivered);

/* When emu_wire_take() has the next packet; EMU_FOREVER: none is on its way. */
uint64_t emu_wire_next_ns(const struct emu_wire *wire);

/* New mappings for that class, now. */
void emu_wire_rebind(struct emu_wire *wire, enum emu_class class);

#endif
