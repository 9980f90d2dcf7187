/*
 * Addresses as the protocol has them: an IP of either family, an endpoint (IP and port), and a
 * SOCKS address (RFC 1928 section 5: IP or name, and port). No sockaddr here: src/net converts.
 */
#ifndef SG_CORE_ADDR_H
#define SG_CORE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/err.h"
#include "core/rbuf.h"
#include "core/wbuf.h"

enum sg_atyp { SG_ATYP_IPV4 = 1, SG_ATYP_NAME = 3, SG_ATYP_IPV6 = 4 };

/* Longest encoded SOCKS address: type, IPv6 and port; with a name: type, length, 255 bytes and
 * port. */
enum { SG_ADDR_IPV4_BYTES = 1 + 4 + 2, SG_ADDR_IPV6_BYTES = 1 + 16 + 2, SG_ADDR_MAX_BYTES = 1 + 1 + 255 + 2 };

enum { SG_IP_TEXT_MAX = 46, SG_ENDPOINT_TEXT_MAX = 56, SG_TARGET_TEXT_MAX = 264 };

/* family 4 uses bytes[0..3] and leaves the rest 0; family 6 uses all; family 0 means no address. */
struct sg_ip {
    uint8_t family;
    uint8_t bytes[16];
};

struct sg_endpoint {
    struct sg_ip ip;
    uint16_t port;
};

/* A SOCKS address. With atyp NAME, name points into the parsed bytes (not terminated) and ip is
 * empty. */
struct sg_target {
    uint8_t atyp;
    uint8_t name_len;
    uint16_t port;
    struct sg_ip ip;
    const uint8_t *name;
};

/* Inline, with lengths that the compiler knows: these run several times for each datagram. */
static inline bool sg_ip_equal(const struct sg_ip *a, const struct sg_ip *b)
{
    if (a->family != b->family)
        return false;
    return a->family == 6 ? memcmp(a->bytes, b->bytes, 16) == 0 : a->family == 0 || memcmp(a->bytes, b->bytes, 4) == 0;
}

static inline bool sg_endpoint_equal(const struct sg_endpoint *a, const struct sg_endpoint *b)
{
    return a->port == b->port && sg_ip_equal(&a->ip, &b->ip);
}

enum { SG_ENDPOINT_KEY_BYTES = 16 };

/*
 * For hash tables: equal endpoints have equal hashes under one key, and whoever chooses endpoints but does not know the
 * key, which is random, cannot choose such that meet (SipHash).
 */
uint64_t sg_endpoint_hash(const struct sg_endpoint *ep, const uint8_t key[static SG_ENDPOINT_KEY_BYTES]);

/* True for 0.0.0.0, ::, and no address at all. */
bool sg_ip_is_unspecified(const struct sg_ip *ip);

/* Undo IPv4-mapped IPv6 (::ffff:a.b.c.d) so that one host has one form; other addresses are
 * returned as given. */
struct sg_ip sg_ip_unmap(const struct sg_ip *ip);

/* Text to IP ("192.0.2.1", "2001:db8::1", no brackets, no zone). INVALID when it is neither. */
SG_MUST_CHECK enum sg_err sg_ip_parse(const char *text, struct sg_ip *out);

/* Text forms, terminated, always written: "192.0.2.1", "2001:db8::1"; with a port "192.0.2.1:53",
 * "[2001:db8::1]:53". */
void sg_ip_format(const struct sg_ip *ip, char out[static SG_IP_TEXT_MAX]);
void sg_endpoint_format(const struct sg_endpoint *ep, char out[static SG_ENDPOINT_TEXT_MAX]);

/* As sg_endpoint_format, or "name:port"; bytes of a name outside printable ASCII appear as '?'. */
void sg_target_format(const struct sg_target *t, char out[static SG_TARGET_TEXT_MAX]);

/*
 * "ADDR:PORT", "[V6]:PORT" or "NAME:PORT" to a target; its name points into text, which must
 * outlive it. Port 1 to 65535 (0 only if allow_port_zero). A name is 1 to 255 bytes of letters,
 * digits, '-', '_' and '.'.
 */
SG_MUST_CHECK enum sg_err sg_target_parse(const char *text, bool allow_port_zero, struct sg_target *out);

/*
 * Rewrites in place what applications and people write for a host to what a resolver understands: addresses lose
 * brackets, a final dot, and a zone unless they are link-local; "localhost." loses its dot. False if the text can be no
 * name that is worth a question, as an address with a zone.
 */
SG_MUST_CHECK bool sg_name_tidy(char *name);

/*
 * "ADDR:PORT", "[V6]:PORT" or "localhost:PORT" (which is 127.0.0.1) to an endpoint to listen on. Port 1 to 65535 (0
 * only if allow_port_zero). Returns NULL, or what is wrong with the text, for a user to read: static.
 */
SG_MUST_CHECK const char *sg_listen_parse(const char *text, bool allow_port_zero, struct sg_endpoint *out);

/*
 * Reads ATYP, address and port from the cursor. The cursor's error sticks on truncation;
 * UNSUPPORTED for another ATYP, MALFORMED for a name of length 0 or with a NUL byte, TRUNCATED when
 * bytes are missing; out is of no use then.
 */
SG_MUST_CHECK enum sg_err sg_target_decode(struct sg_rbuf *r, struct sg_target *out);

/* Appends ATYP, address, port. An endpoint with family 0 is written as IPv4 0.0.0.0. */
void sg_target_encode(struct sg_wbuf *w, const struct sg_target *t);
void sg_endpoint_encode(struct sg_wbuf *w, const struct sg_endpoint *ep);

/* The endpoint of a target that is numeric; the target of an endpoint. */
static inline struct sg_endpoint sg_target_endpoint(const struct sg_target *t)
{
    return (struct sg_endpoint){.ip = t->ip, .port = t->port};
}
struct sg_target sg_endpoint_target(const struct sg_endpoint *ep);

/* A network: address and prefix length in bits. Bits after the prefix are 0. */
struct sg_cidr {
    struct sg_ip ip;
    uint8_t bits;
};

/* "10.0.0.0/8", "2001:db8::/32" or a single address. INVALID when malformed or when host bits are
 * set. */
SG_MUST_CHECK enum sg_err sg_cidr_parse(const char *text, struct sg_cidr *out);
bool sg_cidr_contains(const struct sg_cidr *net, const struct sg_ip *ip);

#endif
