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

/* Where RFC 6052 puts the IPv4 address after a prefix of so many bits: byte 8 is always left out. */
static struct sg_ip ipv4_after(const uint8_t *b, unsigned bits)
{
    uint8_t ip[4];
    for (unsigned i = 0, at = bits / 8; i < 4; i++, at++) {
        at += at == 8;
        ip[i] = b[at];
    }
    return ipv4_of(ip[0], ip[1], ip[2], ip[3]);
}

static const uint8_t nat64_bits[] = {96, 64, 56, 48, 40, 32};

/* By the forms that are the same everywhere. At most one of them fits. */
static unsigned carried_by_prefix(const uint8_t *b, struct sg_ip out[static SG_GUARD_CARRIED_MAX])
{
    static const uint8_t zero[15]; /* also ::/96 without :: and ::1, the v4-compatible form */
    static const uint8_t siit[12] = {[8] = 0xff, [9] = 0xff};
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    static const uint8_t local_nat64[6] = {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01};
    static const uint8_t sixtofour[2] = {0x20, 0x02};
    static const uint8_t teredo[4] = {0x20, 0x01};
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

/* An interface id ::0:5efe:a.b.c.d or ::200:5efe:a.b.c.d, under any prefix (RFC 5214 section 6.1). */
static bool is_isatap(const uint8_t *b)
{
    return (b[8] & ~2u) == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe;
}

unsigned sg_guard_carried(const struct sg_guard *guard, const struct sg_ip *ip,
                          struct sg_ip out[static SG_GUARD_CARRIED_MAX])
{
    const uint8_t *b = ip->bytes;
    if (ip->family != 6)
        return 0;
    unsigned count = carried_by_prefix(b, out);
    if (is_isatap(b))
        out[count++] = ipv4_of(b[12], b[13], b[14], b[15]);
    for (unsigned i = 0; guard && i < guard->nat64_count; i++)
        if (sg_cidr_contains(&guard->nat64[i], ip))
            out[count++] = ipv4_after(b, guard->nat64[i].bits);
    return count;
}

bool sg_guard_nat64_of(const struct sg_ip *answer, struct sg_cidr *prefix)
{
    for (size_t i = 0; i < sizeof nat64_bits && answer->family == 6; i++) {
        const struct sg_ip known = ipv4_after(answer->bytes, nat64_bits[i]);
        static const uint8_t first[4] = {192, 0, 0, 170};
        if ((nat64_bits[i] < 96 && answer->bytes[8] != 0) || memcmp(known.bytes, first, 3) != 0 ||
            known.bytes[3] < 170 || known.bytes[3] > 171)
            continue;
        *prefix = (struct sg_cidr){.ip = {.family = 6}, .bits = nat64_bits[i]};
        memcpy(prefix->ip.bytes, answer->bytes, nat64_bits[i] / 8);
        return true;
    }
    return false;
}

const char *sg_guard_class(const struct sg_ip *given)
{
    struct sg_ip ip = sg_ip_unmap(given);
    struct sg_ip carried[SG_GUARD_CARRIED_MAX];
    unsigned count = sg_guard_carried(NULL, &ip, carried);
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

/* Unmapped, since that is how targets are compared: ::ffff:10.0.0.0/104 is 10.0.0.0/8. INVALID: it is no network. */
static enum sg_err unmap_net(const struct sg_cidr *net, struct sg_cidr *out)
{
    struct sg_ip unmapped = sg_ip_unmap(&net->ip);
    unsigned full = net->ip.family == 4 ? 32 : net->ip.family == 6 ? 128 : 0;
    *out = *net;
    if (full == 0 || net->bits > full)
        return SG_ERR_INVALID;
    if (unmapped.family != net->ip.family && net->bits >= 96)
        *out = (struct sg_cidr){.ip = unmapped, .bits = (uint8_t)(net->bits - 96)};
    return SG_OK;
}

enum sg_err sg_guard_allow(struct sg_guard *guard, const struct sg_cidr *net)
{
    struct sg_cidr entry;
    if (unmap_net(net, &entry) != SG_OK)
        return SG_ERR_INVALID;
    if (guard->allow_count == SG_GUARD_ALLOW_MAX)
        return SG_ERR_FULL;
    guard->allow[guard->allow_count++] = entry;
    return SG_OK;
}

bool sg_guard_is_allowed(const struct sg_guard *guard, const struct sg_ip *ip)
{
    for (unsigned i = 0; i < guard->allow_count; i++)
        if (sg_cidr_contains(&guard->allow[i], ip))
            return true;
    return false;
}

/* The bytes after those of the family are not looked at, and are 0 here. */
static struct sg_guard_range range_of(const struct sg_cidr *net)
{
    unsigned len = net->ip.family == 4 ? 4 : 16;
    struct sg_guard_range range = {.first.family = net->ip.family, .last.family = net->ip.family};
    for (unsigned i = 0; i < len; i++) {
        unsigned left = net->bits > i * 8 ? net->bits - i * 8 : 0;
        uint8_t host = left >= 8 ? 0 : (uint8_t)(0xffu >> left);
        range.first.bytes[i] = (uint8_t)(net->ip.bytes[i] & ~host);
        range.last.bytes[i] = (uint8_t)(net->ip.bytes[i] | host);
    }
    return range;
}

/* IPv4 before IPv6. */
static int compare(const struct sg_ip *a, const struct sg_ip *b)
{
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    return memcmp(a->bytes, b->bytes, a->family == 4 ? 4 : 16);
}

/* The number of own ranges that end before the address. */
static unsigned count_before(const struct sg_guard *guard, const struct sg_ip *ip)
{
    unsigned low = 0;
    for (unsigned high = guard->own_count; low < high;) {
        unsigned middle = (low + high) / 2;
        if (compare(&guard->own[middle].last, ip) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_own(const struct sg_guard *guard, const struct sg_ip *ip)
{
    unsigned at = count_before(guard, ip);
    return at < guard->own_count && compare(&guard->own[at].first, ip) <= 0;
}

/* The first 64 bits of an address: how much of the space of its family lies before it, for both families alike. */
static uint64_t place_of(const struct sg_ip *ip)
{
    uint64_t place = 0;
    for (size_t i = 0; i < sizeof place; i++)
        place = place << 8 | (ip->family == 6 || i < 4 ? ip->bytes[i] : 0);
    return place;
}

/* Whether no address lies between them. */
static bool are_neighbours(const struct sg_ip *before, const struct sg_ip *after)
{
    struct sg_ip next = *before;
    size_t i = before->family == 4 ? 4 : 16;
    while (i > 0 && ++next.bytes[i - 1] == 0)
        i--;
    return compare(&next, after) == 0;
}

/* One range takes the place of those from at to end; there is room. */
static void put_own(struct sg_guard *guard, unsigned at, unsigned end, const struct sg_guard_range *range)
{
    memmove(&guard->own[at + 1], &guard->own[end], (guard->own_count - end) * sizeof guard->own[0]);
    guard->own[at] = *range;
    guard->own_count = guard->own_count - (end - at) + 1;
}

/* How much lies between an own range and the next, as a power of two that is above it; 65: they are of two families. */
static unsigned gap_after(const struct sg_guard *guard, unsigned at)
{
    const struct sg_ip *before = &guard->own[at].last, *after = &guard->own[at + 1].first;
    unsigned bits = 0;
    if (before->family != after->family)
        return 65;
    for (uint64_t gap = place_of(after) - place_of(before); gap > 0; gap >>= 1)
        bits++;
    return bits;
}

/* Makes room for many at once: a quarter of the ranges, those with the least before them, become one with others. */
static void join_nearest(struct sg_guard *guard)
{
    unsigned surplus = guard->own_count - SG_GUARD_OWN_MAX / 4 * 3, gaps[66] = {0}, least = 0, smaller = 0, kept = 0;
    for (unsigned i = 0; i + 1 < guard->own_count; i++)
        gaps[gap_after(guard, i)]++;
    while (smaller + gaps[least] < surplus)
        smaller += gaps[least++];
    unsigned of_least = surplus - smaller;
    for (unsigned i = 1; i < guard->own_count; i++) {
        unsigned gap = gap_after(guard, i - 1);
        bool joins = gap < least || (gap == least && of_least > 0);
        of_least -= joins && gap == least;
        if (joins)
            guard->own[kept].last = guard->own[i].last;
        else
            guard->own[++kept] = guard->own[i];
    }
    guard->own_count = kept + 1;
}

/* Ranges that share an address with it, or are next to it, become one with it. */
enum sg_err sg_guard_add_own(struct sg_guard *guard, const struct sg_cidr *own)
{
    struct sg_cidr net;
    if (unmap_net(own, &net) != SG_OK)
        return SG_ERR_INVALID;
    struct sg_guard_range range = range_of(&net);
    unsigned at = count_before(guard, &range.first), end = at;
    if (at < guard->own_count && compare(&guard->own[at].first, &range.first) <= 0 &&
        compare(&range.last, &guard->own[at].last) <= 0)
        return SG_ERR_EXISTS;
    for (; end < guard->own_count && compare(&guard->own[end].first, &range.last) <= 0; end++) {
        if (compare(&guard->own[end].first, &range.first) < 0)
            range.first = guard->own[end].first;
        if (compare(&guard->own[end].last, &range.last) > 0)
            range.last = guard->own[end].last;
    }
    if (end < guard->own_count && are_neighbours(&range.last, &guard->own[end].first))
        range.last = guard->own[end++].last;
    if (at > 0 && are_neighbours(&guard->own[at - 1].last, &range.first))
        range.first = guard->own[--at].first;
    put_own(guard, at, end, &range);
    if (guard->own_count <= SG_GUARD_OWN_MAX)
        return SG_OK;
    join_nearest(guard);
    return SG_ERR_FULL;
}

enum sg_err sg_guard_add_nat64(struct sg_guard *guard, const struct sg_cidr *prefix)
{
    if (prefix->ip.family != 6 || !memchr(nat64_bits, prefix->bits, sizeof nat64_bits))
        return SG_ERR_INVALID;
    for (unsigned i = 0; i < guard->nat64_count; i++)
        if (guard->nat64[i].bits == prefix->bits && sg_ip_equal(&guard->nat64[i].ip, &prefix->ip))
            return SG_ERR_EXISTS;
    if (guard->nat64_count == SG_GUARD_NAT64_MAX)
        return SG_ERR_FULL;
    guard->nat64[guard->nat64_count++] = *prefix;
    return SG_OK;
}

bool sg_guard_is_here(const struct sg_guard *guard, const struct sg_ip *ip)
{
    return is_own(guard, ip) && class_of(ip) == NULL && !sg_ip_equal(&guard->outside, ip);
}

/* Why this one address, whatever it carries, may not be reached; NULL if it may. The list of
 * allowed networks is read only for what would be refused: ordinary targets are the common case. */
static const char *refuse_form(const struct sg_guard *guard, const struct sg_ip *ip)
{
    const char *class = class_of(ip), *why = class ? class : is_own(guard, ip) ? "own" : NULL;
    return why && sg_guard_is_allowed(guard, ip) ? NULL : why;
}

static const char *refuse(const struct sg_guard *guard, const struct sg_ip *ip, uint16_t port)
{
    struct sg_ip carried[SG_GUARD_CARRIED_MAX];
    if (port == 0)
        return "port_zero";
    unsigned count = sg_guard_carried(guard, ip, carried);
    for (unsigned i = 0; i < count; i++) {
        const char *why = refuse_form(guard, &carried[i]);
        if (why)
            return why;
    }
    return refuse_form(guard, ip);
}

enum sg_err sg_guard_check(const struct sg_guard *guard, const struct sg_endpoint *ep, const char **why)
{
    struct sg_ip ip = sg_ip_unmap(&ep->ip);
    const char *refused = refuse(guard, &ip, ep->port);
    if (why)
        *why = refused;
    return refused ? SG_ERR_DENIED : SG_OK;
}
