/*
 * Associations, and what carries their datagrams: what one up goes through, what comes back down. The first datagram of
 * a number makes its association.
 */
#include <stdlib.h>
#include <string.h>

#include "core/datagram.h"
#include "core/plaintext.h"
#include "net/clock.h"
#include "net/control_stream.h"
#include "net/dscp.h"
#include "server/config.h"
#include "server/datapath.h"
#include "server/policy.h"
#include "server/session.h"
#include "server/usage.h"
#include "server/worker.h"

/* --- down: from targets to the client --- */

/* Into the queue for the stream, where it may displace others. */
static void queue_down(struct sg_server_session *session, const uint8_t *plaintext, size_t len, uint64_t now_ms)
{
    session->counts.dropped +=
        sg_control_stream_queue(&session->waiting, &session->datapath->down, plaintext, len, now_ms);
}

static void note_oversized(struct sg_server_assoc *assoc, size_t plaintext_len)
{
    struct sg_server_session *session = assoc->session;
    if (!sg_session_is_oversized(&session->core, plaintext_len + SG_RECORD_OVERHEAD))
        return;
    session->datapath->down.oversized++;
    if (!assoc->oversize_told)
        sg_session_log_oversized(session, plaintext_len);
    assoc->oversize_told = true;
}

/* Seals a run of records of one association and hands it to the batch; what cannot be sealed goes by the stream. */
static void send_records(struct sg_server_session *session, struct sg_record *records, const size_t *data_len,
                         const uint8_t *dscp, unsigned count, uint64_t now_ms)
{
    struct sg_datapath *datapath = session->datapath;
    const struct sg_path_addr *path = &session->core.server_path.current;
    struct sg_udp_to to = {.fd = datapath->ports[path->port_index].fd,
                           .peer = path->remote,
                           .local = path->local,
                           .ledger = &datapath->down};
    size_t sealed = sg_seal_batch(&session->current->sender, records, count);
    for (size_t i = 0; i < sealed; i++) {
        if (i == 0 || dscp[i] != to.dscp) {
            to.dscp = dscp[i];
            sg_udp_tx_to(&datapath->back, &to);
        }
        sg_udp_tx_add(&datapath->back, records[i].bytes, records[i].len, data_len[i]);
    }
    for (size_t i = sealed; i < count; i++)
        queue_down(session, records[i].bytes + SG_RECORD_HEADER_BYTES, records[i].len, now_ms);
    sg_datapath_send_back(datapath);
}

/* Room for records around these packets. */
static uint8_t *make_room(struct sg_datapath *datapath, const struct sg_udp_packet *packets, unsigned count)
{
    size_t len = 0;
    for (unsigned i = 0; i < count; i++)
        len += packets[i].len + SG_RECORD_OVERHEAD + SG_PLAINTEXT_HEADER_IP_MAX;
    return sg_udp_tx_room(&datapath->back, len);
}

static void on_packets(struct sg_outbound *outbound, struct sg_udp_packet *packets, unsigned count)
{
    struct sg_server_assoc *assoc =
        (struct sg_server_assoc *)((char *)outbound - offsetof(struct sg_server_assoc, outbound));
    struct sg_server_session *session = assoc->session;
    SG_UNCLEARED struct sg_record records[SG_UDP_BATCH];
    size_t data_len[SG_UDP_BATCH] = {0};
    uint8_t dscp[SG_UDP_BATCH] = {0};
    struct sg_plaintext_memo header = {0};
    const struct sg_udp_from *from = NULL; /* whose header that is */
    uint64_t copied = session->datapath->worker->policy->config->dscp;
    unsigned run = 0, passed = 0;
    size_t passed_bytes = 0;
    uint64_t now_ms = sg_now_ms();
    uint8_t *room = make_room(session->datapath, packets, count);

    for (unsigned i = 0; i < count; i++) {
        if (!packets[i].bytes)
            continue;
        passed++;
        passed_bytes += packets[i].len;
        uint8_t *data = room + SG_RECORD_HEADER_BYTES + SG_PLAINTEXT_HEADER_IP_MAX;
        memcpy(data, packets[i].bytes, packets[i].len);
        room = data + packets[i].len + SG_RECORD_TAG_BYTES;
        if (!from || packets[i].from != from) {
            const uint8_t *made = sg_plaintext_prepend(data, assoc->node.number, &packets[i].from->peer);
            sg_plaintext_remember(&header, made, (size_t)(data - made));
            from = packets[i].from;
        }
        uint8_t *plaintext = sg_plaintext_prepend_alike(data, &header);
        size_t len = (size_t)(data - plaintext) + packets[i].len;
        if (sg_session_route(&session->core, len + SG_RECORD_OVERHEAD, now_ms) == SG_ROUTE_STREAM) {
            note_oversized(assoc, len);
            queue_down(session, plaintext, len, now_ms);
            continue;
        }
        records[run] = (struct sg_record){.bytes = plaintext - SG_RECORD_HEADER_BYTES, .len = len};
        dscp[run] = sg_dscp_copied(copied, from->dscp);
        data_len[run++] = packets[i].len;
    }
    if (passed == 0)
        return; /* what nobody asked for keeps no association alive */
    session->counts.down += passed;
    session->counts.down_bytes += passed_bytes;
    send_records(session, records, data_len, dscp, run, now_ms);
    sg_assoc_touch_down(&session->assocs, &assoc->node, now_ms);
    sg_server_session_pump(session, now_ms);
    sg_server_session_arm(session, now_ms);
}

static void on_target_error(struct sg_outbound *outbound, const struct sg_endpoint *endpoint, enum sg_reason reason)
{
    struct sg_server_assoc *assoc =
        (struct sg_server_assoc *)((char *)outbound - offsetof(struct sg_server_assoc, outbound));
    struct sg_target target = sg_endpoint_target(endpoint);
    sg_server_session_refuse(assoc->session, assoc->node.number, SG_REFUSED_TARGET, reason, &target, sg_now_ms());
}

static const struct sg_outbound_owner outbound_owner = {.on_packets = on_packets, .on_error = on_target_error};

/* --- life --- */

void sg_server_assoc_close(struct sg_server_assoc *assoc)
{
    struct sg_server_session *session = assoc->session;
    sg_assoc_close(&session->assocs, &assoc->node);
    sg_outbound_dispose(&assoc->outbound);
    sg_usage_give(session->who.usage, SG_USAGE_ASSOCIATION);
    session->datapath->association_count--;
    free(assoc);
}

/*
 * Creates an association under the user's and the server's limits. NULL, and the number is used up: the client must
 * back off.
 */
static struct sg_server_assoc *create_assoc(struct sg_server_session *session, uint32_t number, enum sg_reason *reason,
                                            uint64_t now_ms)
{
    struct sg_datapath *datapath = session->datapath;
    *reason = SG_REASON_LIMIT;
    struct sg_server_assoc *assoc = NULL;
    if (!sg_usage_take(session->who.usage, SG_USAGE_ASSOCIATION))
        goto refused;
    assoc = calloc(1, sizeof *assoc);
    if (!assoc || sg_assoc_open(&session->assocs, &assoc->node, number, now_ms) != SG_OK) {
        free(assoc);
        sg_usage_give(session->who.usage, SG_USAGE_ASSOCIATION);
        goto refused;
    }
    assoc->session = session;
    sg_outbound_init(&assoc->outbound, datapath, &session->permits, &outbound_owner);
    datapath->association_count++;
    return assoc;
refused:
    sg_assoc_use_up(&session->assocs, number);
    return NULL;
}

/* --- up: from the client to targets --- */

/* Drops a datagram up. */
static void drop_up(struct sg_server_session *session, enum sg_reason reason)
{
    sg_ledger_drop(&session->datapath->up, reason);
    session->counts.dropped++;
}

/* Drops a datagram up for a reason and tells the client. */
static void refuse_datagram(struct sg_server_session *session, uint32_t number, enum sg_refused_scope scope,
                            enum sg_reason reason, const struct sg_target *target, uint64_t now_ms)
{
    drop_up(session, reason);
    sg_server_session_refuse(session, number, scope, reason, target, now_ms);
}

bool sg_server_session_forward(struct sg_server_session *session, uint32_t number, const struct sg_target *name,
                               const struct sg_endpoint *target, uint8_t *data, size_t len, uint64_t now_ms)
{
    struct sg_target shown = name ? *name : sg_endpoint_target(target);
    enum sg_reason reason = SG_REASON_NONE;
    struct sg_server_assoc *assoc = (struct sg_server_assoc *)sg_assoc_find(&session->assocs, number);
    struct sg_outbound_name *known =
        name && assoc ? sg_outbound_name_find(&assoc->outbound, name->name, name->name_len) : NULL;
    struct sg_permit_answer fresh = {0};
    if (!sg_permits_target(&session->permits, name, target, known ? &known->answer : &fresh)) {
        refuse_datagram(session, number, SG_REFUSED_TARGET, SG_REASON_POLICY, &shown, now_ms);
        return false;
    }
    if (len > SG_UDP_PAYLOAD_MAX) {
        refuse_datagram(session, number, SG_REFUSED_TARGET, SG_REASON_TOO_BIG, &shown, now_ms);
        return false;
    }
    if (!assoc && sg_assoc_state(&session->assocs, number) == SG_ASSOC_IS_USED) {
        drop_up(session, SG_REASON_ASSOC_CLOSED);
        sg_server_session_note_closed(session, number);
        return false;
    }
    bool created = !assoc;
    if (!assoc)
        assoc = create_assoc(session, number, &reason, now_ms);
    if (assoc)
        reason = sg_outbound_send(&assoc->outbound, target, data, len);
    if (reason != SG_REASON_NONE) {
        if (created && assoc)
            sg_server_assoc_close(assoc);
        refuse_datagram(session, number, created ? SG_REFUSED_ASSOCIATION : SG_REFUSED_TARGET, reason, &shown, now_ms);
        return false;
    }
    sg_assoc_touch_up(&session->assocs, &assoc->node, target->port, now_ms);
    if (name && !known)
        sg_outbound_name_add(&assoc->outbound, name->name, name->name_len, &target->ip, &fresh);
    return true;
}

/* Counts a datagram of the user: NONE, or why it goes no further. */
static enum sg_reason count_up(struct sg_server_session *session, size_t data_len, uint64_t now_ms)
{
    session->counts.up++;
    session->counts.up_bytes += data_len;
    return sg_usage_police(session->who.usage, SG_QUOTA_UP, data_len, now_ms);
}

void sg_server_session_up(struct sg_server_session *session, uint8_t *plaintext, size_t len,
                          struct sg_plaintext_memo *before, uint64_t now_ms)
{
    struct sg_datagram d;
    enum sg_reason reason = SG_REASON_NONE;
    const bool alike = sg_plaintext_is_alike(before, plaintext, len);
    if (alike) {
        /* no event lies between it and the one before: whatever was asked about that would be answered the same */
        const size_t data_len = len - before->len;
        reason = count_up(session, data_len, now_ms);
        if (reason == SG_REASON_NONE) {
            sg_udp_tx_add(&session->datapath->out, plaintext + before->len, data_len, data_len);
            return;
        }
    }
    before->len = 0;
    if (sg_plaintext_decode(plaintext, len, &d) != SG_OK) {
        drop_up(session, SG_REASON_MALFORMED);
        return;
    }
    if (!alike)
        reason = count_up(session, d.data_len, now_ms);
    if (reason != SG_REASON_NONE) {
        refuse_datagram(session, d.association, SG_REFUSED_TARGET, reason, &d.address, now_ms);
        return;
    }
    struct sg_endpoint target = {.ip = sg_ip_unmap(&d.address.ip), .port = d.address.port};
    if (d.address.atyp != SG_ATYP_NAME) {
        if (sg_server_session_forward(session, d.association, NULL, &target, d.data, d.data_len, now_ms))
            sg_plaintext_remember(before, plaintext, (size_t)(d.data - plaintext));
        return;
    }
    struct sg_server_assoc *assoc = (struct sg_server_assoc *)sg_assoc_find(&session->assocs, d.association);
    struct sg_outbound_name *known =
        assoc ? sg_outbound_name_find(&assoc->outbound, d.address.name, d.address.name_len) : NULL;
    if (known) {
        target.ip = known->ip;
        if (sg_outbound_name_use(known, now_ms))
            sg_names_renew(&session->names, d.association, &d.address);
        sg_server_session_forward(session, d.association, &d.address, &target, d.data, d.data_len, now_ms);
    } else if (!assoc && sg_assoc_state(&session->assocs, d.association) == SG_ASSOC_IS_USED) {
        drop_up(session, SG_REASON_ASSOC_CLOSED);
        sg_server_session_note_closed(session, d.association);
    } else if (!sg_permits_lookup(&session->permits, &d.address)) {
        refuse_datagram(session, d.association, SG_REFUSED_TARGET, SG_REASON_POLICY, &d.address, now_ms);
    } else {
        session->counts.dropped += !sg_names_wait(&session->names, d.association, &d.address, d.data, d.data_len);
    }
}

void sg_server_session_up_by_stream(struct sg_server_session *session, const struct sg_msg *msg, uint64_t now_ms)
{
    struct sg_datapath *datapath = session->datapath;
    datapath->up.received++;
    datapath->up.streamed++;
    datapath->up.received_bytes += msg->datagram.len;
    if (msg->datagram.len > SG_UDP_PAYLOAD_MAX + SG_PLAINTEXT_HEADER_MAX) {
        drop_up(session, SG_REASON_TOO_BIG);
        return;
    }
    struct sg_plaintext_memo alone = {0};
    uint8_t *room = sg_udp_tx_room(&datapath->out, msg->datagram.len);
    memcpy(room, msg->datagram.bytes, msg->datagram.len);
    sg_server_session_up(session, room, msg->datagram.len, &alone, now_ms);
    sg_udp_tx_flush(&datapath->out);
}
