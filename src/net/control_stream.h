/*
 * The control stream over a bufferevent: whole messages out of its input, messages and queued datagrams into its
 * output.
 */
#ifndef SG_NET_CONTROL_STREAM_H
#define SG_NET_CONTROL_STREAM_H

#include "core/control.h"
#include "core/reason.h"
#include "core/squeue.h"

struct bufferevent;

enum {
    SG_STREAM_LOW_BYTES = 16 * 1024,    /* of output below which datagrams are moved into it */
    SG_STREAM_STUCK_BYTES = 1024 * 1024 /* of output: the peer sends but never reads */
};

/*
 * The next whole message in the input, sent by role from, in place: valid until the caller drains *taken bytes. OK,
 * AGAIN (none yet), UNSUPPORTED (to be skipped: drain it), any other: the session must end.
 */
SG_MUST_CHECK enum sg_err sg_control_stream_next(struct bufferevent *bev, enum sg_role from, struct sg_msg *msg,
                                                 size_t *taken);

/*
 * Once, when a connection becomes a control stream: its socket takes no more than the kernel can send soon. What would
 * wait there cannot be dropped for its age any more.
 */
void sg_control_stream_start(struct bufferevent *bev);

void sg_control_stream_write(struct bufferevent *bev, const struct sg_msg *msg);

/* True if the output holds more than a reading peer would leave there. */
bool sg_control_stream_is_stuck(struct bufferevent *bev);

/*
 * Queues a plaintext for the stream; what it displaces counts as stream_full. len 0: the cipher failed and left nothing
 * of it, which counts as send_failed. Returns how many were dropped.
 */
size_t sg_control_stream_queue(struct sg_squeue *queue, struct sg_ledger *ledger, const uint8_t *plaintext, size_t len,
                               uint64_t now_ms);

/* Moves waiting datagrams into the output as far as it takes them, after dropping what is too old. bev is NULL when
 * there is no stream: they wait on. */
void sg_control_stream_pump(struct bufferevent *bev, struct sg_squeue *queue, struct sg_ledger *ledger,
                            uint64_t now_ms);

/* The queue ends with its session: what waits counts as no_session. */
void sg_control_stream_discard(struct sg_squeue *queue, struct sg_ledger *ledger);

#endif
