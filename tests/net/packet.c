/*
 * IPv4 and IPv6 packets as the emulator needs them. Checksums are repaired by difference (RFC 1624), which works on the
 * first fragment of a datagram too, and leaves a wrong checksum wrong.
 */
#include "packet.h"

#include <netinet/in.h>
#include <string.h>

enum { IPV4_BYTES = 20, IPV6_BYTES = 40, UDP_BYTES = 8, TCP_BYTES = 20, ICMP_BYTES = 8 };
enum { ICMP4_UNREACHABLE = 3, ICMP4_TOO_BIG_CODE = 4, ICMP6_TOO_BIG = 2, ICMP6_FIRST_QUERY = 128 };

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* --- what a packet is --- */

static void find_ports(const uint8_t *bytes, struct emu_packet *packet, uint8_t protocol)
{
    size_t left = packet->end - packet->transport;
    if (protocol == IPPROTO_UDP && left >= UDP_BYTES) {
        packet->has_ports = true;
        packet->payload = packet->transport + UDP_BYTES;
    } else if (protocol == IPPROTO_TCP && left >= TCP_BYTES) {
        size_t header = (size_t)(bytes[packet->transport + 12] >> 4) * 4;
        packet->has_ports = header >= TCP_BYTES && header <= left;
        packet->payload = packet->transport + header;
    }
}

static enum emu_class class_of(uint8_t protocol)
{
    return protocol == IPPROTO_UDP ? EMU_UDP : protocol == IPPROTO_TCP ? EMU_TCP : EMU_OTHER;
}

static struct emu_packet parse_ipv4(const uint8_t *bytes, size_t len)
{
    struct emu_packet packet = {.class = EMU_OTHER};
    size_t header = (size_t)(bytes[0] & 15) * 4, total = len >= IPV4_BYTES ? get16(bytes + 2) : 0;
    if (len < IPV4_BYTES || header < IPV4_BYTES || total < header || total > len)
        return packet;
    uint16_t fragment = get16(bytes + 6) & 0x3fff;
    packet = (struct emu_packet){
        .class = class_of(bytes[9]), .family = 4, .whole = fragment == 0, .transport = header, .end = total};
    if ((fragment & 0x1fff) == 0)
        find_ports(bytes, &packet, bytes[9]);
    return packet;
}

/* Of extension headers only that of fragments is looked into: hosts send no others with UDP and TCP. */
static struct emu_packet parse_ipv6(const uint8_t *bytes, size_t len)
{
    struct emu_packet packet = {.class = EMU_OTHER};
    size_t end = len >= IPV6_BYTES ? IPV6_BYTES + (size_t)get16(bytes + 4) : 0;
    if (len < IPV6_BYTES || end > len)
        return packet;
    uint8_t protocol = bytes[6];
    packet = (struct emu_packet){.family = 6, .whole = true, .transport = IPV6_BYTES, .end = end};
    bool first = true;
    if (protocol == IPPROTO_FRAGMENT && end >= IPV6_BYTES + 8) {
        protocol = bytes[IPV6_BYTES];
        packet.transport += 8;
        packet.whole = false;
        first = (get16(bytes + IPV6_BYTES + 2) & 0xfff8) == 0;
    }
    packet.class = class_of(protocol);
    if (first)
        find_ports(bytes, &packet, protocol);
    return packet;
}

struct emu_packet emu_packet_parse(const uint8_t *bytes, size_t len)
{
    if (len > 0 && bytes[0] >> 4 == 4)
        return parse_ipv4(bytes, len);
    if (len > 0 && bytes[0] >> 4 == 6)
        return parse_ipv6(bytes, len);
    return (struct emu_packet){.class = EMU_OTHER};
}

/* --- checksums --- */

static uint32_t add_words(uint32_t sum, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += get16(bytes + i);
    if (len % 2)
        sum += (uint32_t)bytes[len - 1] << 8;
    return sum;
}

uint16_t emu_checksum(uint32_t sum, const uint8_t *bytes, size_t len)
{
    sum = add_words(sum, bytes, len);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* A word that the checksum covers was replaced. */
static void repair(uint8_t *checksum, uint16_t was, uint16_t is)
{
    uint32_t sum = (uint32_t)(uint16_t)~get16(checksum) + (uint16_t)~was + is;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    put16(checksum, (uint16_t)~sum);
}

/* The checksum of UDP or TCP; NULL where UDP has none. */
static uint8_t *transport_checksum(uint8_t *bytes, const struct emu_packet *packet)
{
    uint8_t *at = bytes + packet->transport + (packet->class == EMU_UDP ? 6 : 16);
    return packet->class == EMU_UDP && get16(at) == 0 ? NULL : at;
}

/* A UDP checksum of zero would mean that there is none (RFC 768). */
static void finish_udp(const struct emu_packet *packet, uint8_t *checksum)
{
    if (packet->class == EMU_UDP && checksum && get16(checksum) == 0)
        put16(checksum, 0xffff);
}

/* --- addresses --- */

static size_t address_bytes(const struct emu_packet *packet)
{
    return packet->family == 4 ? 4 : 16;
}

static size_t address_at(const struct emu_packet *packet, bool target)
{
    return (packet->family == 4 ? 12 : 8) + (target ? address_bytes(packet) : 0);
}

static struct emu_end_point get_end(const uint8_t *bytes, const struct emu_packet *packet, bool target)
{
    struct emu_end_point end = {.family = packet->family};
    memcpy(end.ip, bytes + address_at(packet, target), address_bytes(packet));
    end.port = get16(bytes + packet->transport + (target ? 2 : 0));
    return end;
}

struct emu_end_point emu_packet_source(const uint8_t *bytes, const struct emu_packet *packet)
{
    return get_end(bytes, packet, false);
}

struct emu_end_point emu_packet_target(const uint8_t *bytes, const struct emu_packet *packet)
{
    return get_end(bytes, packet, true);
}

static void set_end(uint8_t *bytes, const struct emu_packet *packet, bool target, const struct emu_end_point *to)
{
    uint8_t *checksum = transport_checksum(bytes, packet), *ip = bytes + address_at(packet, target);
    for (size_t i = 0; i < address_bytes(packet); i += 2) {
        if (packet->family == 4)
            repair(bytes + 10, get16(ip + i), get16(to->ip + i));
        if (checksum)
            repair(checksum, get16(ip + i), get16(to->ip + i));
        memcpy(ip + i, to->ip + i, 2);
    }
    uint8_t *port = bytes + packet->transport + (target ? 2 : 0);
    if (checksum)
        repair(checksum, get16(port), to->port);
    put16(port, to->port);
    finish_udp(packet, checksum);
}

void emu_packet_set_source(uint8_t *bytes, const struct emu_packet *packet, const struct emu_end_point *to)
{
    set_end(bytes, packet, false, to);
}

void emu_packet_set_target(uint8_t *bytes, const struct emu_packet *packet, const struct emu_end_point *to)
{
    set_end(bytes, packet, true, to);
}

/* --- damage --- */

static void corrupt_udp(uint8_t *bytes, const struct emu_packet *packet, uint64_t random)
{
    size_t size = packet->end - packet->payload;
    size_t few = 1 + (size_t)(random % 4), count = few < size ? few : size;
    size_t first = (size_t)((random >> 32) % (size - count + 1));
    uint8_t *checksum = transport_checksum(bytes, packet);
    for (size_t i = first; i < first + count; i++) {
        uint8_t *at = bytes + packet->payload + i;
        uint8_t was = *at, flip = (uint8_t)(random >> (8 * (i - first)) ^ random >> 40);
        *at ^= flip ? flip : 1;
        unsigned shift = i % 2 ? 0 : 8; /* the other half of the word is the same before and after */
        if (checksum)
            repair(checksum, (uint16_t)(was << shift), (uint16_t)(*at << shift));
    }
    finish_udp(packet, checksum);
}

bool emu_packet_corrupt(uint8_t *bytes, const struct emu_packet *packet, uint64_t random)
{
    if (packet->class == EMU_UDP && packet->has_ports) {
        if (packet->end == packet->payload)
            return false;
        corrupt_udp(bytes, packet, random);
        return true;
    }
    if (packet->family == 0 || packet->end == packet->transport)
        return false;
    size_t bit = (size_t)(random % (8 * (packet->end - packet->transport)));
    bytes[packet->transport + bit / 8] ^= (uint8_t)(1u << bit % 8);
    return true;
}

/* --- ICMP --- */

static size_t answer_ipv4(const uint8_t *bytes, const struct emu_packet *packet, size_t mtu, const uint8_t *router,
                          uint8_t *out)
{
    bool icmp_error = bytes[9] == IPPROTO_ICMP && packet->end > packet->transport && bytes[packet->transport] != 8;
    if (icmp_error || bytes[16] >= 224)
        return 0;
    size_t quoted = packet->end < 576 - IPV4_BYTES - ICMP_BYTES ? packet->end : 576 - IPV4_BYTES - ICMP_BYTES;
    size_t len = IPV4_BYTES + ICMP_BYTES + quoted;
    memset(out, 0, IPV4_BYTES + ICMP_BYTES);
    out[0] = 0x45;
    put16(out + 2, len);
    out[8] = 64;
    out[9] = IPPROTO_ICMP;
    memcpy(out + 12, router, 4);
    memcpy(out + 16, bytes + 12, 4);
    put16(out + 10, emu_checksum(0, out, IPV4_BYTES));
    uint8_t *icmp = out + IPV4_BYTES;
    icmp[0] = ICMP4_UNREACHABLE;
    icmp[1] = ICMP4_TOO_BIG_CODE;
    put16(icmp + 6, mtu);
    memcpy(icmp + ICMP_BYTES, bytes, quoted);
    put16(icmp + 2, emu_checksum(0, icmp, len - IPV4_BYTES));
    return len;
}

static size_t answer_ipv6(const uint8_t *bytes, const struct emu_packet *packet, size_t mtu, const uint8_t *router,
                          uint8_t *out)
{
    bool icmp_error =
        bytes[6] == IPPROTO_ICMPV6 && packet->end > packet->transport && bytes[packet->transport] < ICMP6_FIRST_QUERY;
    if (icmp_error || bytes[24] == 0xff)
        return 0;
    size_t quoted =
        packet->end < EMU_ICMP_MAX - IPV6_BYTES - ICMP_BYTES ? packet->end : EMU_ICMP_MAX - IPV6_BYTES - ICMP_BYTES;
    size_t len = IPV6_BYTES + ICMP_BYTES + quoted;
    memset(out, 0, IPV6_BYTES + ICMP_BYTES);
    out[0] = 0x60;
    put16(out + 4, len - IPV6_BYTES);
    out[6] = IPPROTO_ICMPV6;
    out[7] = 64;
    memcpy(out + 8, router, 16);
    memcpy(out + 24, bytes + 8, 16);
    uint8_t *icmp = out + IPV6_BYTES;
    icmp[0] = ICMP6_TOO_BIG;
    put16(icmp + 6, mtu);
    memcpy(icmp + ICMP_BYTES, bytes, quoted);
    uint32_t pseudo = add_words((uint32_t)(len - IPV6_BYTES) + IPPROTO_ICMPV6, out + 8, 32);
    put16(icmp + 2, emu_checksum(pseudo, icmp, len - IPV6_BYTES));
    return len;
}

size_t emu_packet_answer_too_big(const uint8_t *bytes, const struct emu_packet *packet, size_t mtu,
                                 const uint8_t *router, uint8_t *out)
{
    switch (packet->family) {
    case 4:
        return answer_ipv4(bytes, packet, mtu, router, out);
    case 6:
        return answer_ipv6(bytes, packet, mtu, router, out);
    default:
        return 0;
    }
}
