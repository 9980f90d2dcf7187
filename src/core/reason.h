/*
 * Reasons: the one table that serves CLOSE, closed and refused messages (codes below 256, on the
 * wire) and the drop counters (all codes). docs/protocol.md lists the wire codes; `sealgram status`
 * prints the names.
 */
#ifndef SG_CORE_REASON_H
#define SG_CORE_REASON_H

#include <stdint.h>

#include "core/err.h"

#define SG_REASON_MAP(X)                                                                                               \
    X(NONE, 0, "none", "no reason given")                                                                              \
    X(NORMAL, 1, "normal", "closed in good order")                                                                     \
    X(SHUTDOWN, 2, "shutdown", "the peer is shutting down")                                                            \
    X(IDLE, 3, "idle", "no datagram for the idle time")                                                                \
    X(PROTOCOL, 4, "protocol", "the peer broke the protocol")                                                          \
    X(UNAUTHORIZED, 5, "unauthorized", "user unknown, removed, or credential changed")                                 \
    X(BUSY, 6, "busy", "too much work at the moment")                                                                  \
    X(LIMIT, 7, "limit", "a quota or table is full")                                                                   \
    X(POLICY, 8, "policy", "target not allowed")                                                                       \
    X(RESOLVE_FAILED, 9, "resolve_failed", "name does not resolve")                                                    \
    X(UNREACHABLE, 10, "unreachable", "network or host unreachable")                                                   \
    X(REFUSED, 11, "refused", "target port unreachable")                                                               \
    X(TOO_BIG, 12, "too_big", "datagram too large for where it must go")                                               \
    X(NO_SOCKET, 13, "no_socket", "no socket could be made")                                                           \
    X(TIMEOUT, 14, "timeout", "the peer gave no sign of life")                                                         \
    X(ASSOC_CLOSED, 15, "assoc_closed", "association is not open")                                                     \
    X(SUITE, 16, "suite", "no suite in common")                                                                        \
    X(NOT_OFFERED, 17, "not_offered", "not offered by this server")                                                    \
    X(RENEWAL, 18, "renewal", "the channel was not renewed in time")                                                   \
    X(RATE, 19, "rate", "more in a second than the user may have")                                                     \
    X(QUOTA, 20, "quota", "the user's bytes for this day are used up")                                                 \
    X(KICKED, 21, "kicked", "ended by the operator")                                                                   \
    X(DRAINING, 22, "draining", "the server goes out of service")                                                      \
    X(JUNK, 32, "junk", "neither a sealed record nor a plain SOCKS datagram")                                          \
    X(LENGTH, 33, "length", "record too short or too long")                                                            \
    X(UNKNOWN_CHANNEL, 34, "unknown_channel", "no such channel")                                                       \
    X(REPLAYED, 35, "replayed", "nonce already received")                                                              \
    X(TOO_OLD, 36, "too_old", "counter older than the replay window")                                                  \
    X(FORGED, 37, "forged", "tag does not match")                                                                      \
    X(SENDER_LIMIT, 38, "sender_limit", "no room for a further sender id")                                             \
    X(KEY_LIMIT, 39, "key_limit", "the key's limit of use is reached")                                                 \
    X(MALFORMED, 40, "malformed", "contents do not follow the format")                                                 \
    X(FRAGMENT, 41, "fragment", "SOCKS fragment (FRAG is not 0)")                                                      \
    X(PLAIN_REFUSED, 42, "plain_refused", "plain datagram where none is allowed")                                      \
    X(PLAIN_SOURCE, 43, "plain_source", "plain datagram from another address")                                         \
    X(NO_PATH, 44, "no_path", "no path to the peer")                                                                   \
    X(STREAM_FULL, 45, "stream_full", "too much waits for the stream")                                                 \
    X(NO_SESSION, 46, "no_session", "no session with the server")                                                      \
    X(FILTERED, 47, "filtered", "source was never contacted by the association")                                       \
    X(RESOLVE_WAIT, 48, "resolve_wait", "too much waits for a name")                                                   \
    X(SEND_FAILED, 49, "send_failed", "the kernel refused the datagram, or the cipher failed")                         \
    X(CHALLENGE, 50, "challenge", "challenge or response that fits nothing")                                           \
    X(KERNEL, 51, "kernel", "receive buffer overflow in the kernel")

enum sg_reason {
    SG_REASON_COUNT = 52, /* codes are below this */
#define SG_REASON_ENUM(id, code, name, text) SG_REASON_##id = (code),
    SG_REASON_MAP(SG_REASON_ENUM)
#undef SG_REASON_ENUM
};

/* Name ("forged") and text of a reason; "unknown" for a code that is not in the table. Static,
 * never NULL. */
const char *sg_reason_name(unsigned code);
const char *sg_reason_text(unsigned code);

/* The reason to drop a record that did not open, by the error that sg_open_batch gave it. */
enum sg_reason sg_reason_of_open(enum sg_err err);

/*
 * One direction's ledger: received = forwarded + session + sum of drops, in datagrams, at any
 * moment when no datagram is being worked on or waits in a queue (queued counts those).
 */
struct sg_ledger {
    uint64_t received;
    uint64_t received_bytes;
    uint64_t forwarded;
    uint64_t forwarded_bytes;
    uint64_t session; /* session messages: consumed, not forwarded */
    uint64_t queued;
    uint64_t streamed;  /* of these, inside TLS */
    uint64_t oversized; /* too long for a record of the UDP path: inside TLS, or dropped, for that alone */
    uint64_t drops[SG_REASON_COUNT];
};

/* Datagrams that the kernel dropped: they never reached us, so they stand beside the sum, received included. */
static inline void sg_ledger_lost(struct sg_ledger *ledger, uint32_t count)
{
    ledger->received += count;
    ledger->drops[SG_REASON_KERNEL] += count;
}

static inline void sg_ledger_drop(struct sg_ledger *ledger, enum sg_reason reason)
{
    ledger->drops[reason]++;
}

#endif
