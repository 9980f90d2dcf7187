/*
 * The data path of the client towards its server: plaintexts of flows are sealed in batches or put on the stream,
 * what arrives by UDP is opened in batches and given to its flow or to the session.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sodium.h>

#include "client/client.h"
#include "client/oversize.h"
#include "client/uplink_state.h"
#include "core/datagram.h"
#include "core/detect.h"
#include "core/guard.h"
#include "core/plaintext.h"
#include "net/clock.h"
#include "net/control_stream.h"
#include "net/dscp.h"
#include "net/log.h"
#include "net/sockaddr.h"

void sg_uplink_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    randombytes_buf(out, len);
}

/* A datagram does not go by UDP: the stream takes it, unless its owner wants none of that. */
static void send_by_stream(struct sg_uplink *uplink, const struct sg_outgoing *out, const struct sg_record *record,
                           uint64_t now_ms)
{
    sg_oversize_note(uplink, out->datagram_only ? SG_OVERSIZE_DROPPED : SG_OVERSIZE_UP,
                     record->bytes + SG_RECORD_HEADER_BYTES, record->len);
    if (!out->datagram_only || record->len == 0) /* 0: nothing is left of it, and it is dropped there */
        (void)sg_control_stream_queue(&uplink->waiting, &uplink->up, record->bytes + SG_RECORD_HEADER_BYTES,
                                      record->len, now_ms);
    else
        sg_ledger_drop(&uplink->up, sg_session_on_udp(&uplink->session) ? SG_REASON_TOO_BIG : SG_REASON_NO_PATH);
}

void sg_uplink_send(struct sg_uplink *uplink, const struct sg_outgoing *out, uint64_t now_ms)
{
    SG_UNCLEARED struct sg_record records[SG_UDP_BATCH];
    size_t bytes[SG_UDP_BATCH] = {0};
    uint8_t dscp[SG_UDP_BATCH] = {0};
    struct sg_udp_to to = {.fd = uplink->udp_fd, .is_connected = true, .ledger = &uplink->up};
    uint64_t copied = uplink->client->options->dscp;
    unsigned run = 0;
    if (out->count == 0)
        return;
    for (unsigned i = 0; i < out->count; i++) {
        if (sg_session_route(&uplink->session, out->records[i].len + SG_RECORD_OVERHEAD, now_ms) == SG_ROUTE_STREAM) {
            send_by_stream(uplink, out, &out->records[i], now_ms);
            continue;
        }
        records[run] = out->records[i];
        dscp[run] = sg_dscp_copied(copied, out->dscp[i]);
        bytes[run++] = out->data_len[i];
    }
    size_t sealed = run > 0 ? sg_seal_batch(&uplink->channel->sender, records, run) : 0;
    for (size_t i = 0; i < sealed; i++) {
        if (i == 0 || dscp[i] != to.dscp) {
            to.dscp = dscp[i];
            sg_udp_tx_to(&uplink->out, &to);
        }
        sg_udp_tx_add(&uplink->out, records[i].bytes, records[i].len, bytes[i]);
    }
    for (size_t i = sealed; i < run; i++) /* the key is at its limit: what cannot be sealed goes inside TLS */
        send_by_stream(uplink, out, &records[i], now_ms);
    if (sealed > 0)
        sg_uplink_send_out(uplink);
    if (run > 0 && sg_sender_wants_renewal(&uplink->channel->sender))
        sg_uplink_renew(uplink, now_ms);
    sg_control_stream_pump(uplink->channel->bev, &uplink->waiting, &uplink->up, now_ms);
    sg_uplink_arm(uplink, now_ms);
}

void sg_uplink_send_out(struct sg_uplink *uplink)
{
    if (uplink->send_out_pending)
        return;
    uplink->send_out_pending = true;
    event_active(&uplink->send_out, 0, 0);
}

void sg_uplink_flush_out(struct sg_uplink *uplink)
{
    uplink->send_out_pending = false;
    sg_udp_tx_flush(&uplink->out);
}

/* --- what core/session.c asks of us --- */

static void op_send_stream(void *ctx, const struct sg_msg *msg)
{
    sg_uplink_write(ctx, msg);
}

static void op_send_udp(void *ctx, const struct sg_path_addr *addr, const struct sg_msg *msg, size_t record_bytes)
{
    struct sg_uplink *uplink = ctx;
    (void)addr;
    if (uplink->udp_fd < 0)
        return;
    uint8_t *room = sg_udp_tx_room(&uplink->out, SG_RECORD_MAX);
    size_t len = sg_session_seal(&uplink->channel->sender, msg, record_bytes, room);
    if (len == 0)
        return;
    const struct sg_udp_to to = {.fd = uplink->udp_fd, .is_connected = true};
    sg_udp_tx_to(&uplink->out, &to);
    sg_udp_tx_add(&uplink->out, room, len, 0);
    sg_uplink_send_out(uplink);
}

static size_t op_kernel_max(void *ctx, const struct sg_path_addr *addr)
{
    struct sg_uplink *uplink = ctx;
    (void)addr;
    struct sg_endpoint server = sg_socket_peer(uplink->udp_fd);
    return server.ip.family == 0 ? 0 : sg_udp_route_payload(&server);
}

static void op_on_route(void *ctx)
{
    struct sg_uplink *uplink = ctx;
    sg_log_event(SG_LOG_INFO, "path_change",
                 SG_LOG_FIELDS(sg_log_word("path", sg_session_on_udp(&uplink->session) ? "udp" : "stream")), "path: %s",
                 sg_session_on_udp(&uplink->session) ? "udp" : "stream");
    if (!sg_session_on_udp(&uplink->session))
        return;
    uplink->warned_udp = true; /* it works, so that there is nothing to warn of when it should fail later */
    sg_uplink_tell_ready(uplink, "udp");
}

static void op_on_doubt(void *ctx)
{
    sg_uplink_doubt(ctx);
}

const struct sg_session_ops sg_uplink_session_ops = {
    .send_stream = op_send_stream,
    .send_udp = op_send_udp,
    .kernel_max = op_kernel_max,
    .on_route = op_on_route,
    .on_doubt = op_on_doubt,
    .random = sg_uplink_random,
};

/* --- UDP from the server --- */

/* True: it was a datagram. */
static bool act_on_record(struct sg_uplink *uplink, const struct sg_record *record, size_t record_bytes,
                          struct sg_delivery *before, uint64_t now_ms)
{
    uint8_t *plaintext = record->bytes + SG_RECORD_HEADER_BYTES;
    const struct sg_arrival arrival = {.record_bytes = record_bytes};
    const bool is_datagram = sg_plaintext_association(plaintext, record->len) != 0;
    if (is_datagram) {
        sg_flow_deliver(uplink, plaintext, record->len, before, now_ms);
    } else {
        before->header.len = 0; /* whatever that does to flows */
        enum sg_reason reason = sg_session_on_message(&uplink->session, plaintext, record->len, &arrival, now_ms);
        if (reason == SG_REASON_NONE)
            uplink->down.session++;
        else
            sg_ledger_drop(&uplink->down, reason);
    }
    return is_datagram;
}

/* A run: records of one channel, as positions in the received batch. */
struct run {
    struct sg_uplink_channel *channel;
    struct sg_record records[SG_UDP_BATCH];
    size_t record_bytes[SG_UDP_BATCH];
    unsigned count;
};

static void finish_run(struct sg_uplink *uplink, struct run *run, uint64_t now_ms)
{
    struct sg_delivery before = {0};
    if (run->count == 0)
        return;
    struct sg_arrival arrival = {0};
    const bool any = sg_open_batch(&run->channel->receiver, run->records, run->count) > 0;
    for (unsigned i = 0; i < run->count; i++) {
        if (run->records[i].err == SG_OK)
            arrival.datagram |= act_on_record(uplink, &run->records[i], run->record_bytes[i], &before, now_ms);
        else
            sg_ledger_drop(&uplink->down, sg_reason_of_open(run->records[i].err));
    }
    if (any)
        sg_session_on_record(&uplink->session, &arrival, now_ms);
    run->count = 0;
}

static struct sg_uplink_channel *channel_of(const struct sg_uplink *uplink, const uint8_t *id)
{
    if (memcmp(id, uplink->channel->id, SG_CHANNEL_ID_BYTES) == 0)
        return uplink->channel;
    return uplink->old && memcmp(id, uplink->old->id, SG_CHANNEL_ID_BYTES) == 0 ? uplink->old : NULL;
}

/* Adds a packet to the run, after finishing one of another channel. NONE, or why it is dropped. */
static enum sg_reason add_record(struct sg_uplink *uplink, struct run *run, const struct sg_udp_packet *packet,
                                 uint64_t now_ms)
{
    if (sg_detect(packet->bytes, packet->len) != SG_DETECT_SEALED)
        return SG_REASON_JUNK;
    if (packet->len < SG_RECORD_OVERHEAD + SG_ASSOC_BYTES + 1)
        return SG_REASON_LENGTH;
    struct sg_uplink_channel *channel = channel_of(uplink, packet->bytes + SG_RECORD_CHANNEL_OFFSET);
    if (!channel)
        return SG_REASON_UNKNOWN_CHANNEL;
    if (run->count > 0 && run->channel != channel)
        finish_run(uplink, run, now_ms);
    run->channel = channel;
    run->record_bytes[run->count] = packet->len;
    run->records[run->count++] = (struct sg_record){.bytes = packet->bytes, .len = packet->len};
    return SG_REASON_NONE;
}

static void work_on_batch(struct sg_uplink *uplink, unsigned got, uint64_t now_ms)
{
    SG_UNCLEARED struct run run;
    run.count = 0;
    for (unsigned i = 0; i < got; i++) {
        const struct sg_udp_packet *packet = &uplink->rx.packets[i];
        uplink->down.received++;
        uplink->down.received_bytes += packet->len;
        enum sg_reason reason = add_record(uplink, &run, packet, now_ms);
        if (reason != SG_REASON_NONE)
            sg_ledger_drop(&uplink->down, reason);
    }
    finish_run(uplink, &run, now_ms);
    sg_udp_tx_flush(&uplink->back);
    if (sg_receiver_wants_renewal(&uplink->channel->receiver))
        sg_uplink_renew(uplink, now_ms);
}

static void on_udp_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_uplink *uplink = ctx;
    uint64_t now_ms = sg_now_ms();
    unsigned got = 0;
    (void)what;
    (void)sg_udp_recv(&uplink->rx, fd); /* an error is an ICMP message: the probes find out what it means */
    while ((got = sg_udp_next(&uplink->rx)) > 0)
        work_on_batch(uplink, got, now_ms);
    sg_ledger_lost(&uplink->down, sg_udp_lost(&uplink->rx, &uplink->udp_lost));
    sg_uplink_arm(uplink, now_ms);
}

/* --- the socket --- */

bool sg_uplink_open_udp(struct sg_uplink *uplink)
{
    struct sg_endpoint server = uplink->bound;
    struct sg_endpoint any = {0};
    struct sockaddr_storage ss;
    char text[SG_ENDPOINT_TEXT_MAX];

    if (sg_ip_is_unspecified(&server.ip))
        server.ip = uplink->peer.ip;
    if (server.port == 0)
        server.port = uplink->peer.port;
    sg_endpoint_format(&server, text);
    /* a server must not make us send to hosts that only we can reach */
    if (sg_guard_class(&server.ip) != NULL && !sg_guard_same_class(&server.ip, &uplink->peer.ip)) {
        sg_log_event(SG_LOG_WARN, "udp_refused", NULL,
                     "the server names %s for UDP, which is not of its own class of address: not used", text);
        return false;
    }
    any.ip.family = server.ip.family;
    uplink->udp_lost = 0;
    uplink->udp_fd = sg_udp_open(&any, SG_UDP_DONTFRAG | SG_UDP_BIG | SG_UDP_GRO);
    socklen_t len = sg_sockaddr_from(&server, &ss);
    if (uplink->udp_fd >= 0 && connect(uplink->udp_fd, (struct sockaddr *)&ss, len) == 0) {
        event_assign(&uplink->udp_readable, uplink->base, uplink->udp_fd, EV_READ | EV_PERSIST, on_udp_readable,
                     uplink);
        event_add(&uplink->udp_readable, NULL);
        return true;
    }
    sg_log_event(SG_LOG_WARN, "udp_failed", NULL, "cannot send UDP to %s: %s", text, strerror(errno));
    if (uplink->udp_fd >= 0)
        close(uplink->udp_fd);
    uplink->udp_fd = -1;
    return false;
}

bool sg_uplink_udp_has_moved(const struct sg_uplink *uplink)
{
    struct sg_endpoint ours = sg_socket_local(uplink->udp_fd), server = sg_socket_peer(uplink->udp_fd);
    struct sg_endpoint any = {.ip.family = server.ip.family};
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(&server, &ss);
    int fd = sg_udp_open(&any, 0);
    if (fd < 0)
        return false;
    bool moved = false;
    if (connect(fd, (struct sockaddr *)&ss, len) == 0) {
        struct sg_endpoint now = sg_socket_local(fd);
        moved = !sg_ip_equal(&now.ip, &ours.ip);
    }
    close(fd);
    return moved;
}

void sg_uplink_close_udp(struct sg_uplink *uplink)
{
    if (uplink->udp_fd < 0)
        return;
    sg_uplink_flush_out(uplink);
    event_del(&uplink->udp_readable);
    close(uplink->udp_fd);
    uplink->udp_fd = -1;
}
