/*
 * The path of a session (docs/protocol.md section 8), in two small state machines: the server's candidates and
 * challenges, and the client's probes and choice. Time comes in as milliseconds, messages to be sent go out through the
 * caller; nothing here knows a socket.
 */
#ifndef SG_CORE_PATH_H
#define SG_CORE_PATH_H

#include "core/addr.h"
#include "core/control.h"
#include "core/random.h"

enum {
    SG_PATH_CANDIDATES = 4,
    SG_PATH_CANDIDATE_SPACING_MS = 100,
    SG_PATH_CHALLENGE_REPEAT_MS = 250,
    SG_PATH_RESPONSE_MS = 3000,
    SG_PATH_DIVERT_MS = 500, /* after a challenge, for its response or its repeat's */
    SG_PATH_PROBE_MAX_INTERVAL_MS = 60000,
    SG_PATH_KEEPALIVE_MS = 20000,
    SG_PATH_TRAFFIC_MS = 15000,       /* after the last datagram the client does not care any more */
    SG_PATH_PATIENCE_MS = 250,        /* or two round trips, if that is longer */
    SG_PATH_PATIENCE_MAX_MS = 3000,   /* whoever holds answers back must not make the client wait for ever */
    SG_PATH_UNANSWERED_MAX = 3,       /* then UDP is given up */
    SG_PATH_ANSWERED_MIN = 3,         /* then it is taken again */
    SG_PATH_CONFIRM_SPACING_MS = 100, /* between these */
    SG_PATH_PROBES_KEPT = 8,
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
    uint64_t divert_ms;     /* until then the peer may well have left the current address */
};

/*
 * A record that verified, with the highest counter of its newest sender, came from addr. True if a challenge with
 * *token must be sent there now. The address that is already validated gives false.
 */
bool sg_server_path_offer(struct sg_server_path *path, const struct sg_path_addr *addr, uint64_t now_ms,
                          sg_random_fn *random, void *random_ctx, uint8_t token[static SG_CONTROL_TOKEN_BYTES]);

/*
 * Whether the newest record came from an address that has yet to respond: what is sent to the validated one may be
 * lost, and to the other nothing may go. A newer record from the validated address ends it.
 */
bool sg_server_path_is_in_doubt(const struct sg_server_path *path, uint64_t now_ms);

/* A RESPONSE came from addr: true if that made it the validated path. */
bool sg_server_path_respond(struct sg_server_path *path, const struct sg_path_addr *addr,
                            const uint8_t token[static SG_CONTROL_TOKEN_BYTES], uint64_t now_ms);

/* The next candidate whose challenge is due again, or NULL; counts it as sent. Call until NULL. */
const struct sg_path_candidate *sg_server_path_repeat(struct sg_server_path *path, uint64_t now_ms);
uint64_t sg_server_path_next_timeout(const struct sg_server_path *path);

/* Client: when to probe, and which path is chosen. */
enum sg_client_path_state {
    SG_PATH_OFF,      /* no path is wanted */
    SG_PATH_SEEKS,    /* on the stream; probes get rarer */
    SG_PATH_CONFIRMS, /* on the stream; UDP answered again, and has to do so three times in a row */
    SG_PATH_USES,     /* on UDP; silence under traffic is probed */
};

struct sg_path_probe {
    uint32_t id;
    uint64_t sent_ms;
};

struct sg_client_path {
    uint32_t n;
    enum sg_path_choice choice;
    enum sg_client_path_state state;
    bool fell_back;         /* once it has, one answer is not enough to go back */
    unsigned probes;        /* SEEKS: sent so far */
    unsigned answered;      /* CONFIRMS: in a row */
    unsigned unanswered;    /* USES: probes since a record opened */
    uint64_t next_probe_ms; /* SEEKS, CONFIRMS */

    bool awaits; /* an answer to the last probe */
    struct sg_path_probe
        last[SG_PATH_PROBES_KEPT]; /* the newest at sent - 1, for round trips longer than their distance */
    unsigned sent;
    uint64_t rtt_ms; /* smoothed; 0: not known */

    bool had_traffic;
    uint64_t traffic_ms; /* the last datagram, either way */
    uint64_t quiet_ms;   /* since when no record opened, as far as that tells */
};

void sg_client_path_start(struct sg_client_path *path, uint64_t now_ms);
/* True if a PROBE with this id is due now; the next one is scheduled. */
bool sg_client_path_probe_due(struct sg_client_path *path, uint32_t id, uint64_t now_ms);
/* A PROBE_ANSWER with this id opened: true if that moved the choice to UDP (n rose; PATH must be sent). */
bool sg_client_path_answered(struct sg_client_path *path, uint32_t id, uint64_t now_ms);
/* True if UDP was given up just now (n rose; PATH must be sent). Ask before sg_client_path_probe_due. */
bool sg_client_path_lost(struct sg_client_path *path, uint64_t now_ms);
/* A datagram was sent or received by UDP. */
void sg_client_path_traffic(struct sg_client_path *path, uint64_t now_ms);
/* A record of the server opened. */
void sg_client_path_heard(struct sg_client_path *path, uint64_t now_ms);
/* The machine has another address: probes at once. */
void sg_client_path_moved(struct sg_client_path *path, uint64_t now_ms);
uint64_t sg_client_path_next_timeout(const struct sg_client_path *path);

#endif
