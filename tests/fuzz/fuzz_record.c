/*
 * Sealing and opening: the input is a list of steps. Records are sealed, arrive, arrive again, damaged or made up,
 * and counters jump. A model that knows every sealed byte and a plain list of what opened tells for each arrival what
 * has to come of it.
 */
#include <string.h>

#include "check.h"
#include "core/arena.h"
#include "core/rbuf.h"
#include "core/record.h"

enum { RECORDS_MAX = 96, DATA_MAX = 64, ROOM = SG_RECORD_OVERHEAD + DATA_MAX, STEPS_MAX = 512, SENDERS = 4 };

struct sealed {
    uint8_t bytes[ROOM];
    uint8_t data[DATA_MAX];
    size_t len;
    uint64_t counter;
    unsigned sender; /* which of the ids that were drawn */
    bool opened;
};

struct model {
    struct sg_sender sender;
    struct sg_receiver receiver;
    struct sealed records[RECORDS_MAX];
    unsigned count;
    bool seen[SENDERS + 1];
    uint64_t highest[SENDERS + 1];
    uint64_t forged;
    uint8_t next_random;
};

static const uint8_t channel_id[SG_RECORD_CHANNEL_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};
static struct sg_arena *arena;
static struct sg_aead_ctx *ctx;

static void count_up(void *random_ctx, uint8_t *out, size_t len)
{
    memset(out, ++*(uint8_t *)random_ctx, len);
}

/* A key that follows from the whole input (FNV-1a), so that no input can hold a record that was sealed for another. */
static void make_key(const uint8_t *data, size_t size, uint8_t key[static SG_KEY_BYTES])
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * UINT64_C(0x100000001b3);
    memset(key, 42, SG_KEY_BYTES);
    memcpy(key, &sum, sizeof sum);
}

static void start(struct model *model, uint16_t suite, const uint8_t key[static SG_KEY_BYTES])
{
    bool locked = false;
    struct sg_limits limits = sg_limits_default;
    const struct sg_aead *aead = sg_aead_find(suite, SG_BACKEND_AUTO);
    limits.max_senders = SENDERS;
    limits.records_per_sender = 60000;
    if (!arena)
        arena = sg_arena_new(sg_arena_slots(1, SENDERS), &locked);
    if (!ctx)
        ctx = sg_aead_ctx_new();
    CHECK(arena && ctx && aead);
    memset(model, 0, sizeof *model);
    CHECK(sg_sender_init(&model->sender, arena, ctx, aead, key, channel_id, &limits, count_up, &model->next_random) ==
          SG_OK);
    CHECK(sg_receiver_init(&model->receiver, arena, ctx, aead, key, channel_id, &limits) == SG_OK);
}

static void seal(struct model *model, uint8_t len, uint8_t fill)
{
    if (model->count == RECORDS_MAX)
        return;
    struct sealed *made = &model->records[model->count];
    struct sg_record record = {.bytes = made->bytes, .len = len % (DATA_MAX + 1)};
    memset(made->data, fill, record.len);
    memcpy(made->bytes + SG_RECORD_HEADER_BYTES, made->data, record.len);
    if (sg_seal_batch(&model->sender, &record, 1) != 1) {
        CHECK(record.err == SG_ERR_KEY_LIMIT && sg_sender_ids_drawn(&model->sender) == SENDERS);
        return;
    }
    CHECK(record.len == len % (DATA_MAX + 1) + SG_RECORD_OVERHEAD);
    struct sg_rbuf r = sg_rbuf_init(made->bytes + SG_RECORD_COUNTER_OFFSET, SG_RECORD_COUNTER_BYTES);
    made->counter = sg_rbuf_u64(&r);
    made->sender = sg_sender_ids_drawn(&model->sender);
    made->len = record.len;
    for (unsigned i = 0; i < model->count; i++) /* no nonce twice */
        CHECK(memcmp(model->records[i].bytes + SG_RECORD_NONCE_OFFSET, made->bytes + SG_RECORD_NONCE_OFFSET,
                     SG_RECORD_NONCE_BYTES) != 0);
    model->count++;
}

/* Opens a copy of the bytes. The planted bug is a receiver that takes one sort of replay for new. */
static enum sg_err open_copy(struct model *model, const uint8_t *bytes, size_t len, struct sg_record *record)
{
    static uint8_t copy[512];
    CHECK(len <= sizeof copy);
    memcpy(copy, bytes, len);
    *record = (struct sg_record){.bytes = copy, .len = len};
    size_t opened = sg_open_batch(&model->receiver, record, 1);
    CHECK(opened == (record->err == SG_OK));
    if (PLANTED_BUG && record->err == SG_ERR_REPLAYED && sg_sender_ids_drawn(&model->sender) > 1)
        return SG_OK;
    return record->err;
}

static enum sg_err expect_whole(const struct model *model, const struct sealed *sealed)
{
    uint64_t highest = model->highest[sealed->sender];
    if (!model->seen[sealed->sender])
        return SG_OK;
    if (sealed->counter + SG_REPLAY_WINDOW <= highest)
        return SG_ERR_TOO_OLD;
    return sealed->opened ? SG_ERR_REPLAYED : SG_OK;
}

static void arrive_whole(struct model *model, uint8_t which)
{
    struct sg_record record;
    if (model->count == 0)
        return;
    struct sealed *sealed = &model->records[which % model->count];
    enum sg_err expected = expect_whole(model, sealed);
    CHECK(open_copy(model, sealed->bytes, sealed->len, &record) == expected);
    if (expected != SG_OK)
        return;
    CHECK(record.len == sealed->len - SG_RECORD_OVERHEAD);
    CHECK(memcmp(record.bytes + SG_RECORD_HEADER_BYTES, sealed->data, record.len) == 0);
    sealed->opened = true;
    if (!model->seen[sealed->sender] || sealed->counter > model->highest[sealed->sender])
        model->highest[sealed->sender] = sealed->counter;
    else
        CHECK(!record.newest);
    model->seen[sealed->sender] = true;
}

static void check_refused(struct model *model, const uint8_t *bytes, size_t len)
{
    struct sg_record record;
    CHECK(open_copy(model, bytes, len, &record) != SG_OK);
    model->forged += record.err == SG_ERR_FORGED;
    CHECK(sg_receiver_failed(&model->receiver) == model->forged);
}

static void arrive_damaged(struct model *model, uint8_t which, uint8_t where, uint8_t change)
{
    uint8_t bytes[ROOM];
    if (model->count == 0)
        return;
    const struct sealed *sealed = &model->records[which % model->count];
    memcpy(bytes, sealed->bytes, sealed->len);
    if (change == 0) {
        check_refused(model, bytes, where % sealed->len);
        return;
    }
    bytes[where % sealed->len] ^= change;
    check_refused(model, bytes, sealed->len);
}

static void arrive_made_up(struct model *model, struct sg_rbuf *in)
{
    size_t len = sg_rbuf_u8(in);
    const uint8_t *bytes = sg_rbuf_bytes(in, len);
    if (!bytes)
        return;
    for (unsigned i = 0; i < model->count; i++)
        if (len == model->records[i].len && memcmp(bytes, model->records[i].bytes, len) == 0)
            return;
    check_refused(model, bytes, len);
}

static void take_step(struct model *model, struct sg_rbuf *in)
{
    uint8_t kind = sg_rbuf_u8(in), a = sg_rbuf_u8(in), b = sg_rbuf_u8(in), c = sg_rbuf_u8(in);
    switch (kind % 5) {
    case 0:
        seal(model, a, b);
        return;
    case 1:
        arrive_whole(model, a);
        return;
    case 2:
        arrive_damaged(model, a, b, c);
        return;
    case 3:
        arrive_made_up(model, in);
        return;
    default: {
        enum sg_err err = sg_sender_skip(&model->sender, (uint64_t)a << 8 | b, c);
        CHECK(err == SG_OK || err == SG_ERR_KEY_LIMIT);
    }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    uint8_t key[SG_KEY_BYTES];
    struct sg_rbuf in = sg_rbuf_init(data, size);
    make_key(data, size, key);
    start(&model, sg_rbuf_u8(&in) & 1 ? SG_SUITE_XAES_256_GCM : SG_SUITE_XCHACHA20_POLY1305, key);
    for (unsigned i = 0; i < STEPS_MAX && sg_rbuf_left(&in) > 0 && sg_rbuf_ok(&in); i++)
        take_step(&model, &in);
    sg_sender_dispose(&model.sender);
    sg_receiver_dispose(&model.receiver);
    CHECK(sg_arena_in_use(arena) == 0);
    return 0;
}
