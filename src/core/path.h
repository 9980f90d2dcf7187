/*
 * The path of a session (docs/protocol.md section 8), in three small state machines: the server's candidates and
 * challenges, the client's probes and choice, and the sizes that either side tries. Time comes in as milliseconds,
 * messages to be sent go out through the caller; nothing here knows a socket.
 */
#ifndef SG_CORE_PATH_H
#define SG_CORE_PATH_H

#include "core/addr.h"
#include "core/control.h"
#include "core/random.h"

enum {
    SG_PLPMTU_BASE = 1200,
    SG_PLPMTU_FIRST_PROBE = 1264,
    SG_PATH_CANDIDATES = 4,
    SG_PATH_CANDIDATE_SPACING_MS = 100,
    SG_PATH_CHALLENGE_REPEAT_MS = 250,
    SG_PATH_RESPONSE_MS = 3000,
    SG_PATH_PROBE_MAX_INTERVAL_MS = 60000,
    SG_PATH_KEEPALIVE_MS = 20000,
};

/* "Never" as a time to be woken. */
#define SG_NEVER UINT64_MAX

/* A pair of addresses, and by which of its sockets the server speaks to it. */
struct sg_path_addr {
    struct sg_endpoint remote;
    struct sg_ip local;
    uint16_t port_index;
};

bool sg_path_addr_equal(const struct sg_path_addr *a, const struct sg_path_addr *b);

/* Server: which address may be sent to. */
struct sg_path_candidate {
    struct sg_path_addr addr;
    uint8_t token[SG_CONTROL_TOKEN_BYTES];
    uint64_t first_ms;
    uint64_t last_ms;
    uint8_t sends; /* 0: free */
};

struct sg_server_path {
    bool validated;
    struct sg_path_addr current;
    struct sg_path_candidate candidates[SG_PATH_CANDIDATES];
    unsigned next_slot;
    uint64_t next_offer_ms; /* before this no new candidate is taken */
};

/*
 * A record that verified, with the highest counter of its newest sender, came from addr. True if a challenge with
 * *token must be sent there now. The address that is already validated gives false.
 */
bool sg_server_path_offer(struct sg_server_path *path, const struct sg_path_addr *addr, uint64_t now_ms,
                          sg_random_fn *random, void *random_ctx, uint8_t token[static SG_CONTROL_TOKEN_BYTES]);

/* A RESPONSE came from addr: true if that made it the validated path. */
bool sg_server_path_respond(struct sg_server_path *path, const struct sg_path_addr *addr,
                            const uint8_t token[static SG_CONTROL_TOKEN_BYTES], uint64_t now_ms);

/* The next candidate whose challenge is due again, or NULL; counts it as sent. Call until NULL. */
const struct sg_path_candidate *sg_server_path_repeat(struct sg_server_path *path, uint64_t now_ms);
uint64_t sg_server_path_next_timeout(const struct sg_server_path *path);

/* Client: when to probe, and which path is chosen. */
struct sg_client_path {
    uint32_t n;
    enum sg_path_choice choice;
    bool wants_probe;
    unsigned probes;
    uint64_t next_probe_ms;
};

void sg_client_path_start(struct sg_client_path *path, uint64_t now_ms);
/* True if a PROBE is due now; the next one is scheduled. */
bool sg_client_path_probe_due(struct sg_client_path *path, uint64_t now_ms);
/* A PROBE_ANSWER opened: true if that moved the choice to UDP (n rose; PATH must be sent). */
bool sg_client_path_answered(struct sg_client_path *path);
uint64_t sg_client_path_next_timeout(const struct sg_client_path *path);

/*
 * Either side: how long a record may be. Until the search for the MTU exists: base, and two sizes tried on
 * validation.
 */
struct sg_pmtu_try {
    uint16_t size;
    uint8_t sends;
    bool answered;
    uint32_t id;
    uint64_t next_ms;
};

struct sg_pmtu {
    uint16_t record_max; /* PLPMTU: bytes of the longest record */
    struct sg_pmtu_try tries[2];
};

void sg_pmtu_init(struct sg_pmtu *pmtu);
/* The path was validated: try 1264 and kernel_max (0 = unknown). Ids are id and id + 1. */
void sg_pmtu_start(struct sg_pmtu *pmtu, size_t kernel_max, uint32_t id, uint64_t now_ms);
/* The next try that is due, or NULL; counts it as sent. Call until NULL. */
const struct sg_pmtu_try *sg_pmtu_due(struct sg_pmtu *pmtu, uint64_t now_ms);
/* A PROBE_ANSWER with this id and arrived size; ids of other probes are ignored. */
void sg_pmtu_answered(struct sg_pmtu *pmtu, uint32_t id, uint16_t size);
uint64_t sg_pmtu_next_timeout(const struct sg_pmtu *pmtu);

#endif
