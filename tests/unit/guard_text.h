/* A guard and its verdicts, with addresses and networks as text. */
#ifndef GUARD_TEXT_H
#define GUARD_TEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/guard.h"

static inline struct sg_endpoint endpoint_of(const char *text, uint16_t port)
{
    struct sg_endpoint ep = {.port = port};
    if (sg_ip_parse(text, &ep.ip) != SG_OK)
        fail_msg("%s does not parse", text);
    return ep;
}

static inline void allow(struct sg_guard *guard, const char *text)
{
    struct sg_cidr net;
    assert_int_equal(sg_cidr_parse(text, &net), SG_OK);
    assert_int_equal(sg_guard_allow(guard, &net), SG_OK);
}

static inline struct sg_cidr net_of(const char *text)
{
    struct sg_cidr net;
    if (sg_cidr_parse(text, &net) != SG_OK)
        fail_msg("%s does not parse", text);
    return net;
}

static inline void add_own(struct sg_guard *guard, const char *text)
{
    struct sg_cidr own = net_of(text);
    assert_int_equal(sg_guard_add_own(guard, &own), SG_OK);
}

static inline void add_nat64(struct sg_guard *guard, const char *text)
{
    struct sg_cidr prefix = net_of(text);
    assert_int_equal(sg_guard_add_nat64(guard, &prefix), SG_OK);
}

/* The verdict on port 443 of an address must be why; NULL means allowed. */
static inline void expect(const struct sg_guard *guard, const char *text, const char *why)
{
    struct sg_endpoint ep = endpoint_of(text, 443);
    const char *got = "unset";
    enum sg_err err = sg_guard_check(guard, &ep, &got);
    bool same = why ? got && strcmp(got, why) == 0 : got == NULL;
    if (!same || err != (why ? SG_ERR_DENIED : SG_OK))
        fail_msg("%s: %s instead of %s", text, got ? got : "allowed", why ? why : "allowed");
    assert_int_equal(sg_guard_check(guard, &ep, NULL), err);
}

#endif
