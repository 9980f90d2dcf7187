/* Sealing and opening: the layout, any order, nothing touched opens, nothing opens twice or elsewhere. */
#include <stdlib.h>
#include <unistd.h>

#include <sys/wait.h>

#include "record_pair.h"

enum { MANY = 256, SMALL_LEN = 40, SPACE = SMALL_LEN + SG_RECORD_OVERHEAD };

static uint8_t big[RECORD_SPACE];

static void check_layout(const struct sg_aead *aead)
{
    struct pair pair;
    start_pair(&pair, aead, &sg_limits_default);
    uint8_t first_sender[SG_RECORD_SENDER_BYTES];
    for (uint32_t n = 0; n < 3; n++) {
        uint8_t counter[8] = {0, 0, 0, 0, 0, 0, 0, (uint8_t)n};
        assert_int_equal(seal_message(&pair.sender, big, n, 10), 10 + 41);
        assert_int_equal(big[0], 0x08);
        assert_memory_equal(big + 1, channel_one, 8);
        assert_memory_equal(big + 17, counter, 8);
        if (n == 0)
            memcpy(first_sender, big + 9, 8);
        assert_memory_equal(big + 9, first_sender, 8);
    }
    stop_pair(&pair);
}

static void test_record_layout(void **state)
{
    (void)state;
    for_each_suite(check_layout);
}

static void check_sizes(const struct sg_aead *aead)
{
    static const size_t sizes[] = {0,  1,  4,   5,   15,   16,   17,   63,
                                   64, 65, 255, 256, 1200, 1472, 9000, SG_RECORD_PLAINTEXT_MAX};
    struct pair pair;
    start_pair(&pair, aead, &sg_limits_default);
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t len = seal_message(&pair.sender, big, i, sizes[i]);
        assert_int_equal(len, sizes[i] + SG_RECORD_OVERHEAD);
        assert_int_equal(open_copy(&pair.receiver, big, len, i), SG_OK);
    }
    struct sg_record record = {.bytes = big, .len = SG_RECORD_PLAINTEXT_MAX + 1};
    assert_int_equal(sg_seal_batch(&pair.sender, &record, 1), 0);
    assert_int_equal(record.err, SG_ERR_TOO_LONG);
    big[0] = SG_RECORD_INDICATOR;
    assert_int_equal(open_copy(&pair.receiver, big, SG_RECORD_MAX + 1, 0), SG_ERR_TOO_LONG);
    stop_pair(&pair);
}

static void test_record_sizes(void **state)
{
    (void)state;
    for_each_suite(check_sizes);
}

/* --- M1: any subset, in any order --- */

struct run {
    uint8_t bytes[MANY][SPACE];
    size_t len[MANY];
};

static void seal_run(struct pair *pair, struct run *run)
{
    for (uint32_t n = 0; n < MANY; n++)
        run->len[n] = seal_message(&pair->sender, run->bytes[n], n, n % (SMALL_LEN + 1));
}

static void shuffle(uint64_t *seed, uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(next_random(seed) % (i + 1)), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

static void check_any_order(const struct sg_aead *aead)
{
    static struct run run;
    /* ids change within the run, so order is mixed between them too */
    struct sg_limits limits = sg_limits_default;
    limits.records_per_sender = 50;
    struct pair pair;
    start_pair(&pair, aead, &limits);
    seal_run(&pair, &run);
    uint64_t seed = 3;
    for (unsigned round = 0; round < 40; round++) {
        uint32_t order[MANY];
        struct sg_receiver receiver;
        shuffle(&seed, order, MANY);
        start_receiver(&pair, &receiver, &limits);
        uint32_t subset = (uint32_t)(next_random(&seed) % MANY) + 1;
        for (uint32_t i = 0; i < subset; i++)
            assert_int_equal(open_copy(&receiver, run.bytes[order[i]], run.len[order[i]], order[i]), SG_OK);
        for (uint32_t i = 0; i < subset; i++)
            assert_int_equal(open_copy(&receiver, run.bytes[order[i]], run.len[order[i]], order[i]), SG_ERR_REPLAYED);
        sg_receiver_dispose(&receiver);
    }
    stop_pair(&pair);
}

static void test_record_any_subset_any_order(void **state)
{
    (void)state;
    for_each_suite(check_any_order);
}

/* --- M4: the key alone is enough --- */

static void check_isolation(const struct sg_aead *aead)
{
    static struct run run;
    struct pair pair;
    start_pair(&pair, aead, &sg_limits_default);
    seal_run(&pair, &run);
    for (uint32_t n = 0; n < MANY; n++) {
        struct sg_receiver receiver;
        start_receiver(&pair, &receiver, &sg_limits_default);
        assert_int_equal(open_copy(&receiver, run.bytes[n], run.len[n], n), SG_OK);
        sg_receiver_dispose(&receiver);

        /* And without any receiver: what the record says, and the key. */
        struct sg_aead_state state;
        uint8_t *record = run.bytes[n], expected[SMALL_LEN];
        size_t len = run.len[n] - SG_RECORD_OVERHEAD;
        assert_int_equal(sg_aead_derive(aead, pair.ctx, &state, key_one, record + 1), SG_OK);
        assert_int_equal(
            sg_aead_open(aead, pair.ctx, &state, record + 1, record, 1, record + 25, len, record + 25 + len), SG_OK);
        write_message(expected, n, len);
        assert_memory_equal(record + 25, expected, len);
        sg_aead_forget(aead, pair.ctx, &state);
    }
    stop_pair(&pair);
}

static void test_record_opens_in_isolation(void **state)
{
    (void)state;
    for_each_suite(check_isolation);
}

/* --- nothing that was touched opens --- */

static void check_touched_size(struct pair *pair, size_t size)
{
    static uint8_t record[2000], touched[2000];
    size_t len = seal_message(&pair->sender, record, 9, size);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        memcpy(touched, record, len);
        touched[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(open_copy(&pair->receiver, touched, len, 9), SG_OK);
    }
    for (size_t shorter = 0; shorter < len; shorter++)
        assert_int_equal(open_copy(&pair->receiver, record, shorter, 9),
                         shorter < SG_RECORD_OVERHEAD ? SG_ERR_TRUNCATED : SG_ERR_FORGED);
    for (size_t longer = 1; longer <= 80; longer++) {
        memcpy(touched, record, len);
        memset(touched + len, longer % 2 ? 0 : 0xff, longer);
        assert_int_equal(open_copy(&pair->receiver, touched, len + longer, 9), SG_ERR_FORGED);
    }
    /* Nothing of that moved the window or used up the counter. */
    assert_int_equal(open_copy(&pair->receiver, record, len, 9), SG_OK);
}

static void check_touched(const struct sg_aead *aead)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 46, 100, 512, 1200};
    struct pair pair;
    start_pair(&pair, aead, &sg_limits_default);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        check_touched_size(&pair, sizes[i]);
    assert_int_equal(sg_arena_in_use(pair.arena), 3); /* forged sender ids took no slot */
    stop_pair(&pair);
}

static void test_record_touched_is_refused(void **state)
{
    (void)state;
    for_each_suite(check_touched);
}

/* Which refusal each field leads to, once the sender is known and before. */
static void check_touched_reasons(const struct sg_aead *aead)
{
    static const struct {
        size_t offset;
        enum sg_err expected;
    } cases[] = {{0, SG_ERR_MALFORMED}, {1, SG_ERR_NOT_FOUND}, {8, SG_ERR_NOT_FOUND}, {9, SG_ERR_FORGED},
                 {16, SG_ERR_FORGED},   {17, SG_ERR_FORGED},   {24, SG_ERR_FORGED},   {25, SG_ERR_FORGED}};
    struct pair pair;
    start_pair(&pair, aead, &sg_limits_default);
    for (unsigned known = 0; known < 2; known++) {
        size_t len = seal_message(&pair.sender, big, known, 30);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            big[cases[i].offset] ^= 0x04;
            assert_int_equal(open_copy(&pair.receiver, big, len, 0), cases[i].expected);
            big[cases[i].offset] ^= 0x04;
        }
        assert_int_equal(open_copy(&pair.receiver, big, len, known), SG_OK);
    }
    assert_int_equal(sg_receiver_failed(&pair.receiver), 2 * 5);
    stop_pair(&pair);
}

static void test_record_touched_reasons(void **state)
{
    (void)state;
    for_each_suite(check_touched_reasons);
}

static void check_forged_is_wiped(const struct sg_aead *aead)
{
    static const uint8_t zero[200];
    struct pair pair;
    start_pair(&pair, aead, &sg_limits_default);
    for (unsigned known = 0; known < 2; known++) {
        size_t len = seal_message(&pair.sender, big, 0, sizeof zero);
        struct sg_record record = {.bytes = big, .len = len};
        big[len - 1] ^= 1;
        assert_int_equal(sg_open_batch(&pair.receiver, &record, 1), 0);
        assert_int_equal(record.err, SG_ERR_FORGED);
        assert_memory_equal(big + SG_RECORD_HEADER_BYTES, zero, sizeof zero);
        len = seal_message(&pair.sender, big, 1, 1);
        assert_int_equal(open_copy(&pair.receiver, big, len, 1), SG_OK);
    }
    stop_pair(&pair);
}

static void test_record_forged_is_wiped(void **state)
{
    (void)state;
    for_each_suite(check_forged_is_wiped);
}

/* --- nothing opens twice --- */

static void check_duplicates_in_batch(const struct sg_aead *aead)
{
    enum { COPIES = 4 };
    uint8_t bytes[COPIES][SPACE];
    struct sg_record records[COPIES];
    struct pair pair;
    start_pair(&pair, aead, &sg_limits_default);
    for (unsigned known = 0; known < 2; known++) {
        size_t len = seal_message(&pair.sender, bytes[0], known, SMALL_LEN);
        for (size_t i = 0; i < COPIES; i++) {
            memmove(bytes[i], bytes[0], len);
            records[i] = (struct sg_record){.bytes = bytes[i], .len = len};
        }
        assert_int_equal(sg_open_batch(&pair.receiver, records, COPIES), 1);
        assert_int_equal(records[0].err, SG_OK);
        for (size_t i = 1; i < COPIES; i++)
            assert_int_equal(records[i].err, SG_ERR_REPLAYED);
    }
    stop_pair(&pair);
}

static void test_record_duplicates_in_a_batch(void **state)
{
    (void)state;
    for_each_suite(check_duplicates_in_batch);
}

static void check_replay_ages(const struct sg_aead *aead)
{
    uint8_t first[SPACE], second[SPACE];
    struct pair pair;
    start_pair(&pair, aead, &sg_limits_default);
    size_t len = seal_message(&pair.sender, first, 1, SMALL_LEN);
    assert_int_equal(seal_message(&pair.sender, second, 2, SMALL_LEN), len);
    assert_int_equal(open_copy(&pair.receiver, first, len, 1), SG_OK);
    assert_int_equal(sg_sender_skip(&pair.sender, SG_REPLAY_WINDOW - 2, 0), SG_OK);
    seal_message(&pair.sender, big, 3, SMALL_LEN); /* counter 8192 */
    assert_int_equal(open_copy(&pair.receiver, big, len, 3), SG_OK);
    assert_int_equal(open_copy(&pair.receiver, first, len, 1), SG_ERR_TOO_OLD);
    assert_int_equal(open_copy(&pair.receiver, second, len, 2), SG_OK); /* late, but the oldest in the window */
    assert_int_equal(open_copy(&pair.receiver, second, len, 2), SG_ERR_REPLAYED);
    assert_int_equal(sg_receiver_missing(&pair.receiver), SG_REPLAY_WINDOW + 1 - 3);
    stop_pair(&pair);
}

static void test_record_replay_ages(void **state)
{
    (void)state;
    for_each_suite(check_replay_ages);
}

/* --- nothing opens elsewhere: the table of keys --- */

struct place {
    uint16_t suite;
    bool c2s;
    uint8_t channel; /* first byte of its id; keys differ by channel and direction */
};

static void place_key(const struct place *place, uint8_t key[static SG_KEY_BYTES], uint8_t *channel_id)
{
    memset(key, place->channel * 2 + place->c2s + 16 * place->suite, SG_KEY_BYTES);
    memset(channel_id, 0, SG_RECORD_CHANNEL_BYTES);
    channel_id[0] = place->channel;
}

static void check_places(struct pair *pair, const struct place *from, const struct place *to, bool same)
{
    uint8_t key[SG_KEY_BYTES], channel_id[SG_RECORD_CHANNEL_BYTES], bytes[SPACE];
    struct sg_sender sender;
    struct sg_receiver receiver;
    place_key(from, key, channel_id);
    assert_int_equal(sg_sender_init(&sender, pair->arena, pair->ctx, sg_aead_find(from->suite, SG_BACKEND_AUTO), key,
                                    channel_id, &sg_limits_default, random_from_seed, &pair->seed),
                     SG_OK);
    place_key(to, key, channel_id);
    assert_int_equal(sg_receiver_init(&receiver, pair->arena, pair->ctx, sg_aead_find(to->suite, SG_BACKEND_AUTO), key,
                                      channel_id, &sg_limits_default),
                     SG_OK);
    size_t len = seal_message(&sender, bytes, 5, SMALL_LEN);
    enum sg_err err = open_copy(&receiver, bytes, len, 5);
    assert_int_equal(err, same ? SG_OK : from->channel != to->channel ? SG_ERR_NOT_FOUND : SG_ERR_FORGED);
    /* An attacker may rewrite the channel id to the receiver's. */
    memcpy(bytes + SG_RECORD_CHANNEL_OFFSET, channel_id, SG_RECORD_CHANNEL_BYTES);
    assert_int_equal(open_copy(&receiver, bytes, len, 5), same ? SG_ERR_REPLAYED : SG_ERR_FORGED);
    sg_sender_dispose(&sender);
    sg_receiver_dispose(&receiver);
}

static void test_record_key_table(void **state)
{
    (void)state;
    static const struct place places[] = {{1, true, 1}, {1, false, 1}, {1, true, 2}, {1, false, 2},
                                          {2, true, 1}, {2, false, 1}, {2, true, 2}, {2, false, 2}};
    enum { PLACES = sizeof places / sizeof places[0] };
    struct pair pair;
    start_pair(&pair, sg_aead_find(SG_SUITE_XAES_256_GCM, SG_BACKEND_AUTO), &sg_limits_default);
    for (size_t from = 0; from < PLACES; from++)
        for (size_t to = 0; to < PLACES; to++)
            check_places(&pair, &places[from], &places[to], from == to);
    stop_pair(&pair);
}

/* One key, two channel ids, or two suites: even then records stay apart. */
static void test_record_same_key_elsewhere(void **state)
{
    (void)state;
    uint8_t other_id[SG_RECORD_CHANNEL_BYTES], bytes[SPACE];
    struct pair pair;
    struct sg_receiver other;
    start_pair(&pair, sg_aead_find(SG_SUITE_XAES_256_GCM, SG_BACKEND_AUTO), &sg_limits_default);
    memcpy(other_id, channel_one, sizeof other_id);
    other_id[7] ^= 1;
    size_t len = seal_message(&pair.sender, bytes, 1, SMALL_LEN);
    assert_int_equal(sg_receiver_init(&other, pair.arena, pair.ctx, pair.aead, key_one, other_id, &sg_limits_default),
                     SG_OK);
    bytes[SG_RECORD_CHANNEL_OFFSET + 7] ^= 1;
    assert_int_equal(open_copy(&other, bytes, len, 1), SG_ERR_FORGED);
    bytes[SG_RECORD_CHANNEL_OFFSET + 7] ^= 1;
    sg_receiver_dispose(&other);
    const struct sg_aead *chacha = sg_aead_find(SG_SUITE_XCHACHA20_POLY1305, SG_BACKEND_AUTO);
    assert_int_equal(sg_receiver_init(&other, pair.arena, pair.ctx, chacha, key_one, channel_one, &sg_limits_default),
                     SG_OK);
    assert_int_equal(open_copy(&other, bytes, len, 1), SG_ERR_FORGED);
    sg_receiver_dispose(&other);
    assert_int_equal(open_copy(&pair.receiver, bytes, len, 1), SG_OK);
    stop_pair(&pair);
}

/* --- back ends speak to each other --- */

static void test_record_between_back_ends(void **state)
{
    (void)state;
    const struct sg_aead *suites[COMBINATIONS_MAX];
    size_t count = list_suites(suites);
    uint8_t bytes[SPACE];
    for (size_t from = 0; from < count; from++)
        for (size_t to = 0; to < count; to++) {
            struct pair pair;
            struct sg_receiver receiver;
            if (suites[from]->id != suites[to]->id)
                continue;
            start_pair(&pair, suites[from], &sg_limits_default);
            pair.aead = suites[to];
            start_receiver(&pair, &receiver, &sg_limits_default);
            for (uint32_t n = 0; n < 50; n++) {
                size_t len = seal_message(&pair.sender, bytes, n, n % SMALL_LEN);
                assert_int_equal(open_copy(&receiver, bytes, len, n), SG_OK);
            }
            sg_receiver_dispose(&receiver);
            stop_pair(&pair);
        }
}

/* --- which record is the newest --- */

static bool open_newest(struct sg_receiver *receiver, uint8_t *bytes, size_t len)
{
    struct sg_record record = {.bytes = bytes, .len = len};
    assert_int_equal(sg_open_batch(receiver, &record, 1), 1);
    return record.newest;
}

static void test_record_newest(void **state)
{
    (void)state;
    uint8_t a[4][SPACE], b[3][SPACE], id[SG_RECORD_SENDER_BYTES];
    size_t len = 0;
    struct pair pair;
    struct sg_sender second;
    start_pair(&pair, sg_aead_find(SG_SUITE_XAES_256_GCM, SG_BACKEND_AUTO), &sg_limits_default);
    start_sender(&pair, &second, &sg_limits_default);
    for (uint32_t n = 0; n < 4; n++)
        len = seal_message(&pair.sender, a[n], n, SMALL_LEN);
    for (uint32_t n = 0; n < 3; n++)
        seal_message(&second, b[n], n, SMALL_LEN);
    assert_false(sg_receiver_newest_sender(&pair.receiver, id));
    assert_true(open_newest(&pair.receiver, a[1], len));
    assert_false(open_newest(&pair.receiver, a[0], len)); /* overtaken */
    assert_true(open_newest(&pair.receiver, a[2], len));
    assert_true(sg_receiver_newest_sender(&pair.receiver, id));
    assert_memory_equal(id, a[1] + SG_RECORD_SENDER_OFFSET, sizeof id);
    assert_true(open_newest(&pair.receiver, b[1], len));  /* another id, verified later */
    assert_false(open_newest(&pair.receiver, a[3], len)); /* highest, but of the older id */
    assert_false(open_newest(&pair.receiver, b[0], len));
    assert_true(open_newest(&pair.receiver, b[2], len));
    assert_true(sg_receiver_newest_sender(&pair.receiver, id));
    assert_memory_equal(id, b[1] + SG_RECORD_SENDER_OFFSET, sizeof id);
    sg_sender_dispose(&second);
    stop_pair(&pair);
}

/* --- forks, and what was disposed --- */

static int in_child(struct pair *pair, uint8_t *bytes, size_t len)
{
    static uint8_t space[SPACE];
    struct sg_record sealed = {.bytes = bytes, .len = len}, plain = {.bytes = space, .len = 10};
    if (sg_open_batch(&pair->receiver, &sealed, 1) != 0 || sealed.err != SG_ERR_WIPED)
        return 1;
    if (sg_seal_batch(&pair->sender, &plain, 1) != 0 || plain.err != SG_ERR_WIPED || plain.len != 10)
        return 2;
    if (sg_sender_skip(&pair->sender, 1, 0) != SG_ERR_WIPED || sg_sender_wants_renewal(&pair->sender))
        return 3;
    sg_sender_dispose(&pair->sender);
    sg_receiver_dispose(&pair->receiver);
    sg_aead_ctx_free(pair->ctx);
    sg_arena_free(pair->arena);
    return 0;
}

static void check_fork(const struct sg_aead *aead)
{
    uint8_t bytes[2][SPACE];
    struct pair pair;
    start_pair(&pair, aead, &sg_limits_default);
    size_t len = seal_message(&pair.sender, bytes[0], 0, SMALL_LEN);
    assert_int_equal(open_copy(&pair.receiver, bytes[0], len, 0), SG_OK);
    seal_message(&pair.sender, bytes[1], 1, SMALL_LEN);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(in_child(&pair, bytes[1], len));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(open_copy(&pair.receiver, bytes[1], len, 1), SG_OK);
    assert_int_equal(seal_message(&pair.sender, bytes[1], 2, SMALL_LEN), len);
    stop_pair(&pair);
}

static void test_record_forked_child_refuses(void **state)
{
    (void)state;
    for_each_suite(check_fork);
}

static void test_record_disposed_refuses(void **state)
{
    (void)state;
    uint8_t bytes[SPACE];
    struct sg_sender sender = {0};
    struct sg_receiver receiver = {0};
    struct sg_record record = {.bytes = bytes, .len = 10};
    sg_sender_dispose(&sender);
    sg_receiver_dispose(&receiver);
    assert_int_equal(sg_seal_batch(&sender, &record, 1), 0);
    assert_int_equal(record.err, SG_ERR_WIPED);
    assert_int_equal(sg_open_batch(&receiver, &record, 1), 0);
    assert_int_equal(record.err, SG_ERR_WIPED);
    assert_int_equal(sg_receiver_failed(&receiver) + sg_receiver_missing(&receiver), 0);
}

/* The keys are nowhere in the structs that the caller embeds. */
static void test_record_no_key_outside_the_arena(void **state)
{
    (void)state;
    struct pair pair;
    start_pair(&pair, sg_aead_find(SG_SUITE_XCHACHA20_POLY1305, SG_BACKEND_SODIUM), &sg_limits_default);
    seal_message(&pair.sender, big, 0, 10);
    assert_int_equal(open_copy(&pair.receiver, big, 10 + SG_RECORD_OVERHEAD, 0), SG_OK);
    assert_null(memmem(&pair.sender, sizeof pair.sender, key_one, sizeof key_one));
    assert_null(memmem(&pair.receiver, sizeof pair.receiver, key_one, sizeof key_one));
    uint8_t before[SG_ARENA_SLOT_BYTES], after[SG_ARENA_SLOT_BYTES];
    const void *slot = pair.sender.slot;
    memcpy(before, slot, sizeof before);
    sg_sender_dispose(&pair.sender);
    memcpy(after, slot, sizeof after); /* given back, still mapped */
    assert_non_null(memmem(before, sizeof before, key_one, sizeof key_one));
    assert_null(memmem(after, sizeof after, key_one, 3));
    stop_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_layout),
        cmocka_unit_test(test_record_sizes),
        cmocka_unit_test(test_record_any_subset_any_order),
        cmocka_unit_test(test_record_opens_in_isolation),
        cmocka_unit_test(test_record_touched_is_refused),
        cmocka_unit_test(test_record_touched_reasons),
        cmocka_unit_test(test_record_forged_is_wiped),
        cmocka_unit_test(test_record_duplicates_in_a_batch),
        cmocka_unit_test(test_record_replay_ages),
        cmocka_unit_test(test_record_key_table),
        cmocka_unit_test(test_record_same_key_elsewhere),
        cmocka_unit_test(test_record_between_back_ends),
        cmocka_unit_test(test_record_newest),
        cmocka_unit_test(test_record_forked_child_refuses),
        cmocka_unit_test(test_record_disposed_refuses),
        cmocka_unit_test(test_record_no_key_outside_the_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
