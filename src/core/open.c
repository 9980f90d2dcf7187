/*
 * The receiving data path: length, channel, window (read), open, window (move). What an unverified
 * record can do here is cost one opening and raise one count: no slot is taken, no window made or
 * moved before the tag verified.
 */
#include <assert.h>
#include <string.h>

#include <sodium.h>

#include "core/rbuf.h"
#include "core/record.h"

/* One sender id of the peer, in a slot of its own from its first verified record to the end of the
 * key. */
struct sender_window {
    struct sg_arena_mark mark;
    uint64_t id; /* as load_id gives it */
    uint64_t opened;
    struct sg_aead_state state;
    struct sg_replay replay;
};

struct sg_receiver_slot {
    struct sg_arena_mark mark;
    uint32_t sender_count;
    uint32_t senders_most; /* that may be admitted now */
    uint32_t last;         /* where the last record's sender was found */
    uint64_t failed;
    uint8_t key[SG_KEY_BYTES];
    uint64_t channel_id;
    struct sender_window *senders[SG_SENDERS_MAX]; /* in the order of their first verified records */
    /* A sender id that nothing verified of yet: its subkey, kept for its next record. */
    bool has_candidate;
    uint64_t candidate_id;
    struct sg_aead_state candidate;
};

/* Ids as integers in the order of this machine: only ever compared, and copied back. */
static uint64_t load_id(const uint8_t *bytes)
{
    uint64_t id = 0;
    memcpy(&id, bytes, sizeof id);
    return id;
}

static_assert(SG_RECORD_CHANNEL_BYTES == sizeof(uint64_t) && SG_RECORD_SENDER_BYTES == sizeof(uint64_t),
              "an id is one integer");
static_assert(sizeof(struct sender_window) <= SG_ARENA_SLOT_BYTES, "a sender id's window and state fit a slot");
static_assert(sizeof(struct sg_receiver_slot) <= SG_ARENA_SLOT_BYTES, "a receiver fits a slot");

enum sg_err sg_receiver_init(struct sg_receiver *receiver, struct sg_arena *arena, struct sg_aead_ctx *ctx,
                             const struct sg_aead *aead, const uint8_t key[static SG_KEY_BYTES],
                             const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES], const struct sg_limits *limits)
{
    assert(limits->max_senders >= 1 && limits->max_senders <= SG_SENDERS_MAX);
    memset(receiver, 0, sizeof *receiver);
    struct sg_receiver_slot *slot = sg_arena_take(arena);
    if (!slot)
        return SG_ERR_FULL;
    memcpy(slot->key, key, sizeof slot->key);
    slot->channel_id = load_id(channel_id);
    slot->senders_most = limits->max_senders;
    *receiver = (struct sg_receiver){.arena = arena, .ctx = ctx, .aead = aead, .limits = *limits, .slot = slot};
    return SG_OK;
}

void sg_receiver_dispose(struct sg_receiver *receiver)
{
    struct sg_receiver_slot *slot = receiver->slot;
    if (slot) {
        for (uint32_t i = 0; i < slot->sender_count; i++) {
            sg_aead_forget(receiver->aead, receiver->ctx, &slot->senders[i]->state);
            sg_arena_give(receiver->arena, slot->senders[i]);
        }
        sg_aead_forget(receiver->aead, receiver->ctx, &slot->candidate);
        sg_arena_give(receiver->arena, slot);
    }
    memset(receiver, 0, sizeof *receiver);
}

static struct sender_window *find_sender(struct sg_receiver_slot *slot, uint64_t id)
{
    if (slot->sender_count > 0 && slot->senders[slot->last]->id == id)
        return slot->senders[slot->last];
    for (uint32_t i = 0; i < slot->sender_count; i++) {
        if (slot->senders[i]->id == id) {
            slot->last = i;
            return slot->senders[i];
        }
    }
    return NULL;
}

static enum sg_err open_under(struct sg_receiver *receiver, struct sg_aead_state *state, struct sg_record *record)
{
    uint8_t *ciphertext = record->bytes + SG_RECORD_HEADER_BYTES;
    size_t len = record->len - SG_RECORD_OVERHEAD;
    enum sg_err err = sg_aead_open(receiver->aead, receiver->ctx, state, record->bytes + SG_RECORD_NONCE_OFFSET,
                                   record->bytes, SG_RECORD_AAD_BYTES, ciphertext, len, ciphertext + len);
    if (err == SG_OK)
        record->len = len;
    else
        receiver->slot->failed++;
    return err;
}

/* The subkey of an unknown sender id, in the scratch state: derived once for a run of records with
 * that id. */
static enum sg_err derive_candidate(struct sg_receiver *receiver, const uint8_t *nonce)
{
    struct sg_receiver_slot *slot = receiver->slot;
    uint64_t id = load_id(nonce + SG_RECORD_CHANNEL_BYTES);
    if (slot->has_candidate && slot->candidate_id == id)
        return SG_OK;
    slot->has_candidate = false;
    sg_aead_forget(receiver->aead, receiver->ctx, &slot->candidate);
    enum sg_err err = sg_aead_derive(receiver->aead, receiver->ctx, &slot->candidate, slot->key, nonce);
    if (err != SG_OK)
        return err;
    slot->candidate_id = id;
    slot->has_candidate = true;
    return SG_OK;
}

/* The candidate's record verified: it gets a slot and an empty window. The state moves; nothing of
 * it stays behind. */
static struct sender_window *admit_candidate(struct sg_receiver *receiver)
{
    struct sg_receiver_slot *slot = receiver->slot;
    struct sender_window *sender = sg_arena_take(receiver->arena);
    if (!sender)
        return NULL;
    sender->id = slot->candidate_id;
    sender->state = slot->candidate;
    sodium_memzero(&slot->candidate, sizeof slot->candidate);
    slot->has_candidate = false;
    slot->senders[slot->sender_count] = sender;
    slot->last = slot->sender_count++;
    return sender;
}

static enum sg_err open_first(struct sg_receiver *receiver, struct sg_record *record, struct sender_window **out)
{
    if (receiver->slot->sender_count >= receiver->slot->senders_most)
        return SG_ERR_SENDER_LIMIT;
    enum sg_err err = derive_candidate(receiver, record->bytes + SG_RECORD_NONCE_OFFSET);
    if (err == SG_OK)
        err = open_under(receiver, &receiver->slot->candidate, record);
    if (err != SG_OK)
        return err;
    *out = admit_candidate(receiver);
    if (!*out) {
        sodium_memzero(record->bytes + SG_RECORD_HEADER_BYTES, record->len);
        return SG_ERR_SENDER_LIMIT;
    }
    return SG_OK;
}

/* What can be said without a key. Another channel's id must not pass: the subkey is cached by
 * sender id alone. */
static enum sg_err check_header(const struct sg_receiver *receiver, const struct sg_record *record)
{
    if (record->len < SG_RECORD_OVERHEAD)
        return SG_ERR_TRUNCATED;
    if (record->len > SG_RECORD_MAX)
        return SG_ERR_TOO_LONG;
    if (record->bytes[0] != SG_RECORD_INDICATOR)
        return SG_ERR_MALFORMED;
    if (load_id(record->bytes + SG_RECORD_CHANNEL_OFFSET) != receiver->slot->channel_id)
        return SG_ERR_NOT_FOUND;
    return receiver->slot->failed >= receiver->limits.failed_hard ? SG_ERR_KEY_LIMIT : SG_OK;
}

static enum sg_err open_record(struct sg_receiver *receiver, struct sg_record *record)
{
    struct sg_receiver_slot *slot = receiver->slot;
    enum sg_err err = check_header(receiver, record);
    if (err != SG_OK)
        return err;
    struct sg_rbuf r = sg_rbuf_init(record->bytes + SG_RECORD_COUNTER_OFFSET, SG_RECORD_COUNTER_BYTES);
    uint64_t counter = sg_rbuf_u64(&r);
    struct sender_window *sender = find_sender(slot, load_id(record->bytes + SG_RECORD_SENDER_OFFSET));
    if (sender) {
        err = sg_replay_check(&sender->replay, counter);
        if (err == SG_OK)
            err = open_under(receiver, &sender->state, record);
    } else {
        err = open_first(receiver, record, &sender);
    }
    if (err != SG_OK)
        return err;
    sg_replay_update(&sender->replay, counter);
    sender->opened++;
    record->newest = sender == slot->senders[slot->sender_count - 1] && counter == sender->replay.highest;
    return SG_OK;
}

size_t sg_open_batch(struct sg_receiver *receiver, struct sg_record *records, size_t count)
{
    size_t opened = 0;
    bool is_alive = sg_arena_is_alive(receiver->slot);
    for (size_t i = 0; i < count; i++) {
        records[i].newest = false;
        records[i].err = is_alive ? open_record(receiver, &records[i]) : SG_ERR_WIPED;
        opened += records[i].err == SG_OK;
    }
    return opened;
}

uint32_t sg_receiver_senders_seen(const struct sg_receiver *receiver)
{
    return sg_arena_is_alive(receiver->slot) ? receiver->slot->sender_count : 0;
}

void sg_receiver_limit_senders(struct sg_receiver *receiver, uint32_t most)
{
    assert(most >= 1 && most <= receiver->limits.max_senders);
    if (sg_arena_is_alive(receiver->slot))
        receiver->slot->senders_most = most;
}

bool sg_receiver_wants_renewal(const struct sg_receiver *receiver)
{
    const struct sg_receiver_slot *slot = receiver->slot;
    if (!sg_arena_is_alive(slot))
        return false;
    bool used_half = slot->sender_count > 1 && 2 * (slot->sender_count - 1) >= receiver->limits.max_senders;
    return used_half || slot->failed >= receiver->limits.failed_soft;
}

uint64_t sg_receiver_failed(const struct sg_receiver *receiver)
{
    return sg_arena_is_alive(receiver->slot) ? receiver->slot->failed : 0;
}

bool sg_receiver_newest_sender(const struct sg_receiver *receiver, uint8_t out[static SG_RECORD_SENDER_BYTES])
{
    const struct sg_receiver_slot *slot = receiver->slot;
    if (!sg_arena_is_alive(slot) || slot->sender_count == 0)
        return false;
    memcpy(out, &slot->senders[slot->sender_count - 1]->id, SG_RECORD_SENDER_BYTES);
    return true;
}

uint64_t sg_receiver_missing(const struct sg_receiver *receiver)
{
    const struct sg_receiver_slot *slot = receiver->slot;
    uint64_t missing = 0;
    for (uint32_t i = 0; sg_arena_is_alive(slot) && i < slot->sender_count; i++)
        missing += slot->senders[i]->replay.highest - slot->senders[i]->opened + 1;
    return missing;
}

void sg_receiver_skip_failed(struct sg_receiver *receiver, uint64_t failed)
{
    if (sg_arena_is_alive(receiver->slot))
        receiver->slot->failed += failed;
}
