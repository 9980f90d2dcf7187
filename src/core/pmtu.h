/*
 * How long a record may be on a path (PLPMTU, RFC 8899; docs/protocol.md section 8): either side finds it for its own
 * direction. All sizes of a table are probed at once, the largest that is answered counts; it is confirmed while it is
 * in use, and looked for anew when the confirmation fails, and once a minute of use. Nothing is concluded from ICMP.
 */
#ifndef SG_CORE_PMTU_H
#define SG_CORE_PMTU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SG_PMTU_SPACING_MS = 500, /* between searches, however often a peer changes its mind */
    SG_PLPMTU_MIN = 512,      /* taken for granted: an IPv4 path carries 576 (RFC 791) */
    SG_PMTU_RUNGS = 18,
    SG_PMTU_TRIES = 3,         /* of each size */
    SG_PMTU_CONFIRM_TRIES = 5, /* then the path has become a black hole for long records */
    SG_PMTU_REPEAT_MS = 250,   /* between tries */
    SG_PMTU_CONFIRM_MS = 1000, /* how often the size is confirmed while long records are sent */
    SG_PMTU_RAISE_MS = 60000,  /* how often larger sizes are looked for, if anything is sent */
};

struct sg_pmtu {
    uint16_t record_max; /* PLPMTU: bytes of the longest record */
    uint16_t ceiling;    /* the kernel's figure for the path */
    bool running;
    bool has_searched;
    bool settled;         /* record_max is the result of a whole search, and not what is known so far */
    uint64_t searched_ms; /* when the first probe of the last search left */

    /* the search: sizes in rising order, from the least (exclusive) to the ceiling */
    uint16_t rungs[SG_PMTU_RUNGS];
    unsigned rung_count;
    unsigned left;     /* of this try, sent from the largest down */
    unsigned tries;    /* made */
    uint32_t first_id; /* answers to probes before it are of another path */
    uint64_t next_ms;  /* of the next try, or of the next search */
    bool used;         /* since the search began */

    /* the confirmation */
    bool long_sent;       /* a record beyond the least, since the last confirmation */
    unsigned unconfirmed; /* probes of record_max without an answer */
    uint64_t confirm_ms;  /* the next one */
};

void sg_pmtu_init(struct sg_pmtu *pmtu);
/* The path was validated: starts at the least, searches up to kernel_max (0: unknown). Probes have ids from next_id. */
void sg_pmtu_start(struct sg_pmtu *pmtu, size_t kernel_max, uint32_t next_id, uint64_t now_ms);
/* The path is not in use any more. */
void sg_pmtu_stop(struct sg_pmtu *pmtu);
/* A record of so many bytes was sent, or would have been if it fitted. */
void sg_pmtu_sent(struct sg_pmtu *pmtu, size_t record_bytes, uint64_t now_ms);
/* The size of a probe that is due now, or 0; counts it as sent. Call until 0. */
uint16_t sg_pmtu_due(struct sg_pmtu *pmtu, uint64_t now_ms);
/* A PROBE_ANSWER with this id and arrived size. */
void sg_pmtu_answered(struct sg_pmtu *pmtu, uint32_t id, uint16_t size, uint64_t now_ms);
uint64_t sg_pmtu_next_timeout(const struct sg_pmtu *pmtu);

#endif
