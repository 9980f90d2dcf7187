/*
 * Sessions: opening and closing, and the control messages about associations, which are in association.c. The path
 * itself (challenges, sizes, pulse) is core/session.c.
 */
#include "server/session.h"

#include <stdlib.h>
#include <string.h>

#include "core/datagram.h"
#include "core/plaintext.h"
#include "net/clock.h"
#include "net/control_stream.h"
#include "net/dscp.h"
#include "net/sockaddr.h"
#include "server/config.h"
#include "server/datapath.h"
#include "server/leaving.h"
#include "server/names.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/traffic.h"
#include "server/usage.h"
#include "server/worker.h"

enum { CLOSED_SPACING_MS = 100 };

static void write_message(struct sg_server_session *session, const struct sg_msg *msg)
{
    sg_server_channel_write(session->current, msg);
}

/* --- what core/session.c asks of us --- */

static void op_send_stream(void *ctx, const struct sg_msg *msg)
{
    write_message(ctx, msg);
}

static void op_send_udp(void *ctx, const struct sg_path_addr *addr, const struct sg_msg *msg, size_t record_bytes)
{
    struct sg_server_session *session = ctx;
    struct sg_datapath *datapath = session->datapath;
    uint8_t *room = sg_udp_tx_room(&datapath->back, SG_RECORD_MAX);
    size_t len = sg_session_seal(&session->current->sender, msg, record_bytes, room);
    if (len == 0)
        return;
    const struct sg_udp_to to = {
        .fd = datapath->ports[addr->port_index].fd, .peer = addr->remote, .local = addr->local};
    sg_udp_tx_to(&datapath->back, &to);
    sg_udp_tx_add(&datapath->back, room, len, 0);
    sg_datapath_send_back(datapath);
}

static size_t op_kernel_max(void *ctx, const struct sg_path_addr *addr)
{
    (void)ctx;
    return sg_udp_route_payload(&addr->remote);
}

static void op_on_route(void *ctx)
{
    struct sg_server_session *session = ctx;
    if (sg_session_on_udp(&session->core))
        sg_session_log_path(session);
}

static const struct sg_session_ops session_ops = {
    .send_stream = op_send_stream,
    .send_udp = op_send_udp,
    .kernel_max = op_kernel_max,
    .on_route = op_on_route,
    .random = sg_datapath_random,
};

/* --- datagrams that waited for a name --- */

static struct sg_server_session *session_of(struct sg_names *names)
{
    return (struct sg_server_session *)((char *)names - offsetof(struct sg_server_session, names));
}

static void forward_named(struct sg_names *names, uint32_t number, const struct sg_target *name,
                          const struct sg_endpoint *target, uint8_t *data, size_t len, uint64_t now_ms)
{
    struct sg_server_session *session = session_of(names);
    sg_server_session_forward(session, number, name, target, data, len, now_ms);
    sg_server_session_arm(session, now_ms);
}

static void refuse_named(struct sg_names *names, uint32_t number, const struct sg_target *name, enum sg_reason reason,
                         unsigned dropped, uint64_t now_ms)
{
    struct sg_server_session *session = session_of(names);
    session->counts.dropped += dropped;
    sg_server_session_refuse(session, number, SG_REFUSED_TARGET, reason, name, now_ms);
}

static void renew_named(struct sg_names *names, uint32_t number, const struct sg_target *name, const struct sg_ip *ips,
                        size_t count, uint64_t now_ms)
{
    struct sg_server_assoc *assoc = (struct sg_server_assoc *)sg_assoc_find(&session_of(names)->assocs, number);
    if (assoc)
        sg_outbound_name_renew(&assoc->outbound, name, ips, count, now_ms);
}

static const struct sg_names_owner names_owner = {
    .look_ups_max = 64, .forward = forward_named, .refuse = refuse_named, .renew = renew_named};

/* --- associations --- */

static void close_node(void *ctx, struct sg_assoc_node *node)
{
    (void)ctx;
    sg_server_assoc_close((struct sg_server_assoc *)node);
}

/*
 * A number that the client holds for open is not: tell it, in one message per 100 ms. Each number has one place, so
 * that a flood of them costs no search; of two that share it the first is told, the other when it comes again.
 */
void sg_server_session_note_closed(struct sg_server_session *session, uint32_t number)
{
    uint32_t *place = &session->closed[number % SG_CONTROL_NUMBERS_MAX];
    if (*place != 0 || number == 0)
        return;
    *place = number;
    session->closed_count++;
}

static void write_closed(struct sg_server_session *session, enum sg_reason reason, const uint32_t *numbers,
                         unsigned count)
{
    uint8_t bytes[4 * SG_CONTROL_NUMBERS_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    for (unsigned i = 0; i < count; i++)
        sg_wbuf_u32(&w, numbers[i]);
    struct sg_msg msg = {.type = SG_MSG_CLOSED};
    msg.numbers.reason = (uint16_t)reason;
    msg.numbers.count = (uint16_t)count;
    msg.numbers.bytes = bytes;
    write_message(session, &msg);
}

static void send_noted(struct sg_server_session *session, uint64_t now_ms)
{
    if (session->closed_count == 0 || now_ms < session->closed_ms + CLOSED_SPACING_MS)
        return;
    unsigned count = 0;
    for (unsigned i = 0; i < SG_CONTROL_NUMBERS_MAX; i++)
        if (session->closed[i] != 0)
            session->closed[count++] = session->closed[i];
    write_closed(session, SG_REASON_ASSOC_CLOSED, session->closed, count);
    memset(session->closed, 0, sizeof session->closed);
    session->closed_count = 0;
    session->closed_ms = now_ms;
}

static void expire_assocs(struct sg_server_session *session, uint64_t now_ms)
{
    uint32_t numbers[SG_CONTROL_NUMBERS_MAX];
    unsigned count = 0;
    struct sg_assoc_node *node = NULL;
    while (count < SG_CONTROL_NUMBERS_MAX && (node = sg_assoc_expired(&session->assocs, now_ms))) {
        numbers[count++] = node->number;
        sg_server_assoc_close((struct sg_server_assoc *)node);
    }
    if (count > 0)
        write_closed(session, SG_REASON_IDLE, numbers, count);
}

void sg_server_session_refuse(struct sg_server_session *session, uint32_t number, enum sg_refused_scope scope,
                              enum sg_reason reason, const struct sg_target *target, uint64_t now_ms)
{
    if (now_ms < session->refused_ms + CLOSED_SPACING_MS)
        return;
    session->refused_ms = now_ms;
    struct sg_msg msg = {.type = SG_MSG_REFUSED};
    msg.refused.association = number;
    msg.refused.scope = (uint8_t)scope;
    msg.refused.reason = (uint16_t)reason;
    msg.refused.target = *target;
    write_message(session, &msg);
}

/* --- the control stream --- */

enum sg_reason sg_server_session_message(struct sg_server_session *session, const struct sg_msg *msg, uint64_t now_ms)
{
    if (sg_session_on_stream(&session->core, msg, now_ms))
        return SG_REASON_NONE;
    switch (msg->type) {
    case SG_MSG_DATAGRAM:
        sg_server_session_up_by_stream(session, msg, now_ms);
        return SG_REASON_NONE;
    case SG_MSG_CLOSE:
        return SG_REASON_NORMAL;
    case SG_MSG_CLOSED:
        for (unsigned i = 0; i < msg->numbers.count; i++) {
            struct sg_assoc_node *node = sg_assoc_find(&session->assocs, sg_msg_number(msg, i));
            if (node)
                sg_server_assoc_close((struct sg_server_assoc *)node);
        }
        return SG_REASON_NONE;
    case SG_MSG_ALIVE:
        for (unsigned i = 0; i < msg->numbers.count; i++) {
            uint32_t number = sg_msg_number(msg, i);
            struct sg_assoc_node *node = sg_assoc_find(&session->assocs, number);
            if (node)
                sg_assoc_touch_alive(&session->assocs, node, now_ms);
            else
                sg_server_session_note_closed(session, number);
        }
        return SG_REASON_NONE;
    case SG_MSG_CONFIRM: /* a record said so before */
        return SG_REASON_NONE;
    case SG_MSG_PATH:
    case SG_MSG_PING:
    case SG_MSG_PONG:
    case SG_MSG_REFUSED:
    case SG_MSG_RENEW:
    case SG_MSG_DRAIN:
    case SG_MSG_PROBE:
    case SG_MSG_PROBE_ANSWER:
    case SG_MSG_CHALLENGE:
    case SG_MSG_RESPONSE:
    case SG_MSG_KEEPALIVE:
        return SG_REASON_PROTOCOL;
    }
    return SG_REASON_PROTOCOL;
}

void sg_server_session_pump(struct sg_server_session *session, uint64_t now_ms)
{
    struct sg_ledger *down = &session->datapath->down;
    uint64_t before = down->drops[SG_REASON_STREAM_FULL];
    sg_control_stream_pump(session->current->bev, &session->waiting, down, now_ms);
    session->counts.dropped += down->drops[SG_REASON_STREAM_FULL] - before;
}

/* --- time --- */

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_server_session *session = ctx;
    uint64_t now_ms = sg_now_ms();
    (void)fd;
    (void)what;
    session->armed_ms = SG_NEVER;
    enum sg_reason reason = sg_session_tick(&session->core, now_ms);
    if (reason != SG_REASON_NONE && sg_server_session_stream_ended(session, session->current, SG_REASON_NONE, now_ms))
        return;
    reason = sg_server_renewal_tick(session, now_ms);
    if (reason != SG_REASON_NONE) {
        sg_server_session_close(session, reason);
        return;
    }
    expire_assocs(session, now_ms);
    send_noted(session, now_ms);
    sg_server_session_pump(session, now_ms);
    sg_server_session_arm(session, now_ms);
}

void sg_server_session_arm(struct sg_server_session *session, uint64_t now_ms)
{
    send_noted(session, now_ms);
    uint64_t next = sg_session_next_timeout(&session->core);
    uint64_t assocs = sg_assoc_next_timeout(&session->assocs);
    if (assocs < next)
        next = assocs;
    uint64_t renewal = sg_server_renewal_next_timeout(session);
    if (renewal < next)
        next = renewal;
    if (session->closed_count > 0 && session->closed_ms + CLOSED_SPACING_MS < next)
        next = session->closed_ms + CLOSED_SPACING_MS;
    uint64_t waiting = session->current->bev ? SG_NEVER : sg_squeue_next_timeout(&session->waiting);
    if (waiting < next)
        next = waiting; /* no stream that would take them out */
    if (next >= session->armed_ms)
        return; /* a timer that fires early looks again; datagrams only ever move the time out */
    session->armed_ms = next;
    uint64_t wait_ms = next > now_ms ? next - now_ms : 0;
    struct timeval tv = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
    evtimer_add(&session->timer, &tv);
}

/* --- opening and closing --- */

static bool is_free(const struct sg_datapath *datapath, uint32_t index)
{
    return !datapath->sessions[index];
}

static bool take_index(struct sg_datapath *datapath, struct sg_server_session *session)
{
    uint32_t index = sg_datapath_draw_free(datapath, is_free, datapath->session_max);
    if (index == datapath->session_max)
        return false;
    datapath->sessions[index] = session;
    datapath->session_count++;
    session->index = index;
    return true;
}

/* Handle: worker (1 byte), index (3 bytes, drawn as a channel's slot is), 12 random bytes. */
static void draw_handle(struct sg_server_session *session)
{
    struct sg_wbuf w = sg_wbuf_init(session->handle, 4);
    sg_wbuf_u8(&w, (uint8_t)session->datapath->worker->index);
    sg_wbuf_u24(&w, session->index);
    sg_datapath_random(NULL, session->handle + 4, sizeof session->handle - 4);
}

static void free_session(struct sg_server_session *session)
{
    sg_names_cancel(&session->names);
    sg_assoc_each(&session->assocs, close_node, NULL);
    sg_assoc_table_dispose(&session->assocs);
    sg_permits_dispose(&session->permits);
    sg_control_stream_discard(&session->waiting, &session->datapath->down);
    event_del(&session->timer);
    if (session->datapath->sessions[session->index] == session) {
        session->datapath->sessions[session->index] = NULL;
        session->datapath->session_count--;
    }
    free(session);
}

enum sg_reason sg_server_session_open(struct sg_datapath *datapath, const struct sg_handover *who, uint16_t suite,
                                      struct sg_server_session **out)
{
    const struct sg_config *config = datapath->worker->policy->config;
    uint64_t now_ms = sg_now_ms();
    *out = NULL;
    if (!sg_usage_take(who->usage, SG_USAGE_SESSION))
        return SG_REASON_LIMIT;
    uint64_t hash_key = 0;
    sg_datapath_random(NULL, (uint8_t *)&hash_key, sizeof hash_key);
    struct sg_server_session *session = calloc(1, sizeof *session);
    if (!session || sg_assoc_table_init(&session->assocs, hash_key, config->timeouts.association_ms,
                                        config->timeouts.dns_ms) != SG_OK) {
        free(session);
        sg_usage_give(who->usage, SG_USAGE_SESSION);
        return SG_REASON_BUSY;
    }
    session->datapath = datapath;
    session->who = *who;
    session->who.bev = NULL;
    sg_permits_init(&session->permits, datapath->worker, &session->who);
    sg_names_init(&session->names, datapath, &session->permits, &names_owner);
    session->armed_ms = SG_NEVER;
    session->renewal = (struct sg_renewal){.other_ends_ms = SG_NEVER, .grace_ends_ms = SG_NEVER};
    sg_session_init(&session->core, SG_ROLE_SERVER, &session_ops, session, now_ms);
    evtimer_assign(&session->timer, datapath->base, on_timer, session);

    if (take_index(datapath, session)) {
        draw_handle(session);
        session->current = sg_server_channel_new(session, who->bev, suite, now_ms);
    }
    if (!session->current) {
        free_session(session);
        sg_usage_give(who->usage, SG_USAGE_SESSION);
        return SG_REASON_LIMIT;
    }
    datapath->sessions_opened++;
    session->counts.since_ms = now_ms;
    *out = session;
    return SG_REASON_NONE;
}

void sg_server_session_close(struct sg_server_session *session, enum sg_reason reason)
{
    struct sg_usage *usage = session->who.usage;
    if (reason != SG_REASON_NONE) {
        struct sg_msg msg = {.type = SG_MSG_CLOSE};
        msg.reason = (uint16_t)reason;
        write_message(session, &msg);
    }
    /* the line counts what waited: for names, and for the stream, which ends */
    session->counts.dropped += sg_names_cancel(&session->names) + session->waiting.count;
    sg_session_log_end(session, reason);
    if (session->datapath->worker->policy->config->metrics.per_user)
        sg_traffic_add(&session->datapath->traffic, sg_session_user(session), &session->counts);
    sg_server_renewal_end_other(session);
    struct bufferevent *bev = session->current->bev;
    session->current->bev = NULL;
    sg_server_channel_free(session->current, reason);
    free_session(session);
    sg_leave(bev, usage, SG_USAGE_SESSION, reason);
}
