/*
 * tests/vectors/records.json, which the second implementation of docs/protocol.md made: its records open here and are
 * sealed to the same bytes, and what a receiver must refuse is refused for the same reason, on every back end.
 */
#include <stdlib.h>

#include <jansson.h>

#include "core/arena.h"
#include "core/detect.h"
#include "core/keys.h"
#include "core/reason.h"
#include "core/record.h"
#include "record_util.h"

enum { ARENA_SLOTS = 8, RECORDS = 28, REFUSED = 42 };

static struct sg_arena *arena;
static struct sg_aead_ctx *ctx;
static json_t *root;

static int set_up(void **state)
{
    (void)state;
    bool locked = false;
    arena = sg_arena_new(ARENA_SLOTS, &locked);
    ctx = sg_aead_ctx_new();
    root = json_load_file(SG_SOURCE_ROOT "/tests/vectors/records.json", 0, NULL);
    return arena && ctx && root ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(root);
    sg_aead_ctx_free(ctx);
    sg_arena_free(arena);
    return 0;
}

static const char *text(const json_t *entry, const char *name)
{
    const char *value = json_string_value(json_object_get(entry, name));
    assert_non_null(value);
    return value;
}

static void field(const json_t *entry, const char *name, uint8_t *out, size_t len)
{
    assert_int_equal(read_hex(text(entry, name), out, len), len);
}

/* What both kinds of entries have. */
struct vector {
    const json_t *entry;
    const struct sg_aead *aead;
    uint8_t key[SG_KEY_BYTES], channel[SG_RECORD_CHANNEL_BYTES];
    uint8_t record[SG_RECORD_MAX];
    size_t len;
};

/* Derives the key from the secret, which is the file's own way to it. */
static void read_vector(struct vector *vector, const json_t *entry, const struct sg_aead *aead)
{
    uint8_t secret[SG_KEY_BYTES];
    struct sg_direction_keys keys;
    vector->entry = entry;
    vector->aead = aead;
    field(entry, "secret", secret, sizeof secret);
    field(entry, "key", vector->key, sizeof vector->key);
    field(entry, "channel", vector->channel, sizeof vector->channel);
    vector->len = read_hex(text(entry, "record"), vector->record, sizeof vector->record);
    assert_int_equal(sg_keys_derive(secret, &keys), SG_OK);
    const uint8_t *derived = strcmp(text(entry, "direction"), "c2s") == 0 ? keys.c2s : keys.s2c;
    assert_memory_equal(derived, vector->key, sizeof vector->key);
}

/* Opens a copy, twice if told; the last result. */
static struct sg_record open_vector(const struct vector *vector, uint8_t *bytes, bool twice)
{
    struct sg_receiver receiver;
    struct sg_record record = {.bytes = bytes};
    assert_int_equal(
        sg_receiver_init(&receiver, arena, ctx, vector->aead, vector->key, vector->channel, &sg_limits_default), SG_OK);
    for (int i = 0; i <= twice; i++) {
        memcpy(bytes, vector->record, vector->len);
        record.len = vector->len;
        size_t opened = sg_open_batch(&receiver, &record, 1);
        assert_int_equal(opened, record.err == SG_OK);
    }
    sg_receiver_dispose(&receiver);
    return record;
}

/* sg_random_fn: the sender id of the vector. */
static void give_sender_id(void *entry, uint8_t *out, size_t len)
{
    field(entry, "sender_id", out, len);
}

/* Seals the plaintext in bytes; a counter that no sender reaches is left to the receiver's test. */
static void seal_vector(const struct vector *vector, uint8_t *bytes, size_t len, uint64_t counter)
{
    struct sg_limits limits = sg_limits_default;
    struct sg_sender sender;
    struct sg_record record = {.bytes = bytes, .len = len};
    if (counter == UINT64_MAX)
        return;
    limits.records_per_sender = counter + 1;
    assert_int_equal(sg_sender_init(&sender, arena, ctx, vector->aead, vector->key, vector->channel, &limits,
                                    give_sender_id, (void *)(uintptr_t)vector->entry),
                     SG_OK);
    assert_int_equal(sg_sender_skip(&sender, counter, 0), SG_OK);
    assert_int_equal(sg_seal_batch(&sender, &record, 1), 1);
    assert_int_equal(record.len, vector->len);
    assert_memory_equal(bytes, vector->record, vector->len);
    sg_sender_dispose(&sender);
}

static void check_record(const struct vector *vector)
{
    static uint8_t plaintext[SG_RECORD_MAX], bytes[SG_RECORD_MAX];
    uint8_t digits[SG_RECORD_COUNTER_BYTES];
    uint64_t counter = 0;
    size_t len = read_hex(text(vector->entry, "plaintext"), plaintext, sizeof plaintext);
    field(vector->entry, "counter", digits, sizeof digits);
    for (size_t i = 0; i < sizeof digits; i++)
        counter = counter << 8 | digits[i];

    struct sg_record record = open_vector(vector, bytes, false);
    assert_int_equal(record.err, SG_OK);
    assert_int_equal(record.len, len);
    assert_memory_equal(bytes + SG_RECORD_HEADER_BYTES, plaintext, len);
    seal_vector(vector, bytes, len, counter);
    assert_int_equal(open_vector(vector, bytes, true).err, SG_ERR_REPLAYED);
}

static void check_refused(const struct vector *vector)
{
    static uint8_t bytes[SG_RECORD_MAX];
    struct sg_record record = open_vector(vector, bytes, false);
    enum sg_reason reason = sg_reason_of_open(record.err);
    assert_int_not_equal(record.err, SG_OK);
    if (sg_detect(vector->record, vector->len) != SG_DETECT_SEALED)
        reason = SG_REASON_JUNK; /* a receiver asks the detector first */
    assert_string_equal(sg_reason_name(reason), text(vector->entry, "reason"));
}

/* Runs check for each entry on each back end of its suite. */
static void for_each_vector(const char *list, unsigned expected, void (*check)(const struct vector *vector))
{
    static struct vector vector;
    const struct sg_aead *suites[COMBINATIONS_MAX];
    size_t suite_count = list_suites(suites), index = 0;
    unsigned count = 0;
    json_t *entry = NULL;
    json_array_foreach(json_object_get(root, list), index, entry)
    {
        count++;
        for (size_t i = 0; i < suite_count; i++) {
            if (suites[i]->id != json_integer_value(json_object_get(entry, "suite")))
                continue;
            read_vector(&vector, entry, suites[i]);
            check(&vector);
        }
    }
    assert_int_equal(count, expected);
    assert_int_equal(sg_arena_in_use(arena), 0);
}

static void test_records_open_and_are_sealed_alike(void **state)
{
    (void)state;
    for_each_vector("records", RECORDS, check_record);
}

static void test_what_must_not_open_is_refused_with_its_reason(void **state)
{
    (void)state;
    for_each_vector("refused", REFUSED, check_refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_open_and_are_sealed_alike),
        cmocka_unit_test(test_what_must_not_open_is_refused_with_its_reason),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
