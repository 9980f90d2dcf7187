/*
 * The wire of the network emulator, under a clock of the test's own: packets are rewritten with checksums that fit, the
 * NAT leads answers back, sizes are answered by ICMP, and commands change what they say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "command.h"

enum { UDP = 17, TCP = 6, SIZE = 1500 };
enum { CLIENT_PORT = 5000, SERVER_PORT = 443 };

struct sample {
    unsigned family, protocol;
    size_t len, transport;
    uint8_t bytes[SIZE];
};

static struct emu_wire *wire;

static int set_up(void **state)
{
    (void)state;
    wire = emu_wire_new(1);
    return wire ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    emu_wire_free(wire);
    return 0;
}

static void put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static unsigned get16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

/* 0 if the checksum of the upper layer is right. */
static uint16_t transport_fault(const uint8_t *bytes, size_t len, unsigned family, unsigned protocol)
{
    size_t transport = family == 4 ? 20 : 40, at = family == 4 ? 12 : 8;
    uint32_t sum = (uint32_t)(len - transport + protocol);
    for (size_t i = at; i < transport; i += 2)
        sum += get16(bytes + i);
    return emu_checksum(sum, bytes + transport, len - transport);
}

/* A packet of the client's, or of the server's to that port. */
static struct sample make_packet(unsigned family, unsigned protocol, size_t payload, enum emu_direction direction,
                                 const struct emu_end_point *to)
{
    size_t header = protocol == UDP ? 8 : 20, transport = family == 4 ? 20 : 40;
    struct sample s = {.family = family, .protocol = protocol, .len = transport + header + payload};
    s.transport = transport;
    uint8_t *from_ip = s.bytes + (family == 4 ? 12 : 8), *to_ip = from_ip + (family == 4 ? 4 : 16);
    s.bytes[0] = family == 4 ? 0x45 : 0x60;
    put16(s.bytes + (family == 4 ? 2 : 4), family == 4 ? s.len : s.len - 40);
    s.bytes[family == 4 ? 9 : 6] = (uint8_t)protocol;
    from_ip[0] = to_ip[0] = 10;
    from_ip[3] = direction == EMU_UP ? 1 : 2;
    to_ip[3] = direction == EMU_UP ? 2 : 1;
    if (to)
        memcpy(to_ip, to->ip, family == 4 ? 4 : 16);
    put16(s.bytes + transport, direction == EMU_UP ? CLIENT_PORT : SERVER_PORT);
    put16(s.bytes + transport + 2, direction == EMU_UP ? SERVER_PORT : to ? to->port : CLIENT_PORT);
    if (protocol == UDP)
        put16(s.bytes + transport + 4, 8 + payload);
    else
        s.bytes[transport + 12] = 5 << 4;
    for (size_t i = 0; i < payload; i++)
        s.bytes[transport + header + i] = (uint8_t)(i * 7);
    if (family == 4)
        put16(s.bytes + 10, emu_checksum(0, s.bytes, 20));
    put16(s.bytes + transport + (protocol == UDP ? 6 : 16), transport_fault(s.bytes, s.len, family, protocol));
    return s;
}

static void assert_right(const uint8_t *bytes, const struct sample *sample)
{
    if (sample->family == 4)
        assert_int_equal(emu_checksum(0, bytes, 20), 0);
    assert_int_equal(transport_fault(bytes, sample->len, sample->family, sample->protocol), 0);
}

static void command(const char *text)
{
    char line[EMU_COMMAND_MAX], answer[4096] = "";
    snprintf(line, sizeof line, "%s", text);
    FILE *out = fmemopen(answer, sizeof answer, "w");
    assert_non_null(out);
    bool good = emu_command_run(wire, line, 0, out);
    fclose(out);
    assert_true(good);
}

/* Sends one packet and gives what comes out, in *out, which was delivered. False: nothing. */
static bool carry(enum emu_direction direction, struct sample sample, struct sample *out)
{
    uint8_t answer[EMU_ICMP_MAX];
    assert_int_equal(emu_wire_send(wire, direction, sample.bytes, sample.len, 0, answer), 0);
    struct emu_flight *flight = emu_wire_take(wire, 0);
    if (!flight)
        return false;
    *out = sample;
    out->len = flight->len;
    memcpy(out->bytes, flight->bytes, flight->len);
    emu_wire_done(wire, flight, true);
    return true;
}

static struct emu_end_point source_of(const struct sample *sample)
{
    struct emu_packet packet = emu_packet_parse(sample->bytes, sample->len);
    assert_true(packet.has_ports);
    return emu_packet_source(sample->bytes, &packet);
}

static void packets_pass_unchanged(void **state)
{
    (void)state;
    struct sample sent = make_packet(6, TCP, 100, EMU_UP, NULL), got;
    assert_true(carry(EMU_UP, sent, &got));
    assert_memory_equal(got.bytes, sent.bytes, sent.len);
}

static void damaged_udp_has_a_good_checksum_and_other_bytes(void **state)
{
    (void)state;
    command("corrupt 1");
    for (unsigned i = 0; i < 4000; i++) {
        struct sample sent = make_packet(i % 2 ? 6 : 4, UDP, i % 10, EMU_UP, NULL), got;
        assert_true(carry(EMU_UP, sent, &got));
        assert_right(got.bytes, &got);
        size_t header = sent.transport + 6;
        assert_memory_equal(got.bytes, sent.bytes, header);
        if (i % 10 > 0)
            assert_memory_not_equal(got.bytes + header + 2, sent.bytes + header + 2, i % 10);
    }
    assert_int_equal(wire->impair.lanes[EMU_UP][EMU_UDP].ledger.corrupted, 3600);
}

static void damaged_tcp_has_a_bad_checksum(void **state)
{
    (void)state;
    command("corrupt 1");
    for (unsigned i = 0; i < 1000; i++) {
        struct sample got;
        assert_true(carry(EMU_DOWN, make_packet(4, TCP, i, EMU_DOWN, NULL), &got));
        assert_int_not_equal(transport_fault(got.bytes, got.len, 4, TCP), 0);
    }
}

static void check_nat(unsigned family, unsigned protocol, bool port, bool address)
{
    struct sample up, again, down;
    assert_true(carry(EMU_UP, make_packet(family, protocol, 33, EMU_UP, NULL), &up));
    assert_right(up.bytes, &up);
    struct emu_end_point seen = source_of(&up);
    assert_int_equal(seen.port != CLIENT_PORT, port);
    assert_int_equal(seen.ip[0] != 10 || (family == 4 && seen.ip[3] != 1), address);
    assert_true(carry(EMU_DOWN, make_packet(family, protocol, 33, EMU_DOWN, &seen), &down));
    assert_right(down.bytes, &down);
    struct sample plain = make_packet(family, protocol, 33, EMU_DOWN, NULL);
    assert_memory_equal(down.bytes, plain.bytes, plain.len);

    command("rebind");
    assert_false(carry(EMU_DOWN, make_packet(family, protocol, 33, EMU_DOWN, &seen), &down));
    assert_true(carry(EMU_UP, make_packet(family, protocol, 33, EMU_UP, NULL), &again));
    struct emu_end_point now = source_of(&again);
    assert_int_equal(now.port != seen.port, port);
    assert_int_equal(memcmp(now.ip, seen.ip, 16) != 0, address);
}

static void the_nat_maps_and_rebinds(void **state)
{
    (void)state;
    for (unsigned family = 4; family <= 6; family += 2) {
        for (unsigned protocol = TCP; protocol <= UDP; protocol += UDP - TCP) {
            command("nat port");
            check_nat(family, protocol, true, false);
            command("nat both");
            check_nat(family, protocol, true, true);
        }
        command("nat udp address");
        check_nat(family, UDP, false, true);
    }
    command("nat udp port");
    command("nat tcp off");
    struct sample got;
    assert_true(carry(EMU_UP, make_packet(4, TCP, 1, EMU_UP, NULL), &got));
    assert_int_equal(source_of(&got).port, CLIENT_PORT);
}

/* In UDP a checksum of 0 says that there is none, so a sum that comes out as 0 is sent as all ones. */
static void no_checksum_becomes_zero(void **state)
{
    (void)state;
    command("nat address udp");
    struct sample sent = make_packet(4, UDP, 2, EMU_UP, NULL), got;
    assert_true(carry(EMU_UP, sent, &got));
    uint8_t *sum = sent.bytes + sent.transport + 6, *word = sent.bytes + sent.transport + 8;
    word[0] = word[1] = sum[0] = sum[1] = 0;
    put16(sum, transport_fault(sent.bytes, sent.len, 4, UDP));
    assert_true(carry(EMU_UP, sent, &got));
    memcpy(word, got.bytes + got.transport + 6, 2); /* what is missing to all ones */
    sum[0] = sum[1] = 0;
    put16(sum, transport_fault(sent.bytes, sent.len, 4, UDP));
    assert_true(carry(EMU_UP, sent, &got));
    assert_int_equal(get16(got.bytes + got.transport + 6), 0xffff);
    assert_right(got.bytes, &got);

    sum[0] = sum[1] = 0; /* none at all stays none */
    assert_true(carry(EMU_UP, sent, &got));
    assert_int_equal(get16(got.bytes + got.transport + 6), 0);
}

static void many_sources_have_mappings(void **state)
{
    (void)state;
    command("nat udp port");
    static uint8_t taken[65536];
    memset(taken, 0, sizeof taken);
    for (unsigned i = 0; i < 20000; i++) {
        struct emu_end_point inside = {.family = 4, .ip = {10, 0, 0, 1}, .port = (uint16_t)i}, back;
        struct emu_end_point outside = emu_nat_outward(&wire->nat, EMU_UDP, &inside);
        assert_true(emu_nat_inward(&wire->nat, EMU_UDP, &outside, &back));
        assert_int_equal(back.port, i);
        if (i < EMU_NAT_MAPPINGS)
            assert_false(taken[outside.port]);
        taken[outside.port] = 1;
        inside.port = (uint16_t)(i > 100 ? i - 100 : i);
        outside = emu_nat_outward(&wire->nat, EMU_UDP, &inside);
        assert_true(emu_nat_inward(&wire->nat, EMU_UDP, &outside, &back));
        assert_int_equal(back.port, inside.port);
    }
}

static void a_nat_rebinds_by_time(void **state)
{
    (void)state;
    command("nat udp port 5");
    uint8_t answer[EMU_ICMP_MAX];
    for (uint64_t s = 0; s < 20; s++) {
        struct sample sample = make_packet(4, UDP, 10, EMU_UP, NULL);
        emu_wire_send(wire, EMU_UP, sample.bytes, sample.len, s * EMU_NS_PER_S, answer);
        emu_wire_done(wire, emu_wire_take(wire, s * EMU_NS_PER_S), true);
    }
    assert_int_equal(wire->rebindings, 3);
}

static void sizes_are_answered(void **state)
{
    (void)state;
    command("mtu 1280 icmp on up");
    for (unsigned family = 4; family <= 6; family += 2) {
        struct sample big = make_packet(family, UDP, 1300, EMU_UP, NULL), answer = {.family = family, .protocol = 58};
        uint8_t *icmp = answer.bytes + (family == 4 ? 20 : 40);
        answer.len = emu_wire_send(wire, EMU_UP, big.bytes, big.len, 0, answer.bytes);
        assert_true(answer.len > 0 && answer.len <= EMU_ICMP_MAX);
        assert_int_equal(icmp[0], family == 4 ? 3 : 2);
        assert_int_equal(get16(icmp + 6), 1280);
        assert_memory_equal(icmp + 8, big.bytes, 60);
        if (family == 4)
            assert_int_equal(emu_checksum(0, answer.bytes, 20) | emu_checksum(0, icmp, answer.len - 20), 0);
        else
            assert_int_equal(transport_fault(answer.bytes, answer.len, 6, 58), 0);
        uint8_t second[EMU_ICMP_MAX];
        memset(big.bytes + (family == 4 ? 16 : 24), family == 4 ? 224 : 255, 1); /* multicast */
        assert_int_equal(emu_wire_send(wire, EMU_UP, big.bytes, big.len, 0, second), 0);
        command("mtu 68 icmp on");
        assert_int_equal(emu_wire_send(wire, EMU_UP, answer.bytes, answer.len, 0, second), 0);
        command("mtu 1280 icmp on up");
    }
    command("mtu 1280 icmp off");
    struct sample got;
    assert_false(carry(EMU_UP, make_packet(4, UDP, 1300, EMU_UP, NULL), &got));
    assert_int_equal(wire->impair.lanes[EMU_UP][EMU_UDP].ledger.too_big, 5);
    assert_int_equal(wire->impair.lanes[EMU_UP][EMU_UDP].ledger.icmp_sent, 2);
}

static void whatever_is_cut_short_is_carried(void **state)
{
    (void)state;
    command("corrupt 1");
    command("mtu 68 icmp on");
    for (unsigned family = 4; family <= 6; family += 2) {
        struct sample whole = make_packet(family, family == 4 ? UDP : TCP, 100, EMU_UP, NULL);
        for (size_t len = 0; len < whole.len; len++) {
            uint8_t cut[SIZE], answer[EMU_ICMP_MAX];
            memcpy(cut, whole.bytes, len);
            put16(cut + (family == 4 ? 2 : 4), family == 4 ? len : len - 40);
            emu_wire_send(wire, EMU_UP, cut, len, 0, answer);
        }
    }
    for (struct emu_flight *flight; (flight = emu_wire_take(wire, 0));)
        emu_wire_done(wire, flight, true);
    for (unsigned c = 0; c < EMU_CLASSES; c++)
        assert_true(emu_ledger_adds_up(&wire->impair.lanes[EMU_UP][c].ledger));
}

static void packets_come_out_in_order_of_time(void **state)
{
    (void)state;
    command("jitter 50");
    command("reorder 0.5 100");
    uint8_t answer[EMU_ICMP_MAX];
    for (unsigned i = 0; i < 3000; i++) {
        struct sample sample = make_packet(4, i % 2 ? UDP : TCP, 10, EMU_UP, NULL);
        emu_wire_send(wire, i % 3 ? EMU_UP : EMU_DOWN, sample.bytes, sample.len, i * 1000, answer);
    }
    uint64_t last_ns = 0;
    unsigned count = 0;
    while (emu_wire_next_ns(wire) != EMU_FOREVER) {
        assert_true(emu_wire_next_ns(wire) >= last_ns);
        last_ns = emu_wire_next_ns(wire);
        assert_null(emu_wire_take(wire, last_ns - 1));
        emu_wire_done(wire, emu_wire_take(wire, last_ns), true);
        count++;
    }
    assert_int_equal(count, 3000);
    assert_int_equal(wire->bytes, 0);
}

static void commands_change_what_they_say(void **state)
{
    (void)state;
    struct emu_lane(*lanes)[EMU_CLASSES] = wire->impair.lanes;
    command("loss 0.25 up udp");
    assert_true(lanes[EMU_UP][EMU_UDP].faults.loss == 0.25);
    assert_true(lanes[EMU_UP][EMU_TCP].faults.loss == 0 && lanes[EMU_DOWN][EMU_UDP].faults.loss == 0);
    command("down burst 0.1 0.2");
    assert_true(lanes[EMU_DOWN][EMU_TCP].faults.burst_loss_bad == 1 && lanes[EMU_UP][EMU_TCP].faults.burst_enter == 0);
    command("tcp delay 12.5");
    assert_int_equal(lanes[EMU_DOWN][EMU_TCP].faults.delay_ns, 12500000);
    command("rate 1.5M 3000 down");
    assert_int_equal(wire->impair.links[EMU_DOWN].rate_bps, 1500000);
    assert_int_equal(wire->impair.links[EMU_DOWN].queue_bytes, 3000);
    assert_int_equal(wire->impair.links[EMU_UP].rate_bps, 0);
    command("blackhole udp 2 7 20");
    assert_int_equal(lanes[EMU_DOWN][EMU_UDP].faults.blackhole_until_ns, 7 * EMU_NS_PER_S);
    command("ledger");
    command("clear");
    assert_true(lanes[EMU_UP][EMU_UDP].faults.loss == 0 && wire->impair.links[EMU_DOWN].rate_bps == 0);
}

static void wrong_commands_change_nothing(void **state)
{
    (void)state;
    const char *const wrong[] = {
        "",           "up",          "loss",        "loss 1.5",      "loss -1",           "loss nan", "loss 0.1 0.1",
        "delay 1e99", "reorder 0.5", "rate 0",      "rate 5x",       "rate 5Mx",          "mtu 10",   "mtu 1280 icmp",
        "nat what",   "nat port x",  "blackhole 5", "blackhole 5 2", "a b c d e f g h i", "ledger 1", "clear all",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct emu_impair before = wire->impair;
        char line[EMU_COMMAND_MAX], answer[4096] = "";
        snprintf(line, sizeof line, "%s", wrong[i]);
        FILE *out = fmemopen(answer, sizeof answer, "w");
        assert_non_null(out);
        assert_false(emu_command_run(wire, line, 0, out));
        fclose(out);
        assert_non_null(strstr(answer, "error"));
        assert_memory_equal(&before, &wire->impair, sizeof before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packets_pass_unchanged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_udp_has_a_good_checksum_and_other_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_tcp_has_a_bad_checksum, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_nat_maps_and_rebinds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_checksum_becomes_zero, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_sources_have_mappings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_nat_rebinds_by_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sizes_are_answered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(whatever_is_cut_short_is_carried, set_up, tear_down),
        cmocka_unit_test_setup_teardown(packets_come_out_in_order_of_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(commands_change_what_they_say, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_commands_change_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
