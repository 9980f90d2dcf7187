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
#define RANGE4(a, b, c, d, bits, class)                                                            \
    {                                                                                              \
        IP4(a, b, c, d), UINT32_MAX << (32 - (bits)), class                                        \
    }

/* The first row that fits decides. */
static const struct range4 ranges4[] = {
    RANGE4(10, 0, 0, 0, 8, private_use),
    RANGE4(127, 0, 0, 0, 8, loopback),
    RANGE4(192, 168, 0, 0, 16, private_use),
    RANGE4(172, 16, 0, 0, 12, private_use),
    RANGE4(0, 0, 0, 0, 8, reserved),            /* this network (RFC 791); 0.0.0.0 is this host */
    RANGE4(100, 100, 100, 200, 32, metadata),   /* Alibaba Cloud */
    RANGE4(100, 64, 0, 0, 10, private_use),     /* shared by carriers (RFC 6598) */
    RANGE4(169, 254, 169, 254, 32, metadata),   /* most clouds */
    RANGE4(169, 254, 170, 2, 32, metadata),     /* credentials of container tasks */
    RANGE4(169, 254, 0, 0, 16, link_local),     /* RFC 3927 */
    RANGE4(168, 63, 129, 16, 32, metadata),     /* Azure's host, at a public address */
    RANGE4(192, 0, 0, 192, 32, metadata),       /* Oracle Cloud */
    RANGE4(192, 0, 0, 0, 24, reserved),         /* protocol assignments (RFC 6890) */
    RANGE4(192, 0, 2, 0, 24, reserved),         /* documentation (RFC 5737) */
    RANGE4(192, 88, 99, 0, 24, reserved),       /* 6to4 relays, withdrawn (RFC 7526) */
    RANGE4(198, 18, 0, 0, 15, reserved),        /* benchmarking (RFC 2544) */
    RANGE4(198, 51, 100, 0, 24, reserved),      /* documentation */
    RANGE4(203, 0, 113, 0, 24, reserved),       /* documentation */
    RANGE4(224, 0, 0, 0, 4, multicast),         /* RFC 5771 */
    RANGE4(255, 255, 255, 255, 32, broadcast),  /* RFC 919 */
    RANGE4(240, 0, 0, 0, 4, reserved),          /* RFC 1112 */
};

struct range6 {
    uint64_t high;
    uint64_t low;
    unsigned bits; /* up to 64, or 96, or 128 */
    const char *class;
};

/* The first row that fits decides; a class of NULL is an ordinary address. */
static const struct range6 ranges6[] = {
    {0x2001000000000000, 0, 32, NULL},        /* Teredo (RFC 4380): what it carries decides */
    {0x2001000000000000, 0, 23, reserved},    /* protocol assignments (RFC 2928), benchmarking */
    {0x20010db800000000, 0, 32, reserved},    /* documentation (RFC 3849) */
    {0x3fff000000000000, 0, 20, reserved},    /* documentation (RFC 9637) */
    {0x2000000000000000, 0, 3, NULL},         /* global unicast (RFC 4291), 6to4 among it */
    {0x0064ff9b00000000, 0, 96, NULL},        /* NAT64 (RFC 6052): what it carries decides */
    {0x0064ff9b00010000, 0, 48, private_use}, /* NAT64 for local use (RFC 8215) */
    {0, 1, 128, loopback},                    /* RFC 4291 */
    {0xfd000ec200000000, 0x0254, 128, metadata},                 /* Amazon */
    {0xfd20000000000000 | 0xce0000000000 >> 48, 0, 0, NULL},
    {0xfc00000000000000, 0, 7, private_use},  /* RFC 4193 */
    {0xfe80000000000000, 0, 10, link_local},  /* RFC 4291 */
    {0xfec0000000000000, 0, 10, private_use}, /* site-local, withdrawn (RFC 3879) */
    {0xff00000000000000, 0, 8, multicast},    /* RFC 4291 */
    {0, 0, 0, reserved},                      /* everything else is not assigned: ::, ::/8 with
                                                 v4-compatible and SIIT, 100::/64 (discard) */
};
