/*
 * The session machine of either role: the input is a list of steps, messages from anywhere and time that passes. What
 * an address may get is held against a book of the challenges that left and the responses that came, kept here; each
 * step's output is bounded, and who was woken is not due again at once.
 */
#include <string.h>

#include "check.h"
#include "core/datagram.h"
#include "core/plaintext.h"
#include "core/session.h"

enum {
    ADDRS = 6,
    STEPS_MAX = 400,
    CHALLENGES_MAX = 1024,
    OUT_OF_TICK_MAX = 24,
    OUT_OF_RECORD_MAX = 3,
    FIRST_PORT = 100
};

struct challenge {
    unsigned addr, sends;
    uint64_t at_ms;
    uint8_t token[SG_CONTROL_TOKEN_BYTES];
};

struct world {
    struct sg_session session;
    uint64_t now_ms;
    uint64_t random;
    unsigned out; /* messages since the step began */
    bool seen[ADDRS], responded[ADDRS];
    struct challenge challenges[CHALLENGES_MAX];
    unsigned challenge_count;
    size_t kernel_max;
    uint32_t n;
};

static void op_send_stream(void *ctx, const struct sg_msg *msg)
{
    struct world *world = ctx;
    uint8_t bytes[SG_CONTROL_SMALL_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_control_encode(&w, msg);
    CHECK(sg_wbuf_ok(&w));
    world->out++;
}

static void book_challenge(struct world *world, unsigned addr, const struct sg_msg *msg)
{
    const struct sg_server_path *path = &world->session.server_path;
    CHECK(!path->validated || path->current.remote.port != FIRST_PORT + addr);
    for (unsigned i = 0; i < world->challenge_count; i++) {
        struct challenge *known = &world->challenges[i];
        if (memcmp(known->token, msg->token, sizeof known->token) != 0)
            continue;
        CHECK(known->addr == addr);
        CHECK(++known->sends <= 2);
        CHECK(world->now_ms - known->at_ms >= SG_PATH_CHALLENGE_REPEAT_MS);
        return;
    }
    CHECK(world->challenge_count < CHALLENGES_MAX);
    CHECK(world->challenge_count == 0 ||
          world->now_ms - world->challenges[world->challenge_count - 1].at_ms >= SG_PATH_CANDIDATE_SPACING_MS);
    struct challenge *made = &world->challenges[world->challenge_count++];
    *made = (struct challenge){.addr = addr, .sends = 1, .at_ms = world->now_ms};
    memcpy(made->token, msg->token, sizeof made->token);
}

static void op_send_udp(void *ctx, const struct sg_path_addr *addr, const struct sg_msg *msg, size_t record_bytes)
{
    struct world *world = ctx;
    uint8_t bytes[SG_CONTROL_SMALL_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_session_message_encode(&w, msg);
    CHECK(sg_wbuf_ok(&w));
    CHECK(record_bytes <= SG_RECORD_MAX);
    world->out++;
    CHECK((addr != NULL) == (world->session.role == SG_ROLE_SERVER));
    if (!addr)
        return;
    unsigned to = addr->remote.port - (unsigned)FIRST_PORT;
    CHECK(to < ADDRS && world->seen[to]);
    if (msg->type == SG_MSG_CHALLENGE) {
        CHECK(record_bytes <= 64 && sg_wbuf_len(&w) + SG_RECORD_OVERHEAD <= 64);
        book_challenge(world, to, msg);
    } else {
        CHECK(world->responded[to]);
    }
}

static size_t op_kernel_max(void *ctx, const struct sg_path_addr *addr)
{
    (void)addr;
    return ((struct world *)ctx)->kernel_max;
}

static void op_on_doubt(void *ctx)
{
    (void)ctx;
}

static void op_on_route(void *ctx)
{
    (void)ctx;
}

static void op_random(void *ctx, uint8_t *out, size_t len)
{
    uint64_t *random = &((struct world *)ctx)->random;
    for (size_t i = 0; i < len; i++) {
        *random = *random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        out[i] = (uint8_t)(*random >> 56);
    }
}

static const struct sg_session_ops ops = {
    .send_stream = op_send_stream,
    .send_udp = op_send_udp,
    .kernel_max = op_kernel_max,
    .on_route = op_on_route,
    .on_doubt = op_on_doubt,
    .random = op_random,
};

static void check_session(struct world *world)
{
    const struct sg_session *session = &world->session;
    CHECK(session->n >= world->n); /* never back */
    world->n = session->n;
    CHECK(session->choice == SG_PATH_UDP || session->choice == SG_PATH_STREAM);
    CHECK(session->pmtu.record_max >= SG_PLPMTU_MIN && session->pmtu.record_max <= SG_RECORD_MAX);
    struct sg_session copy = *session; /* asking counts as sending */
    CHECK(sg_session_route(&copy, session->pmtu.record_max + 1u, world->now_ms) == SG_ROUTE_STREAM);
    if (session->role == SG_ROLE_CLIENT)
        return;
    if (session->server_path.validated)
        CHECK(world->responded[session->server_path.current.remote.port - FIRST_PORT]);
    else
        CHECK(sg_session_route(&copy, 46, world->now_ms) == SG_ROUTE_STREAM);
}

/* --- steps --- */

static void arrive(struct world *world, unsigned addr, bool newest, const uint8_t *plaintext, size_t len)
{
    struct sg_path_addr from = {.remote = {.ip = {.family = 4}, .port = (uint16_t)(FIRST_PORT + addr)}};
    struct sg_arrival arrival = {.addr = world->session.role == SG_ROLE_SERVER ? &from : NULL,
                                 .record_bytes = len + SG_RECORD_OVERHEAD,
                                 .newest = newest,
                                 .datagram = len > SG_ASSOC_BYTES && sg_plaintext_association(plaintext, len) != 0};
    world->seen[addr] = true;
    enum sg_reason reason = sg_session_on_message(&world->session, plaintext, len, &arrival, world->now_ms);
    CHECK(reason == SG_REASON_NONE || reason == SG_REASON_MALFORMED || reason == SG_REASON_CHALLENGE);
    sg_session_on_record(&world->session, &arrival, world->now_ms);
    CHECK(world->out <= OUT_OF_RECORD_MAX);
}

/* Answers some challenge from some address. The planted bug is a caller that mixes the addresses up. */
static void respond(struct world *world, uint8_t which, unsigned addr)
{
    uint8_t bytes[32];
    if (world->challenge_count == 0)
        return;
    const struct challenge *challenge = &world->challenges[which % world->challenge_count];
    struct sg_msg msg = {.type = SG_MSG_RESPONSE};
    memcpy(msg.token, challenge->token, sizeof msg.token);
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_session_message_encode(&w, &msg);
    if (challenge->addr == addr && world->now_ms - challenge->at_ms < SG_PATH_RESPONSE_MS)
        world->responded[addr] = true;
    arrive(world, PLANTED_BUG ? challenge->addr : addr, true, bytes, sg_wbuf_len(&w));
}

static void send_path_message(struct world *world, struct sg_rbuf *in, unsigned addr, bool newest)
{
    static const enum sg_msg_type types[] = {SG_MSG_PATH, SG_MSG_PROBE, SG_MSG_PROBE_ANSWER, SG_MSG_KEEPALIVE};
    uint8_t bytes[64] = {0};
    struct sg_msg msg = {.type = types[sg_rbuf_u8(in) % 4]};
    msg.path.n = sg_rbuf_u8(in);
    msg.path.choice = (uint8_t)(1 + sg_rbuf_u8(in) % 2);
    msg.path.id = sg_rbuf_u8(in);
    msg.path.size = sg_rbuf_u16(in);
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_session_message_encode(&w, &msg);
    arrive(world, addr, newest, bytes, sg_wbuf_len(&w));
}

static void take_stream(struct world *world, struct sg_rbuf *in)
{
    size_t len = sg_rbuf_u8(in);
    const uint8_t *bytes = sg_rbuf_bytes(in, len);
    struct sg_msg msg;
    if (!bytes)
        return;
    sg_session_stream_alive(&world->session, world->now_ms);
    struct sg_rbuf r = sg_rbuf_init(bytes, len);
    enum sg_role peer = world->session.role == SG_ROLE_SERVER ? SG_ROLE_CLIENT : SG_ROLE_SERVER;
    for (unsigned i = 1; sg_control_decode(&r, peer, &msg) == SG_OK; i++) {
        (void)sg_session_on_stream(&world->session, &msg, world->now_ms);
        CHECK(world->out <= i);
    }
}

/* False when the session is over. */
static bool pass_time(struct world *world, uint64_t ms)
{
    uint64_t next = sg_session_next_timeout(&world->session);
    world->now_ms += ms;
    enum sg_reason reason = sg_session_tick(&world->session, world->now_ms);
    CHECK(reason == SG_REASON_NONE || reason == SG_REASON_TIMEOUT);
    CHECK(world->out <= OUT_OF_TICK_MAX);
    CHECK(world->now_ms >= next || (world->out == 0 && reason == SG_REASON_NONE));
    if (reason == SG_REASON_TIMEOUT)
        return false;
    CHECK(sg_session_next_timeout(&world->session) > world->now_ms);
    return true;
}

static bool take_step(struct world *world, struct sg_rbuf *in)
{
    uint8_t kind = sg_rbuf_u8(in), a = sg_rbuf_u8(in), b = sg_rbuf_u8(in);
    const uint8_t *bytes = NULL;
    world->out = 0;
    switch (kind % 8) {
    case 0:
        return pass_time(world, a);
    case 1:
        return pass_time(world, (uint64_t)a << 8 | b);
    case 2:
        respond(world, a, b % ADDRS);
        return true;
    case 3:
        send_path_message(world, in, a % ADDRS, b & 1);
        return true;
    case 4:
        take_stream(world, in);
        return true;
    case 5:
        (void)sg_session_route(&world->session, 46 + ((size_t)a << 8 | b), world->now_ms);
        return true;
    case 6:
        sg_session_moved(&world->session, world->now_ms);
        return true;
    default:
        bytes = sg_rbuf_bytes(in, b);
        if (bytes && sg_rbuf_left(in) > 0)
            arrive(world, a % ADDRS, b & 1, bytes, b);
        return true;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world;
    struct sg_rbuf in = sg_rbuf_init(data, size);
    uint8_t flags = sg_rbuf_u8(&in);
    memset(&world, 0, sizeof world);
    world.kernel_max = sg_rbuf_u16(&in) * (flags & 2 ? 8u : 1u);
    world.now_ms = flags & 4 ? 1000000 : 0;
    sg_session_init(&world.session, flags & 1 ? SG_ROLE_SERVER : SG_ROLE_CLIENT, &ops, &world, world.now_ms);
    if (world.session.role == SG_ROLE_CLIENT)
        sg_session_start_path(&world.session, world.now_ms);
    bool goes_on = true;
    for (unsigned i = 0; goes_on && i < STEPS_MAX && sg_rbuf_left(&in) > 0 && sg_rbuf_ok(&in); i++) {
        goes_on = take_step(&world, &in);
        check_session(&world);
    }
    return 0;
}
