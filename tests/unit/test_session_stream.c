/* The pulse of a session's stream, docs/protocol.md sections 5.2 and 7, and what its end means. */
#include "session_world.h"

static void silent_stream_is_pinged_three_times_then_given_up(void **state)
{
    (void)state;
    for (enum sg_role role = SG_ROLE_CLIENT; role <= SG_ROLE_SERVER; role++) {
        struct world world;
        start(&world, role);
        world.session.client_path.state = SG_PATH_OFF;
        for (unsigned i = 1; i <= 3; i++) {
            assert_int_equal(sg_session_next_timeout(&world.session), T + 15 * S * i);
            assert_int_equal(tick(&world, T + 15 * S * i - 1), SG_REASON_NONE);
            assert_int_equal(world.count, 0);
            assert_int_equal(tick(&world, T + 15 * S * i), SG_REASON_NONE);
            assert_int_equal(world.count, 1);
            assert_false(world.sent[0].on_udp);
            assert_int_equal(world.sent[0].msg.type, SG_MSG_PING);
        }
        assert_int_equal(tick(&world, T + 60 * S - 1), SG_REASON_NONE);
        assert_int_equal(tick(&world, T + 60 * S), SG_REASON_TIMEOUT);
        assert_int_equal(world.count, 0);
    }
}

static void any_byte_restarts_the_pulse(void **state)
{
    (void)state;
    struct world world;
    start(&world, SG_ROLE_SERVER);
    for (unsigned i = 1; i <= 3; i++)
        assert_int_equal(tick(&world, T + 15 * S * i), SG_REASON_NONE);
    sg_session_stream_alive(&world.session, T + 59 * S);
    assert_int_equal(tick(&world, T + 60 * S), SG_REASON_NONE);
    assert_int_equal(world.count, 0);
    assert_int_equal(sg_session_next_timeout(&world.session), T + 74 * S);
    assert_int_equal(tick(&world, T + 74 * S), SG_REASON_NONE);
    assert_int_equal(world.count, 1);
}

static void ping_is_answered_with_its_bytes(void **state)
{
    (void)state;
    struct world world;
    struct sg_msg ping = {.type = SG_MSG_PING, .token = {1, 2, 3, 4, 5, 6, 7, 8}};
    struct sg_msg pong = ping;
    pong.type = SG_MSG_PONG;
    start(&world, SG_ROLE_SERVER);
    assert_true(stream(&world, &ping));
    assert_int_equal(world.count, 1);
    assert_int_equal(world.sent[0].msg.type, SG_MSG_PONG);
    assert_memory_equal(world.sent[0].msg.token, ping.token, 8);
    assert_true(stream(&world, &pong));
    assert_int_equal(world.count, 0);
}

static void other_messages_are_the_callers(void **state)
{
    (void)state;
    struct world world;
    start(&world, SG_ROLE_SERVER);
    for (unsigned type = SG_MSG_DATAGRAM; type <= SG_MSG_DRAIN; type++) {
        struct sg_msg msg = {.type = (enum sg_msg_type)type};
        bool is_own = type == SG_MSG_PATH || type == SG_MSG_PING || type == SG_MSG_PONG;
        assert_int_equal(stream(&world, &msg), is_own);
    }
}

static void without_a_stream_nothing_is_pinged(void **state)
{
    (void)state;
    for (enum sg_role role = SG_ROLE_CLIENT; role <= SG_ROLE_SERVER; role++) {
        struct world world;
        start(&world, role);
        world.session.client_path.state = SG_PATH_OFF;
        sg_session_stream_lost(&world.session, T);
        assert_true(sg_session_next_timeout(&world.session) == SG_NEVER);
        assert_int_equal(tick(&world, T + 600 * S), SG_REASON_NONE);
        assert_int_equal(world.count, 0);
        sg_session_stream_new(&world.session, T + 600 * S);
        assert_int_equal(sg_session_next_timeout(&world.session), T + 615 * S);
        assert_int_equal(tick(&world, T + 615 * S), SG_REASON_NONE);
        assert_int_equal(world.count, 1);
    }
}

/* A client on UDP since T, with a datagram at that time. */
static void start_on_udp(struct world *world)
{
    start(world, SG_ROLE_CLIENT);
    assert_int_equal(tick(world, T), SG_REASON_NONE);
    answer_client(world, T);
    assert_int_equal(sg_session_route(&world->session, 100, T), SG_ROUTE_UDP);
}

static void client_that_lost_its_stream_asks_by_udp_at_once(void **state)
{
    (void)state;
    struct world world;
    start_on_udp(&world);
    sg_session_stream_lost(&world.session, T + 10);
    assert_int_equal(tick(&world, T + 10), SG_REASON_NONE);
    assert_true(world.count >= 1 && world.sent[0].on_udp);
    assert_int_equal(world.sent[0].msg.type, SG_MSG_PROBE);
}

/* Falls silent: 250 ms, then three probes of 250 ms each. What was sent when it fell back is in world->sent. */
static uint64_t fall_back(struct world *world)
{
    uint64_t now = T;
    do {
        now += 250;
        assert_true(now <= T + 1000);
        assert_int_equal(tick(world, now), SG_REASON_NONE);
    } while (sg_session_on_udp(&world->session));
    return now;
}

static void when_udp_falls_silent_the_stream_is_asked_and_doubted(void **state)
{
    (void)state;
    struct world world;
    start_on_udp(&world);
    uint64_t now = fall_back(&world);
    unsigned pings = 0;
    for (unsigned i = 0; i < world.count; i++)
        pings += !world.sent[i].on_udp && world.sent[i].msg.type == SG_MSG_PING;
    assert_int_equal(pings, 1);
    assert_int_equal(tick(&world, now + SG_SESSION_DOUBT_MS - 1), SG_REASON_NONE);
    assert_int_equal(world.doubts, 0);
    assert_true(sg_session_next_timeout(&world.session) <= now + SG_SESSION_DOUBT_MS);
    assert_int_equal(tick(&world, now + SG_SESSION_DOUBT_MS), SG_REASON_NONE);
    assert_int_equal(tick(&world, now + SG_SESSION_DOUBT_MS + S), SG_REASON_NONE);
    assert_int_equal(world.doubts, 1);
}

static void a_byte_of_the_stream_ends_the_doubt(void **state)
{
    (void)state;
    struct world world;
    start_on_udp(&world);
    uint64_t now = fall_back(&world);
    sg_session_stream_alive(&world.session, now + 100);
    assert_int_equal(tick(&world, now + SG_SESSION_DOUBT_MS + S), SG_REASON_NONE);
    assert_int_equal(world.doubts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silent_stream_is_pinged_three_times_then_given_up),
        cmocka_unit_test(any_byte_restarts_the_pulse),
        cmocka_unit_test(ping_is_answered_with_its_bytes),
        cmocka_unit_test(other_messages_are_the_callers),
        cmocka_unit_test(without_a_stream_nothing_is_pinged),
        cmocka_unit_test(client_that_lost_its_stream_asks_by_udp_at_once),
        cmocka_unit_test(when_udp_falls_silent_the_stream_is_asked_and_doubted),
        cmocka_unit_test(a_byte_of_the_stream_ends_the_doubt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
