/*
 * Mappings in a ring, found by two hash tables of lists: by what is inside and by what is outside.
 */
#include "nat.h"

#include <string.h>

static bool equal(const struct emu_end_point *a, const struct emu_end_point *b)
{
    return a->family == b->family && a->port == b->port && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

static unsigned hash(enum emu_class class, const struct emu_end_point *end)
{
    return (end->port * 8u + end->ip[end->family == 4 ? 3 : 15] * 64u + class * 2u + (end->family == 6)) %
           EMU_NAT_HEADS;
}

void emu_nat_init(struct emu_nat *nat, uint64_t seed, const uint8_t *base4, const uint8_t *base6)
{
    memset(nat, 0, sizeof *nat);
    memcpy(nat->base4, base4, sizeof nat->base4);
    memcpy(nat->base6, base6, sizeof nat->base6);
    nat->next_port = (unsigned)(emu_random_next(&seed) % EMU_NAT_PORTS);
}

bool emu_nat_maps(const struct emu_nat *nat, enum emu_class class)
{
    return nat->port[class] || nat->address[class];
}

static void unlink_mapping(struct emu_nat *nat, struct emu_mapping *mapping)
{
    uint16_t self = (uint16_t)(mapping - nat->mappings + 1);
    uint16_t *at = &nat->inside_heads[hash(mapping->class, &mapping->inside)];
    while (*at != self)
        at = &nat->mappings[*at - 1].next_inside;
    *at = mapping->next_inside;
    at = &nat->outside_heads[hash(mapping->class, &mapping->outside)];
    while (*at != self)
        at = &nat->mappings[*at - 1].next_outside;
    *at = mapping->next_outside;
    mapping->used = false;
}

static void link_mapping(struct emu_nat *nat, struct emu_mapping *mapping)
{
    uint16_t self = (uint16_t)(mapping - nat->mappings + 1);
    uint16_t *inside = &nat->inside_heads[hash(mapping->class, &mapping->inside)];
    uint16_t *outside = &nat->outside_heads[hash(mapping->class, &mapping->outside)];
    mapping->next_inside = *inside;
    mapping->next_outside = *outside;
    *inside = *outside = self;
    mapping->used = true;
}

void emu_nat_rebind(struct emu_nat *nat, enum emu_class class)
{
    nat->generation[class]++;
    for (unsigned i = 0; i < EMU_NAT_MAPPINGS; i++)
        if (nat->mappings[i].used && nat->mappings[i].class == class)
            unlink_mapping(nat, &nat->mappings[i]);
}

static const struct emu_mapping *find_outside(const struct emu_nat *nat, enum emu_class class,
                                              const struct emu_end_point *outside)
{
    for (uint16_t i = nat->outside_heads[hash(class, outside)]; i > 0; i = nat->mappings[i - 1].next_outside)
        if (nat->mappings[i - 1].class == class && equal(&nat->mappings[i - 1].outside, outside))
            return &nat->mappings[i - 1];
    return NULL;
}

static struct emu_end_point new_outside(struct emu_nat *nat, enum emu_class class, const struct emu_end_point *inside)
{
    struct emu_end_point outside = *inside;
    if (nat->address[class]) {
        const uint8_t *base = inside->family == 4 ? nat->base4 : nat->base6;
        size_t size = inside->family == 4 ? sizeof nat->base4 : sizeof nat->base6;
        memcpy(outside.ip, base, size);
        outside.ip[size - 1] = (uint8_t)(outside.ip[size - 1] + nat->generation[class] % EMU_NAT_ADDRESSES);
    }
    /* Where two addresses of the client's become one, the second source of a port gets another. */
    while (nat->port[class] || find_outside(nat, class, &outside)) {
        outside.port = (uint16_t)(EMU_NAT_FIRST_PORT + nat->next_port++ % EMU_NAT_PORTS);
        if (!find_outside(nat, class, &outside))
            break;
    }
    return outside;
}

struct emu_end_point emu_nat_outward(struct emu_nat *nat, enum emu_class class, const struct emu_end_point *inside)
{
    for (uint16_t i = nat->inside_heads[hash(class, inside)]; i > 0; i = nat->mappings[i - 1].next_inside)
        if (nat->mappings[i - 1].class == class && equal(&nat->mappings[i - 1].inside, inside))
            return nat->mappings[i - 1].outside;
    struct emu_mapping *mapping = &nat->mappings[nat->next_mapping++ % EMU_NAT_MAPPINGS];
    if (mapping->used)
        unlink_mapping(nat, mapping);
    mapping->class = class;
    mapping->inside = *inside;
    mapping->outside = new_outside(nat, class, inside);
    link_mapping(nat, mapping);
    return mapping->outside;
}

bool emu_nat_inward(const struct emu_nat *nat, enum emu_class class, const struct emu_end_point *outside,
                    struct emu_end_point *inside)
{
    const struct emu_mapping *mapping = find_outside(nat, class, outside);
    if (mapping)
        *inside = mapping->inside;
    return mapping != NULL;
}
