/*
 * The two ends: what src/client and src/server do around core/session.c, as short as it can be, and the books that
 * every record and datagram is checked against.
 */
#include "sim.h"

#include "../unit/record_util.h"

#include "core/detect.h"
#include "core/keys.h"
#include "core/plaintext.h"

enum { RECORD_SHORTEST = SG_RECORD_OVERHEAD + SG_ASSOC_BYTES + 1, DATA_MAX = 4000 };

static bool is_server(const struct sim_end *end)
{
    return end == &end->sim->server;
}

static struct sg_path_addr addr_of(unsigned addr)
{
    return (struct sg_path_addr){
        .remote = {.ip = {.family = 4, .bytes = {192, 0, 2, 1}}, .port = (uint16_t)(SIM_FIRST_PORT + addr)}};
}

static unsigned index_of(const struct sg_path_addr *addr)
{
    return addr->remote.port - (unsigned)SIM_FIRST_PORT;
}

/* --- what the server may send, and where --- */

/* A challenge: small, twice at most, new ones 100 ms apart, none to the address that is validated already. */
static void book_challenge(struct sim *sim, unsigned addr, const struct sg_msg *msg, size_t record_bytes)
{
    const struct sg_server_path *path = &sim->server.session.server_path;
    SIM_CHECK(sim, record_bytes <= 64);
    SIM_CHECK(sim, !path->validated || index_of(&path->current) != addr);
    for (unsigned i = 0; i < sim->challenge_count; i++) {
        struct sim_challenge *known = &sim->challenges[i];
        if (memcmp(known->token, msg->token, sizeof known->token) != 0)
            continue;
        SIM_CHECK(sim, known->addr == addr && ++known->sends <= 2 && sim->now_ms - known->first_ms >= 250);
        return;
    }
    SIM_CHECK(sim, sim->challenge_count < SIM_CHALLENGES_MAX);
    SIM_CHECK(sim, sim->challenge_count == 0 || sim->now_ms - sim->challenged_ms >= 100);
    struct sim_challenge *made = &sim->challenges[sim->challenge_count++];
    *made = (struct sim_challenge){.addr = addr, .sends = 1, .first_ms = sim->now_ms};
    memcpy(made->token, msg->token, sizeof made->token);
    sim->challenged_ms = sim->now_ms;
}

/* A RESPONSE opened: did the world see that token go to that address, not long ago? */
static void book_response(struct sim *sim, unsigned addr, const uint8_t *plaintext, size_t len)
{
    struct sg_msg msg;
    if (sg_session_message_decode(plaintext, len, SG_ROLE_CLIENT, &msg) != SG_OK || msg.type != SG_MSG_RESPONSE)
        return;
    for (unsigned i = 0; i < sim->challenge_count; i++)
        if (sim->challenges[i].addr == addr && sim->now_ms - sim->challenges[i].first_ms < 3000 &&
            memcmp(sim->challenges[i].token, msg.token, sizeof msg.token) == 0)
            sim->responded[addr] = true;
}

static void check_path(const struct sim *sim)
{
    const struct sg_server_path *path = &sim->server.session.server_path;
    SIM_CHECK(sim, !path->validated || sim->responded[index_of(&path->current)]);
    SIM_CHECK(sim, sim->server.session.n <= sim->client.session.n);
    if (sg_session_on_udp(&sim->server.session))
        SIM_CHECK(sim, path->validated &&
                           (sg_session_on_udp(&sim->client.session) || sim->client.session.n > sim->server.session.n));
}

/* Seals the plaintext and sends the record; false if the key is at its limit. */
static bool seal_and_send(struct sim_end *end, unsigned addr, uint8_t *record_bytes, size_t len)
{
    struct sim *sim = end->sim;
    struct sg_record record = {.bytes = record_bytes, .len = len};
    if (sg_seal_batch(&end->sender, &record, 1) != 1)
        return false;
    sim_send_record(sim, end->out, is_server(end) ? addr : sim->client_addr, record.bytes, record.len);
    return true;
}

/* --- ops --- */

static void op_send_stream(void *ctx, const struct sg_msg *msg)
{
    struct sim_end *end = ctx;
    uint8_t bytes[SG_CONTROL_SMALL_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_control_encode(&w, msg);
    SIM_CHECK(end->sim, sg_wbuf_ok(&w));
    sim_send_stream(end->sim, end->out, bytes, sg_wbuf_len(&w));
}

static void op_send_udp(void *ctx, const struct sg_path_addr *addr, const struct sg_msg *msg, size_t record_bytes)
{
    struct sim_end *end = ctx;
    struct sim *sim = end->sim;
    uint8_t bytes[SG_RECORD_MAX];
    SIM_CHECK(sim, record_bytes <= SG_RECORD_MAX);
    SIM_CHECK(sim, is_server(end) == (addr != NULL));
    const unsigned to = addr ? index_of(addr) : sim->client_addr;
    const size_t len = sg_session_seal(&end->sender, msg, record_bytes, bytes);
    SIM_CHECK(sim, len == 0 || len >= record_bytes);
    if (is_server(end)) {
        SIM_CHECK(sim, to < SIM_ADDRS && sim->seen[to]);
        SIM_CHECK(sim, msg->type == SG_MSG_CHALLENGE || sim->responded[to]);
        if (msg->type == SG_MSG_CHALLENGE)
            book_challenge(sim, to, msg, len);
    }
    if (len > 0)
        sim_send_record(sim, end->out, to, bytes, len);
}

static size_t op_kernel_max(void *ctx, const struct sg_path_addr *addr)
{
    (void)addr;
    return ((struct sim_end *)ctx)->sim->config.kernel_max;
}

static void op_on_doubt(void *ctx)
{
    (void)ctx;
}

static void op_on_route(void *ctx)
{
    check_path(((struct sim_end *)ctx)->sim);
}

static void op_random(void *ctx, uint8_t *out, size_t len)
{
    fill_random(&((struct sim_end *)ctx)->sim->random, out, len);
}

static const struct sg_session_ops ops = {
    .send_stream = op_send_stream,
    .send_udp = op_send_udp,
    .kernel_max = op_kernel_max,
    .on_route = op_on_route,
    .on_doubt = op_on_doubt,
    .random = op_random,
};

/* --- start and end --- */

static void start_end(struct sim *sim, struct sim_end *end, enum sg_role role, const struct sg_direction_keys *keys)
{
    const struct sg_aead *aead = sg_aead_find(sim->config.suite, SG_BACKEND_AUTO);
    struct sg_limits limits = sg_limits_default;
    limits.records_per_sender = sim->config.sender_records;
    end->sim = sim;
    end->out = role == SG_ROLE_CLIENT ? SIM_UP : SIM_DOWN;
    end->stream = malloc(SIM_STREAM_BYTES);
    assert_non_null(end->stream);
    const uint8_t *out_key = role == SG_ROLE_CLIENT ? keys->c2s : keys->s2c;
    const uint8_t *in_key = role == SG_ROLE_CLIENT ? keys->s2c : keys->c2s;
    assert_int_equal(
        sg_sender_init(&end->sender, sim->arena, sim->aead, aead, out_key, sim->channel_id, &limits, op_random, end),
        SG_OK);
    assert_int_equal(sg_receiver_init(&end->receiver, sim->arena, sim->aead, aead, in_key, sim->channel_id, &limits),
                     SG_OK);
    sg_session_init(&end->session, role, &ops, end, sim->now_ms);
    if (role == SG_ROLE_CLIENT)
        sg_session_start_path(&end->session, sim->now_ms);
    sim_arm(sim, end);
}

void sim_start_ends(struct sim *sim)
{
    struct sg_direction_keys keys;
    uint8_t secret[SG_KEY_BYTES];
    fill_random(&sim->random, secret, sizeof secret); /* stands for the TLS exporter */
    fill_random(&sim->random, sim->channel_id, sizeof sim->channel_id);
    assert_int_equal(sg_keys_derive(secret, &keys), SG_OK);
    start_end(sim, &sim->client, SG_ROLE_CLIENT, &keys);
    start_end(sim, &sim->server, SG_ROLE_SERVER, &keys);
    sg_keys_wipe(&keys);
}

void sim_stop_ends(struct sim *sim)
{
    struct sim_end *ends[] = {&sim->client, &sim->server};
    for (unsigned i = 0; i < 2; i++) {
        sg_sender_dispose(&ends[i]->sender);
        sg_receiver_dispose(&ends[i]->receiver);
        free(ends[i]->stream);
    }
}

/* --- datagrams --- */

/* What datagram number i of a direction carries: its number, then bytes that follow from it. */
static void make_data(const struct sim *sim, enum sim_direction direction, uint32_t i, uint8_t *out, size_t len)
{
    uint64_t seed = sim->config.seed ^ (uint64_t)i << 1 ^ (uint64_t)direction;
    struct sg_wbuf w = sg_wbuf_init(out, 4);
    sg_wbuf_u32(&w, i);
    for (size_t at = 4; at < len; at++)
        out[at] = (uint8_t)(at % 8 == 4 ? next_random(&seed) : seed >> at % 8 * 8);
}

static struct sg_endpoint target_of(uint32_t i)
{
    return (struct sg_endpoint){.ip = {.family = 4, .bytes = {203, 0, 113, (uint8_t)i}}, .port = (uint16_t)(i + 1)};
}

void sim_send_datagram(struct sim *sim, struct sim_end *end)
{
    uint8_t record[SG_RECORD_OVERHEAD + SG_PLAINTEXT_HEADER_MAX + DATA_MAX];
    uint8_t *plaintext = record + SG_RECORD_HEADER_BYTES;
    uint32_t i = end->datagram_count++;
    SIM_CHECK(sim, i < SIM_DATAGRAMS_MAX);
    struct sim_datagram *datagram = &end->datagrams[i];
    size_t data_len = 4 + (size_t)sim_draw(sim, sim_chance(sim, 20) ? DATA_MAX - 4 : 400);
    struct sg_endpoint target = target_of(i);
    uint8_t *data = plaintext + SG_ASSOC_BYTES + SG_ADDR_IPV4_BYTES;
    make_data(sim, end->out, i, data, data_len);
    assert_ptr_equal(sg_plaintext_prepend(data, 1 + i % 3, &target), plaintext);
    size_t len = data_len + SG_ASSOC_BYTES + SG_ADDR_IPV4_BYTES;
    *datagram = (struct sim_datagram){.len = data_len, .on_udp = true};

    unsigned to = is_server(end) ? index_of(&end->session.server_path.current) : 0;
    if (sg_session_route(&end->session, len + SG_RECORD_OVERHEAD, sim->now_ms) == SG_ROUTE_UDP) {
        SIM_CHECK(sim, !is_server(end) || (to < SIM_ADDRS && sim->responded[to]));
        /* never longer than what is known to pass */
        SIM_CHECK(sim, len + SG_RECORD_OVERHEAD <= sim->config.mtu);
        if (seal_and_send(end, to, record, len))
            return;
    }
    datagram->on_udp = false;
    uint8_t message[SG_CONTROL_HEADER_BYTES + sizeof record];
    struct sg_msg msg = {.type = SG_MSG_DATAGRAM, .datagram = {.bytes = plaintext, .len = len}};
    struct sg_wbuf w = sg_wbuf_init(message, sizeof message);
    sg_control_encode(&w, &msg);
    SIM_CHECK(sim, sg_wbuf_ok(&w));
    sim_send_stream(sim, end->out, message, sg_wbuf_len(&w));
}

/* A datagram comes out at the other end: one that was sent, on that leg, unchanged, and for the first time. */
static void deliver(struct sim *sim, struct sim_end *end, uint8_t *plaintext, size_t len, bool on_udp)
{
    struct sim_end *from = is_server(end) ? &sim->client : &sim->server;
    struct sg_datagram got;
    uint8_t expected[DATA_MAX];
    SIM_CHECK(sim, sg_plaintext_decode(plaintext, len, &got) == SG_OK);
    SIM_CHECK(sim, got.data_len >= 4 && got.data_len <= DATA_MAX);
    struct sg_rbuf r = sg_rbuf_init(got.data, got.data_len);
    uint32_t i = sg_rbuf_u32(&r);
    SIM_CHECK(sim, i < from->datagram_count);
    struct sim_datagram *sent = &from->datagrams[i];
    struct sg_endpoint target = target_of(i), address = sg_target_endpoint(&got.address);
    make_data(sim, from->out, i, expected, sent->len);
    SIM_CHECK(sim, sent->on_udp == on_udp);
    SIM_CHECK(sim, !sent->delivered);
    SIM_CHECK(sim, got.association == 1 + i % 3 && sg_endpoint_equal(&target, &address));
    SIM_CHECK(sim, sent->len == got.data_len && memcmp(got.data, expected, sent->len) == 0);
    SIM_CHECK(sim, on_udp || i >= end->stream_next);
    if (!on_udp)
        end->stream_next = i + 1;
    sent->delivered = true;
}

/* --- arrival on UDP --- */

static enum sg_reason classify(const struct sim *sim, const struct sim_event *event)
{
    switch (sg_detect(event->bytes, event->len)) {
    case SG_DETECT_NEITHER:
        return SG_REASON_JUNK;
    case SG_DETECT_PLAIN:
        return SG_REASON_PLAIN_REFUSED;
    case SG_DETECT_SEALED:
        break;
    }
    if (event->len < RECORD_SHORTEST || event->len > SG_RECORD_MAX)
        return SG_REASON_LENGTH;
    if (memcmp(event->bytes + SG_RECORD_CHANNEL_OFFSET, sim->channel_id, sizeof sim->channel_id) != 0)
        return SG_REASON_UNKNOWN_CHANNEL;
    return SG_REASON_NONE;
}

static void act_on_record(struct sim *sim, struct sim_end *end, const struct sg_record *record,
                          const struct sim_event *event)
{
    uint8_t *plaintext = record->bytes + SG_RECORD_HEADER_BYTES;
    struct sg_path_addr addr = addr_of(event->addr);
    struct sg_arrival arrival = {.addr = is_server(end) ? &addr : NULL,
                                 .record_bytes = event->len,
                                 .newest = record->newest,
                                 .datagram = sg_plaintext_association(plaintext, record->len) != 0};
    if (is_server(end)) {
        sim->seen[event->addr] = true;
        book_response(sim, event->addr, plaintext, record->len);
    }
    if (sg_plaintext_association(plaintext, record->len) != 0) {
        deliver(sim, end, plaintext, record->len, true);
        end->ledger.forwarded++;
    } else {
        enum sg_reason reason = sg_session_on_message(&end->session, plaintext, record->len, &arrival, sim->now_ms);
        SIM_CHECK(sim, reason == SG_REASON_NONE || reason == SG_REASON_CHALLENGE);
        if (reason == SG_REASON_NONE)
            end->ledger.session++;
        else
            sg_ledger_drop(&end->ledger, reason);
    }
    sg_session_on_record(&end->session, &arrival, sim->now_ms);
}

void sim_receive_record(struct sim *sim, struct sim_event *event)
{
    struct sim_end *end = event->direction == SIM_UP ? &sim->server : &sim->client;
    end->ledger.received++;
    enum sg_reason reason = classify(sim, event);
    if (reason == SG_REASON_NONE) {
        struct sg_record record = {.bytes = event->bytes, .len = event->len};
        bool opened = sg_open_batch(&end->receiver, &record, 1) == 1;
        /* exactly the records that are whole and new open */
        SIM_CHECK(sim, opened == (event->intact && !end->opened[event->serial]));
        SIM_CHECK(sim, opened || !event->intact || record.err == SG_ERR_REPLAYED);
        if (opened) {
            end->opened[event->serial] = true;
            act_on_record(sim, end, &record, event);
        } else {
            reason = sg_reason_of_open(record.err);
        }
    }
    SIM_CHECK(sim, !event->intact || reason == SG_REASON_NONE || reason == SG_REASON_REPLAYED);
    if (reason != SG_REASON_NONE)
        sg_ledger_drop(&end->ledger, reason);
    check_path(sim);
    sim_arm(sim, end);
}

/* --- arrival on the stream --- */

void sim_receive_stream(struct sim *sim, const struct sim_event *event)
{
    struct sim_end *end = event->direction == SIM_UP ? &sim->server : &sim->client;
    enum sg_role from = is_server(end) ? SG_ROLE_CLIENT : SG_ROLE_SERVER;
    struct sg_msg msg;
    SIM_CHECK(sim, end->stream_len + event->len <= SIM_STREAM_BYTES);
    memcpy(end->stream + end->stream_len, event->bytes, event->len);
    end->stream_len += event->len;
    sg_session_stream_alive(&end->session, sim->now_ms);

    struct sg_rbuf r = sg_rbuf_init(end->stream, end->stream_len);
    enum sg_err err = SG_OK;
    while ((err = sg_control_decode(&r, from, &msg)) == SG_OK) {
        if (sg_session_on_stream(&end->session, &msg, sim->now_ms))
            continue;
        SIM_CHECK(sim, msg.type == SG_MSG_DATAGRAM);
        deliver(sim, end, end->stream + (msg.datagram.bytes - end->stream), msg.datagram.len, false);
    }
    SIM_CHECK(sim, err == SG_ERR_AGAIN);
    size_t left = sg_rbuf_left(&r);
    memmove(end->stream, end->stream + (end->stream_len - left), left);
    end->stream_len = left;
    check_path(sim);
    sim_arm(sim, end);
}

/* --- time --- */

void sim_arm(struct sim *sim, struct sim_end *end)
{
    uint64_t next = sg_session_next_timeout(&end->session);
    end->wake_ms = next > sim->now_ms ? next : sim->now_ms;
    if (sim->config.late > 0 && sim_chance(sim, sim->config.late))
        end->wake_ms += sim_draw(sim, 5000);
}

void sim_tick(struct sim *sim, struct sim_end *end)
{
    SIM_CHECK(sim, sg_session_tick(&end->session, sim->now_ms) == SG_REASON_NONE);
    /* who did what was due is not due again at once */
    SIM_CHECK(sim, sg_session_next_timeout(&end->session) > sim->now_ms);
    check_path(sim);
    sim_arm(sim, end);
}
