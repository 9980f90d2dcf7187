/*
 * What a bad network does to packets, as decisions only: no socket, no clock, no packet bytes. A packet is a direction,
 * a class and a length at a time; the answer is whether it is lost, and if not when each copy of it comes out.
 *
 * Each packet has random numbers of its own, made from the seed, its direction, its class and its number among these:
 * the same seed and the same sequence of packets give the same decisions, UDP's do not depend on what TCP did, and a
 * setting that changes does not move the draws of the others.
 *
 * The order is that of a path: too big, blackhole, loss, bursts, duplication, rate and queue, corruption, delay. Times
 * are nanoseconds of the caller's clock, which never goes back; probabilities are from 0 to 1.
 */
#ifndef SG_TESTS_NET_IMPAIR_H
#define SG_TESTS_NET_IMPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum emu_direction { EMU_UP, EMU_DOWN, EMU_DIRECTIONS }; /* up is from client to server */
enum emu_class { EMU_UDP, EMU_TCP, EMU_OTHER, EMU_CLASSES };

enum { EMU_COPIES_MAX = 2 };
#define EMU_NS_PER_MS UINT64_C(1000000)
#define EMU_NS_PER_S UINT64_C(1000000000)
#define EMU_FOREVER UINT64_MAX

/* Of packets of one class in one direction. All zero: nothing happens to them. */
struct emu_faults {
    double loss;                                    /* of each packet by itself */
    double burst_enter, burst_leave;                /* Gilbert-Elliott: changes of state at each packet */
    double burst_loss_bad, burst_loss_good;         /* and the loss in each state */
    double duplicate, corrupt;                      /* each copy is damaged by itself */
    double reorder;                                 /* the share that is held back, so that others overtake it, */
    uint64_t reorder_ns;                            /* for this long */
    uint64_t delay_ns, jitter_ns;                   /* jitter is added, from 0 to this, and keeps the order */
    uint64_t blackhole_from_ns, blackhole_until_ns; /* none where both are 0 */
    uint64_t blackhole_every_ns;                    /* 0: once; else again after each such time */
};

/* Of one direction, for all classes together. */
struct emu_link {
    uint64_t rate_bps;    /* 0: no limit */
    uint64_t queue_bytes; /* what may wait for the rate; a packet that finds no room is lost */
    size_t mtu;           /* 0: any length */
    bool icmp;            /* whoever sends too much is told (the caller does that) */
};

/* received + duplicated = delivered + queued + the sum of lost to failed. */
struct emu_ledger {
    uint64_t received, duplicated, delivered, queued;
    uint64_t lost, burst_lost, blackholed, too_big, queue_dropped;
    uint64_t nat_dropped, failed; /* at the way out: no mapping; the device did not take it */
    uint64_t corrupted, reordered, icmp_sent;
};

struct emu_lane {
    struct emu_faults faults;
    struct emu_ledger ledger;
    uint64_t number;      /* of packets so far */
    uint64_t last_due_ns; /* what is not held back does not overtake */
    bool bad;             /* state of the Gilbert-Elliott model */
};

struct emu_impair {
    uint64_t seed;
    struct emu_lane lanes[EMU_DIRECTIONS][EMU_CLASSES];
    struct emu_link links[EMU_DIRECTIONS];
    uint64_t free_ns[EMU_DIRECTIONS]; /* when the link has sent all that waits */
};

enum emu_fate { EMU_PASSES, EMU_TOO_BIG, EMU_TAKEN };

struct emu_copy {
    uint64_t due_ns;
    bool corrupt;         /* the caller damages it, and counts it as corrupted if it could */
    uint64_t corrupt_how; /* random, for that */
};

struct emu_verdict {
    enum emu_fate fate; /* TOO_BIG and TAKEN have no copies */
    unsigned count;     /* of copies; 0 also where the queue was full */
    struct emu_copy copies[EMU_COPIES_MAX];
};

void emu_impair_init(struct emu_impair *impair, uint64_t seed);

/* A packet arrives; counts it and each of its copies. */
struct emu_verdict emu_impair_decide(struct emu_impair *impair, enum emu_direction direction, enum emu_class class,
                                     size_t len, uint64_t now_ns);

/* What became of a copy that was queued: exactly one call for each. */
enum emu_end { EMU_DELIVERED, EMU_NO_MAPPING, EMU_FAILED, EMU_NO_ROOM };
void emu_impair_end(struct emu_impair *impair, enum emu_direction direction, enum emu_class class, enum emu_end end);

/* True if the sums of a ledger are equal. */
bool emu_ledger_adds_up(const struct emu_ledger *ledger);

/* The next number of a sequence (SplitMix64); any state is good. */
uint64_t emu_random_next(uint64_t *state);

#endif
