/*
 * IP packets as bytes: what they are, damage to them, other addresses in them, and the ICMP errors that answer them.
 * Nothing here fails on hostile bytes: what is cut short or unknown is of class OTHER and is carried as it is.
 */
#ifndef SG_TESTS_NET_PACKET_H
#define SG_TESTS_NET_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "impair.h"

enum { EMU_PACKET_MAX = 65536, EMU_ICMP_MAX = 1280 };

/* One end of a flow. family is 4, 6, or 0 for none; of IPv4 the first 4 bytes are used, the others are 0. */
struct emu_end_point {
    uint8_t family;
    uint8_t ip[16];
    uint16_t port;
};

struct emu_packet {
    enum emu_class class;
    uint8_t family;   /* 4, 6, or 0: no IP */
    bool has_ports;   /* UDP and TCP, not in second and later fragments */
    bool whole;       /* not a fragment */
    size_t transport; /* where the header of the upper layer begins */
    size_t payload;   /* where what is behind it begins; with has_ports only */
    size_t end;       /* of the packet by its own length */
};

struct emu_packet emu_packet_parse(const uint8_t *bytes, size_t len);

/* with has_ports only */
struct emu_end_point emu_packet_source(const uint8_t *bytes, const struct emu_packet *packet);
struct emu_end_point emu_packet_target(const uint8_t *bytes, const struct emu_packet *packet);

/* Another source or target of the same family; the checksums follow. */
void emu_packet_set_source(uint8_t *bytes, const struct emu_packet *packet, const struct emu_end_point *to);
void emu_packet_set_target(uint8_t *bytes, const struct emu_packet *packet, const struct emu_end_point *to);

/* Damages a packet as random says. Of UDP one to four bytes of the payload change and the checksum is repaired, so that
 * the application gets them. Of all else one bit behind the IP header changes, which the checksum shows. False if there
 * is nothing to damage. */
bool emu_packet_corrupt(uint8_t *bytes, const struct emu_packet *packet, uint64_t random);

/* The ICMP error of a router with that address: the packet is larger than mtu. out has EMU_ICMP_MAX bytes; gives the
 * length, 0 if the packet gets no answer (no IP, multicast, an ICMP error itself). */
size_t emu_packet_answer_too_big(const uint8_t *bytes, const struct emu_packet *packet, size_t mtu,
                                 const uint8_t *router, uint8_t *out);

/* RFC 1071, over bytes that begin at an even place; sum is of what came before, 0 at first. */
uint16_t emu_checksum(uint32_t sum, const uint8_t *bytes, size_t len);

#endif
