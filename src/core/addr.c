/*
 * Addresses: comparison, text forms, the SOCKS encoding, and networks. inet_pton and inet_ntop are
 * the C library's and touch nothing outside memory; they know the text forms of RFC 5952 better than
 * a parser of ours would.
 */
#include "core/addr.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static size_t ip_bytes(const struct sg_ip *ip)
{
    return ip->family == 4 ? 4 : ip->family == 6 ? 16 : 0;
}

static_assert(SG_ENDPOINT_KEY_BYTES == crypto_shorthash_KEYBYTES, "the key is that of SipHash");

uint64_t sg_endpoint_hash(const struct sg_endpoint *ep, const uint8_t key[static SG_ENDPOINT_KEY_BYTES])
{
    uint64_t hash = 0;
    uint8_t bytes[19] = {ep->ip.family, (uint8_t)(ep->port >> 8), (uint8_t)ep->port};
    memcpy(bytes + 3, ep->ip.bytes, ip_bytes(&ep->ip));
    crypto_shorthash((uint8_t *)&hash, bytes, sizeof bytes, key);
    return hash;
}

bool sg_ip_is_unspecified(const struct sg_ip *ip)
{
    static const uint8_t zero[16];
    return memcmp(ip->bytes, zero, ip_bytes(ip)) == 0;
}

struct sg_ip sg_ip_unmap(const struct sg_ip *ip)
{
    if (ip->family != 6 || memcmp(ip->bytes, mapped_prefix, sizeof mapped_prefix) != 0)
        return *ip;
    struct sg_ip v4 = {.family = 4};
    memcpy(v4.bytes, ip->bytes + sizeof mapped_prefix, 4);
    return v4;
}

/* --- text --- */

enum sg_err sg_ip_parse(const char *text, struct sg_ip *out)
{
    struct sg_ip ip = {.family = 4};
    if (inet_pton(AF_INET, text, ip.bytes) != 1) {
        ip = (struct sg_ip){.family = 6};
        if (inet_pton(AF_INET6, text, ip.bytes) != 1)
            return SG_ERR_INVALID;
    }
    *out = ip;
    return SG_OK;
}

void sg_ip_format(const struct sg_ip *ip, char out[static SG_IP_TEXT_MAX])
{
    int family = ip->family == 6 ? AF_INET6 : AF_INET;
    if (ip->family == 0 || !inet_ntop(family, ip->bytes, out, SG_IP_TEXT_MAX))
        snprintf(out, SG_IP_TEXT_MAX, "-");
}

void sg_endpoint_format(const struct sg_endpoint *ep, char out[static SG_ENDPOINT_TEXT_MAX])
{
    char ip[SG_IP_TEXT_MAX];
    sg_ip_format(&ep->ip, ip);
    snprintf(out, SG_ENDPOINT_TEXT_MAX, ep->ip.family == 6 ? "[%s]:%u" : "%s:%u", ip, (unsigned)ep->port);
}

void sg_target_format(const struct sg_target *t, char out[static SG_TARGET_TEXT_MAX])
{
    if (t->atyp != SG_ATYP_NAME) {
        struct sg_endpoint ep = sg_target_endpoint(t);
        sg_endpoint_format(&ep, out);
        return;
    }
    for (unsigned i = 0; i < t->name_len; i++) {
        uint8_t byte = t->name[i];
        out[i] = byte > ' ' && byte < 0x7f ? (char)byte : '?';
    }
    snprintf(out + t->name_len, SG_TARGET_TEXT_MAX - (size_t)t->name_len, ":%u", (unsigned)t->port);
}

/* Decimal digits only, at most max; no sign, no blank, and no leading zeros beyond the width of
 * "65535". */
static bool parse_decimal(const char *text, unsigned max, unsigned *out)
{
    size_t len = strlen(text);
    unsigned value = 0;
    if (len == 0 || len > 5)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (unsigned)(*text - '0');
    }
    *out = value;
    return value <= max;
}

static bool is_name(const char *text, size_t len)
{
    if (len == 0 || len > 255)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                    c == '_' || c == '.';
        if (!fine)
            return false;
    }
    return true;
}

/* The numeric address of len bytes of text, in one of the families. */
static bool parse_numeric(const char *text, size_t len, uint8_t family, struct sg_ip *out)
{
    char copy[SG_IP_TEXT_MAX];
    if (len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return sg_ip_parse(copy, out) == SG_OK && out->family == family;
}

enum sg_err sg_target_parse(const char *text, bool allow_port_zero, struct sg_target *out)
{
    const char *colon = strrchr(text, ':');
    struct sg_ip ip = {0};
    unsigned port = 0;
    if (!colon || !parse_decimal(colon + 1, 65535, &port) || (port == 0 && !allow_port_zero))
        return SG_ERR_INVALID;
    size_t len = (size_t)(colon - text);
    struct sg_endpoint ep = {.port = (uint16_t)port};
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        if (!parse_numeric(text + 1, len - 2, 6, &ip))
            return SG_ERR_INVALID;
        ep.ip = ip;
        *out = sg_endpoint_target(&ep);
        return SG_OK;
    }
    if (parse_numeric(text, len, 4, &ip)) {
        ep.ip = ip;
        *out = sg_endpoint_target(&ep);
        return SG_OK;
    }
    if (!is_name(text, len))
        return SG_ERR_INVALID;
    *out = (struct sg_target){
        .atyp = SG_ATYP_NAME, .name_len = (uint8_t)len, .port = (uint16_t)port, .name = (const uint8_t *)text};
    return SG_OK;
}

static const char localhost[] = "localhost";

static bool is_localhost(const char *name, size_t len)
{
    if (len == sizeof localhost && name[len - 1] == '.') /* fully qualified */
        len--;
    return len == sizeof localhost - 1 && strncasecmp(name, localhost, len) == 0;
}

static bool is_link_local(const struct sg_ip *ip)
{
    return ip->family == 6 && ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

/* A zone (RFC 4007 section 11) means something on one machine only: a link-local address is nothing without it. */
static bool drop_zone(char *address)
{
    struct sg_ip ip;
    char *zone = strchr(address, '%');
    if (!zone)
        return true;
    *zone = '\0';
    if (sg_ip_parse(address, &ip) == SG_OK && ip.family == 6 && !is_link_local(&ip))
        return true;
    *zone = '%';
    return false;
}

bool sg_name_tidy(char *name)
{
    struct sg_ip ip;
    size_t len = strlen(name);
    if (len >= 2 && name[0] == '[' && name[len - 1] == ']') {
        memmove(name, name + 1, len - 2);
        name[len - 2] = '\0';
        return drop_zone(name) && sg_ip_parse(name, &ip) == SG_OK && ip.family == 6;
    }
    if (!drop_zone(name))
        return false;
    if (is_localhost(name, len)) {
        name[sizeof localhost - 1] = '\0';
        return true;
    }
    if (len > 1 && name[len - 1] == '.') {
        name[len - 1] = '\0';
        if (sg_ip_parse(name, &ip) != SG_OK || ip.family != 4)
            name[len - 1] = '.';
    }
    return !strchr(name, ':') || sg_ip_parse(name, &ip) == SG_OK;
}

/* What keeps a text from being ADDR:PORT. */
static const char *listen_problem(const char *text, bool allow_port_zero)
{
    struct sg_ip ip;
    unsigned port = 0;
    const char *colon = strrchr(text, ':');
    if (strchr(text, '%'))
        return "an address with a zone (%eth0) is not supported here: any other address of that machine will do";
    if (sg_ip_parse(text, &ip) == SG_OK && ip.family == 4)
        return "has no port: must be ADDRESS:PORT, as in 127.0.0.1:1443";
    if (text[0] == '[' && text[strlen(text) - 1] == ']')
        return "has no port: must be [ADDRESS]:PORT, as in [::1]:1443";
    if (text[0] != '[' && colon && strchr(text, ':') != colon)
        return "an IPv6 address stands in brackets, before the port: [::1]:1443";
    if (!colon || colon == text || colon[1] == '\0')
        return "must be ADDRESS:PORT, as in 127.0.0.1:1443";
    if (!parse_decimal(colon + 1, 65535, &port) || (port == 0 && !allow_port_zero))
        return "the port must be a number from 1 to 65535";
    return "must be ADDRESS:PORT, with an IP address (or localhost), as in 127.0.0.1:1443";
}

const char *sg_listen_parse(const char *text, bool allow_port_zero, struct sg_endpoint *out)
{
    static const struct sg_ip loopback = {.family = 4, .bytes = {127, 0, 0, 1}};
    struct sg_target target;
    if (sg_target_parse(text, allow_port_zero, &target) != SG_OK)
        return listen_problem(text, allow_port_zero);
    if (target.atyp == SG_ATYP_NAME && !is_localhost((const char *)target.name, target.name_len))
        return listen_problem(text, allow_port_zero);
    *out = sg_target_endpoint(&target);
    if (target.atyp == SG_ATYP_NAME)
        out->ip = loopback;
    return NULL;
}

/* --- the SOCKS form (RFC 1928 section 5) --- */

static void read_ip(struct sg_rbuf *r, uint8_t family, struct sg_ip *ip)
{
    ip->family = family;
    const uint8_t *bytes = sg_rbuf_bytes(r, ip_bytes(ip));
    if (bytes)
        memcpy(ip->bytes, bytes, ip_bytes(ip));
}

enum sg_err sg_target_decode(struct sg_rbuf *r, struct sg_target *out)
{
    *out = (struct sg_target){.atyp = sg_rbuf_u8(r)};
    if (!sg_rbuf_ok(r))
        return SG_ERR_TRUNCATED;
    switch (out->atyp) {
    case SG_ATYP_IPV4:
        read_ip(r, 4, &out->ip);
        break;
    case SG_ATYP_IPV6:
        read_ip(r, 6, &out->ip);
        break;
    case SG_ATYP_NAME:
        out->name_len = sg_rbuf_u8(r);
        if (sg_rbuf_ok(r) && out->name_len == 0)
            return SG_ERR_MALFORMED;
        out->name = sg_rbuf_bytes(r, out->name_len);
        break;
    default: /* any byte can come from the network */
        return SG_ERR_UNSUPPORTED;
    }
    out->port = sg_rbuf_u16(r);
    if (!sg_rbuf_ok(r))
        return SG_ERR_TRUNCATED;
    /* A NUL would end the name early for whoever resolves or compares it as a C string. */
    return out->name && memchr(out->name, 0, out->name_len) ? SG_ERR_MALFORMED : SG_OK;
}

void sg_target_encode(struct sg_wbuf *w, const struct sg_target *t)
{
    if (t->atyp != SG_ATYP_NAME) {
        struct sg_endpoint ep = sg_target_endpoint(t);
        sg_endpoint_encode(w, &ep);
        return;
    }
    sg_wbuf_u8(w, SG_ATYP_NAME);
    sg_wbuf_u8(w, t->name_len);
    sg_wbuf_bytes(w, t->name, t->name_len);
    sg_wbuf_u16(w, t->port);
}

void sg_endpoint_encode(struct sg_wbuf *w, const struct sg_endpoint *ep)
{
    static const struct sg_ip none = {.family = 4};
    const struct sg_ip *ip = ep->ip.family == 0 ? &none : &ep->ip;
    sg_wbuf_u8(w, ip->family == 6 ? SG_ATYP_IPV6 : SG_ATYP_IPV4);
    sg_wbuf_bytes(w, ip->bytes, ip_bytes(ip));
    sg_wbuf_u16(w, ep->port);
}

struct sg_target sg_endpoint_target(const struct sg_endpoint *ep)
{
    return (struct sg_target){.atyp = ep->ip.family == 6 ? SG_ATYP_IPV6 : SG_ATYP_IPV4, .port = ep->port, .ip = ep->ip};
}

/* --- networks --- */

/* True if the first bits of both are equal; bits is at most the length of either. */
static bool prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned rest = bits % 8;
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    return rest == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - rest) == 0;
}

static bool has_host_bits(const struct sg_cidr *net)
{
    for (unsigned bit = net->bits; bit < ip_bytes(&net->ip) * 8; bit++)
        if (net->ip.bytes[bit / 8] >> (7 - bit % 8) & 1)
            return true;
    return false;
}

enum sg_err sg_cidr_parse(const char *text, struct sg_cidr *out)
{
    struct sg_cidr net;
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    if (!parse_numeric(text, len, 4, &net.ip) && !parse_numeric(text, len, 6, &net.ip))
        return SG_ERR_INVALID;
    unsigned full = (unsigned)ip_bytes(&net.ip) * 8;
    unsigned bits = full;
    if (slash && !parse_decimal(slash + 1, full, &bits))
        return SG_ERR_INVALID;
    net.bits = (uint8_t)bits;
    if (has_host_bits(&net))
        return SG_ERR_INVALID;
    *out = net;
    return SG_OK;
}

bool sg_cidr_contains(const struct sg_cidr *net, const struct sg_ip *ip)
{
    return ip->family != 0 && net->ip.family == ip->family && net->bits <= ip_bytes(ip) * 8 &&
           prefix_equal(net->ip.bytes, ip->bytes, net->bits);
}
