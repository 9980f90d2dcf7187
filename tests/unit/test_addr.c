/* Addresses: text forms both ways, the SOCKS encoding with every truncation, networks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/addr.h"

static struct sg_ip ip_of(const char *text)
{
    struct sg_ip ip = {0};
    if (sg_ip_parse(text, &ip) != SG_OK)
        fail_msg("%s does not parse", text);
    return ip;
}

static void ip_text_round_trips(void **state)
{
    static const char *const texts[] = {"0.0.0.0",
                                        "192.0.2.1",
                                        "255.255.255.255",
                                        "::",
                                        "::1",
                                        "2001:db8::1",
                                        "fe80::1:2:3:4",
                                        "1:2:3:4:5:6:7:8",
                                        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                                        "::ffff:192.0.2.1"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[SG_IP_TEXT_MAX];
        struct sg_ip ip = ip_of(texts[i]);
        assert_int_equal(ip.family, strchr(texts[i], ':') ? 6 : 4);
        sg_ip_format(&ip, text);
        assert_string_equal(text, texts[i]);
    }
}

static void ip_text_that_is_none(void **state)
{
    static const char *const texts[] = {"",         "1.2.3",    "1.2.3.4.5", "256.0.0.1", "1.2.3.4 ",
                                        " 1.2.3.4", "01.2.3.4", "[::1]",     "::1%lo",    "fe80::1%eth0",
                                        ":::",      "1::2::3",  "12345::",   "localhost"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct sg_ip ip;
        if (sg_ip_parse(texts[i], &ip) != SG_ERR_INVALID)
            fail_msg("'%s' parses", texts[i]);
    }
}

static void ipv4_leaves_the_rest_zero(void **state)
{
    static const uint8_t zero[12];
    (void)state;
    struct sg_ip ip;
    memset(&ip, 0xff, sizeof ip);
    assert_int_equal(sg_ip_parse("1.2.3.4", &ip), SG_OK);
    assert_memory_equal(ip.bytes + 4, zero, 12);
}

static void unmap_undoes_only_mapped(void **state)
{
    (void)state;
    struct sg_ip mapped = ip_of("::ffff:192.0.2.1");
    struct sg_ip plain = ip_of("192.0.2.1");
    struct sg_ip undone = sg_ip_unmap(&mapped);
    assert_true(sg_ip_equal(&undone, &plain));
    static const char *const others[] = {"192.0.2.1",        "::192.0.2.1", "::fffe:1:2",
                                         "64:ff9b::1.2.3.4", "::",          "1::ffff:1.2.3.4"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct sg_ip ip = ip_of(others[i]);
        undone = sg_ip_unmap(&ip);
        assert_true(sg_ip_equal(&undone, &ip));
    }
}

static void equality(void **state)
{
    (void)state;
    struct sg_ip a = ip_of("10.0.0.1");
    struct sg_ip b = ip_of("10.0.0.2");
    struct sg_ip c = ip_of("a00:1::"); /* the same first four bytes */
    assert_true(sg_ip_equal(&a, &a));
    assert_false(sg_ip_equal(&a, &b));
    assert_false(sg_ip_equal(&a, &c));
    a.bytes[9] = 1; /* beyond an IPv4 address: no part of it */
    b = ip_of("10.0.0.1");
    assert_true(sg_ip_equal(&a, &b));
    struct sg_endpoint x = {.ip = a, .port = 1};
    struct sg_endpoint y = {.ip = b, .port = 2};
    assert_false(sg_endpoint_equal(&x, &y));
    y.port = 1;
    assert_true(sg_endpoint_equal(&x, &y));
}

static void hash_is_of_what_counts(void **state)
{
    static const uint8_t key[SG_ENDPOINT_KEY_BYTES] = {1};
    (void)state;
    struct sg_endpoint v4 = {.ip = ip_of("10.0.0.1"), .port = 53}, same = v4;
    struct sg_endpoint v6 = {.ip = ip_of("a00:1::"), .port = 53}; /* the same first four bytes */
    uint64_t hash = sg_endpoint_hash(&v4, key);
    memset(same.ip.bytes + 4, 0xee, 12);
    assert_true(sg_endpoint_equal(&v4, &same));
    assert_true(sg_endpoint_hash(&same, key) == hash);
    assert_false(sg_endpoint_hash(&v6, key) == hash);
    for (unsigned i = 0; i < 16; i++) {
        struct sg_endpoint other = i < 4 ? v4 : v6;
        other.ip.bytes[i] ^= 0x80;
        assert_false(sg_endpoint_hash(&other, key) == sg_endpoint_hash(i < 4 ? &v4 : &v6, key));
    }
    for (unsigned bit = 1; bit < 65536; bit *= 2) {
        struct sg_endpoint other = v4;
        other.port ^= (uint16_t)bit;
        assert_false(sg_endpoint_hash(&other, key) == hash);
    }
}

/* Whoever found endpoints that meet under one key has found none for another. */
static void hash_spreads_by_its_key(void **state)
{
    enum { BUCKETS = 1024, BUCKET = 7 };
    static const uint8_t keys[2][SG_ENDPOINT_KEY_BYTES] = {{1}, {2}};
    unsigned met = 0, met_again = 0;
    (void)state;
    for (unsigned port = 1; port < 65536; port++) {
        const struct sg_endpoint ep = {.ip = ip_of("127.0.0.1"), .port = (uint16_t)port};
        if (sg_endpoint_hash(&ep, keys[0]) % BUCKETS != BUCKET)
            continue;
        met++;
        met_again += sg_endpoint_hash(&ep, keys[1]) % BUCKETS == BUCKET;
    }
    assert_true(met > 32 && met < 128); /* 64, were they dealt out at random */
    assert_true(met_again < 4);
}

static void unspecified(void **state)
{
    (void)state;
    struct sg_ip any4 = ip_of("0.0.0.0");
    struct sg_ip any6 = ip_of("::");
    struct sg_ip one6 = ip_of("::1");
    struct sg_ip one4 = ip_of("0.0.0.1");
    struct sg_ip none = {0};
    assert_true(sg_ip_is_unspecified(&any4) && sg_ip_is_unspecified(&any6) && sg_ip_is_unspecified(&none));
    assert_false(sg_ip_is_unspecified(&one4) || sg_ip_is_unspecified(&one6));
}

static void endpoint_text(void **state)
{
    (void)state;
    char text[SG_ENDPOINT_TEXT_MAX];
    struct sg_endpoint ep = {.ip = ip_of("192.0.2.1"), .port = 53};
    sg_endpoint_format(&ep, text);
    assert_string_equal(text, "192.0.2.1:53");
    ep = (struct sg_endpoint){.ip = ip_of("2001:db8::1"), .port = 65535};
    sg_endpoint_format(&ep, text);
    assert_string_equal(text, "[2001:db8::1]:65535");
    ep = (struct sg_endpoint){.ip = ip_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), .port = 65535};
    sg_endpoint_format(&ep, text);
    assert_string_equal(text, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    ep = (struct sg_endpoint){0};
    sg_endpoint_format(&ep, text);
    assert_string_equal(text, "-:0");
}

static void target_text_masks_odd_bytes(void **state)
{
    (void)state;
    char text[SG_TARGET_TEXT_MAX];
    uint8_t name[255];
    memset(name, 'n', sizeof name);
    struct sg_target t = {.atyp = SG_ATYP_NAME, .name = (const uint8_t *)"a\nb\x1b\xff c", .name_len = 7, .port = 7};
    sg_target_format(&t, text);
    assert_string_equal(text, "a?b???c:7");
    t = (struct sg_target){.atyp = SG_ATYP_NAME, .name = name, .name_len = 255, .port = 65535};
    sg_target_format(&t, text);
    assert_int_equal(strlen(text), 255 + 6);
    assert_string_equal(text + 255, ":65535");
}

static void target_parse_accepts(void **state)
{
    static const struct {
        const char *text;
        uint8_t atyp;
        uint16_t port;
    } rows[] = {
        {"127.0.0.1:80", SG_ATYP_IPV4, 80},
        {"255.255.255.255:65535", SG_ATYP_IPV4, 65535},
        {"[::1]:443", SG_ATYP_IPV6, 443},
        {"[2001:db8::1]:1", SG_ATYP_IPV6, 1},
        {"example.org:53", SG_ATYP_NAME, 53},
        {"x:1", SG_ATYP_NAME, 1},
        {"my_host-1.local.:8080", SG_ATYP_NAME, 8080},
        {"1.2.3:00080", SG_ATYP_NAME, 80},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sg_target t;
        assert_int_equal(sg_target_parse(rows[i].text, false, &t), SG_OK);
        assert_int_equal(t.atyp, rows[i].atyp);
        assert_int_equal(t.port, rows[i].port);
        if (t.atyp == SG_ATYP_NAME) {
            assert_ptr_equal(t.name, rows[i].text);
            assert_int_equal(t.name_len, strchr(rows[i].text, ':') - rows[i].text);
        } else {
            char text[SG_TARGET_TEXT_MAX];
            sg_target_format(&t, text);
            assert_string_equal(text, rows[i].text);
        }
    }
}

static void target_parse_refuses(void **state)
{
    static const char *const texts[] = {"",
                                        ":",
                                        ":80",
                                        "host",
                                        "host:",
                                        "host:0",
                                        "host:65536",
                                        "host:99999",
                                        "host:999999",
                                        "host:-1",
                                        "host:+1",
                                        "host: 1",
                                        "host:1 ",
                                        "host:1x",
                                        "ho st:1",
                                        "ho/st:1",
                                        "h\xc3\xb6st:1",
                                        "::1:80",
                                        "[::1]",
                                        "[::1]80",
                                        "[::1:80",
                                        "[127.0.0.1]:80",
                                        "[host]:80",
                                        "[]:80",
                                        "[::1%lo]:80",
                                        "::1]:80",
                                        "a:b:1",
                                        "*:80",
                                        "host:0x50"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct sg_target t;
        if (sg_target_parse(texts[i], false, &t) != SG_ERR_INVALID)
            fail_msg("'%s' parses", texts[i]);
    }
}

static void target_parse_port_zero_on_request(void **state)
{
    (void)state;
    struct sg_target t;
    assert_int_equal(sg_target_parse("127.0.0.1:0", false, &t), SG_ERR_INVALID);
    assert_int_equal(sg_target_parse("127.0.0.1:0", true, &t), SG_OK);
    assert_int_equal(t.port, 0);
}

static void target_parse_name_length(void **state)
{
    (void)state;
    char text[256 + 3];
    struct sg_target t;
    memset(text, 'a', sizeof text);
    memcpy(text + 255, ":1", 3);
    assert_int_equal(sg_target_parse(text, false, &t), SG_OK);
    assert_int_equal(t.name_len, 255);
    memset(text, 'a', sizeof text);
    memcpy(text + 256, ":1", 3);
    assert_int_equal(sg_target_parse(text, false, &t), SG_ERR_INVALID);
}

/* Decodes len bytes from a heap copy of exactly that size, so that a sanitizer sees a byte too far. */
static enum sg_err decode_exact(const uint8_t *bytes, size_t len, struct sg_target *t, size_t *left)
{
    uint8_t *copy = malloc(len + 1);
    assert_non_null(copy);
    uint8_t *start = copy + 1; /* the end of the block is the end of the input */
    if (len > 0)
        memcpy(start, bytes, len);
    struct sg_rbuf r = sg_rbuf_init(start, len);
    enum sg_err err = sg_target_decode(&r, t);
    *left = sg_rbuf_left(&r);
    t->name = t->name ? bytes + 2 : NULL;
    free(copy);
    return err;
}

static void encode_decode_round_trips(void **state)
{
    static const size_t name_lengths[] = {1, 2, 63, 254, 255};
    uint8_t name[255];
    struct sg_target targets[2 + 5] = {
        {.atyp = SG_ATYP_IPV4, .ip = ip_of("192.0.2.7"), .port = 0x1234},
        {.atyp = SG_ATYP_IPV6, .ip = ip_of("2001:db8::7"), .port = 0xffff},
    };
    (void)state;
    memset(name, 'a', sizeof name);
    for (size_t i = 0; i < 5; i++)
        targets[2 + i] = (struct sg_target){
            .atyp = SG_ATYP_NAME, .name = name, .name_len = (uint8_t)name_lengths[i], .port = (uint16_t)i};
    for (size_t i = 0; i < 7; i++) {
        uint8_t bytes[SG_ADDR_MAX_BYTES];
        struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
        struct sg_target t = {0};
        size_t left;
        sg_target_encode(&w, &targets[i]);
        assert_true(sg_wbuf_ok(&w));
        size_t len = sg_wbuf_len(&w);
        assert_int_equal(decode_exact(bytes, len, &t, &left), SG_OK);
        assert_int_equal(left, 0);
        assert_int_equal(t.atyp, targets[i].atyp);
        assert_int_equal(t.port, targets[i].port);
        assert_true(sg_ip_equal(&t.ip, &targets[i].ip));
        assert_int_equal(t.name_len, targets[i].name_len);
        if (t.name)
            assert_memory_equal(t.name, name, t.name_len);
        for (size_t cut = 0; cut < len; cut++)
            assert_int_equal(decode_exact(bytes, cut, &t, &left), SG_ERR_TRUNCATED);
    }
}

static void encodings_have_their_sizes(void **state)
{
    static const uint8_t v4[] = {1, 192, 0, 2, 7, 0x12, 0x34};
    static const uint8_t none[] = {1, 0, 0, 0, 0, 0, 9};
    uint8_t bytes[SG_ADDR_MAX_BYTES];
    (void)state;
    struct sg_endpoint ep = {.ip = ip_of("192.0.2.7"), .port = 0x1234};
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_endpoint_encode(&w, &ep);
    assert_int_equal(sg_wbuf_len(&w), SG_ADDR_IPV4_BYTES);
    assert_memory_equal(bytes, v4, sizeof v4);

    ep = (struct sg_endpoint){.ip = ip_of("2001:db8::7"), .port = 1};
    w = sg_wbuf_init(bytes, sizeof bytes);
    sg_endpoint_encode(&w, &ep);
    assert_int_equal(sg_wbuf_len(&w), SG_ADDR_IPV6_BYTES);

    ep = (struct sg_endpoint){.ip = {.family = 0, .bytes = {9, 9, 9, 9}}, .port = 9};
    w = sg_wbuf_init(bytes, sizeof bytes);
    sg_endpoint_encode(&w, &ep);
    assert_memory_equal(bytes, none, sizeof none);
}

static void decode_refuses(void **state)
{
    struct sg_target t;
    size_t left;
    (void)state;
    for (unsigned atyp = 0; atyp < 256; atyp++) {
        uint8_t bytes[SG_ADDR_MAX_BYTES] = {(uint8_t)atyp, 1, 'x', 0, 80};
        enum sg_err err = decode_exact(bytes, sizeof bytes, &t, &left);
        bool known = atyp == 1 || atyp == 3 || atyp == 4;
        assert_int_equal(err, known ? SG_OK : SG_ERR_UNSUPPORTED);
    }
    assert_int_equal(decode_exact((const uint8_t *)"\x03\x00\x00\x50", 4, &t, &left), SG_ERR_MALFORMED);
    assert_int_equal(decode_exact((const uint8_t *)"\x03\x00", 2, &t, &left), SG_ERR_MALFORMED);
    assert_int_equal(decode_exact((const uint8_t *)"\x03\x03"
                                                   "a\0b"
                                                   "\x00\x50",
                                  7, &t, &left),
                     SG_ERR_MALFORMED);
    assert_int_equal(decode_exact((const uint8_t *)"\x03\x01\x00\x00\x50", 5, &t, &left), SG_ERR_MALFORMED);
}

static void decode_leaves_what_follows(void **state)
{
    static const uint8_t bytes[] = {1, 10, 0, 0, 1, 0, 53, 'd', 'a', 't', 'a'};
    struct sg_target t;
    size_t left;
    (void)state;
    assert_int_equal(decode_exact(bytes, sizeof bytes, &t, &left), SG_OK);
    assert_int_equal(left, 4);
    assert_int_equal(sg_target_endpoint(&t).port, 53);
}

static void cidr_parse_accepts_and_contains(void **state)
{
    static const struct {
        const char *net;
        const char *inside;
        const char *outside;
    } rows[] = {
        {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
        {"172.16.0.0/12", "172.31.255.255", "172.32.0.0"},
        {"192.0.2.128/25", "192.0.2.128", "192.0.2.127"},
        {"192.0.2.4/31", "192.0.2.5", "192.0.2.6"},
        {"192.0.2.4", "192.0.2.4", "192.0.2.5"},
        {"192.0.2.4/32", "192.0.2.4", "192.0.2.0"},
        {"0.0.0.0/0", "255.1.2.3", "::"},
        {"::/0", "ffff::1", "1.2.3.4"},
        {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
        {"2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"},
        {"fc00::/7", "fdff::", "fe00::"},
        {"::1", "::1", "::2"},
        {"2001:db8::1/128", "2001:db8::1", "2001:db8::"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sg_cidr net;
        struct sg_ip inside = ip_of(rows[i].inside);
        struct sg_ip outside = ip_of(rows[i].outside);
        assert_int_equal(sg_cidr_parse(rows[i].net, &net), SG_OK);
        if (!sg_cidr_contains(&net, &inside) || sg_cidr_contains(&net, &outside))
            fail_msg("%s", rows[i].net);
    }
}

static void cidr_parse_refuses(void **state)
{
    static const char *const texts[] = {"",
                                        "/",
                                        "/8",
                                        "10.0.0.0/",
                                        "10.0.0.0/33",
                                        "10.0.0.0/-1",
                                        "10.0.0.0/8 ",
                                        "10.0.0.0/8/8",
                                        "10.0.0.1/8",
                                        "10.0.0.0/255.0.0.0",
                                        "10/8",
                                        "::/129",
                                        "::1/64",
                                        "2001:db8::8000:0/96",
                                        "host/8",
                                        "[::]/0",
                                        "10.0.0.0/000008"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct sg_cidr net;
        if (sg_cidr_parse(texts[i], &net) != SG_ERR_INVALID)
            fail_msg("'%s' parses", texts[i]);
    }
}

static void empty_cidr_holds_nothing(void **state)
{
    (void)state;
    struct sg_cidr none = {0};
    struct sg_ip no_ip = {0};
    struct sg_ip any = ip_of("0.0.0.0");
    assert_false(sg_cidr_contains(&none, &no_ip));
    assert_false(sg_cidr_contains(&none, &any));
}

static void test_listen_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown; /* shown: the endpoint, or what is wrong */
    } cases[] = {
        {"127.0.0.1:1443", "127.0.0.1:1443"},
        {"0.0.0.0:53", "0.0.0.0:53"},
        {"[::1]:53", "[::1]:53"},
        {"[::]:65535", "[::]:65535"},
        {"localhost:53", "127.0.0.1:53"},
        {"LocalHost.:53", "127.0.0.1:53"},
        {"127.0.0.1", "has no port: must be ADDRESS:PORT, as in 127.0.0.1:1443"},
        {"[::1]", "has no port: must be [ADDRESS]:PORT, as in [::1]:1443"},
        {"::1:53", "an IPv6 address stands in brackets, before the port: [::1]:1443"},
        {"::1", "an IPv6 address stands in brackets, before the port: [::1]:1443"},
        {"127.0.0.1:99999", "the port must be a number from 1 to 65535"},
        {"127.0.0.1:65536", "the port must be a number from 1 to 65535"},
        {"127.0.0.1:-1", "the port must be a number from 1 to 65535"},
        {"127.0.0.1:http", "the port must be a number from 1 to 65535"},
        {"127.0.0.1:0", "the port must be a number from 1 to 65535"},
        {"127.0.0.1:", "must be ADDRESS:PORT, as in 127.0.0.1:1443"},
        {":53", "must be ADDRESS:PORT, as in 127.0.0.1:1443"},
        {"", "must be ADDRESS:PORT, as in 127.0.0.1:1443"},
        {"1443", "must be ADDRESS:PORT, as in 127.0.0.1:1443"},
        {"example.org:53", "must be ADDRESS:PORT, with an IP address (or localhost), as in 127.0.0.1:1443"},
        {"localhost.example:53", "must be ADDRESS:PORT, with an IP address (or localhost), as in 127.0.0.1:1443"},
        {"300.0.0.1:53", "must be ADDRESS:PORT, with an IP address (or localhost), as in 127.0.0.1:1443"},
        {"[fe80::1%eth0]:53",
         "an address with a zone (%eth0) is not supported here: any other address of that machine will do"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sg_endpoint ep;
        char text[SG_ENDPOINT_TEXT_MAX];
        const char *shown = sg_listen_parse(cases[i].text, false, &ep);
        if (!shown) {
            sg_endpoint_format(&ep, text);
            shown = text;
        }
        if (strcmp(shown, cases[i].shown) != 0)
            fail_msg("%s: \"%s\", not \"%s\"", cases[i].text, shown, cases[i].shown);
    }
    struct sg_endpoint ep;
    assert_null(sg_listen_parse("127.0.0.1:0", true, &ep));
    assert_int_equal(ep.port, 0);
}

static void test_name_tidy(void **state)
{
    (void)state;
    static const struct {
        const char *given, *tidy; /* NULL: no name */
    } cases[] = {
        {"example.org", "example.org"},
        {"example.org.", "example.org."},
        {"localhost", "localhost"},
        {"localhost.", "localhost"},
        {"LOCALHOST.", "LOCALHOST"},
        {"localhost..", "localhost.."},
        {"127.0.0.1", "127.0.0.1"},
        {"127.0.0.1.", "127.0.0.1"},
        {"127.0.0.1..", "127.0.0.1.."},
        {"[::1]", "::1"},
        {"::1", "::1"},
        {"[::1%lo]", "::1"},
        {"::1%lo", "::1"},
        {"2001:db8::1%1", "2001:db8::1"},
        {"fe80::1", "fe80::1"},
        {"fe80::1%eth0", NULL},
        {"[fe80::1%eth0]", NULL},
        {"febf::1%2", NULL},
        {"127.0.0.1%eth0", NULL},
        {"a%b", NULL},
        {"[127.0.0.1]", NULL},
        {"[a]", NULL},
        {"[]", NULL},
        {"a:b", NULL},
        {"::1.", NULL},
        {".", "."},
        {"", ""},
        {"%", NULL},
        {"[", "["},
        {"x]", "x]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s", cases[i].given);
        bool good = sg_name_tidy(name);
        if (good != (cases[i].tidy != NULL) || (good && strcmp(name, cases[i].tidy) != 0))
            fail_msg("%s: %s", cases[i].given, good ? name : "no name");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listen_parse),
        cmocka_unit_test(test_name_tidy),
        cmocka_unit_test(ip_text_round_trips),
        cmocka_unit_test(ip_text_that_is_none),
        cmocka_unit_test(ipv4_leaves_the_rest_zero),
        cmocka_unit_test(unmap_undoes_only_mapped),
        cmocka_unit_test(equality),
        cmocka_unit_test(hash_is_of_what_counts),
        cmocka_unit_test(hash_spreads_by_its_key),
        cmocka_unit_test(unspecified),
        cmocka_unit_test(endpoint_text),
        cmocka_unit_test(target_text_masks_odd_bytes),
        cmocka_unit_test(target_parse_accepts),
        cmocka_unit_test(target_parse_refuses),
        cmocka_unit_test(target_parse_port_zero_on_request),
        cmocka_unit_test(target_parse_name_length),
        cmocka_unit_test(encode_decode_round_trips),
        cmocka_unit_test(encodings_have_their_sizes),
        cmocka_unit_test(decode_refuses),
        cmocka_unit_test(decode_leaves_what_follows),
        cmocka_unit_test(cidr_parse_accepts_and_contains),
        cmocka_unit_test(cidr_parse_refuses),
        cmocka_unit_test(empty_cidr_holds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
