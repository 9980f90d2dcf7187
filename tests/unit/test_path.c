/*
 * The path rules of docs/protocol.md section 8, items 2, 3 and 6, each with its exact times: what the server may send
 * to an address that it does not know, when the client probes, and which sizes are tried.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/path.h"

enum { T = 1000 }; /* when a test begins; T = 0 is tested by itself */

/* Bytes that differ at each call, so that no two tokens are equal. */
static void count_up(void *ctx, uint8_t *out, size_t len)
{
    uint8_t *next = ctx;
    memset(out, (*next)++, len);
}

static uint8_t source;

static struct sg_path_addr addr_of(unsigned i)
{
    return (struct sg_path_addr){
        .remote = {.ip = {.family = 4, .bytes = {192, 0, 2, 1}}, .port = (uint16_t)(1000 + i)},
        .local = {.family = 4, .bytes = {198, 51, 100, 1}},
    };
}

static bool offer(struct sg_server_path *path, unsigned i, uint64_t now_ms, uint8_t *token)
{
    uint8_t unused[SG_CONTROL_TOKEN_BYTES];
    struct sg_path_addr addr = addr_of(i);
    return sg_server_path_offer(path, &addr, now_ms, count_up, &source, token ? token : unused);
}

static bool respond(struct sg_server_path *path, unsigned i, const uint8_t *token, uint64_t now_ms)
{
    struct sg_path_addr addr = addr_of(i);
    return sg_server_path_respond(path, &addr, token, now_ms);
}

/* How many repeats are due now; the last one's address in *port. */
static unsigned repeats(struct sg_server_path *path, uint64_t now_ms, uint16_t *port)
{
    unsigned count = 0;
    const struct sg_path_candidate *candidate = NULL;
    while ((candidate = sg_server_path_repeat(path, now_ms)) && count < 10) {
        if (port)
            *port = candidate->addr.remote.port;
        count++;
    }
    return count;
}

static void addresses_differ_in_each_part(void **state)
{
    (void)state;
    struct sg_path_addr a = addr_of(0), b = a;
    assert_true(sg_path_addr_equal(&a, &b));
    b.remote.port++;
    assert_false(sg_path_addr_equal(&a, &b));
    b = a;
    b.remote.ip.bytes[3]++;
    assert_false(sg_path_addr_equal(&a, &b));
    b = a;
    b.local.bytes[0]++;
    assert_false(sg_path_addr_equal(&a, &b));
    b = a;
    b.port_index++;
    assert_false(sg_path_addr_equal(&a, &b));
}

static void new_candidates_are_100_ms_apart(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    assert_true(offer(&path, 0, T, NULL));
    assert_false(offer(&path, 1, T, NULL));
    assert_false(offer(&path, 1, T + 99, NULL));
    assert_true(offer(&path, 1, T + 100, NULL));
    assert_false(offer(&path, 2, T + 199, NULL));
    assert_true(offer(&path, 2, T + 200, NULL));
}

static void spacing_holds_at_time_0_too(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    assert_true(offer(&path, 0, 0, NULL));
    assert_false(offer(&path, 1, 0, NULL));
    assert_false(offer(&path, 1, 99, NULL));
    assert_true(offer(&path, 1, 100, NULL));
}

static void challenge_is_sent_twice_and_never_again(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    uint8_t token[SG_CONTROL_TOKEN_BYTES];
    uint16_t port = 0;
    assert_int_equal(sg_server_path_next_timeout(&path), SG_NEVER);
    assert_true(offer(&path, 3, T, token));
    assert_int_equal(sg_server_path_next_timeout(&path), T + 250);
    assert_int_equal(repeats(&path, T + 249, NULL), 0);
    const struct sg_path_candidate *again = sg_server_path_repeat(&path, T + 250);
    assert_non_null(again);
    assert_memory_equal(again->token, token, sizeof token);
    port = again->addr.remote.port;
    assert_int_equal(port, 1003);
    for (uint64_t now = T + 250; now < T + 10000; now += 50)
        assert_int_equal(repeats(&path, now, NULL), 0);
    assert_int_equal(sg_server_path_next_timeout(&path), SG_NEVER);
}

static void address_with_a_repeat_to_come_is_no_new_candidate(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    assert_true(offer(&path, 0, T, NULL));
    assert_false(offer(&path, 0, T + 200, NULL));
    assert_int_equal(repeats(&path, T + 250, NULL), 1);
    /* both challenges may have been lost: the next record asks for one more */
    assert_true(offer(&path, 0, T + 300, NULL));
}

/* A tick that comes late finds the challenge too old to be of use; it must not ask to be woken for it for ever. */
static void late_tick_forgets_what_is_too_old(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    assert_true(offer(&path, 0, T, NULL));
    assert_int_equal(repeats(&path, T + 5000, NULL), 0);
    assert_int_equal(sg_server_path_next_timeout(&path), SG_NEVER);
}

static void response_counts_from_that_address_within_3_s(void **state)
{
    (void)state;
    static const struct {
        unsigned from;
        uint64_t after_ms;
        bool wrong_token;
        bool validates;
    } cases[] = {
        {0, 0, false, true},      {0, 2999, false, true}, {0, 3000, false, false},
        {0, 60000, false, false}, {1, 10, false, false}, /* a copy from elsewhere */
        {0, 10, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sg_server_path path = {0};
        uint8_t token[SG_CONTROL_TOKEN_BYTES];
        assert_true(offer(&path, 0, T, token));
        if (cases[i].wrong_token)
            token[7] ^= 1;
        assert_int_equal(respond(&path, cases[i].from, token, T + cases[i].after_ms), cases[i].validates);
        assert_int_equal(path.validated, cases[i].validates);
    }
}

static void response_counts_once(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    uint8_t token[SG_CONTROL_TOKEN_BYTES];
    assert_true(offer(&path, 0, T, token));
    assert_true(respond(&path, 0, token, T + 10));
    assert_false(respond(&path, 0, token, T + 20));
}

/* Without a candidate there is no token to guess, not even that of an empty slot. */
static void response_without_challenge_is_nothing(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    static const uint8_t zero[SG_CONTROL_TOKEN_BYTES];
    struct sg_path_addr none = {0};
    assert_false(sg_server_path_respond(&path, &none, zero, 0));
    assert_false(sg_server_path_respond(&path, &none, zero, T));
}

static void last_four_candidates_are_kept(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    uint8_t tokens[5][SG_CONTROL_TOKEN_BYTES];
    for (unsigned i = 0; i < 5; i++)
        assert_true(offer(&path, i, T + 100 * i, tokens[i]));
    assert_false(respond(&path, 0, tokens[0], T + 450));
    for (unsigned i = 1; i < 5; i++)
        assert_true(respond(&path, i, tokens[i], T + 450 + i));
    assert_int_equal(path.current.remote.port, 1004);
}

static void validated_address_gets_no_challenge(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    uint8_t token[SG_CONTROL_TOKEN_BYTES];
    assert_true(offer(&path, 0, T, token));
    assert_true(respond(&path, 0, token, T + 50));
    assert_int_equal(repeats(&path, T + 250, NULL), 0);
    for (uint64_t now = T + 50; now < T + 5000; now += 100)
        assert_false(offer(&path, 0, now, NULL));
    assert_int_equal(sg_server_path_next_timeout(&path), SG_NEVER);
    assert_true(offer(&path, 1, T + 5000, NULL));
    assert_true(path.validated);
    assert_int_equal(path.current.remote.port, 1000); /* until the new one responds */
}

/* Two challenges to one address are open when the first is answered: the second is then not repeated. */
static void answered_address_is_not_challenged_again(void **state)
{
    (void)state;
    struct sg_server_path path = {0};
    uint8_t first[SG_CONTROL_TOKEN_BYTES], second[SG_CONTROL_TOKEN_BYTES];
    assert_true(offer(&path, 0, T, first));
    assert_int_equal(repeats(&path, T + 250, NULL), 1);
    assert_true(offer(&path, 0, T + 400, second));
    assert_true(respond(&path, 0, first, T + 500));
    assert_int_equal(repeats(&path, T + 650, NULL), 0);
    assert_int_equal(sg_server_path_next_timeout(&path), SG_NEVER);
    assert_false(respond(&path, 0, second, T + 700)); /* nothing left to prove: sizes are not tried anew */
}

static void client_probes_at_the_times_of_the_specification(void **state)
{
    (void)state;
    static const uint64_t at[] = {0, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 124000, 184000, 244000};
    struct sg_client_path path = {0};
    assert_int_equal(sg_client_path_next_timeout(&path), SG_NEVER);
    assert_false(sg_client_path_probe_due(&path, 1, T));
    sg_client_path_start(&path, T);
    for (uint32_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        assert_int_equal(sg_client_path_next_timeout(&path), T + at[i]);
        assert_false(sg_client_path_probe_due(&path, i, T + at[i] - 1));
        assert_true(sg_client_path_probe_due(&path, i, T + at[i]));
        assert_false(sg_client_path_probe_due(&path, i, T + at[i]));
    }
}

/* A client on UDP since T, whose round trip took that long. */
static struct sg_client_path on_udp(uint64_t rtt_ms)
{
    struct sg_client_path path = {0};
    sg_client_path_start(&path, T - rtt_ms);
    assert_true(sg_client_path_probe_due(&path, 1, T - rtt_ms));
    assert_int_equal(path.n, 0);
    assert_int_equal(path.choice, SG_PATH_STREAM);
    assert_true(sg_client_path_answered(&path, 1, T));
    assert_int_equal(path.n, 1);
    assert_int_equal(path.choice, SG_PATH_UDP);
    return path;
}

static void first_answer_chooses_udp_once(void **state)
{
    (void)state;
    struct sg_client_path path = on_udp(0);
    assert_false(sg_client_path_answered(&path, 1, T));
    assert_int_equal(path.n, 1);
}

static void nobody_asks_while_there_is_no_traffic(void **state)
{
    (void)state;
    struct sg_client_path path = on_udp(40);
    assert_int_equal(sg_client_path_next_timeout(&path), SG_NEVER);
    assert_false(sg_client_path_probe_due(&path, 2, T + 1000000));
    assert_false(sg_client_path_lost(&path, T + 1000000));
    /* what was silent before the first datagram does not count against the path */
    sg_client_path_traffic(&path, T + 1000000);
    assert_int_equal(sg_client_path_next_timeout(&path), T + 1000250);
}

/* Runs the path through its timeouts until UDP is given up; the probes that it asked for on the way. */
static unsigned probes_until_lost(struct sg_client_path *path, uint64_t from, uint64_t patience)
{
    for (unsigned probes = 0; probes < 10; probes++) {
        uint64_t due = from + (probes + 1) * patience;
        assert_int_equal(sg_client_path_next_timeout(path), due);
        assert_false(sg_client_path_lost(path, due - 1));
        assert_false(sg_client_path_probe_due(path, 100 + probes, due - 1));
        if (sg_client_path_lost(path, due))
            return probes;
        assert_true(sg_client_path_probe_due(path, 100 + probes, due));
    }
    return 0;
}

static void three_unanswered_probes_under_traffic_choose_the_stream(void **state)
{
    (void)state;
    static const struct {
        uint64_t rtt, patience;
    } cases[] = {{0, 250}, {100, 250}, {125, 250}, {126, 252}, {400, 800}, {1499, 2998}, {2000, 3000}, {60000, 3000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sg_client_path path = on_udp(cases[i].rtt);
        sg_client_path_traffic(&path, T + 500);
        assert_int_equal(probes_until_lost(&path, T + 500, cases[i].patience), 3);
        assert_int_equal(path.n, 2);
        assert_int_equal(path.choice, SG_PATH_STREAM);
    }
}

static void any_record_restarts_the_patience(void **state)
{
    (void)state;
    struct sg_client_path path = on_udp(0);
    sg_client_path_traffic(&path, T);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(sg_client_path_probe_due(&path, i, T + 250 * (i + 1)));
    sg_client_path_heard(&path, T + 990);
    sg_client_path_traffic(&path, T + 995);
    assert_false(sg_client_path_lost(&path, T + 1000));
    assert_int_equal(probes_until_lost(&path, T + 990, 250), 3);
}

static void nobody_asks_15_s_after_the_last_datagram(void **state)
{
    (void)state;
    struct sg_client_path path = on_udp(0);
    sg_client_path_traffic(&path, T);
    for (uint64_t now = T + 100; now <= T + 14700; now += 100) {
        sg_client_path_heard(&path, now);
        assert_int_equal(sg_client_path_next_timeout(&path), now + 250);
    }
    sg_client_path_heard(&path, T + 14751);
    assert_int_equal(sg_client_path_next_timeout(&path), SG_NEVER);
}

/* A client that gave UDP up at the time that is returned. */
static uint64_t fall_back(struct sg_client_path *path)
{
    *path = on_udp(40);
    sg_client_path_traffic(path, T);
    assert_int_equal(probes_until_lost(path, T, 250), 3);
    return T + 1000;
}

static void in_fallback_probes_get_rarer(void **state)
{
    (void)state;
    static const uint64_t after[] = {1000, 3000, 7000, 15000, 31000, 63000, 123000, 183000};
    struct sg_client_path path;
    uint64_t lost_ms = fall_back(&path);
    for (uint32_t i = 0; i < sizeof after / sizeof after[0]; i++) {
        assert_int_equal(sg_client_path_next_timeout(&path), lost_ms + after[i]);
        assert_true(sg_client_path_probe_due(&path, i, lost_ms + after[i]));
    }
}

static void three_answers_in_a_row_choose_udp_again(void **state)
{
    (void)state;
    struct sg_client_path path;
    uint64_t now = fall_back(&path) + 1000;
    for (uint32_t id = 7; id < 10; id++) {
        assert_true(sg_client_path_probe_due(&path, id, now));
        assert_int_equal(path.choice, SG_PATH_STREAM);
        assert_int_equal(sg_client_path_answered(&path, id, now + 30), id == 9);
        if (id < 9)
            assert_int_equal(sg_client_path_next_timeout(&path), now + 130);
        now += 130;
    }
    assert_int_equal(path.n, 3);
    assert_int_equal(path.choice, SG_PATH_UDP);
}

static void one_that_is_not_answered_spoils_the_row(void **state)
{
    (void)state;
    struct sg_client_path path;
    uint64_t now = fall_back(&path) + 1000;
    assert_true(sg_client_path_probe_due(&path, 7, now));
    assert_false(sg_client_path_answered(&path, 7, now));
    assert_true(sg_client_path_probe_due(&path, 8, now + 100));
    assert_false(sg_client_path_answered(&path, 7, now + 110)); /* the network doubled it */
    assert_int_equal(sg_client_path_next_timeout(&path), now + 350);
    assert_false(sg_client_path_probe_due(&path, 9, now + 350));
    assert_int_equal(sg_client_path_next_timeout(&path), now + 350 + 1000);
    assert_false(sg_client_path_answered(&path, 8, now + 400)); /* late: the row begins anew */
    assert_int_equal(path.answered, 1);
    assert_int_equal(path.choice, SG_PATH_STREAM);
}

static void another_address_is_tried_at_once(void **state)
{
    (void)state;
    struct sg_client_path path;
    uint64_t lost_ms = fall_back(&path);
    for (uint32_t i = 0; i < 6; i++)
        assert_true(sg_client_path_probe_due(&path, i, sg_client_path_next_timeout(&path)));
    uint64_t now = lost_ms + 40000;
    sg_client_path_moved(&path, now);
    assert_true(sg_client_path_probe_due(&path, 20, now));
    assert_int_equal(sg_client_path_next_timeout(&path), now + 2000);

    path = on_udp(40);
    sg_client_path_moved(&path, T + 5000); /* idle: the server must learn the new address all the same */
    assert_true(sg_client_path_probe_due(&path, 20, T + 5000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_differ_in_each_part),
        cmocka_unit_test(new_candidates_are_100_ms_apart),
        cmocka_unit_test(spacing_holds_at_time_0_too),
        cmocka_unit_test(challenge_is_sent_twice_and_never_again),
        cmocka_unit_test(address_with_a_repeat_to_come_is_no_new_candidate),
        cmocka_unit_test(late_tick_forgets_what_is_too_old),
        cmocka_unit_test(response_counts_from_that_address_within_3_s),
        cmocka_unit_test(response_counts_once),
        cmocka_unit_test(response_without_challenge_is_nothing),
        cmocka_unit_test(last_four_candidates_are_kept),
        cmocka_unit_test(validated_address_gets_no_challenge),
        cmocka_unit_test(answered_address_is_not_challenged_again),
        cmocka_unit_test(client_probes_at_the_times_of_the_specification),
        cmocka_unit_test(first_answer_chooses_udp_once),
        cmocka_unit_test(nobody_asks_while_there_is_no_traffic),
        cmocka_unit_test(three_unanswered_probes_under_traffic_choose_the_stream),
        cmocka_unit_test(any_record_restarts_the_patience),
        cmocka_unit_test(nobody_asks_15_s_after_the_last_datagram),
        cmocka_unit_test(in_fallback_probes_get_rarer),
        cmocka_unit_test(three_answers_in_a_row_choose_udp_again),
        cmocka_unit_test(one_that_is_not_answered_spoils_the_row),
        cmocka_unit_test(another_address_is_tried_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
