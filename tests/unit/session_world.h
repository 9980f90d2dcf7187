/*
 * A session by itself, for the tests of its own traffic: what it sends is caught in a list.
 */
#ifndef SG_TEST_SESSION_WORLD_H
#define SG_TEST_SESSION_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/datagram.h"
#include "core/session.h"

enum { T = 5000, SENT_MAX = 64, S = 1000 };

struct sent {
    bool on_udp;
    uint16_t port; /* server on UDP: where to */
    struct sg_msg msg;
    size_t record_bytes; /* as the session asked for it */
    size_t real_bytes;   /* of the record that comes of it */
};

struct world {
    struct sg_session session;
    struct sent sent[SENT_MAX];
    unsigned count;
    unsigned routes, doubts;
    size_t kernel_max;
    uint8_t next_random;
};

static inline void op_send_stream(void *ctx, const struct sg_msg *msg)
{
    struct world *world = ctx;
    assert_true(world->count < SENT_MAX);
    world->sent[world->count++] = (struct sent){.msg = *msg};
}

static inline void op_send_udp(void *ctx, const struct sg_path_addr *addr, const struct sg_msg *msg,
                               size_t record_bytes)
{
    struct world *world = ctx;
    uint8_t bytes[SG_CONTROL_SMALL_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    assert_true(world->count < SENT_MAX);
    assert_int_equal(addr != NULL, world->session.role == SG_ROLE_SERVER);
    sg_session_message_encode(&w, msg);
    assert_true(sg_wbuf_ok(&w));
    size_t real = sg_wbuf_len(&w) + SG_RECORD_OVERHEAD;
    world->sent[world->count++] = (struct sent){.on_udp = true,
                                                .port = addr ? addr->remote.port : 0,
                                                .msg = *msg,
                                                .record_bytes = record_bytes,
                                                .real_bytes = record_bytes > real ? record_bytes : real};
}

static inline size_t op_kernel_max(void *ctx, const struct sg_path_addr *addr)
{
    (void)addr;
    return ((struct world *)ctx)->kernel_max;
}

static inline void op_on_doubt(void *ctx)
{
    ((struct world *)ctx)->doubts++;
}

static inline void op_on_route(void *ctx)
{
    ((struct world *)ctx)->routes++;
}

static inline void op_random(void *ctx, uint8_t *out, size_t len)
{
    memset(out, ((struct world *)ctx)->next_random++, len);
}

static const struct sg_session_ops ops = {
    .send_stream = op_send_stream,
    .send_udp = op_send_udp,
    .kernel_max = op_kernel_max,
    .on_route = op_on_route,
    .on_doubt = op_on_doubt,
    .random = op_random,
};

static inline void start(struct world *world, enum sg_role role)
{
    *world = (struct world){.kernel_max = 1472, .next_random = 1};
    sg_session_init(&world->session, role, &ops, world, T);
    if (role == SG_ROLE_CLIENT)
        sg_session_start_path(&world->session, T);
}

static inline enum sg_reason tick(struct world *world, uint64_t now_ms)
{
    world->count = 0;
    return sg_session_tick(&world->session, now_ms);
}

static inline struct sg_path_addr addr_of(uint16_t port)
{
    return (struct sg_path_addr){.remote = {.ip = {.family = 4, .bytes = {192, 0, 2, 7}}, .port = port}};
}

/* A session message arrives in a record of that length; what is sent because of it is in world->sent. */
static inline enum sg_reason arrive_as(struct world *world, const struct sg_msg *msg, uint16_t port,
                                       size_t record_bytes, bool newest, uint64_t now_ms)
{
    uint8_t bytes[SG_RECORD_PLAINTEXT_MAX] = {0};
    struct sg_path_addr addr = addr_of(port);
    bool is_server = world->session.role == SG_ROLE_SERVER;
    struct sg_arrival arrival = {.addr = is_server ? &addr : NULL, .record_bytes = record_bytes, .newest = newest};
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_session_message_encode(&w, msg);
    assert_true(record_bytes >= sg_wbuf_len(&w) + SG_RECORD_OVERHEAD);
    world->count = 0;
    enum sg_reason reason =
        sg_session_on_message(&world->session, bytes, record_bytes - SG_RECORD_OVERHEAD, &arrival, now_ms);
    sg_session_on_record(&world->session, &arrival, now_ms);
    return reason;
}

static inline enum sg_reason arrive(struct world *world, const struct sg_msg *msg, uint16_t port, uint64_t now_ms)
{
    return arrive_as(world, msg, port, 100, true, now_ms);
}

static inline bool stream(struct world *world, const struct sg_msg *msg)
{
    world->count = 0;
    return sg_session_on_stream(&world->session, msg, T);
}

static inline struct sg_msg path_msg(enum sg_msg_type type, uint32_t n, uint8_t choice, uint32_t id, uint16_t size)
{
    return (struct sg_msg){.type = type, .path = {.n = n, .choice = choice, .id = id, .size = size}};
}

/* Takes the server through challenge and response for that address. */
static inline void validate(struct world *world, uint16_t port, uint64_t now_ms)
{
    struct sg_msg probe = path_msg(SG_MSG_PROBE, 0, SG_PATH_STREAM, 1, 0);
    assert_int_equal(arrive(world, &probe, port, now_ms), SG_REASON_NONE);
    assert_int_equal(world->count, 1);
    struct sg_msg response = world->sent[0].msg;
    assert_int_equal(response.type, SG_MSG_CHALLENGE);
    response.type = SG_MSG_RESPONSE;
    assert_int_equal(arrive(world, &response, port, now_ms), SG_REASON_NONE);
    assert_int_equal(world->count, 0);
    assert_true(world->session.server_path.validated);
    assert_int_equal(world->session.server_path.current.remote.port, port);
}

static inline void answer_client(struct world *world, uint64_t now_ms)
{
    struct sg_msg answer = path_msg(SG_MSG_PROBE_ANSWER, 0, SG_PATH_STREAM, 0, 57);
    assert_int_equal(arrive(world, &answer, 0, now_ms), SG_REASON_NONE);
}

#endif
