/*
 * A NAT at the client's end: its sources get other ports, other addresses or both, for UDP, TCP or both, and all of
 * them anew when it rebinds. One mapping for each source whatever the target (endpoint-independent), no filtering, no
 * end by time. After a rebinding nobody reaches a source by what it had before. It only finds names; packet.h writes
 * them.
 */
#ifndef SG_TESTS_NET_NAT_H
#define SG_TESTS_NET_NAT_H

#include "packet.h"

/* The oldest mapping goes when there are more. */
enum { EMU_NAT_MAPPINGS = 8192, EMU_NAT_HEADS = 4096 };
/* Outside ports and addresses; the last byte of an address counts on from that of the base. */
enum { EMU_NAT_FIRST_PORT = 20000, EMU_NAT_PORTS = 12000, EMU_NAT_ADDRESSES = 50 };

struct emu_mapping {
    enum emu_class class;
    struct emu_end_point inside, outside;
    uint16_t next_inside, next_outside; /* in the list of the same hash, as index + 1; 0 ends it */
    bool used;
};

struct emu_nat {
    bool port[EMU_CLASSES], address[EMU_CLASSES]; /* what is mapped */
    uint8_t base4[4], base6[16];                  /* the first outside address of each family */
    unsigned generation[EMU_CLASSES];             /* count of rebindings */
    unsigned next_port;
    unsigned next_mapping;
    struct emu_mapping mappings[EMU_NAT_MAPPINGS];
    uint16_t inside_heads[EMU_NAT_HEADS], outside_heads[EMU_NAT_HEADS];
};

/* base4 and base6 are copied. */
void emu_nat_init(struct emu_nat *nat, uint64_t seed, const uint8_t *base4, const uint8_t *base6);
bool emu_nat_maps(const struct emu_nat *nat, enum emu_class class);
/* Every mapping of that class ends. */
void emu_nat_rebind(struct emu_nat *nat, enum emu_class class);
/* What the server sees for that source; makes a mapping if there is none. Only where emu_nat_maps(). */
struct emu_end_point emu_nat_outward(struct emu_nat *nat, enum emu_class class, const struct emu_end_point *inside);
/* Whom a packet to that address is for; false: nobody. Only where emu_nat_maps(). */
bool emu_nat_inward(const struct emu_nat *nat, enum emu_class class, const struct emu_end_point *outside,
                    struct emu_end_point *inside);

#endif
