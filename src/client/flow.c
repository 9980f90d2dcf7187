/*
 * Flows: what local applications see of the data path. A UDP ASSOCIATE has a relay socket of its own, a forward one
 * socket for all sources. A flow gets an association number when it first sends in a session, and a new one whenever
 * the old has ended, so that a restarted server or an expired association costs the application no more than a
 * datagram.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/client.h"
#include "client/uplink_state.h"
#include "core/datagram.h"
#include "core/plaintext.h"
#include "core/socks5.h"
#include "net/clock.h"
#include "net/log.h"
#include "net/log_text.h"
#include "net/service.h"
#include "net/sockaddr.h"

enum {
    REFUSED_BACKOFF_MS = 1000,
    NUMBERED_MAX = 65536,
    SOCKS_RSV_FRAG = 3, /* bytes before the address */
};

/* --- numbers --- */

static void drop_number(struct sg_flow *flow)
{
    if (flow->numbered)
        sg_assoc_close(&flow->uplink->assocs, &flow->node);
    flow->numbered = false;
}

/* Gives the flow a number if it has none. NONE, or why it may not send now. */
static enum sg_reason ensure_number(struct sg_flow *flow, uint64_t now_ms)
{
    struct sg_uplink *uplink = flow->uplink;
    if (!uplink->channel)
        return SG_REASON_NO_SESSION;
    if (now_ms < flow->refused_until_ms)
        return SG_REASON_LIMIT;
    if (flow->refused_until_ms != 0) {
        flow->refused_until_ms = 0;
        drop_number(flow);
    }
    if (flow->numbered)
        return SG_REASON_NONE;
    /* whoever reaches a forward can pretend to be many sources */
    if (uplink->next_number == UINT32_MAX || uplink->assocs.count >= NUMBERED_MAX ||
        sg_assoc_open(&uplink->assocs, &flow->node, uplink->next_number, now_ms) != SG_OK)
        return SG_REASON_LIMIT;
    uplink->next_number++;
    flow->numbered = true;
    return SG_REASON_NONE;
}

/* --- up: from the application --- */

/* For plaintexts whose headers are at most header_len longer than the packets. */
static void make_room(struct sg_uplink *uplink, struct sg_outgoing *out, unsigned count, size_t header_len)
{
    size_t len = 0;
    for (unsigned i = 0; i < count; i++)
        len += SG_RECORD_OVERHEAD + header_len + uplink->rx.packets[i].len;
    out->count = 0;
    out->before = NULL;
    out->datagram_only = false;
    out->room = sg_udp_tx_room(&uplink->out, len);
}

/* The plaintext of a flow's datagram: its number, the address, the data. */
static void add_plaintext(struct sg_outgoing *out, const struct sg_flow *flow, const uint8_t *address,
                          size_t address_len, const uint8_t *data, size_t data_len, uint8_t dscp)
{
    struct sg_wbuf w = sg_wbuf_init(out->room + SG_RECORD_HEADER_BYTES, SG_ASSOC_BYTES + address_len + data_len);
    sg_wbuf_u32(&w, flow->node.number);
    sg_wbuf_bytes(&w, address, address_len);
    sg_wbuf_bytes(&w, data, data_len);
    out->records[out->count] = (struct sg_record){.bytes = out->room, .len = sg_wbuf_len(&w)};
    out->dscp[out->count] = dscp;
    out->data_len[out->count++] = data_len;
    out->room += SG_RECORD_OVERHEAD + sg_wbuf_len(&w);
}

/* Counts a datagram of an application as received and, if there is a reason, as dropped. */
static void count_datagram(struct sg_uplink *uplink, const struct sg_udp_packet *packet, enum sg_reason reason,
                           uint64_t now_ms)
{
    uplink->up.received++;
    uplink->up.received_bytes += packet->len;
    if (reason != SG_REASON_NONE)
        sg_ledger_drop(&uplink->up, reason);
    if (reason == SG_REASON_NO_SESSION)
        sg_uplink_wake(uplink, now_ms);
}

/* A datagram of a UDP ASSOCIATE: the address of its SOCKS header becomes the plaintext's as it stands. */
static void add_socks(struct sg_outgoing *out, const struct sg_flow *flow, const struct sg_udp_packet *packet,
                      size_t header_len)
{
    add_plaintext(out, flow, packet->bytes + SOCKS_RSV_FRAG, header_len - SOCKS_RSV_FRAG, packet->bytes + header_len,
                  packet->len - header_len, packet->from->dscp);
}

/* Whether the packet came with the one before it and has the same SOCKS header. */
static bool is_alike(const struct sg_outgoing *out, const struct sg_udp_packet *packet)
{
    return out->before && packet->from == out->before->from && packet->len >= out->header_len &&
           memcmp(packet->bytes, out->before->bytes, out->header_len) == 0;
}

static enum sg_reason take_socks(struct sg_flow *flow, const struct sg_udp_packet *packet, struct sg_outgoing *out,
                                 uint64_t now_ms)
{
    const struct sg_endpoint *peer = &packet->from->peer;
    struct sg_socks5_udp header;
    if (is_alike(out, packet)) {
        add_socks(out, flow, packet, out->header_len);
        return SG_REASON_NONE;
    }
    if (!sg_ip_equal(&peer->ip, &flow->app.ip) || (flow->app.port != 0 && flow->app.port != peer->port))
        return SG_REASON_PLAIN_SOURCE;
    enum sg_err err = sg_socks5_udp_decode(packet->bytes, packet->len, &header);
    if (err != SG_OK)
        return err == SG_ERR_UNSUPPORTED && header.frag != 0 ? SG_REASON_FRAGMENT : SG_REASON_MALFORMED;
    flow->app = *peer;
    enum sg_reason reason = ensure_number(flow, now_ms);
    if (reason != SG_REASON_NONE)
        return reason;
    sg_assoc_touch_up(&flow->uplink->assocs, &flow->node, header.target.port, now_ms);
    add_socks(out, flow, packet, header.data_offset);
    out->before = packet;
    out->header_len = header.data_offset;
    return SG_REASON_NONE;
}

static void on_socks_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_flow *flow = ctx;
    struct sg_uplink *uplink = flow->uplink;
    SG_UNCLEARED struct sg_outgoing out;
    uint64_t now_ms = sg_now_ms();
    unsigned count = 0;
    (void)what;
    (void)sg_udp_recv(&uplink->rx, fd);
    while ((count = sg_udp_next(&uplink->rx)) > 0) {
        make_room(uplink, &out, count, SG_ASSOC_BYTES);
        for (unsigned i = 0; i < count; i++) {
            const struct sg_udp_packet *packet = &uplink->rx.packets[i];
            count_datagram(uplink, packet, take_socks(flow, packet, &out, now_ms), now_ms);
        }
        sg_uplink_send(uplink, &out, now_ms);
    }
    sg_ledger_lost(&uplink->up, sg_udp_lost(&uplink->rx, &flow->lost));
}

static struct sg_flow **source_bucket(struct sg_forward *forward, const struct sg_endpoint *source)
{
    return &forward->flows[sg_endpoint_hash(source, forward->hash_key) % SG_FORWARD_BUCKETS];
}

static void link_flow(struct sg_flow *flow, struct sg_flow **head)
{
    flow->next = *head;
    flow->link = head;
    if (flow->next)
        flow->next->link = &flow->next;
    *head = flow;
}

static void free_flow(struct sg_flow *flow)
{
    drop_number(flow);
    *flow->link = flow->next;
    if (flow->next)
        flow->next->link = flow->link;
    if (flow->fd >= 0) {
        event_del(&flow->readable);
        close(flow->fd);
    }
    free(flow);
}

/* The flow of a source at a forward, made if it is new and the session can number it. */
static struct sg_flow *forward_flow(struct sg_forward *forward, const struct sg_udp_packet *packet,
                                    enum sg_reason *reason, uint64_t now_ms)
{
    struct sg_flow **bucket = source_bucket(forward, &packet->from->peer);
    struct sg_flow *flow = *bucket;
    while (flow && !sg_endpoint_equal(&flow->app, &packet->from->peer))
        flow = flow->next;
    bool fresh = !flow;
    if (fresh) {
        *reason = SG_REASON_LIMIT;
        flow = calloc(1, sizeof *flow);
        if (!flow)
            return NULL;
        flow->uplink = forward->uplink;
        flow->forward = forward;
        flow->fd = -1;
        flow->app = packet->from->peer;
        flow->app_local = packet->from->local;
        link_flow(flow, bucket);
    }
    *reason = ensure_number(flow, now_ms);
    if (*reason == SG_REASON_NONE)
        return flow;
    if (!flow->numbered)
        free_flow(flow); /* a flow of a forward exists while it has a number */
    return NULL;
}

static enum sg_reason take_forward(struct sg_forward *forward, const struct sg_udp_packet *packet,
                                   struct sg_outgoing *out, uint64_t now_ms)
{
    enum sg_reason reason = SG_REASON_NONE;
    if (!out->before || packet->from != out->before->from) {
        out->before = NULL;
        out->flow = forward_flow(forward, packet, &reason, now_ms);
        if (!out->flow)
            return reason;
        sg_assoc_touch_up(&forward->uplink->assocs, &out->flow->node, forward->target_port, now_ms);
        out->before = packet;
    }
    add_plaintext(out, out->flow, forward->target, forward->target_len, packet->bytes, packet->len, packet->from->dscp);
    return SG_REASON_NONE;
}

static void on_forward_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_forward *forward = ctx;
    struct sg_uplink *uplink = forward->uplink;
    SG_UNCLEARED struct sg_outgoing out;
    uint64_t now_ms = sg_now_ms();
    unsigned count = 0;
    (void)what;
    (void)sg_udp_recv(&uplink->rx, fd);
    while ((count = sg_udp_next(&uplink->rx)) > 0) {
        make_room(uplink, &out, count, SG_PLAINTEXT_HEADER_MAX);
        out.datagram_only = forward->datagram_only;
        for (unsigned i = 0; i < count; i++) {
            const struct sg_udp_packet *packet = &uplink->rx.packets[i];
            count_datagram(uplink, packet, take_forward(forward, packet, &out, now_ms), now_ms);
        }
        sg_uplink_send(uplink, &out, now_ms);
    }
    sg_ledger_lost(&uplink->up, sg_udp_lost(&uplink->rx, &forward->lost));
}

/* --- down: to the application --- */

/* Finds the flow of a plaintext, and has the uplink's back send to it. */
static enum sg_reason find_flow(struct sg_uplink *uplink, uint8_t *plaintext, size_t len, struct sg_delivery *found,
                                uint64_t now_ms)
{
    struct sg_datagram d;
    found->header.len = 0;
    if (sg_plaintext_decode(plaintext, len, &d) != SG_OK || d.address.atyp == SG_ATYP_NAME)
        return SG_REASON_MALFORMED;
    struct sg_flow *flow = (struct sg_flow *)sg_assoc_find(&uplink->assocs, d.association);
    if (!flow || flow->app.port == 0)
        return SG_REASON_ASSOC_CLOSED;
    sg_assoc_touch_down(&uplink->assocs, &flow->node, now_ms);
    const struct sg_udp_to to = {.fd = flow->forward ? flow->forward->fd : flow->fd,
                                 .peer = flow->app,
                                 .local = flow->app_local,
                                 .ledger = &uplink->down};
    sg_udp_tx_to(&uplink->back, &to);
    found->flow = flow;
    sg_plaintext_remember(&found->header, plaintext, (size_t)(d.data - plaintext));
    return SG_REASON_NONE;
}

void sg_flow_deliver(struct sg_uplink *uplink, uint8_t *plaintext, size_t len, struct sg_delivery *before,
                     uint64_t now_ms)
{
    if (!sg_plaintext_is_alike(&before->header, plaintext, len)) {
        enum sg_reason reason = find_flow(uplink, plaintext, len, before, now_ms);
        if (reason != SG_REASON_NONE) {
            sg_ledger_drop(&uplink->down, reason);
            return;
        }
    }
    const size_t header_len = before->header.len, data_len = len - header_len;
    if (before->flow->forward) {
        sg_udp_tx_add(&uplink->back, plaintext + header_len, data_len, data_len);
        return;
    }
    uint8_t *socks = plaintext + SG_ASSOC_BYTES - SOCKS_RSV_FRAG; /* then the address as it stands */
    memset(socks, 0, SOCKS_RSV_FRAG);
    sg_udp_tx_add(&uplink->back, socks, len - 1, data_len);
}

static void end_number(struct sg_flow *flow)
{
    if (flow->forward)
        free_flow(flow);
    else
        drop_number(flow);
}

void sg_flow_closed(struct sg_uplink *uplink, uint32_t number)
{
    struct sg_flow *flow = (struct sg_flow *)sg_assoc_find(&uplink->assocs, number);
    if (flow)
        end_number(flow);
}

void sg_flow_refused(struct sg_uplink *uplink, const struct sg_msg *msg, uint64_t now_ms)
{
    char text[SG_TARGET_TEXT_MAX];
    struct sg_flow *flow = (struct sg_flow *)sg_assoc_find(&uplink->assocs, msg->refused.association);
    sg_log_target(&msg->refused.target, text);
    sg_log_event(SG_LOG_INFO, "datagram_refused",
                 SG_LOG_FIELDS(sg_log_word("target", text), sg_log_word("reason", sg_reason_name(msg->refused.reason))),
                 "server refused a datagram to %s: %s", text, sg_reason_text(msg->refused.reason));
    if (flow && msg->refused.scope == SG_REFUSED_ASSOCIATION)
        flow->refused_until_ms = now_ms + REFUSED_BACKOFF_MS;
}

static void lose_number(void *ctx, struct sg_assoc_node *node)
{
    (void)ctx;
    end_number((struct sg_flow *)node);
}

void sg_flow_session_lost(struct sg_uplink *uplink)
{
    sg_assoc_each(&uplink->assocs, lose_number, NULL);
}

void sg_flow_expire(struct sg_uplink *uplink, uint64_t now_ms)
{
    struct sg_assoc_node *node = NULL;
    while ((node = sg_assoc_expired(&uplink->assocs, now_ms)))
        end_number((struct sg_flow *)node);
}

static void write_number(uint8_t *at, uint32_t number)
{
    struct sg_wbuf w = sg_wbuf_init(at, SG_ASSOC_BYTES);
    sg_wbuf_u32(&w, number);
}

static void write_numbers(struct sg_uplink *uplink, enum sg_msg_type type, const uint8_t *bytes, unsigned count)
{
    struct sg_msg msg = {.type = type};
    msg.numbers.reason = SG_REASON_NORMAL;
    msg.numbers.count = (uint16_t)count;
    msg.numbers.bytes = bytes;
    if (count > 0)
        sg_uplink_write(uplink, &msg);
}

void sg_flow_send_alive(struct sg_uplink *uplink, uint64_t now_ms)
{
    uint8_t bytes[4 * SG_CONTROL_NUMBERS_MAX];
    unsigned count = 0;
    for (struct sg_flow *flow = uplink->flows; flow; flow = flow->next) {
        if (!flow->numbered)
            continue;
        write_number(bytes + (size_t)4 * count, flow->node.number);
        sg_assoc_touch_alive(&uplink->assocs, &flow->node, now_ms);
        if (++count == SG_CONTROL_NUMBERS_MAX) {
            write_numbers(uplink, SG_MSG_ALIVE, bytes, count);
            count = 0;
        }
    }
    write_numbers(uplink, SG_MSG_ALIVE, bytes, count);
}

/* --- making and ending --- */

/* Asking for what is never used would cost on each datagram. */
static unsigned dscp_flag(const struct sg_uplink *uplink)
{
    return uplink->client->options->dscp != 0 ? SG_UDP_DSCP : 0;
}

enum sg_err sg_flow_associate(struct sg_uplink *uplink, const struct sg_endpoint *local, const struct sg_endpoint *peer,
                              const struct sg_target *request, struct sg_flow **out, struct sg_endpoint *bound)
{
    struct sg_endpoint bind_to = {.ip = local->ip};
    struct sg_flow *flow = calloc(1, sizeof *flow);
    if (!flow)
        return SG_ERR_NOMEM;
    flow->fd = sg_udp_open(&bind_to, SG_UDP_BIG | SG_UDP_GRO | dscp_flag(uplink));
    if (flow->fd < 0) {
        free(flow);
        return SG_ERR_SYSTEM;
    }
    flow->uplink = uplink;
    flow->app = (struct sg_endpoint){.ip = peer->ip, .port = sg_socks5_promised_port(request, &peer->ip)};
    link_flow(flow, &uplink->flows);
    event_assign(&flow->readable, uplink->base, flow->fd, EV_READ | EV_PERSIST, on_socks_readable, flow);
    event_add(&flow->readable, NULL);
    *bound = sg_socket_local(flow->fd);
    *out = flow;
    return SG_OK;
}

void sg_flow_release(struct sg_flow *flow)
{
    if (flow->numbered) {
        uint8_t number[4];
        write_number(number, flow->node.number);
        write_numbers(flow->uplink, SG_MSG_CLOSED, number, 1);
    }
    free_flow(flow);
}

/* The socket that was passed for the address, or a new one; -1 with errno. */
static int open_forward(const struct sg_uplink *uplink, const struct sg_endpoint *listen)
{
    const unsigned flags = SG_UDP_PKTINFO | SG_UDP_BIG | SG_UDP_GRO | dscp_flag(uplink);
    int fd = sg_service_take(SG_SERVICE_DATAGRAM, listen, uplink->client->index);
    if (fd < 0)
        return sg_udp_open_shared(listen, flags, uplink->client->share);
    if (sg_udp_adopt(fd, listen->ip.family, flags))
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

enum sg_err sg_uplink_add_forward(struct sg_uplink *uplink, const struct sg_endpoint *listen,
                                  const struct sg_target *target, bool datagram_only, struct sg_endpoint *bound)
{
    struct sg_forward *forward = calloc(1, sizeof *forward);
    if (!forward)
        return SG_ERR_NOMEM;
    forward->fd = open_forward(uplink, listen);
    if (forward->fd < 0) {
        int error = errno;
        free(forward);
        errno = error;
        return SG_ERR_SYSTEM;
    }
    struct sg_wbuf w = sg_wbuf_init(forward->target, sizeof forward->target);
    sg_target_encode(&w, target);
    forward->target_len = sg_wbuf_len(&w);
    forward->target_port = target->port;
    forward->datagram_only = datagram_only;
    forward->uplink = uplink;
    sg_uplink_random(NULL, forward->hash_key, sizeof forward->hash_key);
    forward->next = uplink->forwards;
    uplink->forwards = forward;
    event_assign(&forward->readable, uplink->base, forward->fd, EV_READ | EV_PERSIST, on_forward_readable, forward);
    event_add(&forward->readable, NULL);
    *bound = sg_socket_local(forward->fd);
    return SG_OK;
}

static void free_flows(struct sg_flow *flow)
{
    for (struct sg_flow *next = NULL; flow; flow = next) {
        next = flow->next;
        free_flow(flow);
    }
}

void sg_flow_free_all(struct sg_uplink *uplink)
{
    free_flows(uplink->flows);
    while (uplink->forwards) {
        struct sg_forward *forward = uplink->forwards;
        uplink->forwards = forward->next;
        for (unsigned i = 0; i < SG_FORWARD_BUCKETS; i++)
            free_flows(forward->flows[i]);
        event_del(&forward->readable);
        close(forward->fd);
        free(forward);
    }
}
