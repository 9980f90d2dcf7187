/* The limits of a key: sender ids, records, blocks, failed openings, slots; senders sharing a key never collide. */
#include <stdlib.h>
#include <sys/random.h>

#include "record_pair.h"

enum { LEN = 20, SPACE = LEN + SG_RECORD_OVERHEAD };

static const struct sg_aead *suite_one(void)
{
    return sg_aead_find(SG_SUITE_XAES_256_GCM, SG_BACKEND_AUTO);
}

/* --- the sender --- */

static void test_limits_defaults(void **state)
{
    (void)state;
    assert_int_equal(sg_limits_default.records_per_sender, 1 << 28);
    assert_true(sg_limits_default.blocks_per_sender == UINT64_C(1) << 35);
    assert_true(sg_limits_default.failed_soft == UINT64_C(1) << 35);
    assert_true(sg_limits_default.failed_hard == UINT64_C(1) << 36);
    assert_int_equal(sg_limits_default.max_senders, 16);
}

/* At the real limit of records, through all 16 ids, to the end of the key. */
static void test_limits_records_per_sender(void **state)
{
    (void)state;
    uint8_t bytes[SPACE], id[8], counter[8] = {0, 0, 0, 0, 0x0f, 0xff, 0xff, 0xff};
    static const uint8_t zero[8];
    struct pair pair;
    start_pair(&pair, suite_one(), &sg_limits_default);
    assert_int_equal(sg_sender_ids_drawn(&pair.sender), 0);
    assert_false(sg_sender_wants_renewal(&pair.sender));
    for (uint32_t ids = 1; ids <= SG_SENDERS_MAX; ids++) {
        size_t len = seal_message(&pair.sender, bytes, ids, LEN);
        assert_int_equal(open_copy(&pair.receiver, bytes, len, ids), SG_OK);
        assert_memory_equal(bytes + SG_RECORD_COUNTER_OFFSET, zero, 8);
        assert_int_equal(sg_sender_ids_drawn(&pair.sender), ids);
        assert_int_equal(sg_sender_wants_renewal(&pair.sender), ids > SG_SENDERS_MAX / 2);
        assert_int_equal(sg_receiver_wants_renewal(&pair.receiver), ids > SG_SENDERS_MAX / 2);
        memcpy(id, bytes + SG_RECORD_SENDER_OFFSET, 8);
        assert_int_equal(sg_sender_skip(&pair.sender, (1 << 28) - 2, 0), SG_OK);
        len = seal_message(&pair.sender, bytes, ids, LEN); /* the last record of this id */
        assert_memory_equal(bytes + SG_RECORD_SENDER_OFFSET, id, 8);
        assert_memory_equal(bytes + SG_RECORD_COUNTER_OFFSET, counter, 8);
        assert_int_equal(open_copy(&pair.receiver, bytes, len, ids), SG_OK);
    }
    assert_int_equal(seal_message(&pair.sender, bytes, 0, LEN), 0);
    assert_int_equal(seal_message(&pair.sender, bytes, 0, LEN), 0); /* and for good */
    stop_pair(&pair);
}

/* The batch that meets the end of the key: the first part is sealed, the rest keeps its plaintext for the stream. */
static void test_limits_batch_meets_the_end(void **state)
{
    (void)state;
    enum { BATCH = 8, LAST = 5 };
    uint8_t bytes[BATCH][SPACE], expected[LEN];
    struct sg_record records[BATCH];
    struct sg_limits limits = sg_limits_default;
    limits.records_per_sender = LAST;
    limits.max_senders = 1;
    struct pair pair;
    start_pair(&pair, suite_one(), &limits);
    for (uint32_t n = 0; n < BATCH; n++) {
        write_message(bytes[n] + SG_RECORD_HEADER_BYTES, n, LEN);
        records[n] = (struct sg_record){.bytes = bytes[n], .len = LEN};
    }
    assert_int_equal(sg_seal_batch(&pair.sender, records, BATCH), LAST);
    for (uint32_t n = 0; n < LAST; n++) {
        assert_int_equal(records[n].err, SG_OK);
        assert_int_equal(open_copy(&pair.receiver, bytes[n], records[n].len, n), SG_OK);
    }
    for (uint32_t n = LAST; n < BATCH; n++) {
        assert_int_equal(records[n].err, SG_ERR_KEY_LIMIT);
        assert_int_equal(records[n].len, LEN);
        write_message(expected, n, LEN);
        assert_memory_equal(bytes[n] + SG_RECORD_HEADER_BYTES, expected, LEN);
    }
    stop_pair(&pair);
}

static void test_limits_blocks_per_sender(void **state)
{
    (void)state;
    uint8_t bytes[SPACE];
    struct pair pair;
    start_pair(&pair, suite_one(), &sg_limits_default);
    /* 20 bytes are 2 blocks, and 1 for the tag: two such records fit what is left, a third does not. */
    assert_int_equal(sg_sender_skip(&pair.sender, 0, (UINT64_C(1) << 35) - 7), SG_OK);
    for (uint32_t n = 0; n < 3; n++) {
        size_t len = seal_message(&pair.sender, bytes, n, LEN);
        assert_int_equal(sg_sender_ids_drawn(&pair.sender), n < 2 ? 1 : 2);
        assert_int_equal(open_copy(&pair.receiver, bytes, len, n), SG_OK);
    }
    stop_pair(&pair);
}

/* Renewal is asked for at half, also where the maximum is 1 or odd. */
static void test_limits_renewal_of_few_senders(void **state)
{
    (void)state;
    static const struct {
        uint32_t max_senders, records_before;
    } cases[] = {{1, 50}, {2, 100}, {3, 150}, {16, 800}};
    uint8_t bytes[SPACE];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sg_limits limits = sg_limits_default;
        limits.records_per_sender = 100;
        limits.max_senders = cases[i].max_senders;
        struct pair pair;
        uint32_t sealed = 0;
        start_pair(&pair, suite_one(), &limits);
        while (!sg_sender_wants_renewal(&pair.sender) && seal_message(&pair.sender, bytes, sealed, LEN) > 0)
            sealed++;
        assert_in_range(sealed, cases[i].records_before, cases[i].records_before + 1);
        stop_pair(&pair);
    }
}

static void random_stuck(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 4, len);
}

/* Random bytes that repeat must not lead to a nonce that repeats. */
static void test_limits_stuck_random_source(void **state)
{
    (void)state;
    uint8_t bytes[SPACE];
    struct sg_limits limits = sg_limits_default;
    limits.records_per_sender = 3;
    struct pair pair;
    struct sg_sender stuck;
    start_pair(&pair, suite_one(), &limits);
    assert_int_equal(
        sg_sender_init(&stuck, pair.arena, pair.ctx, pair.aead, key_one, channel_one, &limits, random_stuck, NULL),
        SG_OK);
    for (uint32_t n = 0; n < 3; n++)
        assert_true(seal_message(&stuck, bytes, n, LEN) > 0);
    struct sg_record record = {.bytes = bytes, .len = LEN};
    assert_int_equal(sg_seal_batch(&stuck, &record, 1), 0);
    assert_int_equal(record.err, SG_ERR_CRYPTO);
    sg_sender_dispose(&stuck);
    stop_pair(&pair);
}

/* --- M5: senders that share a key --- */

static void random_from_kernel(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    assert_int_equal(getrandom(out, len, 0), (ssize_t)len);
}

static int compare_nonces(const void *a, const void *b)
{
    return memcmp(a, b, SG_RECORD_NONCE_BYTES);
}

/* Many runs under one key and channel id, several senders each, ids changing: every nonce of all of them differs. */
static void test_nonces_never_collide(void **state)
{
    (void)state;
    enum { RUNS = 500, SENDERS = 8, RECORDS = 40, PER_ID = 5, TOTAL = RUNS * SENDERS * RECORDS };
    uint8_t(*nonces)[SG_RECORD_NONCE_BYTES] = malloc((size_t)TOTAL * SG_RECORD_NONCE_BYTES), bytes[SPACE];
    assert_non_null(nonces);
    struct sg_limits limits = sg_limits_default;
    limits.records_per_sender = PER_ID;
    struct pair pair;
    size_t count = 0;
    start_pair(&pair, suite_one(), &limits);
    for (unsigned run = 0; run < RUNS; run++) {
        struct sg_sender senders[SENDERS];
        for (unsigned s = 0; s < SENDERS; s++)
            assert_int_equal(sg_sender_init(&senders[s], pair.arena, pair.ctx, pair.aead, key_one, channel_one, &limits,
                                            random_from_kernel, NULL),
                             SG_OK);
        for (unsigned i = 0; i < RECORDS * SENDERS; i++) {
            assert_true(seal_message(&senders[i % SENDERS], bytes, i, LEN) > 0);
            memcpy(nonces[count++], bytes + SG_RECORD_NONCE_OFFSET, SG_RECORD_NONCE_BYTES);
        }
        for (unsigned s = 0; s < SENDERS; s++)
            sg_sender_dispose(&senders[s]);
    }
    assert_int_equal(count, TOTAL);
    qsort(nonces, count, sizeof nonces[0], compare_nonces);
    for (size_t i = 1; i < count; i++)
        assert_memory_not_equal(nonces[i - 1], nonces[i], SG_RECORD_NONCE_BYTES);
    free(nonces);
    stop_pair(&pair);
}

/* --- the receiver --- */

/* 16 ids are taken, a 17th is dropped unopened, none is evicted for it: replays of the first stay replays. */
static void test_limits_receiver_senders(void **state)
{
    (void)state;
    uint8_t bytes[SG_SENDERS_MAX + 1][SPACE], late[SPACE];
    size_t len = 0;
    struct sg_limits one_each = sg_limits_default;
    struct pair pair;
    struct sg_sender senders[SG_SENDERS_MAX + 1];
    start_pair(&pair, suite_one(), &one_each);
    for (uint32_t n = 0; n <= SG_SENDERS_MAX; n++) {
        start_sender(&pair, &senders[n], &one_each);
        len = seal_message(&senders[n], bytes[n], n, LEN);
    }
    for (uint32_t n = 0; n < SG_SENDERS_MAX; n++) {
        assert_int_equal(open_copy(&pair.receiver, bytes[n], len, n), SG_OK);
        assert_int_equal(sg_receiver_wants_renewal(&pair.receiver), n >= SG_SENDERS_MAX / 2);
    }
    assert_int_equal(open_copy(&pair.receiver, bytes[SG_SENDERS_MAX], len, 0), SG_ERR_SENDER_LIMIT);
    assert_int_equal(sg_receiver_failed(&pair.receiver), 0); /* unopened */
    for (uint32_t n = 0; n < SG_SENDERS_MAX; n++) {
        assert_int_equal(open_copy(&pair.receiver, bytes[n], len, n), SG_ERR_REPLAYED);
        seal_message(&senders[n], late, 100 + n, LEN);
        assert_int_equal(open_copy(&pair.receiver, late, len, 100 + n), SG_OK);
    }
    for (uint32_t n = 0; n <= SG_SENDERS_MAX; n++)
        sg_sender_dispose(&senders[n]);
    stop_pair(&pair);
}

/* While a session has two channels the older one keeps its ids and gets no other; the limit can be lifted again. */
static void test_limits_receiver_is_limited_for_a_while(void **state)
{
    (void)state;
    uint8_t bytes[3][SPACE];
    size_t len = 0;
    struct pair pair;
    struct sg_sender senders[3];
    start_pair(&pair, suite_one(), &sg_limits_default);
    for (uint32_t n = 0; n < 3; n++) {
        start_sender(&pair, &senders[n], &sg_limits_default);
        len = seal_message(&senders[n], bytes[n], n, LEN);
    }
    assert_int_equal(open_copy(&pair.receiver, bytes[0], len, 0), SG_OK);
    assert_int_equal(open_copy(&pair.receiver, bytes[1], len, 1), SG_OK);
    assert_int_equal(sg_receiver_senders_seen(&pair.receiver), 2);
    sg_receiver_limit_senders(&pair.receiver, 1); /* fewer than there are: those stay */
    assert_int_equal(open_copy(&pair.receiver, bytes[2], len, 2), SG_ERR_SENDER_LIMIT);
    seal_message(&senders[1], bytes[1], 7, LEN);
    assert_int_equal(open_copy(&pair.receiver, bytes[1], len, 7), SG_OK);
    assert_int_equal(open_copy(&pair.receiver, bytes[0], len, 0), SG_ERR_REPLAYED);
    sg_receiver_limit_senders(&pair.receiver, sg_limits_default.max_senders);
    assert_int_equal(open_copy(&pair.receiver, bytes[2], len, 2), SG_OK);
    for (uint32_t n = 0; n < 3; n++)
        sg_sender_dispose(&senders[n]);
    stop_pair(&pair);
}

static void test_limits_failed_openings(void **state)
{
    (void)state;
    uint8_t good[SPACE] = {0}, bad[SPACE];
    struct pair pair;
    start_pair(&pair, suite_one(), &sg_limits_default);
    size_t len = seal_message(&pair.sender, good, 1, LEN);
    memcpy(bad, good, len);
    bad[len - 1] ^= 1;
    sg_receiver_skip_failed(&pair.receiver, (UINT64_C(1) << 35) - 1);
    assert_false(sg_receiver_wants_renewal(&pair.receiver));
    assert_int_equal(open_copy(&pair.receiver, bad, len, 1), SG_ERR_FORGED);
    assert_true(sg_receiver_wants_renewal(&pair.receiver));
    sg_receiver_skip_failed(&pair.receiver, (UINT64_C(1) << 35) - 1);
    assert_int_equal(open_copy(&pair.receiver, good, len, 1), SG_OK);
    assert_int_equal(open_copy(&pair.receiver, bad, len, 1), SG_ERR_REPLAYED); /* not opened, not counted */
    seal_message(&pair.sender, good, 2, LEN);
    memcpy(bad, good, len);
    bad[len - 1] ^= 1;
    assert_int_equal(open_copy(&pair.receiver, bad, len, 2), SG_ERR_FORGED);
    assert_true(sg_receiver_failed(&pair.receiver) == UINT64_C(1) << 36);
    assert_int_equal(open_copy(&pair.receiver, good, len, 2), SG_ERR_KEY_LIMIT);
    stop_pair(&pair);
}

/* Junk under many sender ids takes no slot and makes no window. */
static void test_limits_junk_takes_nothing(void **state)
{
    (void)state;
    uint8_t bytes[SPACE], junk[SPACE];
    uint64_t seed = 9;
    struct pair pair;
    start_pair(&pair, suite_one(), &sg_limits_default);
    size_t len = seal_message(&pair.sender, bytes, 1, LEN), before = sg_arena_in_use(pair.arena);
    for (unsigned i = 0; i < 2000; i++) {
        memcpy(junk, bytes, len);
        fill_random(&seed, junk + SG_RECORD_SENDER_OFFSET, len - SG_RECORD_SENDER_OFFSET);
        assert_int_equal(open_copy(&pair.receiver, junk, len, 0), SG_ERR_FORGED);
    }
    assert_int_equal(sg_arena_in_use(pair.arena), before);
    assert_int_equal(open_copy(&pair.receiver, bytes, len, 1), SG_OK);
    stop_pair(&pair);
}

/* The arena has no slot left: refused as if by the limit, and nothing of it can be read; later there is room again. */
static void test_limits_arena_full(void **state)
{
    (void)state;
    static const uint8_t zero[LEN];
    uint8_t bytes[SPACE], copy[SPACE];
    void *taken[ARENA_SLOTS];
    size_t count = 0;
    struct pair pair;
    struct sg_sender sender;
    start_pair(&pair, suite_one(), &sg_limits_default);
    size_t len = seal_message(&pair.sender, bytes, 1, LEN);
    while ((taken[count] = sg_arena_take(pair.arena)))
        count++;
    memcpy(copy, bytes, len);
    struct sg_record record = {.bytes = copy, .len = len};
    assert_int_equal(sg_open_batch(&pair.receiver, &record, 1), 0);
    assert_int_equal(record.err, SG_ERR_SENDER_LIMIT);
    assert_memory_equal(copy + SG_RECORD_HEADER_BYTES, zero, sizeof zero);
    assert_int_equal(sg_sender_init(&sender, pair.arena, pair.ctx, pair.aead, key_one, channel_one, &sg_limits_default,
                                    random_from_seed, &pair.seed),
                     SG_ERR_FULL);
    assert_null(sender.slot);
    while (count > 0)
        sg_arena_give(pair.arena, taken[--count]);
    assert_int_equal(open_copy(&pair.receiver, bytes, len, 1), SG_OK);
    stop_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_defaults),
        cmocka_unit_test(test_limits_records_per_sender),
        cmocka_unit_test(test_limits_batch_meets_the_end),
        cmocka_unit_test(test_limits_blocks_per_sender),
        cmocka_unit_test(test_limits_renewal_of_few_senders),
        cmocka_unit_test(test_limits_stuck_random_source),
        cmocka_unit_test(test_nonces_never_collide),
        cmocka_unit_test(test_limits_receiver_senders),
        cmocka_unit_test(test_limits_receiver_is_limited_for_a_while),
        cmocka_unit_test(test_limits_failed_openings),
        cmocka_unit_test(test_limits_junk_takes_nothing),
        cmocka_unit_test(test_limits_arena_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
