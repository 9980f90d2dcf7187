/* The target guard: a table of addresses with their class, allowed networks, carried forms. */
#include "guard_text.h"

static const struct row {
    const char *ip;
    const char *why; /* NULL: an ordinary address */
} rows[] = {
    /* ordinary */
    {"8.8.8.8", NULL},
    {"1.1.1.1", NULL},
    {"9.255.255.255", NULL},
    {"11.0.0.0", NULL},
    {"126.255.255.255", NULL},
    {"128.0.0.0", NULL},
    {"100.63.255.255", NULL},
    {"100.128.0.0", NULL},
    {"169.253.255.255", NULL},
    {"169.255.0.0", NULL},
    {"172.15.255.255", NULL},
    {"172.32.0.0", NULL},
    {"192.167.255.255", NULL},
    {"192.169.0.0", NULL},
    {"192.0.1.0", NULL},
    {"192.0.3.0", NULL},
    {"198.17.255.255", NULL},
    {"198.20.0.0", NULL},
    {"198.51.101.0", NULL},
    {"203.0.114.0", NULL},
    {"223.255.255.255", NULL},
    {"2606:4700:4700::1111", NULL},
    {"2a00:1450:4001::1", NULL},
    {"2001:200::1", NULL},
    {"2001:db7::1", NULL},
    {"2001:db9::1", NULL},
    {"2003::1", NULL},
    {"3ffe::1", NULL},
    {"3fff:1000::1", NULL},
    /* IPv4 classes and their edges */
    {"0.0.0.0", "reserved"},
    {"0.255.255.255", "reserved"},
    {"10.0.0.0", "private"},
    {"10.255.255.255", "private"},
    {"100.64.0.0", "private"},
    {"100.127.255.255", "private"},
    {"100.100.100.200", "metadata"},
    {"127.0.0.1", "loopback"},
    {"127.255.255.255", "loopback"},
    {"168.63.129.16", "metadata"},
    {"169.254.0.0", "link_local"},
    {"169.254.169.253", "link_local"},
    {"169.254.169.254", "metadata"},
    {"169.254.170.2", "metadata"},
    {"169.254.255.255", "link_local"},
    {"172.16.0.0", "private"},
    {"172.31.255.255", "private"},
    {"192.0.0.1", "reserved"},
    {"192.0.0.192", "metadata"},
    {"192.0.2.1", "reserved"},
    {"192.88.99.1", "reserved"},
    {"192.168.0.0", "private"},
    {"192.168.255.255", "private"},
    {"198.18.0.0", "reserved"},
    {"198.19.255.255", "reserved"},
    {"198.51.100.1", "reserved"},
    {"203.0.113.1", "reserved"},
    {"224.0.0.1", "multicast"},
    {"239.255.255.250", "multicast"},
    {"240.0.0.0", "reserved"},
    {"255.255.255.254", "reserved"},
    {"255.255.255.255", "broadcast"},
    /* IPv6 classes */
    {"::", "reserved"},
    {"::1", "loopback"},
    {"100::1", "reserved"},
    {"100:0:0:1::", "reserved"},
    {"2001:2::1", "reserved"},
    {"2001:1ff:ffff::", "reserved"},
    {"2001:db8::1", "reserved"},
    {"3fff::1", "reserved"},
    {"4000::1", "reserved"},
    {"5f00::1", "reserved"},
    {"fc00::1", "private"},
    {"fd12:3456::1", "private"},
    {"fd00:ec2::254", "metadata"},
    {"fd00:ec2::253", "private"},
    {"fd20:ce::254", "metadata"},
    {"fd00:c1::a9fe:a9fe", "metadata"},
    {"fe00::1", "reserved"},
    {"fe80::1", "link_local"},
    {"febf::1", "link_local"},
    {"fec0::1", "private"},
    {"ff02::1", "multicast"},
    {"ff0e::1", "multicast"},
    /* v4-mapped: only another spelling */
    {"::ffff:8.8.8.8", NULL},
    {"::ffff:127.0.0.1", "loopback"},
    {"::ffff:10.1.2.3", "private"},
    {"::ffff:169.254.169.254", "metadata"},
    {"::ffff:0.0.0.0", "reserved"},
    /* v4-compatible and SIIT */
    {"::127.0.0.1", "loopback"},
    {"::10.0.0.1", "private"},
    {"::0.0.0.2", "reserved"},
    {"::8.8.8.8", "reserved"},
    {"::ffff:0:127.0.0.1", "loopback"},
    {"::ffff:0:8.8.8.8", "reserved"},
    /* NAT64 */
    {"64:ff9b::8.8.8.8", NULL},
    {"64:ff9b::127.0.0.1", "loopback"},
    {"64:ff9b::10.0.0.1", "private"},
    {"64:ff9b::169.254.169.254", "metadata"},
    {"64:ff9b::224.0.0.1", "multicast"},
    {"64:ff9b::255.255.255.255", "broadcast"},
    {"64:ff9b::7f00:1", "loopback"},
    {"64:ff9b:0:0:0:2::1", "reserved"}, /* beside the prefix */
    {"64:ff9b:1::8.8.8.8", "private"},
    {"64:ff9b:1::127.0.0.1", "loopback"},
    {"64:ff9b:1:abcd::10.0.0.1", "private"},
    {"64:ff9b:2::1", "reserved"},
    /* 6to4 */
    {"2002:808:808::1", NULL},
    {"2002:7f00:1::1", "loopback"},
    {"2002:a00:1::", "private"},
    {"2002:c0a8:101:1::1", "private"},
    {"2002:a9fe:a9fe::", "metadata"},
    {"2002::", "reserved"},
    /* Teredo: relay 65.54.227.120, client address inverted at the end */
    {"2001:0:4136:e378:8000:63bf:f7f7:f7f7", NULL},       /* 8.8.8.8 */
    {"2001:0:4136:e378:8000:63bf:80ff:fffe", "loopback"}, /* 127.0.0.1 */
    {"2001:0:4136:e378:8000:63bf:f5ff:fffe", "private"},  /* 10.0.0.1 */
    {"2001:0:4136:e378:8000:63bf:5601:5601", "metadata"}, /* 169.254.169.254 */
    {"2001:0:4136:e378::7f00:1", NULL},                   /* not inverted, it is 128.255.255.254 */
    {"2001:0:a00:1:8000:63bf:f7f7:f7f7", "private"},      /* the relay is 10.0.0.1 */
};

static void table_of_addresses(void **state)
{
    static const struct sg_guard guard;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect(&guard, rows[i].ip, rows[i].why);
}

static void class_without_a_guard(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sg_endpoint ep = endpoint_of(rows[i].ip, 1);
        const char *class = sg_guard_class(&ep.ip);
        if (rows[i].why ? !class || strcmp(class, rows[i].why) != 0 : class != NULL)
            fail_msg("%s: %s", rows[i].ip, class ? class : "ordinary");
    }
}

static void every_ipv4_form_agrees(void **state)
{
    static const struct sg_guard guard;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sg_endpoint v4 = endpoint_of(rows[i].ip, 80);
        if (v4.ip.family != 4)
            continue;
        const uint8_t *b = v4.ip.bytes;
        struct sg_ip forms[] = {
            {6, {[10] = 0xff, [11] = 0xff, b[0], b[1], b[2], b[3]}},
            {6, {0x00, 0x64, 0xff, 0x9b, [12] = b[0], b[1], b[2], b[3]}},
            {6, {0x20, 0x02, b[0], b[1], b[2], b[3], [15] = 1}},
            {6, {0x20, 0x01, 0, 0, 8, 8, 8, 8, [12] = (uint8_t)~b[0], (uint8_t)~b[1], (uint8_t)~b[2], (uint8_t)~b[3]}},
        };
        for (size_t k = 0; k < sizeof forms / sizeof forms[0]; k++) {
            struct sg_endpoint ep = {.ip = forms[k], .port = 80};
            const char *why;
            assert_int_equal(sg_guard_check(&guard, &ep, &why), rows[i].why ? SG_ERR_DENIED : SG_OK);
            if (rows[i].why)
                assert_string_equal(why, rows[i].why);
        }
    }
}

static void port_zero_is_refused_even_if_allowed(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    allow(&guard, "0.0.0.0/0");
    struct sg_endpoint ep = endpoint_of("8.8.8.8", 0);
    const char *why;
    assert_int_equal(sg_guard_check(&guard, &ep, &why), SG_ERR_DENIED);
    assert_string_equal(why, "port_zero");
}

static void no_address_is_refused(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    allow(&guard, "0.0.0.0/0");
    allow(&guard, "::/0");
    struct sg_endpoint none = {.port = 80};
    assert_int_equal(sg_guard_check(&guard, &none, NULL), SG_ERR_DENIED);
}

static void allowed_networks_open_their_range_only(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    allow(&guard, "10.1.0.0/16");
    allow(&guard, "127.0.0.1");
    allow(&guard, "fd00:1::/32");
    allow(&guard, "239.1.2.3/32");
    expect(&guard, "10.1.255.1", NULL);
    expect(&guard, "::ffff:10.1.255.1", NULL);
    expect(&guard, "10.2.0.1", "private");
    expect(&guard, "127.0.0.1", NULL);
    expect(&guard, "127.0.0.2", "loopback");
    expect(&guard, "::1", "loopback");
    expect(&guard, "fd00:1::1", NULL);
    expect(&guard, "fd00:2::1", "private");
    expect(&guard, "239.1.2.3", NULL);
    expect(&guard, "239.1.2.4", "multicast");
    expect(&guard, "8.8.8.8", NULL);
    expect(&guard, "169.254.169.254", "metadata");
}

static void allowed_mapped_network_is_an_ipv4_one(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    allow(&guard, "::ffff:10.0.0.0/104");
    expect(&guard, "10.9.9.9", NULL);
    expect(&guard, "::ffff:10.9.9.9", NULL);
    expect(&guard, "11.0.0.1", NULL);
    expect(&guard, "172.16.0.1", "private");
}

static void carried_address_and_carrier_both_count(void **state)
{
    (void)state;
    struct sg_guard inner = {0};
    allow(&inner, "10.0.0.0/8");
    expect(&inner, "64:ff9b::10.0.0.1", NULL); /* the carrier is ordinary */
    expect(&inner, "2002:a00:1::1", NULL);
    expect(&inner, "64:ff9b:1::10.0.0.1", "private"); /* the carrier is not */
    expect(&inner, "::10.0.0.1", "reserved");
    struct sg_guard outer = {0};
    allow(&outer, "64:ff9b:1::/48");
    allow(&outer, "64:ff9b::/96");
    allow(&outer, "::/8");
    expect(&outer, "64:ff9b:1::10.0.0.1", "private"); /* carried and not allowed */
    expect(&outer, "64:ff9b::10.0.0.1", "private");
    expect(&outer, "::10.0.0.1", "private");
    expect(&outer, "64:ff9b:1::8.8.8.8", NULL);
    expect(&outer, "::ffff:127.0.0.1", "loopback"); /* mapped is no IPv6 address */
    allow(&outer, "10.0.0.0/8");
    expect(&outer, "64:ff9b:1::10.0.0.1", NULL);
    expect(&outer, "::10.0.0.1", NULL);
}

static void local_nat64_is_read_at_every_prefix_length(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    allow(&guard, "64:ff9b:1::/48");
    expect(&guard, "64:ff9b:1:7f00:0:100::", "loopback");    /* /48: 127.0.0.1 */
    expect(&guard, "64:ff9b:1:c0a8:1:100::", "private");     /* /48: 192.168.1.1 */
    expect(&guard, "64:ff9b:1:aa7f:0:1::", "loopback");      /* /56: 127.0.0.1 */
    expect(&guard, "64:ff9b:1:aaaa:7f:0:100:0", "loopback"); /* /64: 127.0.0.1 */
    expect(&guard, "64:ff9b:1:aaaa::127.0.0.1", "loopback"); /* /96 */
    expect(&guard, "64:ff9b:1:808:8:800::", NULL);           /* 8.8.8.8 in each */
    expect(&guard, "64:ff9b:1:aaaa:8:808:800:0", NULL);
    expect(&guard, "64:ff9b:1:aaaa::8.8.8.8", NULL);
}

static void isatap_ids_carry_their_address(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    expect(&guard, "2a00::5efe:127.0.0.1", "loopback");
    expect(&guard, "2a00::200:5efe:10.0.0.1", "private");
    expect(&guard, "2a00:1:2:3:0:5efe:a9fe:a9fe", "metadata");
    expect(&guard, "2002:808:808::200:5efe:192.168.0.1", "private"); /* under a 6to4 prefix that is fine */
    expect(&guard, "2002:7f00:1::200:5efe:8.8.8.8", "loopback");
    expect(&guard, "64:ff9b:1:7f00:0:5efe:808:808", "private");
    expect(&guard, "2a00::5efe:8.8.8.8", NULL);
    expect(&guard, "2a00::100:5efe:127.0.0.1", NULL); /* no such id */
    expect(&guard, "2a00::1:5efe:127.0.0.1", NULL);
    expect(&guard, "2a00::5eff:127.0.0.1", NULL);
    expect(&guard, "fe80::5efe:8.8.8.8", "link_local");
    allow(&guard, "127.0.0.0/8");
    expect(&guard, "2a00::5efe:127.0.0.1", NULL);
}

static void prefixes_of_the_network_s_translators_are_undone(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    static const struct {
        const char *prefix, *loopback, *ordinary, *other;
    } cases[] = {
        {"2a01:64::/32", "2a01:64:7f00:1::", "2a01:64:808:808::", "2a01:65:7f00:1::"},
        {"2a02:64:7700::/40", "2a02:64:777f:0:1::", "2a02:64:7708:808:8::", "2a02:64:787f:0:1::"},
        {"2a03:64:7::/48", "2a03:64:7:7f00:0:100::", "2a03:64:7:808:8:800::", "2a03:64:8:7f00:0:100::"},
        {"2a04:64:7:aa00::/56", "2a04:64:7:aa7f:0:1::", "2a04:64:7:aa08:8:808::", "2a04:64:7:ab7f:0:1::"},
        {"2a05:64:7:8::/64", "2a05:64:7:8:7f:0:100:0", "2a05:64:7:8:8:808:800:0", "2a05:64:7:9:7f:0:100:0"},
        {"2a06:64::/96", "2a06:64::127.0.0.1", "2a06:64::8.8.8.8", "2a06:64::1:127.0.0.1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect(&guard, cases[i].loopback, NULL); /* nobody has said so yet */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        add_nat64(&guard, cases[i].prefix);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect(&guard, cases[i].loopback, "loopback");
        expect(&guard, cases[i].ordinary, NULL);
        expect(&guard, cases[i].other, NULL);
    }
    add_own(&guard, "8.8.8.8");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect(&guard, cases[i].ordinary, "own");
    struct sg_cidr again = net_of("2a06:64::/96"), odd = net_of("2a06:64::/72"), four = net_of("10.0.0.0/32");
    assert_int_equal(sg_guard_add_nat64(&guard, &again), SG_ERR_EXISTS);
    assert_int_equal(sg_guard_add_nat64(&guard, &odd), SG_ERR_INVALID);
    assert_int_equal(sg_guard_add_nat64(&guard, &four), SG_ERR_INVALID);
}

static void a_translator_s_prefix_is_read_from_its_name_server_s_answer(void **state)
{
    static const struct {
        const char *answer, *prefix; /* NULL: none */
    } cases[] = {
        {"64:ff9b::192.0.0.170", "64:ff9b::/96"},
        {"2a06:64::192.0.0.171", "2a06:64::/96"},
        {"2a05:64:7:8:c0:0:aa00:0", "2a05:64:7:8::/64"},
        {"2a04:64:7:aac0:0:aa::", "2a04:64:7:aa00::/56"},
        {"2a03:64:7:c000:0:ab00::", "2a03:64:7::/48"},
        {"2a02:64:77c0:0:aa::", "2a02:64:7700::/40"},
        {"2a01:64:c000:aa::", "2a01:64::/32"},
        {"2a06:64::192.0.0.172", NULL},
        {"2a06:64::1", NULL},
        {"2a05:64:7:8:1c0:0:aa00:0", NULL}, /* byte 8 is not 0 */
        {"192.0.0.170", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sg_ip answer = endpoint_of(cases[i].answer, 0).ip;
        struct sg_cidr got, expected;
        assert_int_equal(sg_guard_nat64_of(&answer, &got), cases[i].prefix != NULL);
        if (!cases[i].prefix)
            continue;
        expected = net_of(cases[i].prefix);
        assert_true(sg_ip_equal(&got.ip, &expected.ip) && got.bits == expected.bits);
    }
}

static void tables_are_bounded(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    struct sg_cidr net = net_of("10.0.0.0/8");
    for (unsigned i = 0; i < SG_GUARD_ALLOW_MAX; i++)
        assert_int_equal(sg_guard_allow(&guard, &net), SG_OK);
    assert_int_equal(sg_guard_allow(&guard, &net), SG_ERR_FULL);
    struct sg_cidr own = net_of("8.8.0.0");
    for (unsigned i = 0; i < SG_GUARD_OWN_MAX; i++) { /* from the middle to both ends */
        unsigned number = i % 2 ? SG_GUARD_OWN_MAX / 2 + i / 2 : SG_GUARD_OWN_MAX / 2 - 1 - i / 2;
        own.ip.bytes[2] = (uint8_t)(number >> 7);
        own.ip.bytes[3] = (uint8_t)(number << 1);
        assert_int_equal(sg_guard_add_own(&guard, &own), SG_OK);
    }
    for (unsigned i = 0; i < SG_GUARD_OWN_MAX; i++) {
        struct sg_endpoint ep = {.ip = own.ip, .port = 1};
        ep.ip.bytes[2] = (uint8_t)(i >> 7);
        ep.ip.bytes[3] = (uint8_t)(i << 1);
        assert_int_equal(sg_guard_check(&guard, &ep, NULL), SG_ERR_DENIED);
        ep.ip.bytes[3] |= 1;
        assert_int_equal(sg_guard_check(&guard, &ep, NULL), SG_OK);
    }
    assert_int_equal(sg_guard_add_own(&guard, &own), SG_ERR_EXISTS);
    net = net_of("8.8.0.0/23"); /* it takes the place of others */
    assert_int_equal(sg_guard_add_own(&guard, &net), SG_OK);
    own.ip.bytes[1] = 9;
    assert_int_equal(sg_guard_add_own(&guard, &own), SG_OK);
}

static void tables_refuse_nonsense(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    struct sg_cidr none = {0};
    struct sg_cidr long4 = {.ip = {.family = 4}, .bits = 33};
    assert_int_equal(sg_guard_allow(&guard, &none), SG_ERR_INVALID);
    assert_int_equal(sg_guard_allow(&guard, &long4), SG_ERR_INVALID);
    assert_int_equal(sg_guard_add_own(&guard, &none), SG_ERR_INVALID);
    assert_int_equal(sg_guard_add_own(&guard, &long4), SG_ERR_INVALID);
}

static void classes_compare(void **state)
{
    (void)state;
    struct sg_ip a = endpoint_of("10.0.0.1", 1).ip;
    struct sg_ip b = endpoint_of("fd00::1", 1).ip;
    struct sg_ip c = endpoint_of("127.0.0.1", 1).ip;
    struct sg_ip d = endpoint_of("8.8.8.8", 1).ip;
    struct sg_ip e = endpoint_of("2a00::1", 1).ip;
    struct sg_ip f = endpoint_of("64:ff9b::127.0.0.1", 1).ip;
    assert_true(sg_guard_same_class(&a, &b) && sg_guard_same_class(&d, &e) && sg_guard_same_class(&c, &f));
    assert_false(sg_guard_same_class(&a, &c) || sg_guard_same_class(&a, &d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_of_addresses),
        cmocka_unit_test(class_without_a_guard),
        cmocka_unit_test(every_ipv4_form_agrees),
        cmocka_unit_test(port_zero_is_refused_even_if_allowed),
        cmocka_unit_test(no_address_is_refused),
        cmocka_unit_test(allowed_networks_open_their_range_only),
        cmocka_unit_test(allowed_mapped_network_is_an_ipv4_one),
        cmocka_unit_test(carried_address_and_carrier_both_count),
        cmocka_unit_test(local_nat64_is_read_at_every_prefix_length),
        cmocka_unit_test(isatap_ids_carry_their_address),
        cmocka_unit_test(prefixes_of_the_network_s_translators_are_undone),
        cmocka_unit_test(a_translator_s_prefix_is_read_from_its_name_server_s_answer),
        cmocka_unit_test(tables_are_bounded),
        cmocka_unit_test(tables_refuse_nonsense),
        cmocka_unit_test(classes_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
