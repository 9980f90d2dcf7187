/* The control stream over a bufferevent, for both roles. */
#include "net/control_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "core/plaintext.h"
#include "net/udp.h"

enum sg_err sg_control_stream_next(struct bufferevent *bev, enum sg_role from, struct sg_msg *msg, size_t *taken)
{
    struct evbuffer *input = bufferevent_get_input(bev);
    size_t have = evbuffer_get_length(input);
    const uint8_t *head = have < SG_CONTROL_HEADER_BYTES ? NULL : evbuffer_pullup(input, SG_CONTROL_HEADER_BYTES);
    if (!head)
        return SG_ERR_AGAIN;
    size_t want = SG_CONTROL_HEADER_BYTES + ((size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3]);
    if (want > SG_CONTROL_HEADER_BYTES + SG_CONTROL_BODY_MAX)
        return SG_ERR_MALFORMED;
    if (have < want)
        return SG_ERR_AGAIN;
    const uint8_t *bytes = evbuffer_pullup(input, (ev_ssize_t)want);
    if (!bytes)
        return SG_ERR_NOMEM;
    struct sg_rbuf r = sg_rbuf_init(bytes, want);
    *taken = want;
    return sg_control_decode(&r, from, msg);
}

void sg_control_stream_start(struct bufferevent *bev)
{
    static const int lowat = SG_STREAM_LOW_BYTES;
    (void)setsockopt(bufferevent_getfd(bev), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
}

void sg_control_stream_write(struct bufferevent *bev, const struct sg_msg *msg)
{
    uint8_t bytes[SG_CONTROL_HEADER_BYTES + 2 + 4 * SG_CONTROL_NUMBERS_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_control_encode(&w, msg);
    if (sg_wbuf_ok(&w))
        bufferevent_write(bev, bytes, sg_wbuf_len(&w));
}

bool sg_control_stream_is_stuck(struct bufferevent *bev)
{
    return evbuffer_get_length(bufferevent_get_output(bev)) > SG_STREAM_STUCK_BYTES;
}

size_t sg_control_stream_queue(struct sg_squeue *queue, struct sg_ledger *ledger, const uint8_t *plaintext, size_t len,
                               uint64_t now_ms)
{
    if (len == 0) {
        sg_ledger_drop(ledger, SG_REASON_SEND_FAILED);
        return 1;
    }
    bool queued = false;
    size_t before = queue->count;
    size_t dropped = sg_squeue_push(queue, plaintext, len, now_ms, &queued);
    ledger->queued = ledger->queued - before + queue->count;
    ledger->drops[SG_REASON_STREAM_FULL] += dropped;
    return dropped;
}

/* The oldest datagram that waits, into the stream. False: memory is short, and it waits on. */
static bool pump_one(struct evbuffer *output, struct sg_squeue *queue, struct sg_ledger *ledger)
{
    struct evbuffer_iovec room;
    size_t len = sg_squeue_peek(queue);
    if (evbuffer_reserve_space(output, (ev_ssize_t)(SG_CONTROL_HEADER_BYTES + len), &room, 1) != 1)
        return false;
    sg_control_header(room.iov_base, SG_MSG_DATAGRAM, len);
    sg_squeue_pop(queue, (uint8_t *)room.iov_base + SG_CONTROL_HEADER_BYTES);
    room.iov_len = SG_CONTROL_HEADER_BYTES + len;
    evbuffer_commit_space(output, &room, 1);
    ledger->queued--;
    ledger->forwarded++;
    ledger->streamed++;
    ledger->forwarded_bytes += len;
    return true;
}

void sg_control_stream_pump(struct bufferevent *bev, struct sg_squeue *queue, struct sg_ledger *ledger, uint64_t now_ms)
{
    size_t late = sg_squeue_expire(queue, now_ms);
    ledger->queued -= late;
    ledger->drops[SG_REASON_STREAM_FULL] += late;
    if (!bev || queue->count == 0)
        return;
    struct evbuffer *output = bufferevent_get_output(bev);
    while (queue->count > 0 && evbuffer_get_length(output) < SG_STREAM_LOW_BYTES && pump_one(output, queue, ledger))
        continue;
}

void sg_control_stream_discard(struct sg_squeue *queue, struct sg_ledger *ledger)
{
    ledger->queued -= queue->count;
    ledger->drops[SG_REASON_NO_SESSION] += queue->count;
    sg_squeue_dispose(queue);
}
