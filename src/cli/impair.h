/*
 * A bad network on loopback: a relay between client and server that loses, reorders, duplicates, corrupts and replays
 * UDP datagrams by a seed, passes TCP through unchanged on the same port number, and looks for payloads in the clear
 * in everything it carries. For `sealgram demo` and the end-to-end tests.
 */
#ifndef SG_CLI_IMPAIR_H
#define SG_CLI_IMPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

struct event_base;
struct json_t;
struct sg_impair;

enum { SG_IMPAIR_MARKER_BYTES = 16, SG_IMPAIR_MARKERS_MAX = 8 };

/*
 * What happened to the datagrams of one direction. received = forwarded - duplicated - replayed + lost, once none is
 * held.
 */
struct sg_impair_ledger {
    uint64_t received;
    uint64_t forwarded; /* all that left: copies and corrupted ones included */
    uint64_t lost;
    uint64_t corrupted;  /* one bit flipped */
    uint64_t duplicated; /* a second copy at once, of one that is intact */
    uint64_t replayed;   /* a copy some 100 ms later, of one that is intact */
    uint64_t reordered;  /* held back some milliseconds */
    uint64_t clear;      /* with a marker in it */
};

/* Called for each UDP datagram as it arrived. */
typedef void sg_impair_seen_fn(void *ctx, bool up, const uint8_t *bytes, size_t len);

/* Rates are per thousand datagrams, each direction. */
struct sg_impair_options {
    struct sg_endpoint listen; /* port 0: any that is free for TCP and UDP */
    struct sg_endpoint to;
    uint64_t seed;
    unsigned loss, reorder, duplicate, corrupt, replay;
    const uint8_t (*markers)[SG_IMPAIR_MARKER_BYTES];
    size_t marker_count;
    sg_impair_seen_fn *seen; /* or NULL */
    void *ctx;
};

/* Starts on the loop of base; *bound is where it listens. NULL with errno. Markers are borrowed until free. */
struct sg_impair *sg_impair_new(struct event_base *base, const struct sg_impair_options *options,
                                struct sg_endpoint *bound);
void sg_impair_free(struct sg_impair *impair);

/* Ledgers of both directions; what TCP carried is looked through too: *tcp_clear counts markers there. */
void sg_impair_ledgers(const struct sg_impair *impair, struct sg_impair_ledger *up, struct sg_impair_ledger *down,
                       uint64_t *tcp_clear);

/* From now on datagrams pass unharmed (what is held back still leaves). */
void sg_impair_calm(struct sg_impair *impair);

/* The ledgers as a JSON object: a new reference. */
struct json_t *sg_impair_json(const struct sg_impair *impair);

#endif
