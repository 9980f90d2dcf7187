/*
 * The target guard: which addresses a client may never reach through this server unless the operator
 * opened them. It looks at the final numeric address, undoes every form that hides an IPv4 address
 * in an IPv6 one, and comes before all rules of users. A few compares; fit for every datagram.
 */
#ifndef SG_CORE_GUARD_H
#define SG_CORE_GUARD_H

#include "core/addr.h"

enum { SG_GUARD_ALLOW_MAX = 64, SG_GUARD_OWN_MAX = 512, SG_GUARD_NAT64_MAX = 8 };
/* Of one address: three readings of 64:ff9b:1::/48, one of each prefix of the network, one of an ISATAP id. */
enum { SG_GUARD_CARRIED_MAX = 3 + SG_GUARD_NAT64_MAX + 1 };

/* Addresses from first to last. */
struct sg_guard_range {
    struct sg_ip first, last;
};

/* Zeroed, it refuses every special-purpose range and knows no own address. */
struct sg_guard {
    unsigned allow_count;
    unsigned own_count;
    unsigned nat64_count;
    struct sg_cidr allow[SG_GUARD_ALLOW_MAX];
    struct sg_guard_range own[SG_GUARD_OWN_MAX + 1]; /* in order, apart from each other: found by halves */
    struct sg_cidr nat64[SG_GUARD_NAT64_MAX];
    struct sg_ip outside; /* the own address that no interface has: a NAT in front has it. Family 0: none */
};

/* Opens a network (the operator's --allow). FULL above SG_GUARD_ALLOW_MAX; INVALID without an
 * address, or with more bits than the address has. */
SG_MUST_CHECK enum sg_err sg_guard_allow(struct sg_guard *guard, const struct sg_cidr *net);

/*
 * Names addresses of this host, of which every port is refused: what listens there trusts neighbours more than
 * strangers. A network is what a route makes local. IPv4-mapped forms are undone. Unspecified addresses are refused
 * anyway: pass the interfaces' own. EXISTS when all of them are named already; INVALID without an
 * address, or with more bits than it has. FULL above SG_GUARD_OWN_MAX ranges: it is named all the same, and ranges
 * that are near to each other became one, a quarter of all, so that what lies between them is refused too.
 */
SG_MUST_CHECK enum sg_err sg_guard_add_own(struct sg_guard *guard, const struct sg_cidr *own);

/*
 * Names a prefix under which a translator of this network reaches IPv4 (RFC 6052 section 2.2: 32, 40, 48, 56, 64 or 96
 * bits; INVALID otherwise). EXISTS when named already, FULL above SG_GUARD_NAT64_MAX.
 */
SG_MUST_CHECK enum sg_err sg_guard_add_nat64(struct sg_guard *guard, const struct sg_cidr *prefix);

/*
 * The prefix of a translator, by what its name server says of ipv4only.arpa (RFC 7050 section 3): the answer, an IPv6
 * address, carries 192.0.0.170 or 192.0.0.171. False if it carries neither.
 */
bool sg_guard_nat64_of(const struct sg_ip *answer, struct sg_cidr *prefix);

/*
 * OK if a client may reach the endpoint, else DENIED; *why (why may be NULL) is then one of
 * "loopback", "link_local", "metadata", "private", "multicast", "broadcast", "reserved", "own",
 * "port_zero" (static); NULL with OK.
 *
 * An address is fine if it is neither special nor own, or an allowed network covers it. Of an IPv6
 * address that carries IPv4 addresses (sg_guard_carried) every one of them must be fine too, each by the same rule.
 * v4-mapped is only another spelling: the IPv4 address alone counts. No port 0, allowed or not.
 */
SG_MUST_CHECK enum sg_err sg_guard_check(const struct sg_guard *guard, const struct sg_endpoint *ep, const char **why);

/* True for an own address that is ordinary and that this host itself has; nothing that merely carries one. */
bool sg_guard_is_here(const struct sg_guard *guard, const struct sg_ip *ip);

/* True if the operator opened the address, special or own as it may be. */
bool sg_guard_is_allowed(const struct sg_guard *guard, const struct sg_ip *ip);

/* The class of an address by itself, as in *why above without own and port_zero; that of a carried
 * IPv4 address counts first. NULL for an ordinary one. Static. */
const char *sg_guard_class(const struct sg_ip *ip);

/*
 * The IPv4 addresses that an IPv6 address, unmapped, carries: where a translator or tunnel would send. They are those
 * of v4-compatible and SIIT forms, NAT64 (64:ff9b::/96, 64:ff9b:1::/48, and the guard's own prefixes), 6to4, Teredo,
 * and ISATAP interface ids. Their number; 0 for IPv4. guard may be NULL: the network's prefixes are not known.
 */
unsigned sg_guard_carried(const struct sg_guard *guard, const struct sg_ip *ip,
                          struct sg_ip out[static SG_GUARD_CARRIED_MAX]);

/* True if both addresses are of one class; two ordinary ones are. */
bool sg_guard_same_class(const struct sg_ip *a, const struct sg_ip *b);

#endif
