/*
 * The session's own traffic, docs/protocol.md section 8: choice of the path, what an address may get before it
 * responded, sizes and keepalive.
 */
#include "session_world.h"

/* --- the choice --- */

static void servers_choice_follows_the_highest_n(void **state)
{
    (void)state;
    static const struct {
        uint32_t n;
        uint8_t choice;
        bool by_probe;
        uint32_t then_n;
        uint8_t then_choice;
    } steps[] = {
        {0, SG_PATH_UDP, false, 0, SG_PATH_STREAM}, /* not above what is in force at first */
        {1, SG_PATH_UDP, false, 1, SG_PATH_UDP},
        {1, SG_PATH_STREAM, false, 1, SG_PATH_UDP},
        {5, SG_PATH_STREAM, true, 5, SG_PATH_STREAM},
        {4, SG_PATH_UDP, false, 5, SG_PATH_STREAM},
        {5, SG_PATH_UDP, true, 5, SG_PATH_STREAM},
        {UINT32_MAX, SG_PATH_UDP, false, UINT32_MAX, SG_PATH_UDP},
        {1, SG_PATH_STREAM, true, UINT32_MAX, SG_PATH_UDP},
    };
    struct world world;
    start(&world, SG_ROLE_SERVER);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct sg_msg msg = path_msg(steps[i].by_probe ? SG_MSG_PROBE : SG_MSG_PATH, steps[i].n, steps[i].choice, 1, 0);
        unsigned routes = world.routes;
        uint32_t n = world.session.n;
        if (i % 2 == 0 && !steps[i].by_probe)
            assert_true(stream(&world, &msg));
        else
            assert_int_equal(arrive_as(&world, &msg, 1, 100, false, T), SG_REASON_NONE);
        assert_int_equal(world.session.n, steps[i].then_n);
        assert_int_equal(world.session.choice, steps[i].then_choice);
        assert_int_equal(world.routes - routes, world.session.n != n);
    }
}

static void server_uses_udp_only_when_told_and_validated(void **state)
{
    (void)state;
    struct sg_msg udp = path_msg(SG_MSG_PATH, 1, SG_PATH_UDP, 0, 0);
    struct sg_msg back = path_msg(SG_MSG_PATH, 2, SG_PATH_STREAM, 0, 0);
    struct world world;
    start(&world, SG_ROLE_SERVER);
    assert_int_equal(sg_session_route(&world.session, 100, T), SG_ROUTE_STREAM);
    stream(&world, &udp); /* told, but no address is known */
    assert_false(sg_session_on_udp(&world.session));
    assert_int_equal(sg_session_route(&world.session, 100, T), SG_ROUTE_STREAM);

    start(&world, SG_ROLE_SERVER);
    validate(&world, 7, T); /* an address is known, but the client did not choose */
    assert_false(sg_session_on_udp(&world.session));
    assert_int_equal(sg_session_route(&world.session, 100, T), SG_ROUTE_STREAM);
    stream(&world, &udp);
    assert_true(sg_session_on_udp(&world.session));
    assert_int_equal(sg_session_route(&world.session, 512, T), SG_ROUTE_UDP);
    assert_int_equal(sg_session_route(&world.session, 513, T), SG_ROUTE_STREAM);
    stream(&world, &back);
    assert_int_equal(sg_session_route(&world.session, 100, T), SG_ROUTE_STREAM);
}

static void client_probes_then_chooses_udp_on_both_ways(void **state)
{
    (void)state;
    struct world world;
    start(&world, SG_ROLE_CLIENT);
    assert_int_equal(sg_session_next_timeout(&world.session), T);
    assert_int_equal(tick(&world, T), SG_REASON_NONE);
    assert_int_equal(world.count, 1);
    assert_int_equal(world.sent[0].msg.type, SG_MSG_PROBE);
    assert_int_equal(world.sent[0].msg.path.n, 0);
    assert_int_equal(world.sent[0].msg.path.choice, SG_PATH_STREAM);
    assert_int_equal(sg_session_route(&world.session, 100, T), SG_ROUTE_STREAM);

    answer_client(&world, T + 40);
    assert_int_equal(world.count, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(world.sent[i].on_udp, i == 1);
        assert_int_equal(world.sent[i].msg.type, SG_MSG_PATH);
        assert_int_equal(world.sent[i].msg.path.n, 1);
        assert_int_equal(world.sent[i].msg.path.choice, SG_PATH_UDP);
    }
    assert_int_equal(world.routes, 1);
    assert_int_equal(sg_session_route(&world.session, 512, T), SG_ROUTE_UDP);
    answer_client(&world, T + 50); /* to a later probe */
    assert_int_equal(world.count, 0);
    assert_int_equal(world.session.n, 1);
}

static void probe_carries_the_length_of_its_record(void **state)
{
    (void)state;
    struct world world;
    start(&world, SG_ROLE_CLIENT);
    assert_int_equal(tick(&world, T), SG_REASON_NONE);
    assert_int_equal(world.sent[0].msg.path.size, world.sent[0].real_bytes);
}

static void challenge_is_answered_by_response_and_probe(void **state)
{
    (void)state;
    struct sg_msg challenge = {.type = SG_MSG_CHALLENGE, .token = {9, 8, 7, 6, 5, 4, 3, 2}};
    struct world world;
    start(&world, SG_ROLE_CLIENT);
    for (unsigned round = 0; round < 2; round++) { /* the second time UDP is in use: the server saw a new address */
        assert_int_equal(arrive(&world, &challenge, 0, T + 100), SG_REASON_NONE);
        assert_int_equal(world.count, 2);
        assert_int_equal(world.sent[0].msg.type, SG_MSG_RESPONSE);
        assert_memory_equal(world.sent[0].msg.token, challenge.token, 8);
        assert_int_equal(world.sent[1].msg.type, SG_MSG_PROBE);
        assert_int_equal(world.sent[1].msg.path.n, round);
        assert_int_equal(world.sent[1].msg.path.choice, round == 0 ? SG_PATH_STREAM : SG_PATH_UDP);
        answer_client(&world, T + 200);
    }
}

static void client_answers_the_servers_probe(void **state)
{
    (void)state;
    struct sg_msg probe = path_msg(SG_MSG_PROBE, 9, SG_PATH_UDP, 77, 1264);
    struct world world;
    start(&world, SG_ROLE_CLIENT);
    assert_int_equal(arrive_as(&world, &probe, 0, 1264, true, T), SG_REASON_NONE);
    assert_int_equal(world.count, 1);
    assert_int_equal(world.sent[0].msg.type, SG_MSG_PROBE_ANSWER);
    assert_int_equal(world.sent[0].msg.path.id, 77);
    assert_int_equal(world.sent[0].msg.path.size, 1264);
    assert_int_equal(world.sent[0].msg.path.n, 0); /* its own, not what the server says */
    assert_int_equal(world.session.choice, SG_PATH_STREAM);
}

/* --- what an address may get --- */

static void unvalidated_address_gets_only_its_challenge(void **state)
{
    (void)state;
    static const struct sg_msg messages[] = {
        {.type = SG_MSG_PROBE, .path = {.n = 3, .choice = SG_PATH_UDP, .id = 1, .size = 1264}},
        {.type = SG_MSG_PROBE_ANSWER, .path = {.n = 3, .choice = SG_PATH_UDP, .id = 1, .size = 1264}},
        {.type = SG_MSG_PATH, .path = {.n = 3, .choice = SG_PATH_UDP}},
        {.type = SG_MSG_RESPONSE, .token = {1, 1, 1, 1, 1, 1, 1, 1}},
        {.type = SG_MSG_KEEPALIVE},
    };
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        struct world world;
        start(&world, SG_ROLE_SERVER);
        bool is_dropped = messages[i].type == SG_MSG_PROBE_ANSWER || messages[i].type == SG_MSG_RESPONSE;
        assert_int_equal(arrive_as(&world, &messages[i], 7, 1264, true, T),
                         is_dropped ? SG_REASON_CHALLENGE : SG_REASON_NONE);
        unsigned challenges = 0;
        for (uint64_t now = T; now < T + 10 * S; now += 50) {
            for (unsigned s = 0; s < world.count; s++, challenges++) {
                assert_int_equal(world.sent[s].msg.type, SG_MSG_CHALLENGE);
                assert_int_equal(world.sent[s].port, 7);
                assert_true(world.sent[s].real_bytes <= 64);
            }
            assert_int_equal(tick(&world, now), SG_REASON_NONE);
        }
        assert_int_equal(challenges, 2);
        assert_int_equal(sg_session_route(&world.session, 100, T), SG_ROUTE_STREAM);
    }
}

static void record_that_is_not_the_newest_makes_no_candidate(void **state)
{
    (void)state;
    struct sg_msg keepalive = {.type = SG_MSG_KEEPALIVE};
    struct world world;
    start(&world, SG_ROLE_SERVER);
    assert_int_equal(arrive_as(&world, &keepalive, 7, 100, false, T), SG_REASON_NONE);
    assert_int_equal(world.count, 0);
    assert_int_equal(sg_session_next_timeout(&world.session), T + 15 * S);
}

static void validated_path_stays_until_another_responds(void **state)
{
    (void)state;
    struct sg_msg udp = path_msg(SG_MSG_PATH, 1, SG_PATH_UDP, 0, 0);
    struct sg_msg probe = path_msg(SG_MSG_PROBE, 1, SG_PATH_UDP, 5, 0);
    struct world world;
    start(&world, SG_ROLE_SERVER);
    validate(&world, 7, T);
    stream(&world, &udp);
    assert_int_equal(arrive(&world, &probe, 8, T + 200), SG_REASON_NONE);
    assert_int_equal(world.count, 1); /* no answer to the probe, only a challenge */
    assert_int_equal(world.sent[0].msg.type, SG_MSG_CHALLENGE);
    assert_int_equal(world.sent[0].port, 8);
    struct sg_msg response = world.sent[0].msg;
    response.type = SG_MSG_RESPONSE;
    assert_int_equal(world.session.server_path.current.remote.port, 7);
    assert_int_equal(arrive(&world, &response, 9, T + 220), SG_REASON_CHALLENGE);
    assert_int_equal(world.session.server_path.current.remote.port, 7);
    assert_int_equal(arrive(&world, &response, 8, T + 240), SG_REASON_NONE);
    assert_int_equal(world.session.server_path.current.remote.port, 8);
    assert_int_equal(arrive(&world, &probe, 8, T + 260), SG_REASON_NONE);
    assert_int_equal(world.count, 1);
    assert_int_equal(world.sent[0].msg.type, SG_MSG_PROBE_ANSWER);
    assert_int_equal(world.sent[0].msg.path.n, 1);
    assert_int_equal(world.sent[0].msg.path.choice, SG_PATH_UDP);
    assert_int_equal(world.sent[0].port, 8);
}

static void datagrams_take_the_stream_while_another_address_is_challenged(void **state)
{
    (void)state;
    struct world world;
    struct sg_msg probe = path_msg(SG_MSG_PROBE, 1, SG_PATH_UDP, 2, 0);
    start(&world, SG_ROLE_SERVER);
    validate(&world, 1000, T);
    assert_int_equal(arrive(&world, &probe, 1000, T), SG_REASON_NONE);
    assert_int_equal(sg_session_route(&world.session, 100, T), SG_ROUTE_UDP);

    /* until it responds */
    assert_int_equal(arrive(&world, &probe, 2000, T + S), SG_REASON_NONE);
    struct sg_msg response = world.sent[0].msg;
    assert_int_equal(response.type, SG_MSG_CHALLENGE);
    assert_int_equal(sg_session_route(&world.session, 100, T + S), SG_ROUTE_STREAM);
    response.type = SG_MSG_RESPONSE;
    assert_int_equal(arrive(&world, &response, 2000, T + S + 1), SG_REASON_NONE);
    assert_int_equal(sg_session_route(&world.session, 100, T + S + 1), SG_ROUTE_UDP);

    /* or a newer record comes from the address that is validated; an older one tells nothing */
    assert_int_equal(arrive(&world, &probe, 3000, T + 2 * S), SG_REASON_NONE);
    assert_int_equal(arrive_as(&world, &probe, 2000, 100, false, T + 2 * S), SG_REASON_NONE);
    assert_int_equal(sg_session_route(&world.session, 100, T + 2 * S), SG_ROUTE_STREAM);
    assert_int_equal(arrive(&world, &probe, 2000, T + 2 * S), SG_REASON_NONE);
    assert_int_equal(sg_session_route(&world.session, 100, T + 2 * S), SG_ROUTE_UDP);

    /* or half a second is over; without a stream there is nothing to turn to */
    assert_int_equal(arrive(&world, &probe, 4000, T + 3 * S), SG_REASON_NONE);
    assert_int_equal(sg_session_route(&world.session, 100, T + 3 * S + 499), SG_ROUTE_STREAM);
    assert_int_equal(sg_session_route(&world.session, 100, T + 3 * S + 500), SG_ROUTE_UDP);
    assert_int_equal(arrive(&world, &probe, 5000, T + 4 * S), SG_REASON_NONE);
    sg_session_stream_lost(&world.session, T + 4 * S);
    assert_int_equal(sg_session_route(&world.session, 100, T + 4 * S), SG_ROUTE_UDP);
}

static void what_may_not_come_is_malformed(void **state)
{
    (void)state;
    static const uint8_t plain[] = {0, 0, 0, 0, SG_MSG_PING, 1, 2, 3, 4, 5, 6, 7, 8};
    struct sg_msg up = {.type = SG_MSG_RESPONSE}, down = {.type = SG_MSG_CHALLENGE};
    struct sg_path_addr addr = addr_of(7);
    struct sg_arrival arrival = {.addr = &addr, .record_bytes = 60, .newest = true};
    struct world world;
    start(&world, SG_ROLE_SERVER);
    assert_int_equal(arrive(&world, &down, 7, T), SG_REASON_MALFORMED);
    assert_int_equal(sg_session_on_message(&world.session, plain, sizeof plain, &arrival, T), SG_REASON_MALFORMED);
    assert_int_equal(sg_session_on_message(&world.session, plain, 4, &arrival, T), SG_REASON_MALFORMED);
    start(&world, SG_ROLE_CLIENT);
    assert_int_equal(arrive(&world, &up, 0, T), SG_REASON_MALFORMED);
    assert_int_equal(world.count, 0);
}

/* --- sizes --- */

static void sizes_are_tried_when_the_path_stands(void **state)
{
    (void)state;
    for (enum sg_role role = SG_ROLE_CLIENT; role <= SG_ROLE_SERVER; role++) {
        struct sg_msg udp = path_msg(SG_MSG_PATH, 1, SG_PATH_UDP, 0, 0);
        struct world world;
        start(&world, role);
        if (role == SG_ROLE_CLIENT) {
            answer_client(&world, T);
        } else {
            validate(&world, 7, T);
            stream(&world, &udp);
        }
        for (unsigned round = 0; round < 3; round++) {
            assert_int_equal(sg_session_next_timeout(&world.session), T + 250 * round);
            assert_int_equal(tick(&world, T + 250 * round), SG_REASON_NONE);
            assert_int_equal(world.sent[0].record_bytes, 1472); /* what the kernel says, then the rest of a table */
            assert_true(world.count > 2);
            for (unsigned i = 0; i < world.count; i++) {
                assert_int_equal(world.sent[i].msg.type, SG_MSG_PROBE);
                assert_int_equal(world.sent[i].msg.path.size, world.sent[i].record_bytes);
                assert_int_equal(world.sent[i].msg.path.choice, SG_PATH_UDP);
            }
        }
        struct sg_msg answer = path_msg(SG_MSG_PROBE_ANSWER, 1, SG_PATH_UDP, world.sent[0].msg.path.id, 1472);
        assert_int_equal(sg_session_route(&world.session, 1472, T), SG_ROUTE_STREAM);
        assert_int_equal(arrive(&world, &answer, 7, T + 600), SG_REASON_NONE);
        assert_int_equal(sg_session_route(&world.session, 1472, T), SG_ROUTE_UDP);
        assert_int_equal(sg_session_route(&world.session, 1473, T), SG_ROUTE_STREAM);
    }
}

/* UDP falls silent under a client that sends, and comes back: told on both ways, and the size is found anew. */
static void client_falls_back_and_comes_back(void **state)
{
    (void)state;
    struct world world;
    start(&world, SG_ROLE_CLIENT);
    assert_int_equal(tick(&world, T), SG_REASON_NONE);
    answer_client(&world, T);
    assert_int_equal(sg_session_route(&world.session, 100, T + 5 * S), SG_ROUTE_UDP);
    for (uint64_t now = T + 5 * S + 250; now < T + 6 * S; now += 250)
        assert_int_equal(tick(&world, now), SG_REASON_NONE);
    assert_int_equal(tick(&world, T + 6 * S), SG_REASON_NONE);
    assert_int_equal(world.sent[0].msg.type, SG_MSG_PATH);
    assert_false(world.sent[0].on_udp);
    assert_int_equal(world.sent[0].msg.path.n, 2);
    assert_int_equal(world.sent[0].msg.path.choice, SG_PATH_STREAM);
    assert_int_equal(sg_session_route(&world.session, 100, T + 6 * S), SG_ROUTE_STREAM);
    assert_int_equal(world.routes, 2);

    uint64_t now = T + 7 * S;
    for (unsigned i = 0; i < 3; i++, now += 100) {
        assert_int_equal(tick(&world, now), SG_REASON_NONE);
        assert_int_equal(world.sent[world.count - 1].msg.type, SG_MSG_PROBE);
        uint32_t id = world.sent[world.count - 1].msg.path.id;
        struct sg_msg answer = path_msg(SG_MSG_PROBE_ANSWER, 2, SG_PATH_STREAM, id, 57);
        assert_int_equal(arrive(&world, &answer, 0, now), SG_REASON_NONE);
    }
    assert_int_equal(world.count, 2);
    assert_int_equal(world.sent[0].msg.path.n, 3);
    assert_int_equal(world.sent[0].msg.path.choice, SG_PATH_UDP);
    assert_int_equal(sg_session_route(&world.session, 100, now), SG_ROUTE_UDP);
    assert_int_equal(world.session.pmtu.record_max, 512);
}

static void server_tells_the_length_that_arrived(void **state)
{
    (void)state;
    struct sg_msg probe = path_msg(SG_MSG_PROBE, 0, SG_PATH_STREAM, 33, 1264);
    struct world world;
    start(&world, SG_ROLE_SERVER);
    validate(&world, 7, T);
    assert_int_equal(arrive_as(&world, &probe, 7, 1000, true, T + 10), SG_REASON_NONE);
    assert_int_equal(world.count, 1);
    assert_int_equal(world.sent[0].msg.path.id, 33);
    assert_int_equal(world.sent[0].msg.path.size, 1000);
    assert_true(world.sent[0].real_bytes <= 64);
}

/* --- keepalive --- */

static void client_keeps_its_path_alive_after_18_to_20_s(void **state)
{
    (void)state;
    for (unsigned draw = 0; draw < 256; draw++) {
        struct world world;
        world = (struct world){.next_random = (uint8_t)draw};
        sg_session_init(&world.session, SG_ROLE_CLIENT, &ops, &world, T);
        sg_session_start_path(&world.session, T);
        answer_client(&world, T);
        for (uint64_t now = T; now <= T + 500; now += 250)
            assert_int_equal(tick(&world, now), SG_REASON_NONE);
        uint64_t quiet_since = T + 500;
        for (unsigned round = 0; round < 3; round++) {
            uint64_t due = quiet_since + world.session.keepalive_ms;
            assert_in_range(due - quiet_since, 18001, 20000);
            sg_session_stream_alive(&world.session, due - 1);
            assert_int_equal(sg_session_next_timeout(&world.session), due);
            assert_int_equal(tick(&world, due - 1), SG_REASON_NONE);
            assert_int_equal(world.count, 0);
            assert_int_equal(tick(&world, due), SG_REASON_NONE);
            assert_int_equal(world.count, 1);
            assert_int_equal(world.sent[0].msg.type, SG_MSG_KEEPALIVE);
            assert_true(world.sent[0].on_udp);
            quiet_since = due;
        }
    }
}

static void who_is_not_on_udp_keeps_nothing_alive(void **state)
{
    (void)state;
    struct sg_msg udp = path_msg(SG_MSG_PATH, 1, SG_PATH_UDP, 0, 0);
    struct world world;
    start(&world, SG_ROLE_CLIENT);
    world.session.client_path.state = SG_PATH_OFF;
    assert_int_equal(sg_session_next_timeout(&world.session), T + 15 * S);
    start(&world, SG_ROLE_SERVER);
    validate(&world, 7, T);
    stream(&world, &udp);
    for (uint64_t now = T; now <= T + 500; now += 250)
        assert_int_equal(tick(&world, now), SG_REASON_NONE);
    sg_session_stream_alive(&world.session, T + 60 * S);
    assert_int_equal(tick(&world, T + 60 * S), SG_REASON_NONE);
    assert_int_equal(world.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_choice_follows_the_highest_n),
        cmocka_unit_test(server_uses_udp_only_when_told_and_validated),
        cmocka_unit_test(client_probes_then_chooses_udp_on_both_ways),
        cmocka_unit_test(probe_carries_the_length_of_its_record),
        cmocka_unit_test(challenge_is_answered_by_response_and_probe),
        cmocka_unit_test(client_answers_the_servers_probe),
        cmocka_unit_test(unvalidated_address_gets_only_its_challenge),
        cmocka_unit_test(record_that_is_not_the_newest_makes_no_candidate),
        cmocka_unit_test(validated_path_stays_until_another_responds),
        cmocka_unit_test(datagrams_take_the_stream_while_another_address_is_challenged),
        cmocka_unit_test(what_may_not_come_is_malformed),
        cmocka_unit_test(sizes_are_tried_when_the_path_stands),
        cmocka_unit_test(client_falls_back_and_comes_back),
        cmocka_unit_test(server_tells_the_length_that_arrived),
        cmocka_unit_test(client_keeps_its_path_alive_after_18_to_20_s),
        cmocka_unit_test(who_is_not_on_udp_keeps_nothing_alive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
