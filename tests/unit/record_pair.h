/* A sender and a receiver of one direction key for the record tests, with their context and arena. */
#ifndef SG_TESTS_RECORD_PAIR_H
#define SG_TESTS_RECORD_PAIR_H

#include "core/record.h"
#include "record_util.h"

enum { ARENA_SLOTS = 200, RECORD_SPACE = SG_RECORD_MAX + 100 };

static const uint8_t channel_one[SG_RECORD_CHANNEL_BYTES] = {0xc0, 1, 2, 3, 4, 5, 6, 7};
static const uint8_t key_one[SG_KEY_BYTES] = {0x11, 0x22, 0x33};

struct pair {
    struct sg_arena *arena;
    struct sg_aead_ctx *ctx;
    const struct sg_aead *aead;
    uint64_t seed;
    struct sg_sender sender;
    struct sg_receiver receiver;
};

/* sg_random_fn: from a seed, so that every run is the same. */
static inline void random_from_seed(void *seed, uint8_t *out, size_t len)
{
    fill_random(seed, out, len);
}

static inline void start_sender(struct pair *pair, struct sg_sender *sender, const struct sg_limits *limits)
{
    assert_int_equal(sg_sender_init(sender, pair->arena, pair->ctx, pair->aead, key_one, channel_one, limits,
                                    random_from_seed, &pair->seed),
                     SG_OK);
}

static inline void start_receiver(struct pair *pair, struct sg_receiver *receiver, const struct sg_limits *limits)
{
    assert_int_equal(sg_receiver_init(receiver, pair->arena, pair->ctx, pair->aead, key_one, channel_one, limits),
                     SG_OK);
}

static inline void start_pair(struct pair *pair, const struct sg_aead *aead, const struct sg_limits *limits)
{
    bool locked = false;
    memset(pair, 0, sizeof *pair);
    pair->arena = sg_arena_new(ARENA_SLOTS, &locked);
    pair->ctx = sg_aead_ctx_new();
    pair->aead = aead;
    pair->seed = 1;
    assert_true(pair->arena && pair->ctx);
    start_sender(pair, &pair->sender, limits);
    start_receiver(pair, &pair->receiver, limits);
}

static inline void stop_pair(struct pair *pair)
{
    sg_sender_dispose(&pair->sender);
    sg_receiver_dispose(&pair->receiver);
    assert_int_equal(sg_arena_in_use(pair->arena), 0);
    sg_aead_ctx_free(pair->ctx);
    sg_arena_free(pair->arena);
}

/* Runs a test body once for each suite on each back end. */
static inline void for_each_suite(void (*body)(const struct sg_aead *aead))
{
    const struct sg_aead *suites[COMBINATIONS_MAX];
    size_t count = list_suites(suites);
    assert_true(count >= 3);
    for (size_t i = 0; i < count; i++)
        body(suites[i]);
}

/* The plaintext of message number n: its number, then bytes that depend on it. */
static inline void write_message(uint8_t *out, uint32_t n, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(i < 4 ? n >> (8 * i) : n * 7 + i);
}

/* Seals message n of len bytes into bytes; returns the record's length, 0 when it was not sealed. */
static inline size_t seal_message(struct sg_sender *sender, uint8_t *bytes, uint32_t n, size_t len)
{
    struct sg_record record = {.bytes = bytes, .len = len};
    write_message(bytes + SG_RECORD_HEADER_BYTES, n, len);
    return sg_seal_batch(sender, &record, 1) == 1 ? record.len : 0;
}

/* Opens a copy, so that the record can be used again. If it opens, it must be message n. */
static inline enum sg_err open_copy(struct sg_receiver *receiver, const uint8_t *bytes, size_t len, uint32_t n)
{
    static uint8_t copy[RECORD_SPACE];
    static uint8_t expected[RECORD_SPACE];
    memcpy(copy, bytes, len);
    struct sg_record record = {.bytes = copy, .len = len};
    size_t opened = sg_open_batch(receiver, &record, 1);
    assert_int_equal(opened, record.err == SG_OK);
    if (record.err == SG_OK) {
        assert_int_equal(record.len, len - SG_RECORD_OVERHEAD);
        write_message(expected, n, record.len);
        assert_memory_equal(copy + SG_RECORD_HEADER_BYTES, expected, record.len);
    }
    return record.err;
}

#endif
