/* The addresses of an association's targets: the last ones are known, strangers are not, memory is bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/contacts.h"

static struct sg_ip ip_of(uint8_t family, uint32_t number)
{
    struct sg_ip ip = {.family = family};
    memset(ip.bytes + 4, 0xee, 12); /* what an IPv4 address does not use says nothing */
    if (family == 6)
        memset(ip.bytes + 4, 0x20, 12);
    memcpy(ip.bytes, &number, sizeof number);
    return ip;
}

static void add(struct sg_contacts *contacts, uint8_t family, uint32_t number)
{
    struct sg_ip ip = ip_of(family, number);
    assert_int_equal(sg_contacts_add(contacts, &ip), SG_OK);
}

static bool has(const struct sg_contacts *contacts, uint8_t family, uint32_t number)
{
    struct sg_ip ip = ip_of(family, number);
    return sg_contacts_has(contacts, &ip);
}

static void nobody_is_known_at_first(void **state)
{
    (void)state;
    struct sg_contacts contacts = {0};
    struct sg_ip none = {0};
    assert_false(has(&contacts, 4, 0));
    assert_false(has(&contacts, 6, 1));
    assert_false(sg_contacts_has(&contacts, &none));
    sg_contacts_dispose(&contacts);
}

static void families_are_told_apart(void **state)
{
    (void)state;
    struct sg_contacts contacts = {0};
    struct sg_ip clean = {.family = 4, .bytes = {7}};
    add(&contacts, 4, 7);
    add(&contacts, 6, 8);
    assert_true(has(&contacts, 4, 7) && has(&contacts, 6, 8));
    assert_false(has(&contacts, 6, 7) || has(&contacts, 4, 8));
    assert_true(sg_contacts_has(&contacts, &clean));
    add(&contacts, 4, 7);
    assert_int_equal(contacts.young.count, 2);
    sg_contacts_dispose(&contacts);
    assert_false(has(&contacts, 4, 7));
}

static void the_last_ones_are_kept(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    struct sg_contacts contacts = {0};
    for (uint32_t i = 0; i < MANY; i++) {
        add(&contacts, 4, i);
        add(&contacts, 4, 1); /* in use all the time: never forgotten */
        uint32_t oldest = i < SG_CONTACTS_KEPT - 2 ? 0 : i - (SG_CONTACTS_KEPT - 2);
        assert_true(has(&contacts, 4, oldest) && has(&contacts, 4, i) && has(&contacts, 4, 1));
        assert_false(has(&contacts, 4, i + 2));
        assert_in_range(contacts.young.room + contacts.old.room, 1, 4 * SG_CONTACTS_KEPT);
    }
    assert_false(has(&contacts, 4, MANY - 2 * SG_CONTACTS_KEPT - 2));
    sg_contacts_dispose(&contacts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_known_at_first),
        cmocka_unit_test(families_are_told_apart),
        cmocka_unit_test(the_last_ones_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
