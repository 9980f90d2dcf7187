/* One run: traffic, attack and moves for twenty seconds, then calm, then the accounts. */
#include "sim.h"

#include "../unit/record_util.h"

/* Beyond that loss three answers in a row are a matter of luck, and the stream is as good a place. */
enum { LOSS_TO_COME_BACK = 40 };
enum { TRAFFIC_MS = 20000, QUIET_MS = 120000, PATIENCE_MS = 3 * 3600 * 1000 };

void sim_fail(const struct sim *sim, const char *what, const char *file, int line)
{
    print_error("%s:%d: not so: %s\nSG_SEED=%llu reproduces it (at %llu ms)\n", file, line, what,
                (unsigned long long)sim->config.seed, (unsigned long long)sim->now_ms);
    fail();
}

static void plan_traffic(struct sim *sim)
{
    for (unsigned d = 0; d < 2; d++) {
        uint64_t count = 50 + sim_draw(sim, 150);
        for (uint64_t i = 0; i < count; i++) {
            struct sim_event event = {.kind = SIM_SEND, .direction = (enum sim_direction)d};
            event.at_ms = sim->now_ms + sim_draw(sim, TRAFFIC_MS);
            sim_schedule(sim, &event);
        }
    }
    for (unsigned i = 0; i < sim->config.moves; i++) {
        struct sim_event event = {.kind = SIM_MOVE, .at_ms = sim->now_ms + sim_draw(sim, TRAFFIC_MS)};
        sim_schedule(sim, &event);
    }
}

static void act(struct sim *sim, struct sim_event *event)
{
    struct sim_end *sender = event->direction == SIM_UP ? &sim->client : &sim->server;
    switch (event->kind) {
    case SIM_UDP:
        sim_receive_record(sim, event);
        if (!sim->calm && sim_chance(sim, sim->config.replayed))
            sim_attack(sim, event->direction);
        break;
    case SIM_STREAM:
        sim_receive_stream(sim, event);
        break;
    case SIM_SEND:
        sim_send_datagram(sim, sender);
        sim_arm(sim, sender);
        if (sim_chance(sim, sim->config.replayed))
            sim_attack(sim, event->direction);
        break;
    case SIM_MOVE:
        sim->client_addr = (sim->client_addr + 1) % SIM_CLIENT_ADDRS;
        break;
    }
    free(event->bytes);
}

/* The next thing that happens, if it does before until_ms. */
static bool step(struct sim *sim, uint64_t until_ms)
{
    uint64_t wake_ms = sim->client.wake_ms < sim->server.wake_ms ? sim->client.wake_ms : sim->server.wake_ms;
    uint64_t event_ms = sim_next_event_ms(sim);
    uint64_t next_ms = event_ms < wake_ms ? event_ms : wake_ms;
    if (next_ms > until_ms) {
        sim->now_ms = until_ms;
        return false;
    }
    SIM_CHECK(sim, next_ms >= sim->now_ms);
    sim->now_ms = next_ms;
    if (event_ms <= wake_ms) {
        struct sim_event event = sim_next_event(sim);
        act(sim, &event);
    } else {
        sim_tick(sim, sim->client.wake_ms == wake_ms ? &sim->client : &sim->server);
    }
    return true;
}

static bool udp_stands(const struct sim *sim)
{
    const struct sg_server_path *path = &sim->server.session.server_path;
    return sg_session_on_udp(&sim->client.session) && sg_session_on_udp(&sim->server.session) &&
           path->current.remote.port == SIM_FIRST_PORT + sim->client_addr;
}

/* Every record that arrived is in the accounts once, and every datagram on the stream came out. */
static void check_accounts(const struct sim *sim, const struct sim_end *end)
{
    const struct sg_ledger *ledger = &end->ledger;
    uint64_t sum = ledger->forwarded + ledger->session;
    uint64_t on_udp = 0;
    for (unsigned i = 0; i < SG_REASON_COUNT; i++)
        sum += ledger->drops[i];
    SIM_CHECK(sim, ledger->received == sum);
    const struct sim_end *from = end == &sim->server ? &sim->client : &sim->server;
    for (uint32_t i = 0; i < from->datagram_count; i++) {
        SIM_CHECK(sim, from->datagrams[i].on_udp || from->datagrams[i].delivered);
        on_udp += from->datagrams[i].on_udp && from->datagrams[i].delivered;
    }
    SIM_CHECK(sim, ledger->forwarded == on_udp);
}

static void add_stats(const struct sim *sim, struct sim_stats *stats)
{
    const struct sim_end *ends[] = {&sim->client, &sim->server};
    for (unsigned i = 0; i < 2; i++) {
        stats->udp_delivered += ends[i]->ledger.forwarded;
        stats->stream_delivered += ends[i]->stream_next > 0;
        stats->replayed += ends[i]->ledger.drops[SG_REASON_REPLAYED];
        stats->forged += ends[i]->ledger.drops[SG_REASON_FORGED];
    }
    stats->challenges += sim->challenge_count;
    for (unsigned i = 1; i < SIM_ADDRS; i++)
        *(i < SIM_CLIENT_ADDRS ? &stats->moved : &stats->copies_validated) += sim->responded[i];
}

/* Twenty seconds of everything; then, where UDP gets through at all, as long as it takes until the path stands. */
static void run_to_the_end(struct sim *sim)
{
    bool blocked = sim->config.blocked[SIM_UP] || sim->config.blocked[SIM_DOWN];
    uint64_t calm_ms = sim->now_ms + TRAFFIC_MS;
    plan_traffic(sim);
    while (step(sim, calm_ms))
        ;
    sim->calm = true;
    uint64_t quiet_ms = calm_ms + QUIET_MS;
    bool cut = sim->config.cut_ms && !sim->config.back_ms;
    if (!blocked && !cut && sim->config.loss <= LOSS_TO_COME_BACK) {
        while (!udp_stands(sim))
            SIM_CHECK(sim, step(sim, calm_ms + PATIENCE_MS));
        quiet_ms = sim->now_ms + 5000; /* what is under way arrives */
    }
    while (step(sim, quiet_ms))
        ;
    if (blocked) {
        SIM_CHECK(sim, !sg_session_on_udp(&sim->client.session) && !sg_session_on_udp(&sim->server.session));
        SIM_CHECK(sim, sim->client.session.n == 0 && !sim->server.session.server_path.validated);
    }
    /* whoever sent into a path that had ended went back to the stream */
    const struct sg_client_path *path = &sim->client.session.client_path;
    if (cut && !sim->config.late && path->had_traffic && path->traffic_ms > sim->config.cut_ms)
        SIM_CHECK(sim, !sg_session_on_udp(&sim->client.session) && !sg_session_on_udp(&sim->server.session));
}

void sim_run(const struct sim_config *config, struct sg_arena *arena, struct sg_aead_ctx *ctx, struct sim_stats *stats)
{
    struct sim *sim = calloc(1, sizeof *sim);
    assert_non_null(sim);
    sim->config = *config;
    sim->arena = arena;
    sim->aead = ctx;
    sim->random = config->seed;
    sim->now_ms = sim_draw(sim, 2) * sim_draw(sim, UINT64_C(1) << 40);
    sim->config.cut_ms = config->cut_ms ? sim->now_ms + config->cut_ms : 0;
    sim->config.back_ms = config->back_ms ? sim->now_ms + config->back_ms : 0;
    sim_start_ends(sim);
    run_to_the_end(sim);
    check_accounts(sim, &sim->client);
    check_accounts(sim, &sim->server);
    add_stats(sim, stats);
    sim_stop_ends(sim);
    sim_free_network(sim);
    free(sim);
}
