/*
 * The target guard: which addresses a client may never reach through this server unless the operator
 * opened them. It looks at the final numeric address, undoes every form that hides an IPv4 address
 * in an IPv6 one, and comes before all rules of users. A few compares; fit for every datagram.
 */
#ifndef SG_CORE_GUARD_H
#define SG_CORE_GUARD_H

#include "core/addr.h"

enum { SG_GUARD_ALLOW_MAX = 64, SG_GUARD_OWN_MAX = 64, SG_GUARD_CARRIED_MAX = 3 };

/* Zeroed, it refuses every special-purpose range and knows no own address. */
struct sg_guard {
    unsigned allow_count;
    unsigned own_count;
    struct sg_cidr allow[SG_GUARD_ALLOW_MAX];
    struct sg_endpoint own[SG_GUARD_OWN_MAX];
    struct sg_ip outside; /* the own address that no interface has: a NAT in front has it. Family 0: none */
};

/* Opens a network (the operator's --allow). FULL above SG_GUARD_ALLOW_MAX; INVALID without an
 * address, or with more bits than the address has. */
SG_MUST_CHECK enum sg_err sg_guard_allow(struct sg_guard *guard, const struct sg_cidr *net);

/*
 * Names an address of this host, IPv4-mapped forms undone: one port of it, or every port when port
 * is 0 (what listens there trusts neighbours more than strangers, so servers use 0). Unspecified
 * addresses are refused anyway: pass the interfaces' own. FULL above SG_GUARD_OWN_MAX; EXISTS when
 * already named; INVALID without an address.
 */
SG_MUST_CHECK enum sg_err sg_guard_add_own(struct sg_guard *guard, const struct sg_endpoint *own);

/*
 * OK if a client may reach the endpoint, else DENIED; *why (why may be NULL) is then one of
 * "loopback", "link_local", "metadata", "private", "multicast", "broadcast", "reserved", "own",
 * "port_zero" (static); NULL with OK.
 *
 * An address is fine if it is neither special nor own, or an allowed network covers it. Of an IPv6
 * address that carries IPv4 addresses (v4-compatible, SIIT, NAT64 64:ff9b::/96 and
 * 64:ff9b:1::/48, 6to4, Teredo) every one of them must be fine too, each by the same rule. v4-mapped
 * is only another spelling: the IPv4 address alone counts. No port 0, allowed or not.
 */
SG_MUST_CHECK enum sg_err sg_guard_check(const struct sg_guard *guard, const struct sg_endpoint *ep, const char **why);

/* True for an own address, all ports of which are own, that this host itself has; nothing that merely carries one. */
bool sg_guard_is_here(const struct sg_guard *guard, const struct sg_ip *ip);

/* The class of an address by itself, as in *why above without own and port_zero; that of a carried
 * IPv4 address counts first. NULL for an ordinary one. Static. */
const char *sg_guard_class(const struct sg_ip *ip);

/*
 * The IPv4 addresses that an IPv6 address, unmapped, carries: where a translator or tunnel would send. Their number; 0
 * for IPv4.
 */
unsigned sg_guard_carried(const struct sg_ip *ip, struct sg_ip out[static SG_GUARD_CARRIED_MAX]);

/* True if both addresses are of one class; two ordinary ones are. */
bool sg_guard_same_class(const struct sg_ip *a, const struct sg_ip *b);

#endif
