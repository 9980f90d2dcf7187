/* An association's targets: the last ones are known, strangers are not, by the kind of filtering; memory is bounded. */
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

static void add_port(struct sg_contacts *contacts, uint8_t family, uint32_t number, uint16_t port)
{
    struct sg_endpoint ep = {.ip = ip_of(family, number), .port = port};
    assert_int_equal(sg_contacts_add(contacts, &ep), SG_OK);
}

static bool has_port(const struct sg_contacts *contacts, uint8_t family, uint32_t number, uint16_t port)
{
    struct sg_endpoint ep = {.ip = ip_of(family, number), .port = port};
    return sg_contacts_has(contacts, &ep);
}

static void add(struct sg_contacts *contacts, uint8_t family, uint32_t number)
{
    add_port(contacts, family, number, 53);
}

static bool has(const struct sg_contacts *contacts, uint8_t family, uint32_t number)
{
    return has_port(contacts, family, number, 53);
}

static void nobody_is_known_at_first(void **state)
{
    (void)state;
    struct sg_contacts contacts = {0};
    struct sg_endpoint none = {0};
    assert_false(has(&contacts, 4, 0));
    assert_false(has(&contacts, 6, 1));
    assert_false(sg_contacts_has(&contacts, &none));
    sg_contacts_dispose(&contacts);
}

static void families_are_told_apart(void **state)
{
    (void)state;
    struct sg_contacts contacts = {0};
    struct sg_endpoint clean = {.ip = {.family = 4, .bytes = {7}}};
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

static void any_port_of_an_address_may_answer(void **state)
{
    (void)state;
    struct sg_contacts contacts = {.filtering = SG_FILTERING_ADDRESS};
    for (uint16_t port = 1; port < 1000; port++)
        add_port(&contacts, 4, port % 2, port);
    assert_int_equal(contacts.young.count, 2);
    assert_true(has_port(&contacts, 4, 0, 2000) && has_port(&contacts, 4, 1, 2000));
    assert_false(has_port(&contacts, 4, 2, 1));
    sg_contacts_dispose(&contacts);
}

static void only_the_very_port_may_answer(void **state)
{
    (void)state;
    struct sg_contacts contacts = {.filtering = SG_FILTERING_ADDRESS_AND_PORT};
    for (uint16_t port = 1; port < 1000; port++)
        add_port(&contacts, port % 2 ? 4 : 6, 5, port);
    assert_int_equal(contacts.young.count, 999);
    for (uint16_t port = 1; port < 1000; port++) {
        assert_true(has_port(&contacts, port % 2 ? 4 : 6, 5, port));
        assert_false(has_port(&contacts, port % 2 ? 6 : 4, 5, port));
        assert_false(has_port(&contacts, 4, 6, port));
    }
    assert_false(has_port(&contacts, 4, 5, 0) || has_port(&contacts, 4, 5, 1001));
    sg_contacts_dispose(&contacts);
    assert_int_equal(contacts.filtering, SG_FILTERING_ADDRESS_AND_PORT);
    assert_false(has_port(&contacts, 4, 5, 1));
}

static void all_may_answer_and_nothing_is_remembered(void **state)
{
    (void)state;
    struct sg_contacts contacts = {.filtering = SG_FILTERING_NONE};
    assert_true(has(&contacts, 4, 1) && has(&contacts, 6, 2));
    for (uint32_t i = 0; i < 100; i++)
        add(&contacts, 4, i);
    assert_int_equal(contacts.young.room + contacts.old.room, 0);
    assert_true(has(&contacts, 4, 1000));
    sg_contacts_dispose(&contacts);
}

/* --- a budget that associations share --- */

struct budget {
    size_t left, taken;
};

static bool take(void *ctx, size_t bytes)
{
    struct budget *budget = ctx;
    if (bytes > budget->left)
        return false;
    budget->left -= bytes;
    budget->taken += bytes;
    return true;
}

static void give(void *ctx, size_t bytes)
{
    struct budget *budget = ctx;
    assert_true(bytes <= budget->taken);
    budget->left += bytes;
    budget->taken -= bytes;
}

static void associations_share_a_budget(void **state)
{
    (void)state;
    enum { MANY = 100, LIMIT = 64 * 1024 };
    struct budget budget = {.left = LIMIT};
    struct sg_contacts contacts[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        contacts[i] = (struct sg_contacts){.budget = {.take = take, .give = give, .ctx = &budget}};
        for (uint32_t number = 0; number < 5000; number++) {
            add(&contacts[i], 4, number);
            assert_true(has(&contacts[i], 4, number));
        }
        for (uint32_t number = 5000 - SG_CONTACTS_SPARSE; number < 5000; number++)
            assert_true(has(&contacts[i], 4, number)); /* whatever the others took */
        assert_true(budget.taken <= LIMIT);
    }
    sg_contacts_dispose(&contacts[0]);
    for (unsigned i = 1; i < MANY; i++)
        sg_contacts_dispose(&contacts[i]);
    assert_int_equal(budget.taken, 0);
    add(&contacts[0], 4, 1); /* and may be used again */
    for (uint32_t number = 0; number < 600; number++)
        add(&contacts[0], 4, number);
    assert_true(has(&contacts[0], 4, 0) && budget.taken > 0);
    sg_contacts_dispose(&contacts[0]);
    assert_int_equal(budget.taken, 0);
}

static void few_targets_need_no_budget(void **state)
{
    (void)state;
    struct budget budget = {.left = 0};
    struct sg_contacts contacts = {.budget = {.take = take, .give = give, .ctx = &budget}};
    for (uint32_t number = 0; number < 1000; number++) {
        add(&contacts, 4, number);
        for (uint32_t back = 0; back < SG_CONTACTS_SPARSE && back <= number; back++)
            assert_true(has(&contacts, 4, number - back));
    }
    assert_true(contacts.young.room <= 2 * SG_CONTACTS_SPARSE && contacts.old.room <= 2 * SG_CONTACTS_SPARSE);
    sg_contacts_dispose(&contacts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_known_at_first),      cmocka_unit_test(families_are_told_apart),
        cmocka_unit_test(the_last_ones_are_kept),        cmocka_unit_test(any_port_of_an_address_may_answer),
        cmocka_unit_test(only_the_very_port_may_answer), cmocka_unit_test(all_may_answer_and_nothing_is_remembered),
        cmocka_unit_test(associations_share_a_budget),   cmocka_unit_test(few_targets_need_no_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
