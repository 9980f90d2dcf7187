/*
 * A deterministic world of one client session and one server session under a virtual clock: real sealing, an in-order
 * stream with delay, and a UDP leg that loses, doubles, reorders and damages records, with an attacker who copies
 * records to other addresses and replays old ones. One seed gives one run.
 *
 * What must hold is checked as it happens, against books that the world keeps by itself (which records are intact and
 * new, which addresses responded), never against what the session believes. A failed check prints the seed.
 */
#ifndef SG_TESTS_SIM_H
#define SG_TESTS_SIM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/record.h"
#include "core/session.h"

enum { SIM_DATAGRAMS_MAX = 256, SIM_RECORDS_MAX = 16384, SIM_CHALLENGES_MAX = 4096, SIM_STREAM_BYTES = 1 << 18 };

/* Addresses are numbers: the client moves through 0 to 3, the attacker has 4 to 7. */
enum { SIM_CLIENT_ADDRS = 4, SIM_ADDRS = 8, SIM_FIRST_PORT = 1000 };

enum sim_direction { SIM_UP, SIM_DOWN };

struct sim_config {
    uint64_t seed;
    uint16_t suite;
    bool blocked[2];                                   /* UDP, for good; by direction */
    uint64_t cut_ms;                                   /* from then on UDP is blocked both ways; 0: never */
    uint64_t back_ms;                                  /* and from then on no more; 0: for good */
    unsigned loss, doubled, damaged, replayed, copied; /* per cent of records */
    bool attacker_relays;                              /* what the server sends to the attacker reaches the client */
    uint64_t delay_ms, jitter_ms, stream_delay_ms;
    size_t mtu, kernel_max;
    unsigned moves;          /* how often the client's address changes */
    unsigned late;           /* per cent of wakings that come up to 5 s late */
    uint64_t sender_records; /* records under one sender id */
};

enum sim_kind { SIM_UDP, SIM_STREAM, SIM_SEND, SIM_MOVE };

struct sim_event {
    uint64_t at_ms, order;
    enum sim_kind kind;
    enum sim_direction direction;
    unsigned addr;   /* UDP: the client's side of it */
    uint32_t serial; /* UDP: which record of that direction it was */
    bool intact;
    size_t len;
    uint8_t *bytes; /* owned */
};

struct sim_datagram {
    size_t len;
    bool on_udp;
    bool delivered;
};

struct sim;

struct sim_end {
    struct sim *sim;
    enum sim_direction out; /* the direction in which it sends */
    struct sg_session session;
    struct sg_sender sender;
    struct sg_receiver receiver;
    uint64_t wake_ms;

    struct sim_datagram datagrams[SIM_DATAGRAMS_MAX]; /* what it sent */
    uint32_t datagram_count;

    struct sg_ledger ledger; /* of what arrived on UDP */
    bool opened[SIM_RECORDS_MAX];
    uint8_t *stream; /* what came and is not a whole message yet */
    size_t stream_len;
    uint32_t stream_next; /* number of the next datagram that may come on the stream: it keeps order */
};

struct sim_challenge {
    unsigned addr;
    unsigned sends;
    uint64_t first_ms;
    uint8_t token[SG_CONTROL_TOKEN_BYTES];
};

struct sim {
    struct sim_config config;
    struct sg_arena *arena;
    struct sg_aead_ctx *aead;
    uint64_t random; /* of the world */
    uint64_t now_ms;
    struct sim_end client, server;
    uint8_t channel_id[SG_RECORD_CHANNEL_BYTES];

    struct sim_event *heap;
    size_t heap_count, heap_size;
    uint64_t order;
    uint64_t stream_at_ms[2]; /* the stream does not overtake itself */
    bool calm;                /* attacker and application are done */

    uint32_t records_sent[2];
    struct sim_event old[2][16]; /* what the attacker kept, to replay */
    unsigned client_addr;

    bool seen[SIM_ADDRS], responded[SIM_ADDRS];
    struct sim_challenge challenges[SIM_CHALLENGES_MAX];
    unsigned challenge_count;
    uint64_t challenged_ms;
};

/* Counts over many runs, so that a test can demand that what it is about did happen. */
struct sim_stats {
    uint64_t udp_delivered, stream_delivered, replayed, forged, challenges, copies_validated, moved;
};

/* One whole run; arena and ctx are lent, and as empty afterwards as before. Adds to stats. */
void sim_run(const struct sim_config *config, struct sg_arena *arena, struct sg_aead_ctx *ctx, struct sim_stats *stats);

void sim_fail(const struct sim *sim, const char *what, const char *file, int line);
#define SIM_CHECK(sim, condition)                                                                                      \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            sim_fail((sim), #condition, __FILE__, __LINE__);                                                           \
    } while (0)

/* --- the network (sim_net.c) --- */

uint64_t sim_draw(struct sim *sim, uint64_t below);
bool sim_chance(struct sim *sim, unsigned percent);
void sim_schedule(struct sim *sim, const struct sim_event *event);
struct sim_event sim_next_event(struct sim *sim);
uint64_t sim_next_event_ms(const struct sim *sim);
/* A record leaves; addr is the client's side of the path. bytes are copied. */
void sim_send_record(struct sim *sim, enum sim_direction direction, unsigned addr, const uint8_t *bytes, size_t len);
/* A message is written to the stream. */
void sim_send_stream(struct sim *sim, enum sim_direction direction, const uint8_t *bytes, size_t len);
/* The attacker throws an old record, or noise, at either end. */
void sim_attack(struct sim *sim, enum sim_direction direction);
void sim_free_network(struct sim *sim);

/* --- the ends (sim_end.c) --- */

void sim_start_ends(struct sim *sim);
void sim_stop_ends(struct sim *sim);
void sim_receive_record(struct sim *sim, struct sim_event *event);
void sim_receive_stream(struct sim *sim, const struct sim_event *event);
void sim_send_datagram(struct sim *sim, struct sim_end *end);
void sim_tick(struct sim *sim, struct sim_end *end);
/* Plans when the end is woken next. */
void sim_arm(struct sim *sim, struct sim_end *end);

#endif
