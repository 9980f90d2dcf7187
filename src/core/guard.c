/*
 * The table of special-purpose addresses (IANA registries of RFC 6890 and its successors, and the
 * addresses at which clouds serve metadata), the IPv4 addresses that IPv6 forms carry, and the
 * verdict made of both.
 *
 * The classes of documentation, benchmarking and other protocol ranges are not told apart: all are
 * "reserved". Of the small islands inside such ranges that IANA calls global (192.0.0.9, AMT,
 * ORCHID and the like) none is a target of applications; an operator who needs one opens it.
 */
#include "core/guard.h"

#include <string.h>

static const char loopback[] = "loopback";
static const char link_local[] = "link_local";
static const char metadata[] = "metadata";
static const char private_use[] = "private";
static const char multicast[] = "multicast";
static const char broadcast[] = "broadcast";
static const char reserved[] = "reserved";

struct range4 {
    uint32_t prefix;
    uint32_t mask;
    const char *class;
};

#define IP4(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))
#define RANGE4(a, b, c, d, bits, class)                                                                                \
    {                                                                                                                  \
        IP4(a, b, c, d), UINT32_MAX << (32 - (bits)), class                                                            \
    }

/* The first row that fits decides. */
static const struct range4 ranges4[] = {
    RANGE4(10, 0, 0, 0, 8, private_use),       /* RFC 1918 */
    RANGE4(172, 16, 0, 0, 12, private_use),    /* RFC 1918 */
    RANGE4(192, 168, 0, 0, 16, private_use),   /* RFC 1918 */
    RANGE4(127, 0, 0, 0, 8, loopback),         /* RFC 1122 */
    RANGE4(0, 0, 0, 0, 8, reserved),           /* this network (RFC 791); 0.0.0.0 is this host */
    RANGE4(100, 100, 100, 200, 32, metadata),  /* Alibaba Cloud */
    RANGE4(100, 64, 0, 0, 10, private_use),    /* shared by carriers (RFC 6598) */
    RANGE4(169, 254, 169, 254, 32, metadata),  /* most clouds */
    RANGE4(169, 254, 170, 2, 32, metadata),    /* credentials of container tasks */
    RANGE4(169, 254, 0, 0, 16, link_local),    /* RFC 3927 */
    RANGE4(168, 63, 129, 16, 32, metadata),    /* Azure's host, at a public address */
    RANGE4(192, 0, 0, 192, 32, metadata),      /* Oracle Cloud */
    RANGE4(192, 0, 0, 0, 24, reserved),        /* protocol assignments (RFC 6890) */
    RANGE4(192, 0, 2, 0, 24, reserved),        /* documentation (RFC 5737) */
    RANGE4(192, 88, 99, 0, 24, reserved),      /* 6to4 relays, withdrawn (RFC 7526) */
    RANGE4(198, 18, 0, 0, 15, reserved),       /* benchmarking (RFC 2544) */
    RANGE4(198, 51, 100, 0, 24, reserved),     /* documentation */
    RANGE4(203, 0, 113, 0, 24, reserved),      /* documentation */
    RANGE4(224, 0, 0, 0, 4, multicast),        /* RFC 5771 */
    RANGE4(255, 255, 255, 255, 32, broadcast), /* RFC 919 */
    RANGE4(240, 0, 0, 0, 4, reserved),         /* RFC 1112 */
};

struct range6 {
    uint64_t high;
    uint64_t low;
    unsigned bits; /* up to 64, or 96, or 128 */
    const char *class;
};

/* The first row that fits decides; a class of NULL is an ordinary address. */
static const struct range6 ranges6[] = {
    {0x2001000000000000, 0, 32, NULL},               /* Teredo (RFC 4380): what it carries decides */
    {0x2001000000000000, 0, 23, reserved},           /* protocol assignments (RFC 2928) */
    {0x20010db800000000, 0, 32, reserved},           /* documentation (RFC 3849) */
    {0x3fff000000000000, 0, 20, reserved},           /* documentation (RFC 9637) */
    {0x2000000000000000, 0, 3, NULL},                /* global unicast (RFC 4291), 6to4 among it */
    {0x0064ff9b00000000, 0, 96, NULL},               /* NAT64 (RFC 6052): what it carries decides */
    {0x0064ff9b00010000, 0, 48, private_use},        /* NAT64 for local use (RFC 8215) */
    {0, 1, 128, loopback},                           /* RFC 4291 */
    {0xfd000ec200000000, 0x254, 128, metadata},      /* Amazon: fd00:ec2::254 */
    {0xfd2000ce00000000, 0x254, 128, metadata},      /* Google: fd20:ce::254 */
    {0xfd0000c100000000, 0xa9fea9fe, 128, metadata}, /* Oracle: fd00:c1::a9fe:a9fe */
    {0xfc00000000000000, 0, 7, private_use},         /* RFC 4193 */
    {0xfe80000000000000, 0, 10, link_local},         /* RFC 4291 */
    {0xfec0000000000000, 0, 10, private_use},        /* site-local, withdrawn (RFC 3879) */
    {0xff00000000000000, 0, 8, multicast},           /* RFC 4291 */
    {0, 0, 0, reserved}, /* the rest is not assigned: :: and ::/8, 100::/64 (discard), 5f00::/16 */
};

static const char *class_of_ipv4(const uint8_t bytes[4])
{
    uint32_t ip = IP4(bytes[0], bytes[1], bytes[2], bytes[3]);
    for (size_t i = 0; i < sizeof ranges4 / sizeof ranges4[0]; i++)
        if ((ip & ranges4[i].mask) == ranges4[i].prefix)
            return ranges4[i].class;
    return NULL;
}

static bool differs(uint64_t a, uint64_t b, unsigned bits)
{
    return bits > 0 && (a ^ b) >> (64 - bits) != 0;
}

static const char *class_of_ipv6(const uint8_t bytes[16])
{
    struct sg_rbuf r = sg_rbuf_init(bytes, 16);
    uint64_t high = sg_rbuf_u64(&r);
    uint64_t low = sg_rbuf_u64(&r);
    for (size_t i = 0; i < sizeof ranges6 / sizeof ranges6[0]; i++) {
        const struct range6 *range = &ranges6[i];
        unsigned high_bits = range->bits < 64 ? range->bits : 64;
        if (!differs(high, range->high, high_bits) && !differs(low, range->low, range->bits - high_bits))
            return range->class;
    }
    return NULL;
}

/* The class of this address, whatever it carries. */
static const char *class_of(const struct sg_ip *ip)
{
    switch (ip->family) {
    case 4:
        return class_of_ipv4(ip->bytes);
    case 6:
        return class_of_ipv6(ip->bytes);
    default: /* no address at all goes nowhere */
        return reserved;
    }
}

/* --- IPv4 carried in IPv6 --- */

static struct sg_ip ipv4_of(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return (struct sg_ip){.family = 4, .bytes = {a, b, c, d}};
}

/*
 * Under 64:ff9b:1::/48 an operator may use a translation prefix of 48, 56, 64 or 96 bits (RFC 6052
 * section 2.2), and the address does not tell which. The bytes after the IPv4 address are 0, so each
 * length whose tail is 0 is a possible reading, and all of them count.
 */
static unsigned carried_by_local_nat64(const uint8_t *b, struct sg_ip out[static SG_GUARD_CARRIED_MAX])
{
    unsigned count = 0;
    if (b[13] != 0 || b[14] != 0 || b[15] != 0) {
        out[0] = ipv4_of(b[12], b[13], b[14], b[15]);
        return 1;
    }
    if (b[11] == 0 && b[12] == 0)
        out[count++] = ipv4_of(b[6], b[7], b[9], b[10]);
    if (b[12] == 0)
        out[count++] = ipv4_of(b[7], b[9], b[10], b[11]);
    out[count++] = ipv4_of(b[9], b[10], b[11], b[12]);
    return count;
}

unsigned sg_guard_carried(const struct sg_ip *ip, struct sg_ip out[static SG_GUARD_CARRIED_MAX])
{
    static const uint8_t zero[15]; /* also ::/96 without :: and ::1, the v4-compatible form */
    static const uint8_t siit[12] = {[8] = 0xff, [9] = 0xff};
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    static const uint8_t local_nat64[6] = {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01};
    static const uint8_t sixtofour[2] = {0x20, 0x02};
    static const uint8_t teredo[4] = {0x20, 0x01};
    const uint8_t *b = ip->bytes;
    if (ip->family != 6)
        return 0;
    bool is_compatible = memcmp(b, zero, 12) == 0 && (memcmp(b, zero, 15) != 0 || b[15] > 1);
    if (is_compatible || memcmp(b, siit, 12) == 0 || memcmp(b, nat64, 12) == 0) {
        out[0] = ipv4_of(b[12], b[13], b[14], b[15]);
        return 1;
    }
    if (memcmp(b, local_nat64, 6) == 0)
        return carried_by_local_nat64(b, out);
    if (memcmp(b, sixtofour, 2) == 0) {
        out[0] = ipv4_of(b[2], b[3], b[4], b[5]);
        return 1;
    }
    if (memcmp(b, teredo, 4) == 0) { /* the client's address is sent inverted; the relay's is not */
        out[0] = ipv4_of((uint8_t)~b[12], (uint8_t)~b[13], (uint8_t)~b[14], (uint8_t)~b[15]);
        out[1] = ipv4_of(b[4], b[5], b[6], b[7]);
        return 2;
    }
    return 0;
}

const char *sg_guard_class(const struct sg_ip *given)
{
    struct sg_ip ip = sg_ip_unmap(given);
    struct sg_ip carried[SG_GUARD_CARRIED_MAX];
    unsigned count = sg_guard_carried(&ip, carried);
    for (unsigned i = 0; i < count; i++) {
        const char *class = class_of(&carried[i]);
        if (class)
            return class;
    }
    return class_of(&ip);
}

bool sg_guard_same_class(const struct sg_ip *a, const struct sg_ip *b)
{
    return sg_guard_class(a) == sg_guard_class(b); /* one array per class */
}

/* --- the verdict --- */

enum sg_err sg_guard_allow(struct sg_guard *guard, const struct sg_cidr *net)
{
    struct sg_cidr entry = *net;
    struct sg_ip unmapped = sg_ip_unmap(&net->ip);
    unsigned full = net->ip.family == 4 ? 32 : net->ip.family == 6 ? 128 : 0;
    if (full == 0 || net->bits > full)
        return SG_ERR_INVALID;
    /* ::ffff:10.0.0.0/104 is 10.0.0.0/8, since targets are compared unmapped */
    if (unmapped.family != net->ip.family && net->bits >= 96)
        entry = (struct sg_cidr){.ip = unmapped, .bits = (uint8_t)(net->bits - 96)};
    if (guard->allow_count == SG_GUARD_ALLOW_MAX)
        return SG_ERR_FULL;
    guard->allow[guard->allow_count++] = entry;
    return SG_OK;
}

enum sg_err sg_guard_add_own(struct sg_guard *guard, const struct sg_endpoint *own)
{
    struct sg_endpoint entry = {.ip = sg_ip_unmap(&own->ip), .port = own->port};
    if (entry.ip.family == 0)
        return SG_ERR_INVALID;
    for (unsigned i = 0; i < guard->own_count; i++)
        if (sg_endpoint_equal(&guard->own[i], &entry))
            return SG_ERR_EXISTS;
    if (guard->own_count == SG_GUARD_OWN_MAX)
        return SG_ERR_FULL;
    guard->own[guard->own_count++] = entry;
    return SG_OK;
}

static bool is_allowed(const struct sg_guard *guard, const struct sg_ip *ip)
{
    for (unsigned i = 0; i < guard->allow_count; i++)
        if (sg_cidr_contains(&guard->allow[i], ip))
            return true;
    return false;
}

static bool is_own(const struct sg_guard *guard, const struct sg_ip *ip, uint16_t port)
{
    for (unsigned i = 0; i < guard->own_count; i++) {
        const struct sg_endpoint *own = &guard->own[i];
        if ((own->port == 0 || own->port == port) && sg_ip_equal(&own->ip, ip))
            return true;
    }
    return false;
}

bool sg_guard_is_here(const struct sg_guard *guard, const struct sg_ip *ip)
{
    return is_own(guard, ip, 0) && !sg_ip_equal(&guard->outside, ip);
}

/* Why this one address, whatever it carries, may not be reached; NULL if it may. The list of
 * allowed networks is read only for what would be refused: ordinary targets are the common case. */
static const char *refuse_form(const struct sg_guard *guard, const struct sg_ip *ip, uint16_t port)
{
    const char *why = is_own(guard, ip, port) ? "own" : class_of(ip);
    return why && is_allowed(guard, ip) ? NULL : why;
}

static const char *refuse(const struct sg_guard *guard, const struct sg_ip *ip, uint16_t port)
{
    struct sg_ip carried[SG_GUARD_CARRIED_MAX];
    if (port == 0)
        return "port_zero";
    unsigned count = sg_guard_carried(ip, carried);
    for (unsigned i = 0; i < count; i++) {
        const char *why = refuse_form(guard, &carried[i], port);
        if (why)
            return why;
    }
    return refuse_form(guard, ip, port);
}

enum sg_err sg_guard_check(const struct sg_guard *guard, const struct sg_endpoint *ep, const char **why)
{
    struct sg_ip ip = sg_ip_unmap(&ep->ip);
    const char *refused = refuse(guard, &ip, ep->port);
    if (why)
        *why = refused;
    return refused ? SG_ERR_DENIED : SG_OK;
}
