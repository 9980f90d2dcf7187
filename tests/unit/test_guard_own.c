/* The target guard: addresses of the server itself. */
#include "guard_text.h"

static void own_addresses(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    add_own(&guard, "8.8.4.4");
    add_own(&guard, "::ffff:9.9.9.9");
    add_own(&guard, "2a00::1");
    expect(&guard, "8.8.4.4", "own");
    expect(&guard, "8.8.4.3", NULL);
    expect(&guard, "8.8.4.5", NULL);
    expect(&guard, "9.9.9.9", "own");
    expect(&guard, "2a00::1", "own");
    expect(&guard, "2a00::2", NULL);
    expect(&guard, "::ffff:8.8.4.4", "own");
    expect(&guard, "64:ff9b::8.8.4.4", "own");
    expect(&guard, "2002:808:404::1", "own");
    expect(&guard, "2001:0:4136:e378:8000:63bf:f7f7:fbfb", "own");
    expect(&guard, "2a00::5efe:8.8.4.4", "own");
    allow(&guard, "8.8.4.4/32");
    expect(&guard, "8.8.4.4", NULL);
    expect(&guard, "9.9.9.9", "own");
}

static void networks_that_a_route_makes_local_are_own(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    static const char *const nets[] = {"44.0.1.0/24", "44.0.3.0/24",        "44.0.2.7",        "2a09::/48",
                                       "8.8.8.8",     "44.0.2.128/25",      "2a09:0:0:1::/64", "44.0.1.9",
                                       "44.0.0.0/16", "::ffff:55.0.0.0/120"};
    static const enum sg_err errors[] = {SG_OK, SG_OK,         SG_OK,         SG_OK, SG_OK,
                                         SG_OK, SG_ERR_EXISTS, SG_ERR_EXISTS, SG_OK, SG_OK};
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++) {
        struct sg_cidr net = net_of(nets[i]);
        assert_int_equal(sg_guard_add_own(&guard, &net), errors[i]);
        if (i == 5) {
            expect(&guard, "44.0.0.255", NULL);
            expect(&guard, "44.0.1.0", "own");
            expect(&guard, "44.0.1.255", "own");
            expect(&guard, "44.0.2.6", NULL);
            expect(&guard, "44.0.2.7", "own");
            expect(&guard, "44.0.2.127", NULL);
            expect(&guard, "44.0.2.200", "own");
            expect(&guard, "44.0.4.0", NULL);
            assert_int_equal(guard.own_count, 5); /* two of them are neighbours */
        }
    }
    assert_int_equal(guard.own_count, 4); /* what lies in 44.0.0.0/16 is one with it */
    expect(&guard, "44.0.2.6", "own");
    expect(&guard, "44.1.0.0", NULL);
    expect(&guard, "43.255.255.255", NULL);
    expect(&guard, "55.0.0.9", "own");
    expect(&guard, "55.0.1.0", NULL);
    expect(&guard, "2a09::ffff", "own");
    expect(&guard, "2a09:0:1::", NULL);
    expect(&guard, "8.8.8.8", "own");
    struct sg_cidr all = {.ip = {.family = 4}};
    assert_int_equal(sg_guard_add_own(&guard, &all), SG_OK);
    expect(&guard, "1.1.1.1", "own");
    expect(&guard, "2a08::1", NULL);
    assert_int_equal(guard.own_count, 2);
}

static void knows_what_is_here(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    static const struct {
        const char *text;
        bool here;
    } addresses[] = {
        {"8.8.4.4", true},   {"2a00::1", true},           {"8.8.8.8", false},         {"9.9.9.9", false},
        {"10.0.0.1", false}, {"64:ff9b::808:404", false}, {"2002:808:404::1", false},
    };
    add_own(&guard, "8.8.4.4");
    add_own(&guard, "2a00::1");
    add_own(&guard, "9.9.9.9");
    add_own(&guard, "10.0.0.0/24"); /* special: it stays what it is */
    expect(&guard, "10.0.0.1", "private");
    guard.outside = endpoint_of("9.9.9.9", 0).ip;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct sg_ip ip = endpoint_of(addresses[i].text, 0).ip;
        assert_int_equal(sg_guard_is_here(&guard, &ip), addresses[i].here);
    }
    struct sg_ip none = {0};
    assert_false(sg_guard_is_here(&guard, &none));
    expect(&guard, "9.9.9.9", "own");
}

static void unused_bytes_of_an_address_do_not_matter(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    add_own(&guard, "8.8.4.4");
    struct sg_endpoint ep = endpoint_of("8.8.4.4", 53);
    memset(ep.ip.bytes + 4, 0xaa, 12);
    assert_int_equal(sg_guard_check(&guard, &ep, NULL), SG_ERR_DENIED);
    struct sg_cidr own = {.ip = ep.ip, .bits = 32};
    assert_int_equal(sg_guard_add_own(&guard, &own), SG_ERR_EXISTS);
    own.ip.bytes[3] = 5;
    assert_int_equal(sg_guard_add_own(&guard, &own), SG_OK);
    expect(&guard, "8.8.4.5", "own");
}

/* Nothing of the server's own is ever left out: rather what lies between is refused too, where that is least. */
static void own_addresses_without_end(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    add_own(&guard, "9.0.0.1");
    add_own(&guard, "44.0.0.1");
    struct sg_cidr own = net_of("2a09:44::/64");
    for (unsigned i = 0; i < 3 * SG_GUARD_OWN_MAX; i++) {
        own.ip.bytes[6] = (uint8_t)(i >> 7);
        own.ip.bytes[7] = (uint8_t)(i << 1);
        bool is_full = guard.own_count == SG_GUARD_OWN_MAX;
        assert_int_equal(sg_guard_add_own(&guard, &own), is_full ? SG_ERR_FULL : SG_OK);
    }
    for (unsigned i = 0; i < 3 * SG_GUARD_OWN_MAX; i++) {
        struct sg_endpoint ep = {.ip = own.ip, .port = 1};
        ep.ip.bytes[6] = (uint8_t)(i >> 7);
        ep.ip.bytes[7] = (uint8_t)(i << 1);
        assert_int_equal(sg_guard_check(&guard, &ep, NULL), SG_ERR_DENIED);
    }
    expect(&guard, "9.0.0.1", "own");
    expect(&guard, "44.0.0.1", "own");
    expect(&guard, "9.0.0.2", NULL);
    expect(&guard, "40.0.0.1", NULL);
    expect(&guard, "2a09:43::1", NULL);
    expect(&guard, "2a09:45::1", NULL);
    struct sg_cidr net = net_of("2a09:44:0:80::/58"); /* ends within what became one */
    assert_int_not_equal(sg_guard_add_own(&guard, &net), SG_ERR_INVALID);
    expect(&guard, "2a09:44::1", "own");
    expect(&guard, "2a09:44:0:bfe::1", "own");
}

/* What one prefix would name takes one place, in whatever order its parts come, and ends where they end. */
static void neighbours_are_one_range(void **state)
{
    (void)state;
    struct sg_guard guard = {0};
    for (unsigned i = 0; i < 4097; i++) {
        unsigned number = i * 2731 % 4096;
        struct sg_cidr own = net_of("44.0.16.0");
        own.ip.bytes[2] = (uint8_t)(16 + number / 256);
        own.ip.bytes[3] = (uint8_t)number;
        assert_int_equal(sg_guard_add_own(&guard, &own), i < 4096 ? SG_OK : SG_ERR_EXISTS);
    }
    assert_int_equal(guard.own_count, 1);
    expect(&guard, "44.0.16.0", "own");
    expect(&guard, "44.0.31.255", "own");
    expect(&guard, "44.0.15.255", NULL);
    expect(&guard, "44.0.32.0", NULL);
    add_own(&guard, "255.255.255.255");
    add_own(&guard, "::");
    assert_int_equal(guard.own_count, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_addresses),
        cmocka_unit_test(networks_that_a_route_makes_local_are_own),
        cmocka_unit_test(knows_what_is_here),
        cmocka_unit_test(unused_bytes_of_an_address_do_not_matter),
        cmocka_unit_test(own_addresses_without_end),
        cmocka_unit_test(neighbours_are_one_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
