/*
 * Thousands of runs of the world in sim.h, for either suite. SG_SEED=number runs that one alone, SG_RUNS=number so many
 * of each kind.
 */
#include "sim.h"

#include "../unit/record_util.h"

enum { RUNS = 1800 }; /* of each kind */

static struct sg_arena *arena;
static struct sg_aead_ctx *ctx;

enum kind { KIND_CALM, KIND_BAD, KIND_HOSTILE, KIND_BLOCKED, KIND_CUT, KIND_GAP, KIND_COUNT };

static unsigned draw(uint64_t *seed, unsigned below)
{
    return (unsigned)(next_random(seed) % below);
}

/* The network of a seed: its kind is the seed's remainder, all else is drawn. */
static struct sim_config config_of(uint64_t seed)
{
    static const size_t mtus[] = {512, 576, 1200, 1263, 1264, 1472, 9000, 65507};
    enum kind kind = (enum kind)(seed % KIND_COUNT);
    uint64_t random = seed ^ UINT64_C(0x5ea19a3);
    struct sim_config config = {.seed = seed, .suite = (uint16_t)(1 + seed / KIND_COUNT % 2)};
    config.delay_ms = 1 + draw(&random, 200);
    config.jitter_ms = draw(&random, 2) ? draw(&random, 300) : 0;
    config.stream_delay_ms = 1 + draw(&random, 400);
    config.mtu = mtus[draw(&random, sizeof mtus / sizeof mtus[0])];
    config.kernel_max = draw(&random, 3) ? mtus[draw(&random, sizeof mtus / sizeof mtus[0])] : 0;
    config.sender_records = draw(&random, 2) ? 100 : UINT64_C(1) << 28;
    config.moves = draw(&random, 2) ? draw(&random, 4) : 0;
    if (kind == KIND_CALM)
        return config;
    config.loss = draw(&random, 55);
    config.damaged = draw(&random, 8);
    config.doubled = draw(&random, 40);
    config.late = draw(&random, 2) ? draw(&random, 20) : 0;
    config.replayed = draw(&random, 50);
    if (kind == KIND_HOSTILE) {
        config.copied = draw(&random, 60);
        config.attacker_relays = draw(&random, 2);
    }
    if (kind == KIND_BLOCKED) {
        unsigned which = 1 + draw(&random, 3);
        config.blocked[SIM_UP] = which & 1;
        config.blocked[SIM_DOWN] = which & 2;
    }
    if (kind == KIND_CUT || kind == KIND_GAP)
        config.cut_ms = 1 + draw(&random, 15000);
    if (kind == KIND_GAP)
        config.back_ms = config.cut_ms + 1 + draw(&random, draw(&random, 4) ? 10000 : 2000000);
    return config;
}

/* True after all runs of a kind; false if only one was asked for, which need not show what all do together. */
static bool run_kind(enum kind kind, struct sim_stats *stats)
{
    *stats = (struct sim_stats){0};
    const char *only = getenv("SG_SEED"), *many = getenv("SG_RUNS");
    uint64_t runs = many ? strtoull(many, NULL, 10) : RUNS;
    if (only) {
        uint64_t seed = strtoull(only, NULL, 10);
        if (seed % KIND_COUNT != kind)
            skip();
        struct sim_config config = config_of(seed);
        sim_run(&config, arena, ctx, stats);
        return false;
    }
    for (uint64_t i = 0; i < runs; i++) {
        struct sim_config config = config_of(i * KIND_COUNT + kind);
        sim_run(&config, arena, ctx, stats);
    }
    assert_int_equal(sg_arena_in_use(arena), 0);
    return true;
}

static void calm_networks_come_to_udp(void **state)
{
    (void)state;
    struct sim_stats stats;
    if (!run_kind(KIND_CALM, &stats))
        return;
    assert_true(stats.udp_delivered > 0 && stats.stream_delivered > 0 && stats.moved > 0);
    assert_int_equal(stats.forged + stats.replayed + stats.copies_validated, 0);
}

static void bad_networks_come_to_udp(void **state)
{
    (void)state;
    struct sim_stats stats;
    if (!run_kind(KIND_BAD, &stats))
        return;
    assert_true(stats.udp_delivered > 0 && stats.replayed > 0 && stats.forged > 0 && stats.moved > 0);
}

static void attacker_gets_challenges_and_no_more(void **state)
{
    (void)state;
    struct sim_stats stats;
    if (!run_kind(KIND_HOSTILE, &stats))
        return;
    assert_true(stats.udp_delivered > 0 && stats.replayed > 0 && stats.forged > 0 && stats.challenges > 0);
    /* one who also carries the challenge to the client and its answer back is the path */
    assert_true(stats.copies_validated > 0);
}

static void blocked_udp_stays_on_the_stream(void **state)
{
    (void)state;
    struct sim_stats stats;
    if (!run_kind(KIND_BLOCKED, &stats))
        return;
    assert_true(stats.stream_delivered > 0 && stats.challenges > 0);
    assert_int_equal(stats.udp_delivered, 0);
}

static void udp_that_ends_breaks_nothing(void **state)
{
    (void)state;
    struct sim_stats stats;
    if (!run_kind(KIND_CUT, &stats))
        return;
    assert_true(stats.udp_delivered > 0 && stats.stream_delivered > 0);
}

static void udp_that_comes_back_is_used_again(void **state)
{
    (void)state;
    struct sim_stats stats;
    if (!run_kind(KIND_GAP, &stats))
        return;
    assert_true(stats.udp_delivered > 0 && stats.stream_delivered > 0);
}

static void half_an_hour_without_udp(void **state)
{
    (void)state;
    struct sim_stats stats = {0};
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct sim_config config = {.seed = seed, .suite = (uint16_t)(1 + seed % 2), .mtu = 1472, .kernel_max = 1472};
        config.sender_records = UINT64_C(1) << 28;
        config.delay_ms = config.stream_delay_ms = 1 + seed;
        config.loss = (unsigned)seed % 10;
        config.cut_ms = 5000 + 100 * seed;
        config.back_ms = config.cut_ms + 30 * 60 * 1000;
        sim_run(&config, arena, ctx, &stats); /* demands that UDP is used again in the end */
    }
    assert_true(stats.udp_delivered > 0 && stats.stream_delivered > 0);
}

static int start(void **state)
{
    bool locked = false;
    (void)state;
    arena = sg_arena_new(sg_arena_slots(2, SG_SENDERS_MAX), &locked);
    ctx = sg_aead_ctx_new();
    return arena && ctx ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    sg_aead_ctx_free(ctx);
    sg_arena_free(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calm_networks_come_to_udp),
        cmocka_unit_test(bad_networks_come_to_udp),
        cmocka_unit_test(attacker_gets_challenges_and_no_more),
        cmocka_unit_test(blocked_udp_stays_on_the_stream),
        cmocka_unit_test(udp_that_ends_breaks_nothing),
        cmocka_unit_test(udp_that_comes_back_is_used_again),
        cmocka_unit_test(half_an_hour_without_udp),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
