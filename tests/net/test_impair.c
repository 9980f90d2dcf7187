/*
 * The decisions of the network emulator, under a clock of the test's own: each fault alone, that a seed repeats its
 * run, and that the ledger accounts for every packet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "impair.h"

enum { PACKETS = 20000, LEN = 1000 };
#define MS EMU_NS_PER_MS

static struct emu_impair impair;

static struct emu_faults *faults(enum emu_direction direction, enum emu_class class)
{
    return &impair.lanes[direction][class].faults;
}

static struct emu_ledger *ledger(enum emu_direction direction, enum emu_class class)
{
    return &impair.lanes[direction][class].ledger;
}

static struct emu_verdict send_up(uint64_t now_ns)
{
    return emu_impair_decide(&impair, EMU_UP, EMU_UDP, LEN, now_ns);
}

static void assert_share(uint64_t count, uint64_t all, double share)
{
    double found = (double)count / (double)all;
    assert_true(found > share - 0.02 && found < share + 0.02);
}

static void nothing_happens_without_faults(void **state)
{
    (void)state;
    emu_impair_init(&impair, 1);
    for (uint64_t i = 0; i < 1000; i++) {
        struct emu_verdict verdict = emu_impair_decide(&impair, EMU_DOWN, EMU_TCP, 65535, i);
        assert_int_equal(verdict.fate, EMU_PASSES);
        assert_int_equal(verdict.count, 1);
        assert_int_equal(verdict.copies[0].due_ns, i);
        assert_false(verdict.copies[0].corrupt);
    }
    assert_int_equal(ledger(EMU_DOWN, EMU_TCP)->queued, 1000);
    assert_int_equal(ledger(EMU_DOWN, EMU_UDP)->received + ledger(EMU_UP, EMU_TCP)->received, 0);
}

static void rates_are_as_set(void **state)
{
    (void)state;
    emu_impair_init(&impair, 2);
    *faults(EMU_UP, EMU_UDP) = (struct emu_faults){.loss = 0.3, .duplicate = 0.2, .corrupt = 0.1, .reorder = 0.4};
    uint64_t corrupt = 0;
    for (uint64_t i = 0; i < PACKETS; i++) {
        struct emu_verdict verdict = send_up(i);
        for (unsigned c = 0; c < verdict.count; c++)
            corrupt += verdict.copies[c].corrupt;
    }
    const struct emu_ledger *l = ledger(EMU_UP, EMU_UDP);
    assert_share(l->lost, PACKETS, 0.3);
    assert_share(l->duplicated, PACKETS - l->lost, 0.2);
    assert_share(corrupt, l->queued, 0.1);
    assert_share(l->reordered, l->queued, 0.4);
    assert_true(emu_ledger_adds_up(l));
}

static void bursts_are_long(void **state)
{
    (void)state;
    emu_impair_init(&impair, 3);
    *faults(EMU_UP, EMU_UDP) = (struct emu_faults){.burst_enter = 0.01, .burst_leave = 0.1, .burst_loss_bad = 1};
    unsigned bursts = 0;
    bool lost_before = false;
    for (uint64_t i = 0; i < 100000; i++) {
        bool lost = send_up(i).fate == EMU_TAKEN;
        bursts += lost && !lost_before;
        lost_before = lost;
    }
    uint64_t lost = ledger(EMU_UP, EMU_UDP)->burst_lost;
    assert_share(lost, 100000, 0.01 / 0.11);
    assert_true(lost > 8ull * bursts && lost < 12ull * bursts);
}

static void jitter_keeps_order_and_reordering_breaks_it(void **state)
{
    (void)state;
    emu_impair_init(&impair, 4);
    *faults(EMU_UP, EMU_UDP) = (struct emu_faults){.delay_ns = 50 * MS, .jitter_ns = 20 * MS};
    uint64_t last_ns = 0, most_ns = 0;
    for (uint64_t i = 0; i < PACKETS; i++) {
        uint64_t due_ns = send_up(i * MS).copies[0].due_ns;
        assert_true(due_ns >= last_ns && due_ns >= (i + 50) * MS && due_ns <= (i + 70) * MS);
        last_ns = due_ns;
        most_ns = due_ns - i * MS > most_ns ? due_ns - i * MS : most_ns;
    }
    assert_true(most_ns > 69 * MS);

    *faults(EMU_UP, EMU_UDP) = (struct emu_faults){.delay_ns = 50 * MS, .reorder = 0.5, .reorder_ns = 10 * MS};
    uint64_t late = 0;
    for (uint64_t i = 2ull * PACKETS; i < 3ull * PACKETS; i++) {
        uint64_t took_ns = send_up(i * MS).copies[0].due_ns - i * MS;
        assert_true(took_ns == 50 * MS || took_ns == 60 * MS);
        late += took_ns == 60 * MS;
    }
    assert_share(late, PACKETS, 0.5);
}

static void the_rate_is_kept_and_its_queue_is_bounded(void **state)
{
    (void)state;
    emu_impair_init(&impair, 5);
    impair.links[EMU_UP] = (struct emu_link){.rate_bps = 8000000, .queue_bytes = 10 * LEN}; /* 1 ms each */
    for (uint64_t i = 1; i <= 10; i++)
        assert_int_equal(send_up(0).copies[0].due_ns, i * MS);
    assert_int_equal(send_up(0).count, 0);
    assert_int_equal(send_up(MS / 2).count, 0);
    assert_int_equal(send_up(MS).copies[0].due_ns, 11 * MS);
    assert_int_equal(send_up(100 * MS).copies[0].due_ns, 101 * MS);
    assert_int_equal(ledger(EMU_UP, EMU_UDP)->queue_dropped, 2);
    assert_int_equal(emu_impair_decide(&impair, EMU_DOWN, EMU_UDP, LEN, 0).copies[0].due_ns, 0);
    assert_true(emu_ledger_adds_up(ledger(EMU_UP, EMU_UDP)));
}

static void blackholes_have_their_times(void **state)
{
    (void)state;
    emu_impair_init(&impair, 6);
    faults(EMU_UP, EMU_UDP)->blackhole_from_ns = 100;
    faults(EMU_UP, EMU_UDP)->blackhole_until_ns = 150;
    for (uint64_t now = 0; now < 400; now++)
        assert_int_equal(send_up(now).fate, now >= 100 && now < 150 ? EMU_TAKEN : EMU_PASSES);
    faults(EMU_UP, EMU_UDP)->blackhole_every_ns = 200;
    for (uint64_t now = 400; now < 800; now++)
        assert_int_equal(send_up(now).fate, (now - 100) % 200 < 50 ? EMU_TAKEN : EMU_PASSES);
    assert_int_equal(emu_impair_decide(&impair, EMU_UP, EMU_TCP, LEN, 500).fate, EMU_PASSES);
    assert_int_equal(ledger(EMU_UP, EMU_UDP)->blackholed, 50 + 100);
}

static void the_mtu_is_of_one_direction(void **state)
{
    (void)state;
    emu_impair_init(&impair, 7);
    impair.links[EMU_UP].mtu = 1280;
    assert_int_equal(emu_impair_decide(&impair, EMU_UP, EMU_UDP, 1280, 0).fate, EMU_PASSES);
    assert_int_equal(emu_impair_decide(&impair, EMU_UP, EMU_UDP, 1281, 0).fate, EMU_TOO_BIG);
    assert_int_equal(emu_impair_decide(&impair, EMU_DOWN, EMU_UDP, 1281, 0).fate, EMU_PASSES);
    assert_int_equal(ledger(EMU_UP, EMU_UDP)->too_big, 1);
}

static void set_all(uint64_t seed)
{
    emu_impair_init(&impair, seed);
    *faults(EMU_UP, EMU_UDP) = (struct emu_faults){.loss = 0.1,
                                                   .burst_enter = 0.05,
                                                   .burst_leave = 0.3,
                                                   .burst_loss_bad = 0.9,
                                                   .duplicate = 0.2,
                                                   .corrupt = 0.2,
                                                   .reorder = 0.1,
                                                   .reorder_ns = 9 * MS,
                                                   .jitter_ns = 5 * MS};
    impair.links[EMU_UP] = (struct emu_link){.rate_bps = 8000000, .queue_bytes = 3 * LEN};
}

static void a_seed_repeats_its_run(void **state)
{
    (void)state;
    static struct emu_verdict first[PACKETS];
    set_all(8);
    for (uint64_t i = 0; i < PACKETS; i++)
        first[i] = send_up(i * MS);
    assert_true(emu_ledger_adds_up(ledger(EMU_UP, EMU_UDP)));
    assert_true(ledger(EMU_UP, EMU_UDP)->queue_dropped > 0);

    set_all(8);
    impair.links[EMU_DOWN].rate_bps = 1;
    for (uint64_t i = 0; i < PACKETS; i++) { /* what other lanes carry makes no difference */
        emu_impair_decide(&impair, EMU_DOWN, EMU_UDP, LEN, i * MS);
        struct emu_verdict again = send_up(i * MS);
        assert_int_equal(again.fate, first[i].fate);
        assert_int_equal(again.count, first[i].count);
        for (unsigned c = 0; c < again.count; c++) {
            assert_int_equal(again.copies[c].due_ns, first[i].copies[c].due_ns);
            assert_int_equal(again.copies[c].corrupt, first[i].copies[c].corrupt);
            assert_int_equal(again.copies[c].corrupt_how, first[i].copies[c].corrupt_how);
        }
    }

    set_all(9);
    unsigned other = 0;
    for (uint64_t i = 0; i < PACKETS; i++)
        other += send_up(i * MS).fate != first[i].fate;
    assert_true(other > PACKETS / 10);
}

static void each_end_is_counted(void **state)
{
    (void)state;
    emu_impair_init(&impair, 10);
    for (unsigned end = EMU_DELIVERED; end <= EMU_NO_ROOM; end++) {
        send_up(0);
        assert_int_equal(ledger(EMU_UP, EMU_UDP)->queued, 1);
        emu_impair_end(&impair, EMU_UP, EMU_UDP, (enum emu_end)end);
        assert_true(emu_ledger_adds_up(ledger(EMU_UP, EMU_UDP)));
    }
    const struct emu_ledger *l = ledger(EMU_UP, EMU_UDP);
    assert_int_equal(l->delivered + l->nat_dropped + l->failed + l->queue_dropped, 4);
    assert_int_equal(l->queued, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_happens_without_faults),
        cmocka_unit_test(rates_are_as_set),
        cmocka_unit_test(bursts_are_long),
        cmocka_unit_test(jitter_keeps_order_and_reordering_breaks_it),
        cmocka_unit_test(the_rate_is_kept_and_its_queue_is_bounded),
        cmocka_unit_test(blackholes_have_their_times),
        cmocka_unit_test(the_mtu_is_of_one_direction),
        cmocka_unit_test(a_seed_repeats_its_run),
        cmocka_unit_test(each_end_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
