/* Places before the request: per host, in all, and who gives way when there are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>

#include "core/pass.h"
#include "net/clock.h"
#include "net/inbox.h"
#include "net/tls_gate.h"
#include "server/admission.h"

enum { LIMIT = 512, HOST_LIMIT = 64, HOST_RATE = 50 };

struct guest {
    struct sg_admission *admission;
    struct sg_ticket *ticket;
    unsigned displaced;
    uint64_t order;
};

struct rig {
    struct event_base *base;
    struct sg_inbox *inbox;
    struct sg_admission *admission;
    struct guest guests[2048];
    unsigned count;
};

static struct rig rig;

static int set_up(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof rig);
    rig.base = event_base_new();
    rig.inbox = sg_inbox_new(rig.base);
    rig.admission = sg_admission_new(&(struct sg_admission_limits){LIMIT, HOST_LIMIT, HOST_RATE});
    return rig.base && rig.inbox && rig.admission ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rig.count; i++)
        if (rig.guests[i].ticket)
            sg_admission_leave(rig.admission, rig.guests[i].ticket);
    sg_inbox_free(rig.inbox);
    sg_admission_free(rig.admission);
    event_base_free(rig.base);
    return 0;
}

static void on_displaced(void *ctx)
{
    struct guest *guest = ctx;
    guest->displaced++;
    sg_admission_leave(guest->admission, guest->ticket);
    guest->ticket = NULL;
}

/* One more from an address: NULL if it was refused. */
static struct guest *enter(const char *address)
{
    struct sg_ip ip;
    struct guest *guest = &rig.guests[rig.count++];
    assert_int_equal(sg_ip_parse(address, &ip), SG_OK);
    guest->admission = rig.admission;
    guest->ticket = sg_admission_enter(rig.admission, &ip, rig.inbox, on_displaced, guest);
    return guest->ticket ? guest : NULL;
}

static void work(void)
{
    (void)event_base_loop(rig.base, EVLOOP_NONBLOCK);
}

static void fill_from(unsigned addresses, unsigned each)
{
    char text[32];
    for (unsigned i = 0; i < addresses * each; i++) {
        snprintf(text, sizeof text, "198.18.%u.%u", i % addresses / 256, i % addresses % 256);
        assert_non_null(enter(text));
    }
}

static void an_address_has_so_many(void **state)
{
    (void)state;
    for (unsigned i = 0; i < HOST_LIMIT; i++)
        assert_non_null(enter("192.0.2.1"));
    assert_null(enter("192.0.2.1"));
    assert_non_null(enter("192.0.2.2"));
    for (unsigned i = 0; i < HOST_LIMIT; i++) {
        char text[64];
        snprintf(text, sizeof text, "2001:db8:0:1::%x:%x", i, i * 7);
        assert_non_null(enter(text));
    }
    assert_null(enter("2001:db8:0:1:ffff::1")); /* one /64 is one host */
    assert_non_null(enter("2001:db8:0:2::1"));
}

static void eight_addresses_keep_nobody_out(void **state)
{
    (void)state;
    fill_from(8, 64);
    struct guest *newcomer = enter("192.0.2.1");
    assert_non_null(newcomer);
    work();
    assert_int_equal(rig.guests[0].displaced, 1); /* the oldest of one of those with the most */
    assert_null(rig.guests[0].ticket);
    for (unsigned i = 1; i < rig.count; i++)
        assert_int_equal(rig.guests[i].displaced, 0);
    /* shares become equal, and no further: with 57 for each of nine nobody displaces anybody */
    unsigned let_in = 1;
    while (enter("192.0.2.1"))
        let_in++;
    assert_in_range(let_in, 56, 57);
    work();
    assert_int_equal(newcomer->displaced, 0);
    unsigned displaced = 0;
    for (unsigned i = 0; i < rig.count; i++)
        displaced += rig.guests[i].displaced;
    assert_int_equal(displaced, let_in);
    assert_null(enter("198.18.0.3"));
    assert_non_null(enter("192.0.2.77"));
}

static void among_many_addresses_the_oldest_gives_way(void **state)
{
    (void)state;
    fill_from(512, 1);
    for (unsigned i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "192.0.2.%u", i);
        assert_non_null(enter(text));
        work();
        assert_int_equal(rig.guests[i].displaced, 1);
        assert_int_equal(rig.guests[i + 1].displaced, 0);
    }
    assert_null(enter("192.0.2.1")); /* it has as many as everybody */
}

static void who_leaves_before_the_letter_comes_hears_nothing(void **state)
{
    (void)state;
    fill_from(8, 64);
    assert_non_null(enter("192.0.2.1"));
    sg_admission_leave(rig.admission, rig.guests[0].ticket);
    rig.guests[0].ticket = NULL;
    work();
    assert_int_equal(rig.guests[0].displaced, 0);
    /* the place was given away once, not twice */
    assert_non_null(enter("192.0.2.2"));
    work();
    assert_int_equal(rig.guests[1].displaced, 1);
}

static void places_come_back(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        unsigned first = rig.count;
        fill_from(8, 64);
        for (unsigned i = first; i < rig.count; i++) {
            unsigned at = first + (i - first) * 37 % 512; /* in some order */
            sg_admission_leave(rig.admission, rig.guests[at].ticket);
            rig.guests[at].ticket = NULL;
        }
    }
}

static void turn_to(uint32_t all, uint32_t host)
{
    sg_admission_turn_to(rig.admission, &(struct sg_admission_limits){all, host, HOST_RATE});
}

static void limits_change_while_guests_are_in(void **state)
{
    (void)state;
    char address[32];
    turn_to(LIMIT, 2);
    assert_non_null(enter("192.0.2.1"));
    assert_non_null(enter("192.0.2.1"));
    assert_null(enter("192.0.2.1"));
    turn_to(1, 1); /* who is in stays in */
    work();
    assert_int_equal(rig.guests[0].displaced + rig.guests[1].displaced, 0);
    assert_null(enter("192.0.2.1"));
    turn_to(2 * LIMIT, HOST_LIMIT);
    for (unsigned i = 0; i < 2 * LIMIT - 2; i++) { /* each a host of its own: the table has grown */
        snprintf(address, sizeof address, "198.18.%u.%u", i / 250, i % 250);
        assert_non_null(enter(address));
    }
    work();
    assert_int_equal(rig.guests[0].displaced, 0);
}

static uint64_t hello(struct guest *guest, uint64_t now_us)
{
    struct sg_tls_start start;
    assert_true(sg_admission_hello(rig.admission, guest->ticket, NULL, 0, now_us, &start));
    guest->order = start.order;
    return start.at_us;
}

static void leave(struct guest *guest)
{
    sg_admission_leave(rig.admission, guest->ticket);
    guest->ticket = NULL;
}

/* 50 a second and 100 at once; then each waits 20 ms more than the one before. Another host is not concerned. */
static void a_host_begins_so_many_handshakes(void **state)
{
    (void)state;
    struct guest *guest = enter("192.0.2.1"), *other = enter("192.0.2.2");
    const uint64_t now_us = sg_now_us();
    for (unsigned i = 0; i <= 100; i++)
        assert_true(hello(guest, now_us) <= now_us);
    for (unsigned i = 1; i <= 20; i++)
        assert_int_equal(hello(guest, now_us), now_us + 20000 * i);
    assert_true(hello(other, now_us) <= now_us);
    assert_true(other->order < guest->order); /* who began few goes before who began many */
    /* time brings them back, and no more than so many */
    const uint64_t later_us = now_us + 100000000;
    for (unsigned i = 0; i <= 100; i++)
        assert_true(hello(guest, later_us) <= later_us);
    assert_int_equal(hello(guest, later_us), later_us + 20000);
}

static void a_clock_that_goes_back_holds_up_nobody(void **state)
{
    (void)state;
    struct guest *guest = enter("192.0.2.1");
    const uint64_t now_us = sg_now_us(), ahead_us = now_us + 3600 * (uint64_t)1000000;
    for (unsigned i = 0; i < 120; i++)
        (void)hello(guest, ahead_us);
    assert_true(hello(guest, now_us) <= now_us);
}

/*
 * Whoever hangs up at once has the same rate as who stays; whoever hangs up while it waits gives its time to the next.
 */
static void who_hangs_up_has_a_rate_too(void **state)
{
    (void)state;
    const uint64_t now_us = sg_now_us();
    for (unsigned i = 0; i <= 100; i++) {
        struct guest *guest = enter("192.0.2.1");
        assert_true(hello(guest, now_us) <= now_us);
        leave(guest);
    }
    for (unsigned i = 0; i < 500; i++) {
        struct guest *guest = enter("192.0.2.1");
        uint64_t start_us = hello(guest, now_us + 3600 * (uint64_t)1000000);
        assert_true(start_us <= now_us + 3600 * (uint64_t)1000000 + 20000);
        leave(guest);
    }
}

static const uint8_t channel_id[SG_RECORD_CHANNEL_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};
static const uint8_t pass_key[SG_KEY_BYTES] = {9};

static struct sg_pass *new_pass(const char *address)
{
    struct sg_ip ip;
    assert_int_equal(sg_ip_parse(address, &ip), SG_OK);
    struct sg_pass *pass = sg_admission_pass_new(rig.admission, channel_id, pass_key, &ip, "alice");
    assert_non_null(pass);
    return pass;
}

/* What a guest says who shows this number of the pass. */
static bool show(struct guest *guest, uint64_t number)
{
    uint8_t shown[SG_PASS_BYTES];
    struct sg_tls_start start;
    sg_pass_show(channel_id, pass_key, number, shown);
    return sg_admission_hello(rig.admission, guest->ticket, shown, sizeof shown, sg_now_us(), &start);
}

static bool is_known(struct guest *guest)
{
    char user[SG_USER_NAME_MAX + 1];
    return sg_admission_known_user(rig.admission, guest->ticket, user) && strcmp(user, "alice") == 0;
}

static bool show_nothing(struct guest *guest)
{
    struct sg_tls_start start;
    return sg_admission_hello(rig.admission, guest->ticket, NULL, 0, sg_now_us(), &start);
}

/* Strangers have all places of an address: whoever shows a pass there has one all the same, and nobody else. */
static void a_pass_gives_places_that_strangers_cannot_take(void **state)
{
    (void)state;
    struct sg_pass *pass = new_pass("192.0.2.1");
    for (unsigned i = 0; i < HOST_LIMIT; i++)
        assert_true(show_nothing(enter("192.0.2.1")));
    for (unsigned i = 0; i < HOST_LIMIT; i++) {
        struct guest *guest = enter("192.0.2.1");
        assert_non_null(guest);
        assert_true(show(guest, i));
        assert_true(is_known(guest));
    }
    for (unsigned i = 0; i < HOST_LIMIT; i++) { /* in whatever order they came and go */
        struct guest *silent = enter("192.0.2.1"), *guest = &rig.guests[HOST_LIMIT + i * 37 % HOST_LIMIT];
        leave(guest);
        struct guest *next = enter("192.0.2.1");
        assert_true(show(next, HOST_LIMIT + i));
        leave(silent);
    }
    struct guest *stranger = enter("192.0.2.1"), *one_too_many = enter("192.0.2.1");
    assert_false(show_nothing(stranger));
    assert_false(show(one_too_many, 2 * HOST_LIMIT));
    assert_non_null(enter("192.0.2.2"));
    sg_admission_pass_free(rig.admission, pass);
    leave(stranger);
    leave(one_too_many);
    assert_null(enter("192.0.2.1"));
}

static void a_pass_counts_once(void **state)
{
    (void)state;
    struct sg_pass *pass = new_pass("192.0.2.1");
    struct guest *first = enter("192.0.2.1"), *copy = enter("198.51.100.1"), *forged = enter("192.0.2.1");
    uint8_t shown[SG_PASS_BYTES];
    struct sg_tls_start start;
    assert_true(show(first, 5));
    assert_true(is_known(first));
    assert_true(show(copy, 5));
    assert_false(is_known(copy));
    sg_pass_show(channel_id, pass_key, 6, shown);
    shown[SG_PASS_BYTES - 1] ^= 1;
    assert_true(sg_admission_hello(rig.admission, forged->ticket, shown, sizeof shown, sg_now_us(), &start));
    assert_false(is_known(forged));
    for (size_t len = 0; len < SG_PASS_BYTES; len++) {
        struct guest *cut = enter("192.0.2.1");
        assert_true(sg_admission_hello(rig.admission, cut->ticket, shown, len, sg_now_us(), &start));
        assert_false(is_known(cut));
        leave(cut);
    }
    /* a second ClientHello of the same connection shows the same: it stays what it is */
    assert_true(show(first, 5));
    assert_true(is_known(first));
    sg_admission_pass_free(rig.admission, pass); /* those that showed it go on */
}

/* Who says nothing holds no such place for longer than others leave it. */
static void the_oldest_of_those_who_show_nothing_go(void **state)
{
    (void)state;
    struct sg_pass *pass = new_pass("192.0.2.1");
    for (unsigned i = 0; i < 2 * HOST_LIMIT; i++)
        assert_non_null(enter("192.0.2.1"));
    struct guest *oldest = &rig.guests[HOST_LIMIT];
    struct guest *guest = enter("192.0.2.1");
    work();
    assert_int_equal(oldest->displaced, 1);
    assert_int_equal(rig.guests[0].displaced + oldest[1].displaced, 0);
    assert_true(show(guest, 0));
    sg_admission_pass_free(rig.admission, pass);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_address_has_so_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(eight_addresses_keep_nobody_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(among_many_addresses_the_oldest_gives_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_leaves_before_the_letter_comes_hears_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_host_begins_so_many_handshakes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_clock_that_goes_back_holds_up_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_hangs_up_has_a_rate_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pass_gives_places_that_strangers_cannot_take, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pass_counts_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_oldest_of_those_who_show_nothing_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(places_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(limits_change_while_guests_are_in, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
