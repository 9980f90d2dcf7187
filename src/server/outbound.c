/*
 * Sockets towards the targets. The mapping is endpoint-independent (one socket, unconnected, for all targets of a
 * family); who may answer is what the configuration says (core/contacts.h).
 */
#include "server/outbound.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/sockaddr.h"
#include "net/udp.h"
#include "server/config.h"
#include "server/channel_conn.h"
#include "server/datapath.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/usage.h"
#include "server/worker.h"

enum { NAMES_MAX = 64, NAMES_FREE = 1, ERRORS_AFTER = 32, SILENCE_MS = 10000, LOOK_UP_AGAIN_MS = 10000 };

static struct sg_ports *ports_of(const struct sg_outbound *outbound)
{
    return &outbound->datapath->worker->server->ports;
}

static bool take_memory(void *ctx, size_t bytes)
{
    return sg_usage_take_memory(ctx, bytes);
}

static void give_memory(void *ctx, size_t bytes)
{
    sg_usage_give_memory(ctx, bytes);
}

void sg_outbound_init(struct sg_outbound *outbound, struct sg_datapath *datapath, struct sg_permits *permits,
                      const struct sg_outbound_owner *owner)
{
    memset(outbound, 0, sizeof *outbound);
    outbound->datapath = datapath;
    outbound->owner = owner;
    outbound->permits = permits;
    outbound->contacts.filtering = datapath->worker->policy->config->filtering;
    outbound->contacts.budget =
        (struct sg_contacts_budget){.take = take_memory, .give = give_memory, .ctx = permits->who->usage};
    outbound->legs[0].fd = outbound->legs[1].fd = -1;
}

void sg_outbound_dispose(struct sg_outbound *outbound)
{
    for (unsigned i = 0; i < 2; i++) {
        if (outbound->legs[i].fd < 0)
            continue;
        event_del(&outbound->legs[i].readable);
        sg_ports_give(ports_of(outbound), i == 0 ? 4 : 6, outbound->legs[i].port);
        close(outbound->legs[i].fd);
        outbound->legs[i].fd = -1;
    }
    sg_contacts_dispose(&outbound->contacts);
    for (struct sg_outbound_name *name = outbound->names, *next; name; name = next) {
        next = name->next;
        if (name->is_paid)
            sg_usage_give_memory(outbound->permits->who->usage, sizeof *name + name->len);
        free(name);
    }
    outbound->names = NULL;
}

static void doubt_names(struct sg_outbound *outbound, const struct sg_ip *ip)
{
    for (struct sg_outbound_name *name = outbound->names; name; name = name->next)
        name->has_failed = name->has_failed || sg_ip_equal(&name->ip, ip);
}

static void trust_names(const struct sg_outbound *outbound, const struct sg_ip *ip)
{
    for (struct sg_outbound_name *name = outbound->names; name; name = name->next)
        if (sg_ip_equal(&name->ip, ip)) {
            name->unanswered_ms = 0;
            name->has_failed = false;
        }
}

static void drain_errors(struct sg_outbound *outbound, int fd)
{
    struct sg_udp_error error;
    while (sg_udp_read_error(fd, &error)) {
        if (error.reason != SG_REASON_TOO_BIG)
            doubt_names(outbound, &error.target.ip);
        outbound->owner->on_error(outbound, &error.target, error.reason);
    }
}

static void drop_packet(struct sg_datapath *datapath, struct sg_udp_packet *packet, enum sg_reason reason)
{
    sg_ledger_drop(&datapath->down, reason);
    packet->bytes = NULL;
    packet->len = 0;
}

/* Whether rules let pass what comes from there: for its address, or as one of the names that were sent to. */
static bool may_answer(const struct sg_outbound *outbound, const struct sg_endpoint *source)
{
    if (sg_permits_source(outbound->permits, source))
        return true;
    for (struct sg_outbound_name *n = outbound->names; n; n = n->next)
        if (sg_ip_equal(&n->ip, &source->ip) &&
            sg_permits_source_named(outbound->permits, (const uint8_t *)n->name, n->len, source, &n->answer))
            return true;
    return false;
}

/* Takes out what nobody asked for, and what rules refuse. */
static void filter(const struct sg_outbound *outbound, unsigned count)
{
    struct sg_datapath *datapath = outbound->datapath;
    const struct sg_udp_from *passed = NULL; /* those that came as one piece are looked at once */
    for (unsigned i = 0; i < count; i++) {
        struct sg_udp_packet *packet = &datapath->rx.packets[i];
        datapath->down.received++;
        datapath->down.received_bytes += packet->len;
        if (packet->from == passed)
            continue;
        bool asked_for = sg_contacts_has(&outbound->contacts, &packet->from->peer);
        if (asked_for && may_answer(outbound, &packet->from->peer)) {
            passed = packet->from;
            trust_names(outbound, &packet->from->peer.ip);
            continue;
        }
        drop_packet(datapath, packet, asked_for ? SG_REASON_POLICY : SG_REASON_FILTERED);
    }
}

/* Takes out what is more than the user may have. */
static void police(struct sg_outbound *outbound, struct sg_quota *quota, unsigned count)
{
    struct sg_datapath *datapath = outbound->datapath;
    const struct sg_quota_time at = sg_usage_time(sg_now_ms());
    for (unsigned i = 0; i < count; i++) {
        struct sg_udp_packet *packet = &datapath->rx.packets[i];
        if (!packet->bytes)
            continue;
        enum sg_reason reason = sg_quota_take(quota, SG_QUOTA_DOWN, packet->len, &at);
        if (reason != SG_REASON_NONE)
            drop_packet(datapath, packet, reason);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_outbound *outbound = ctx;
    struct sg_datapath *datapath = outbound->datapath;
    unsigned count = 0, brought = 0;
    (void)what;
    /* errors take room of the socket's buffer, so they are fetched also while datagrams never cease */
    if (sg_udp_recv(&datapath->rx, fd) <= 0 || ++outbound->wakes == ERRORS_AFTER) {
        drain_errors(outbound, fd);
        outbound->wakes = 0;
    }
    struct sg_quota *quota = sg_usage_quota(outbound->permits->who->usage);
    while ((count = sg_udp_next(&datapath->rx)) > 0) {
        filter(outbound, count);
        if (quota)
            police(outbound, quota, count);
        outbound->owner->on_packets(outbound, datapath->rx.packets, count);
        brought += count;
    }
    struct sg_outbound_leg *leg = &outbound->legs[fd == outbound->legs[1].fd];
    sg_ledger_lost(&datapath->down, sg_udp_lost(&datapath->rx, &leg->lost));
    if (brought > 0)
        sg_histogram_add(&datapath->down_batches, brought);
}

static enum sg_reason open_leg(struct sg_outbound *outbound, uint8_t family)
{
    struct sg_outbound_leg *leg = &outbound->legs[family == 6];
    const struct sg_ip any = {.family = family};
    const struct sg_config *config = outbound->datapath->worker->policy->config;
    unsigned dscp = config->dscp != 0 ? SG_UDP_DSCP : 0;
    int fd =
        sg_ports_open(ports_of(outbound), &any, SG_UDP_RECVERR | SG_UDP_GRO | SG_UDP_ROOMY | SG_UDP_BROADCAST | dscp);
    if (fd < 0)
        return SG_REASON_NO_SOCKET;
    if (event_assign(&leg->readable, outbound->datapath->base, fd, EV_READ | EV_PERSIST, on_readable, outbound) != 0 ||
        event_add(&leg->readable, NULL) != 0) {
        close(fd);
        return SG_REASON_NO_SOCKET;
    }
    leg->fd = fd;
    leg->port = sg_socket_local(fd).port;
    sg_ports_take(ports_of(outbound), family, leg->port);
    return SG_REASON_NONE;
}

enum sg_reason sg_outbound_send(struct sg_outbound *outbound, const struct sg_endpoint *target, uint8_t *data,
                                size_t len)
{
    const struct sg_outbound_leg *leg = &outbound->legs[target->ip.family == 6];
    if (leg->fd < 0) {
        enum sg_reason reason = open_leg(outbound, target->ip.family);
        if (reason != SG_REASON_NONE)
            return reason;
    }
    if (sg_contacts_add(&outbound->contacts, target) != SG_OK)
        return SG_REASON_NO_SOCKET;
    const struct sg_udp_to to = {.fd = leg->fd, .peer = *target, .ledger = &outbound->datapath->up};
    sg_udp_tx_to(&outbound->datapath->out, &to);
    sg_udp_tx_add(&outbound->datapath->out, data, len, len);
    return SG_REASON_NONE;
}

struct sg_outbound_name *sg_outbound_name_find(const struct sg_outbound *outbound, const uint8_t *name, size_t len)
{
    for (struct sg_outbound_name *n = outbound->names; n; n = n->next)
        if (n->len == len && memcmp(n->name, name, len) == 0)
            return n;
    return NULL;
}

void sg_outbound_name_add(struct sg_outbound *outbound, const uint8_t *name, size_t len, const struct sg_ip *ip,
                          const struct sg_permit_answer *answer)
{
    unsigned count = 0;
    struct sg_outbound_name **link = &outbound->names;
    for (; *link && count < NAMES_MAX; link = &(*link)->next)
        count++;
    if (*link || len > UINT8_MAX)
        return; /* too many names: the next datagram resolves again */
    struct sg_usage *usage = outbound->permits->who->usage;
    struct sg_outbound_name *entry = NULL;
    bool is_paid = count >= NAMES_FREE;
    if (is_paid && !sg_usage_take_memory(usage, sizeof *entry + len))
        return;
    entry = malloc(sizeof *entry + len);
    if (!entry) {
        if (is_paid)
            sg_usage_give_memory(usage, sizeof *entry + len);
        return;
    }
    *entry = (struct sg_outbound_name){
        .ip = *ip, .answer = *answer, .looked_up_ms = sg_now_ms(), .is_paid = is_paid, .len = (uint8_t)len};
    entry->unanswered_ms = entry->looked_up_ms; /* a datagram just went there */
    memcpy(entry->name, name, len);
    *link = entry;
}

bool sg_outbound_name_use(struct sg_outbound_name *name, uint64_t now_ms)
{
    if (name->unanswered_ms == 0)
        name->unanswered_ms = now_ms;
    return (name->has_failed || now_ms >= name->unanswered_ms + SILENCE_MS) &&
           now_ms >= name->looked_up_ms + LOOK_UP_AGAIN_MS;
}

void sg_outbound_name_renew(struct sg_outbound *outbound, const struct sg_target *name, const struct sg_ip *ips,
                            size_t count, uint64_t now_ms)
{
    struct sg_outbound_name *entry = sg_outbound_name_find(outbound, name->name, name->name_len);
    if (!entry)
        return;
    entry->looked_up_ms = now_ms;
    size_t first = 0;
    for (size_t i = 0; i < count; i++)
        if (sg_ip_equal(&ips[i], &entry->ip))
            first = i + 1;
    for (size_t i = 0; i < count; i++) {
        const struct sg_endpoint target = {.ip = ips[(first + i) % count], .port = name->port};
        if (!sg_permits_target(outbound->permits, name, &target, NULL))
            continue;
        if (!sg_ip_equal(&entry->ip, &target.ip))
            entry->answer = (struct sg_permit_answer){0};
        entry->ip = target.ip;
        entry->unanswered_ms = 0;
        entry->has_failed = false;
        return;
    }
}
