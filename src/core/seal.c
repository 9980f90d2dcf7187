/*
 * The sending data path: sender id and counter make the nonce, the AEAD does the rest. A counter is
 * spent before the AEAD sees it, so that whatever fails afterwards, no nonce is used twice.
 */
#include <assert.h>
#include <string.h>

#include "core/record.h"
#include "core/wbuf.h"

/* Everything secret or unrepeatable of a sender. */
struct sg_sender_slot {
    struct sg_arena_mark mark;
    uint32_t ids_drawn;
    uint64_t counter; /* of the next record */
    uint64_t blocks;  /* used under the present sender id */
    uint8_t key[SG_KEY_BYTES];
    uint8_t channel_id[SG_RECORD_CHANNEL_BYTES];
    uint8_t ids[SG_SENDERS_MAX][SG_RECORD_SENDER_BYTES]; /* the last drawn is the present one */
    struct sg_aead_state state;
};

static_assert(sizeof(struct sg_sender_slot) <= SG_ARENA_SLOT_BYTES, "a sender fits a slot");

const struct sg_limits sg_limits_default = SG_LIMITS_DEFAULT;

enum sg_err sg_sender_init(struct sg_sender *sender, struct sg_arena *arena, struct sg_aead_ctx *ctx,
                           const struct sg_aead *aead, const uint8_t key[static SG_KEY_BYTES],
                           const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES], const struct sg_limits *limits,
                           sg_random_fn *random, void *random_ctx)
{
    assert(limits->max_senders >= 1 && limits->max_senders <= SG_SENDERS_MAX);
    memset(sender, 0, sizeof *sender);
    struct sg_sender_slot *slot = sg_arena_take(arena);
    if (!slot)
        return SG_ERR_FULL;
    memcpy(slot->key, key, sizeof slot->key);
    memcpy(slot->channel_id, channel_id, sizeof slot->channel_id);
    *sender = (struct sg_sender){.arena = arena,
                                 .ctx = ctx,
                                 .aead = aead,
                                 .limits = *limits,
                                 .random = random,
                                 .random_ctx = random_ctx,
                                 .slot = slot};
    return SG_OK;
}

void sg_sender_dispose(struct sg_sender *sender)
{
    if (sender->slot) {
        sg_aead_forget(sender->aead, sender->ctx, &sender->slot->state);
        sg_arena_give(sender->arena, sender->slot);
    }
    memset(sender, 0, sizeof *sender);
}

/* A random id never seen before, and the subkey for it. Equal ids under one key would repeat
 * nonces: 64 random bits make that unlikely, a broken random source does not. */
static enum sg_err draw_sender_id(struct sg_sender *sender)
{
    struct sg_sender_slot *slot = sender->slot;
    if (slot->ids_drawn >= sender->limits.max_senders)
        return SG_ERR_KEY_LIMIT;
    uint8_t nonce[SG_RECORD_CHANNEL_BYTES + SG_RECORD_SENDER_BYTES];
    uint8_t *id = slot->ids[slot->ids_drawn];
    sender->random(sender->random_ctx, id, SG_RECORD_SENDER_BYTES);
    for (uint32_t i = 0; i < slot->ids_drawn; i++)
        if (memcmp(slot->ids[i], id, SG_RECORD_SENDER_BYTES) == 0)
            return SG_ERR_CRYPTO;
    memcpy(nonce, slot->channel_id, SG_RECORD_CHANNEL_BYTES);
    memcpy(nonce + SG_RECORD_CHANNEL_BYTES, id, SG_RECORD_SENDER_BYTES);
    sg_aead_forget(sender->aead, sender->ctx, &slot->state);
    enum sg_err err = sg_aead_derive(sender->aead, sender->ctx, &slot->state, slot->key, nonce);
    if (err != SG_OK)
        return err;
    slot->ids_drawn++;
    slot->counter = 0;
    slot->blocks = 0;
    return SG_OK;
}

/* Cipher blocks that a record costs: those of the plaintext, and one for the tag. */
static uint64_t count_blocks(size_t len)
{
    return (len + 15) / 16 + 1;
}

/* Takes the next counter for so many blocks, under a fresh sender id where the present one is used
 * up. */
static enum sg_err spend_counter(struct sg_sender *sender, uint64_t blocks, uint64_t *counter)
{
    struct sg_sender_slot *slot = sender->slot;
    bool is_used_up =
        slot->counter >= sender->limits.records_per_sender || slot->blocks + blocks > sender->limits.blocks_per_sender;
    if (slot->ids_drawn == 0 || is_used_up) {
        enum sg_err err = draw_sender_id(sender);
        if (err != SG_OK)
            return err;
    }
    *counter = slot->counter++;
    slot->blocks += blocks;
    return SG_OK;
}

static void write_header(const struct sg_sender_slot *slot, uint64_t counter, uint8_t *out)
{
    struct sg_wbuf w = sg_wbuf_init(out + SG_RECORD_COUNTER_OFFSET, SG_RECORD_COUNTER_BYTES);
    out[0] = SG_RECORD_INDICATOR;
    memcpy(out + SG_RECORD_CHANNEL_OFFSET, slot->channel_id, SG_RECORD_CHANNEL_BYTES);
    memcpy(out + SG_RECORD_SENDER_OFFSET, slot->ids[slot->ids_drawn - 1], SG_RECORD_SENDER_BYTES);
    sg_wbuf_u64(&w, counter);
}

static enum sg_err seal_record(struct sg_sender *sender, struct sg_record *record)
{
    uint64_t counter = 0;
    uint8_t *plaintext = record->bytes + SG_RECORD_HEADER_BYTES;
    if (record->len > SG_RECORD_PLAINTEXT_MAX)
        return SG_ERR_TOO_LONG;
    enum sg_err err = spend_counter(sender, count_blocks(record->len), &counter);
    if (err != SG_OK)
        return err;
    write_header(sender->slot, counter, record->bytes);
    err = sg_aead_seal(sender->aead, sender->ctx, &sender->slot->state, record->bytes + SG_RECORD_NONCE_OFFSET,
                       record->bytes, SG_RECORD_AAD_BYTES, plaintext, record->len, plaintext + record->len);
    record->len = err == SG_OK ? record->len + SG_RECORD_OVERHEAD : 0;
    return err;
}

size_t sg_seal_batch(struct sg_sender *sender, struct sg_record *records, size_t count)
{
    size_t sealed = 0;
    enum sg_err err = sg_arena_is_alive(sender->slot) ? SG_OK : SG_ERR_WIPED;
    while (err == SG_OK && sealed < count) {
        err = seal_record(sender, &records[sealed]);
        if (err == SG_OK)
            records[sealed++].err = SG_OK;
    }
    for (size_t i = sealed; i < count; i++)
        records[i].err = err;
    return sealed;
}

bool sg_sender_wants_renewal(const struct sg_sender *sender)
{
    const struct sg_sender_slot *slot = sender->slot;
    if (!sg_arena_is_alive(slot) || slot->ids_drawn == 0)
        return false;
    /* Counted in halves of an id, so that it works for a maximum of 1 too. */
    bool is_half_used =
        slot->counter >= sender->limits.records_per_sender / 2 || slot->blocks >= sender->limits.blocks_per_sender / 2;
    return 2 * (slot->ids_drawn - 1) + is_half_used >= sender->limits.max_senders;
}

uint32_t sg_sender_ids_drawn(const struct sg_sender *sender)
{
    return sg_arena_is_alive(sender->slot) ? sender->slot->ids_drawn : 0;
}

enum sg_err sg_sender_skip(struct sg_sender *sender, uint64_t records, uint64_t blocks)
{
    struct sg_sender_slot *slot = sender->slot;
    if (!sg_arena_is_alive(slot))
        return SG_ERR_WIPED;
    if (slot->ids_drawn == 0) {
        enum sg_err err = draw_sender_id(sender);
        if (err != SG_OK)
            return err;
    }
    uint64_t records_left = sender->limits.records_per_sender - slot->counter;
    uint64_t blocks_left = sender->limits.blocks_per_sender - slot->blocks;
    slot->counter += records < records_left ? records : records_left;
    slot->blocks += blocks < blocks_left ? blocks : blocks_left;
    return SG_OK;
}
