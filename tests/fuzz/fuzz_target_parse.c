/*
 * Text to target, to address and to network: what parses formats to text that parses to the same, and encodes to bytes
 * that decode to the same. The guard says the same of an IPv4 address in each of its spellings.
 */
#include <string.h>

#include "check.h"
#include "core/addr.h"
#include "core/guard.h"

static void check_same(const struct sg_target *a, const struct sg_target *b)
{
    CHECK(a->atyp == b->atyp && a->port == b->port && a->name_len == b->name_len);
    CHECK(sg_ip_equal(&a->ip, &b->ip));
    CHECK(a->atyp != SG_ATYP_NAME || memcmp(a->name, b->name, a->name_len) == 0);
}

static void check_guard(const struct sg_target *t)
{
    static const struct sg_guard guard;
    struct sg_endpoint ep = sg_target_endpoint(t);
    const char *why = NULL;
    enum sg_err err = sg_guard_check(&guard, &ep, &why);
    CHECK((err == SG_OK) == (why == NULL));
    CHECK(ep.port != 0 || err == SG_ERR_DENIED);
    if (ep.ip.family != 4)
        return;
    const uint8_t *b = ep.ip.bytes;
    const struct sg_endpoint nat64 = {.ip = {6, {0x00, 0x64, 0xff, 0x9b, [12] = b[0], b[1], b[2], b[3]}},
                                      .port = ep.port};
    CHECK(sg_guard_check(&guard, &nat64, NULL) == err);
}

static void check_target(const char *text)
{
    struct sg_target t;
    struct sg_target again;
    char formatted[SG_TARGET_TEXT_MAX];
    uint8_t bytes[SG_ADDR_MAX_BYTES];
    if (sg_target_parse(text, true, &t) != SG_OK) {
        CHECK(sg_target_parse(text, false, &t) != SG_OK);
        return;
    }
    CHECK((sg_target_parse(text, false, &again) == SG_OK) == (t.port != 0));
    sg_target_format(&t, formatted);
    if (PLANTED_BUG && t.atyp == SG_ATYP_IPV6)
        t.port ^= 0x100;
    CHECK(sg_target_parse(formatted, true, &again) == SG_OK);
    check_same(&t, &again);
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_target_encode(&w, &t);
    CHECK(sg_wbuf_ok(&w));
    struct sg_rbuf r = sg_rbuf_init(bytes, sg_wbuf_len(&w));
    CHECK(sg_target_decode(&r, &again) == SG_OK && sg_rbuf_done(&r));
    check_same(&t, &again);
    if (t.atyp != SG_ATYP_NAME)
        check_guard(&t);
}

static void check_network(const char *text)
{
    struct sg_cidr net;
    struct sg_ip ip;
    char formatted[SG_IP_TEXT_MAX];
    if (sg_cidr_parse(text, &net) == SG_OK) {
        CHECK(net.bits <= (net.ip.family == 4 ? 32 : 128));
        CHECK(sg_cidr_contains(&net, &net.ip));
    }
    if (sg_ip_parse(text, &ip) == SG_OK) {
        struct sg_ip again;
        sg_ip_format(&ip, formatted);
        CHECK(sg_ip_parse(formatted, &again) == SG_OK && sg_ip_equal(&ip, &again));
        CHECK(sg_cidr_parse(text, &net) == SG_OK && sg_ip_equal(&net.ip, &ip));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1); /* exactly as long as the text */
    CHECK(text);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    check_target(text);
    check_network(text);
    free(text);
    return 0;
}
