/*
 * The data path of one worker: its UDP ports, its sessions and plain associations, and the way of each datagram from
 * record to target and back. docs/architecture.md walks along it. Nothing here is shared between workers.
 */
#ifndef SG_SERVER_DATAPATH_H
#define SG_SERVER_DATAPATH_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "core/histogram.h"
#include "core/record.h"
#include "core/reason.h"
#include "net/udp.h"
#include "server/outbound.h"

struct json_t;
struct sg_traffic;
struct sg_plain;
struct sg_server_channel;
struct sg_server_session;
struct sg_worker;

enum { SG_DATAPATH_PORTS = 16 };

/* One UDP socket that records and plain datagrams arrive on. */
struct sg_port {
    struct sg_datapath *datapath;
    int fd;
    uint16_t index;
    struct sg_endpoint bound;
    uint32_t lost; /* by the kernel */
    struct event readable;
};

struct sg_datapath {
    struct sg_worker *worker;
    struct event_base *base;
    struct sg_port ports[SG_DATAPATH_PORTS];
    unsigned port_count;
    struct sg_udp_rx rx;
    struct sg_udp_tx out;  /* to targets; sent before the next batch is received */
    struct sg_udp_tx back; /* to clients, from any number of targets; sent by sg_datapath_send_back */
    struct event send_back;
    bool send_back_pending;

    struct sg_aead_ctx *aead;
    struct sg_server_channel **slots; /* by the slot number in the channel id */
    uint32_t slot_count;
    struct sg_server_session **sessions; /* by the index in the handle */
    uint32_t session_max;
    uint32_t session_count;
    uint64_t sessions_opened;
    uint64_t sessions_resumed;
    uint32_t association_count;
    struct sg_plain *plain;     /* list */
    struct sg_traffic *traffic; /* of sessions that ended, by user */

    struct sg_ledger up;                          /* records and plain datagrams in, datagrams to targets out */
    struct sg_histogram up_batches, down_batches; /* datagrams that one receive call brought */
    struct sg_ledger down;                        /* datagrams from targets in, records and plain datagrams out */
};

/* Opens the UDP ports beside the worker's listeners. NULL after logging why. */
struct sg_datapath *sg_datapath_new(struct sg_worker *worker);
/* Tells every session that the server shuts down, and frees all. */
void sg_datapath_free(struct sg_datapath *datapath);

/* The user file changed: sessions whose user is gone, or whose credential changed, end. */
void sg_datapath_users_changed(struct sg_datapath *datapath);

/* Ends the sessions of one user: how many there were. */
unsigned sg_datapath_kick(struct sg_datapath *datapath, const char *user);
/* Adds histograms and, with metrics.per_user, what each user's sessions carried. */
void sg_datapath_metrics(const struct sg_datapath *datapath, struct json_t *metrics);

/* The server goes out of service: tells every session. */
void sg_datapath_drain(struct sg_datapath *datapath, uint32_t seconds);

/* Adds sessions, associations and both ledgers to the status document. */
void sg_datapath_status(const struct sg_datapath *datapath, struct json_t *status);

/*
 * What was added to back leaves when the sockets that are readable now were worked off, so that answers for one client
 * share a send. sg_datapath_flush_back: at once.
 */
void sg_datapath_send_back(struct sg_datapath *datapath);
void sg_datapath_flush_back(struct sg_datapath *datapath);

/* Random bytes for ids and tokens (sg_random_fn); ctx is not used. */
void sg_datapath_random(void *ctx, uint8_t *out, size_t len);

/* The channel of an id, or NULL. */
struct sg_server_channel *sg_datapath_find(const struct sg_datapath *datapath, const uint8_t id[static 8]);
/* Draws one of count places of a table at random, each free one as likely as another. count: none is free. */
typedef bool sg_place_is_free_fn(const struct sg_datapath *datapath, uint32_t place);
uint32_t sg_datapath_draw_free(const struct sg_datapath *datapath, sg_place_is_free_fn *is_free, uint32_t count);

/* The session that a handle may be of, or NULL: whether it is, sg_server_session_is tells. */
struct sg_server_session *sg_datapath_session(const struct sg_datapath *datapath, const uint8_t handle[static 16]);

#endif
