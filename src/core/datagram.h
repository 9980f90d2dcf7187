/*
 * The sealed record on one page: every size, offset and limit (docs/protocol.md section 6).
 *
 *     offset  0        1             9             17          25                    n-16
 *             +--------+-------------+-------------+-----------+---------------------+---------+
 *             | 0x08   | channel id  | sender id   | counter   | ciphertext          | tag     |
 *             +--------+-------------+-------------+-----------+---------------------+---------+
 *             indicator \_____________ 24-byte nonce __________/
 */
#ifndef SG_CORE_DATAGRAM_H
#define SG_CORE_DATAGRAM_H

#include <assert.h>
#include <stdint.h>

/* The three low bits are reserved: sent as 0 and checked, so 0x09 to 0x0f are no indicators. */
enum { SG_RECORD_INDICATOR = 0x08 };

enum {
    SG_RECORD_CHANNEL_BYTES = 8,
    SG_RECORD_SENDER_BYTES = 8,
    SG_RECORD_COUNTER_BYTES = 8,
    SG_RECORD_NONCE_BYTES = 24,
    SG_RECORD_TAG_BYTES = 16,
    SG_RECORD_AAD_BYTES = 1, /* the indicator */

    SG_RECORD_NONCE_OFFSET = 1,
    SG_RECORD_CHANNEL_OFFSET = 1,
    SG_RECORD_SENDER_OFFSET = 9,
    SG_RECORD_COUNTER_OFFSET = 17,
    SG_RECORD_HEADER_BYTES = 25,
    SG_RECORD_OVERHEAD = SG_RECORD_HEADER_BYTES + SG_RECORD_TAG_BYTES,
};

/* IPv4: 65535 - 20 - 8. Over IPv6 a little more would fit; one figure serves both. */
enum {
    SG_RECORD_MAX = 65507,
    SG_RECORD_PLAINTEXT_MAX = SG_RECORD_MAX - SG_RECORD_OVERHEAD,
};

/* Length of a direction key, and of the exporter's secret that both come from. */
enum { SG_KEY_BYTES = 32 };

/* Counters that a receiver remembers for each sender id. */
enum { SG_REPLAY_WINDOW = 8192 };

enum { SG_SENDERS_MAX = 16 };

/*
 * Limits of use of one direction key. Records and blocks are per sender id (one subkey); with 16
 * ids of 2^28 records a key seals 2^32. A random 8-byte sender id then collides, over all senders
 * of a key, with probability below 2^-57 (16 ids: 120 pairs of 2^64).
 */
struct sg_limits {
    uint64_t records_per_sender;
    uint64_t blocks_per_sender; /* of 16 bytes */
    uint64_t failed_soft;       /* failed openings at which the channel should be renewed */
    uint64_t failed_hard;       /* at which nothing more is opened */
    uint32_t max_senders;       /* 1 to SG_SENDERS_MAX */
};

#define SG_LIMITS_DEFAULT                                                                                              \
    {                                                                                                                  \
        .records_per_sender = UINT64_C(1) << 28, .blocks_per_sender = UINT64_C(1) << 35,                               \
        .failed_soft = UINT64_C(1) << 35, .failed_hard = UINT64_C(1) << 36, .max_senders = SG_SENDERS_MAX,             \
    }

static_assert(SG_RECORD_CHANNEL_BYTES + SG_RECORD_SENDER_BYTES + SG_RECORD_COUNTER_BYTES == SG_RECORD_NONCE_BYTES,
              "the nonce is the three fields and nothing else");
static_assert(SG_RECORD_CHANNEL_OFFSET == SG_RECORD_NONCE_OFFSET, "the nonce starts with the channel id");
static_assert(SG_RECORD_SENDER_OFFSET == SG_RECORD_CHANNEL_OFFSET + SG_RECORD_CHANNEL_BYTES, "fields are adjacent");
static_assert(SG_RECORD_COUNTER_OFFSET == SG_RECORD_SENDER_OFFSET + SG_RECORD_SENDER_BYTES, "fields are adjacent");
static_assert(SG_RECORD_HEADER_BYTES == SG_RECORD_NONCE_OFFSET + SG_RECORD_NONCE_BYTES, "ciphertext follows the nonce");
static_assert(SG_RECORD_OVERHEAD == 41, "as docs/protocol.md says");
static_assert(SG_RECORD_NONCE_OFFSET == SG_RECORD_AAD_BYTES, "what the nonce does not bind is associated data");
static_assert((SG_RECORD_INDICATOR & 7) == 0, "reserved bits are sent as 0");

#endif
