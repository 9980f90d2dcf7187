/*
 * Sealing and opening records (docs/protocol.md section 6): a sender and a receiver for each
 * direction of a channel, working on batches, in place, without allocation. seal.c and open.c are
 * the two data paths.
 *
 * Both keep their key, ids, counters and windows in a slot of the arena and nowhere else. sender
 * and receiver are embedded by the caller; one that is all 0 may be disposed, and neither seals nor
 * opens (WIPED).
 */
#ifndef SG_CORE_RECORD_H
#define SG_CORE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/aead.h"
#include "core/arena.h"
#include "core/datagram.h"
#include "core/err.h"
#include "core/random.h"

extern const struct sg_limits sg_limits_default;

/*
 * One record of a batch. The plaintext is at bytes + SG_RECORD_HEADER_BYTES in either case; the
 * caller owns the memory.
 *
 * To seal: len is the plaintext's length, 0 to SG_RECORD_PLAINTEXT_MAX; there is room for
 * SG_RECORD_TAG_BYTES after it. Then len is the record's. To open: len is the record's length; then
 * the plaintext's.
 */
struct sg_record {
    uint8_t *bytes;
    size_t len;
    enum sg_err err; /* out: of this record */
    bool newest;     /* out, opened: highest counter of the sender id that was first verified last */
};

struct sg_sender_slot;
struct sg_receiver_slot;

struct sg_sender {
    struct sg_arena *arena;
    struct sg_aead_ctx *ctx;
    const struct sg_aead *aead;
    struct sg_limits limits;
    sg_random_fn *random;
    void *random_ctx;
    struct sg_sender_slot *slot;
};

struct sg_receiver {
    struct sg_arena *arena;
    struct sg_aead_ctx *ctx;
    const struct sg_aead *aead;
    struct sg_limits limits;
    struct sg_receiver_slot *slot;
};

/*
 * Makes a sender for one direction key (copied: the caller wipes its own). arena, ctx and
 * random_ctx outlive it; limits are copied. Draws no sender id yet. FULL: the arena has no slot;
 * the sender is then all 0.
 */
SG_MUST_CHECK enum sg_err sg_sender_init(struct sg_sender *sender, struct sg_arena *arena, struct sg_aead_ctx *ctx,
                                         const struct sg_aead *aead, const uint8_t key[static SG_KEY_BYTES],
                                         const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES],
                                         const struct sg_limits *limits, sg_random_fn *random, void *random_ctx);
/* Wipes all; the sender is all 0 afterwards. */
void sg_sender_dispose(struct sg_sender *sender);

/*
 * Seals the records in order and returns how many: the first ones. It stops at the first that
 * cannot be sealed; that one and those after it have the reason in err, and keep len and plaintext:
 * KEY_LIMIT (all sender ids are used up: the stream takes over), WIPED, TOO_LONG, CRYPTO (then the
 * one record's plaintext may be wiped, and its len is 0).
 */
size_t sg_seal_batch(struct sg_sender *sender, struct sg_record *records, size_t count);

/* True once half of the sender ids are used up: time to renew the channel. */
bool sg_sender_wants_renewal(const struct sg_sender *sender);
uint32_t sg_sender_ids_drawn(const struct sg_sender *sender);

/* Passes over so many counters and blocks of the present sender id (drawing the first one), as if
 * they had been used. Going forward is always safe; tests come near the limits by it. KEY_LIMIT,
 * WIPED, CRYPTO. */
SG_MUST_CHECK enum sg_err sg_sender_skip(struct sg_sender *sender, uint64_t records, uint64_t blocks);

/* Makes a receiver, as sg_sender_init. It takes further slots as records of new sender ids verify.
 */
SG_MUST_CHECK enum sg_err sg_receiver_init(struct sg_receiver *receiver, struct sg_arena *arena,
                                           struct sg_aead_ctx *ctx, const struct sg_aead *aead,
                                           const uint8_t key[static SG_KEY_BYTES],
                                           const uint8_t channel_id[static SG_RECORD_CHANNEL_BYTES],
                                           const struct sg_limits *limits);
void sg_receiver_dispose(struct sg_receiver *receiver);

/*
 * Opens each record, in order, by itself, and returns how many opened. The others have in err:
 * TRUNCATED, TOO_LONG or MALFORMED (the length or first byte is no record's), NOT_FOUND (of another
 * channel), REPLAYED, TOO_OLD, SENDER_LIMIT (a further sender id than may be admitted, or the arena is
 * full), FORGED (wiped), KEY_LIMIT (too many forged ones), WIPED, CRYPTO.
 */
size_t sg_open_batch(struct sg_receiver *receiver, struct sg_record *records, size_t count);

/* How many sender ids of the peer have verified records. */
uint32_t sg_receiver_senders_seen(const struct sg_receiver *receiver);

/*
 * From now on no more than `most` sender ids are admitted, 1 to limits.max_senders, until it is called again: a
 * record of a further one has SENDER_LIMIT. Ids that were admitted before stay, whatever their number.
 */
void sg_receiver_limit_senders(struct sg_receiver *receiver, uint32_t most);

/* True once failed openings reached the soft limit, or the peer used half of its sender ids. */
bool sg_receiver_wants_renewal(const struct sg_receiver *receiver);
uint64_t sg_receiver_failed(const struct sg_receiver *receiver);

/* The sender id that was first verified last: false if there is none yet. */
bool sg_receiver_newest_sender(const struct sg_receiver *receiver, uint8_t out[static SG_RECORD_SENDER_BYTES]);

/* Records that a sender sealed, by its counters, and that did not open here (yet): exact for ids
 * that have been seen. */
uint64_t sg_receiver_missing(const struct sg_receiver *receiver);

/* Counts so many failed openings more, as if forged records had come. */
void sg_receiver_skip_failed(struct sg_receiver *receiver, uint64_t failed);

#endif
