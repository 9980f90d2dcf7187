/*
 * The worker's UDP ports: what arrives is told apart by the detector, records are opened in runs of one channel and
 * given to their session, plain datagrams to plain.c, all else is junk. Also the making and the end of the data path
 * as a whole.
 */
#include "server/datapath.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <sodium.h>

#include "core/datagram.h"
#include "core/detect.h"
#include "core/plaintext.h"
#include "net/clock.h"
#include "net/ledger_json.h"
#include "net/listen_failed.h"
#include "net/log.h"
#include "net/service.h"
#include "net/sockaddr.h"
#include "server/config.h"
#include "server/plain.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/session.h"
#include "server/traffic.h"
#include "server/users.h"
#include "server/worker.h"

void sg_datapath_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    randombytes_buf(out, len);
}

uint32_t sg_datapath_draw_free(const struct sg_datapath *datapath, sg_place_is_free_fn *is_free, uint32_t count)
{
    enum { TRIES = 16 };
    for (unsigned i = 0; i < TRIES; i++) {
        uint32_t place = randombytes_uniform(count);
        if (is_free(datapath, place))
            return place;
    }
    uint32_t free_count = 0, place = 0;
    for (uint32_t i = 0; i < count; i++)
        free_count += is_free(datapath, i);
    if (free_count == 0)
        return count;
    for (uint32_t left = randombytes_uniform(free_count); left > 0 || !is_free(datapath, place); place++)
        left -= is_free(datapath, place);
    return place;
}

struct sg_server_channel *sg_datapath_find(const struct sg_datapath *datapath, const uint8_t id[static 8])
{
    uint32_t slot = (uint32_t)id[1] << 16 | (uint32_t)id[2] << 8 | id[3];
    if (id[0] != datapath->worker->index || slot >= datapath->slot_count)
        return NULL;
    struct sg_server_channel *channel = datapath->slots[slot];
    return channel && memcmp(channel->id, id, sizeof channel->id) == 0 ? channel : NULL;
}

struct sg_server_session *sg_datapath_session(const struct sg_datapath *datapath, const uint8_t handle[static 16])
{
    uint32_t index = (uint32_t)handle[1] << 16 | (uint32_t)handle[2] << 8 | handle[3];
    return handle[0] == datapath->worker->index && index < datapath->session_max ? datapath->sessions[index] : NULL;
}

/* A run: records of one channel that arrived from one address, as positions in the received batch. */
struct run {
    struct sg_server_channel *channel;
    struct sg_record records[SG_UDP_BATCH];
    size_t record_bytes[SG_UDP_BATCH];
    const struct sg_udp_from *from;
    struct sg_path_addr addr;
    unsigned count;
};

/* Acts on one opened record; alike is of those before it in the run. */
static void act(struct run *run, unsigned i, struct sg_plaintext_memo *alike, uint64_t now_ms)
{
    struct sg_server_session *session = run->channel->session;
    struct sg_ledger *up = &session->datapath->up;
    const struct sg_record *record = &run->records[i];
    uint8_t *plaintext = record->bytes + SG_RECORD_HEADER_BYTES;

    if (sg_plaintext_association(plaintext, record->len) != 0) {
        sg_server_session_up(session, plaintext, record->len, alike, now_ms);
        return;
    }
    const struct sg_arrival arrival = {.addr = &run->addr, .record_bytes = run->record_bytes[i]};
    enum sg_reason reason = sg_session_on_message(&session->core, plaintext, record->len, &arrival, now_ms);
    if (reason == SG_REASON_NONE)
        up->session++;
    else
        sg_ledger_drop(up, reason);
}

static void finish_run(struct sg_datapath *datapath, struct run *run, uint64_t now_ms)
{
    if (run->count == 0)
        return;
    struct sg_server_session *session = run->channel->session;
    struct sg_plaintext_memo alike = {0};
    if (sg_open_batch(&run->channel->receiver, run->records, run->count) > 0)
        sg_server_session_confirm(session, run->channel, now_ms);
    struct sg_arrival arrival = {.addr = &run->addr};
    for (unsigned i = 0; i < run->count; i++) {
        const struct sg_record *record = &run->records[i];
        if (record->err == SG_OK) {
            act(run, i, &alike, now_ms);
            arrival.newest |= record->newest && run->channel == session->current;
        } else {
            sg_ledger_drop(&datapath->up, sg_reason_of_open(record->err));
            session->counts.dropped++;
        }
    }
    /* last, so that a RESPONSE makes its address the path before it could count as a new candidate */
    sg_session_on_record(&session->core, &arrival, now_ms);
    sg_server_session_arm(session, now_ms);
    run->count = 0;
}

static bool came_alike(const struct sg_udp_from *a, const struct sg_udp_from *b)
{
    return a == b || (sg_endpoint_equal(&a->peer, &b->peer) && sg_ip_equal(&a->local, &b->local));
}

static void add_record(struct sg_port *port, struct run *run, struct sg_udp_packet *packet, uint64_t now_ms)
{
    struct sg_datapath *datapath = port->datapath;
    if (packet->len < SG_RECORD_OVERHEAD + SG_ASSOC_BYTES + 1 || packet->len > SG_UDP_PAYLOAD_MAX) {
        sg_ledger_drop(&datapath->up, SG_REASON_LENGTH);
        return;
    }
    struct sg_server_channel *channel = sg_datapath_find(datapath, packet->bytes + SG_RECORD_CHANNEL_OFFSET);
    if (!channel) {
        sg_ledger_drop(&datapath->up, SG_REASON_UNKNOWN_CHANNEL);
        return;
    }
    if (run->count > 0 && (run->channel != channel || !came_alike(run->from, packet->from)))
        finish_run(datapath, run, now_ms);
    if (run->count == 0) {
        const struct sg_udp_from *from = packet->from;
        run->channel = channel;
        run->from = from;
        run->addr = (struct sg_path_addr){.remote = from->peer, .local = from->local, .port_index = port->index};
    }
    run->record_bytes[run->count] = packet->len;
    run->records[run->count++] = (struct sg_record){.bytes = packet->bytes, .len = packet->len};
}

static void work_on_batch(struct sg_port *port, unsigned count, uint64_t now_ms)
{
    struct sg_datapath *datapath = port->datapath;
    SG_UNCLEARED struct run run;
    run.count = 0;
    for (unsigned i = 0; i < count; i++) {
        struct sg_udp_packet *packet = &datapath->rx.packets[i];
        datapath->up.received++;
        datapath->up.received_bytes += packet->len;
        switch (sg_detect(packet->bytes, packet->len)) {
        case SG_DETECT_SEALED:
            add_record(port, &run, packet, now_ms);
            break;
        case SG_DETECT_PLAIN:
            sg_plain_receive(port, packet, now_ms);
            break;
        case SG_DETECT_NEITHER:
            sg_ledger_drop(&datapath->up, SG_REASON_JUNK);
            break;
        }
    }
    finish_run(datapath, &run, now_ms);
    sg_udp_tx_flush(&datapath->out);
}

static void on_port_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_port *port = ctx;
    struct sg_datapath *datapath = port->datapath;
    uint64_t now_ms = sg_now_ms();
    unsigned count = 0, brought = 0;
    (void)what;
    (void)sg_udp_recv(&datapath->rx, fd); /* an error was an ICMP message about a client */
    while ((count = sg_udp_next(&datapath->rx)) > 0) {
        brought += count;
        work_on_batch(port, count, now_ms);
    }
    sg_ledger_lost(&datapath->up, sg_udp_lost(&datapath->rx, &port->lost));
    if (brought > 0)
        sg_histogram_add(&datapath->up_batches, brought);
}

static void on_send_back(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    sg_datapath_flush_back(ctx);
}

void sg_datapath_send_back(struct sg_datapath *datapath)
{
    if (datapath->send_back_pending)
        return;
    datapath->send_back_pending = true;
    event_active(&datapath->send_back, 0, 0);
}

void sg_datapath_flush_back(struct sg_datapath *datapath)
{
    datapath->send_back_pending = false;
    sg_udp_tx_flush(&datapath->back);
}

static int open_socket(const struct sg_worker *worker, const struct sg_endpoint *listen)
{
    const unsigned flags = SG_UDP_PKTINFO | SG_UDP_DONTFRAG | SG_UDP_BIG | SG_UDP_GRO;
    enum sg_share share = sg_share_of(worker->index, worker->server->worker_count);
    int fd = sg_service_take(SG_SERVICE_DATAGRAM, listen, worker->index);
    bool good = fd < 0 || sg_udp_adopt(fd, listen->ip.family, flags);
    if (fd < 0)
        fd = sg_udp_open_shared(listen, flags, share);
    if (fd >= 0 && share == SG_SHARED_FIRST)
        good = good && sg_udp_steer(fd, SG_RECORD_INDICATOR);
    if (good)
        return fd;
    close(fd);
    return -1;
}

static bool open_port(struct sg_datapath *datapath, const struct sg_endpoint *listen)
{
    if (datapath->port_count == SG_DATAPATH_PORTS) {
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "more than %d listen addresses", SG_DATAPATH_PORTS);
        return false;
    }
    struct sg_port *port = &datapath->ports[datapath->port_count];
    port->fd = open_socket(datapath->worker, listen);
    if (port->fd < 0)
        return sg_listen_failed("UDP", listen, "listen", errno);
    port->datapath = datapath;
    port->index = (uint16_t)datapath->port_count++;
    port->bound = sg_socket_local(port->fd);
    event_assign(&port->readable, datapath->base, port->fd, EV_READ | EV_PERSIST, on_port_readable, port);
    return event_add(&port->readable, NULL) == 0;
}

struct sg_datapath *sg_datapath_new(struct sg_worker *worker)
{
    const struct sg_config *config = worker->server->config;
    struct sg_datapath *datapath = calloc(1, sizeof *datapath);
    if (!datapath)
        return NULL;
    datapath->worker = worker;
    datapath->base = worker->base;
    datapath->session_max = config->limits.sessions;
    datapath->sessions = calloc(datapath->session_max, sizeof(struct sg_server_session *));
    datapath->slot_count = 2 * datapath->session_max;
    datapath->slots = calloc(datapath->slot_count, sizeof(struct sg_server_channel *));
    datapath->aead = sg_aead_ctx_new();
    event_assign(&datapath->send_back, datapath->base, -1, 0, on_send_back, datapath);
    if (!datapath->sessions || !datapath->slots || !datapath->aead || sg_udp_rx_init(&datapath->rx) != SG_OK ||
        sg_udp_tx_init(&datapath->out) != SG_OK || sg_udp_tx_init(&datapath->back) != SG_OK) {
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "out of memory for %u sessions", datapath->session_max);
        goto failed;
    }
    for (unsigned i = 0; i < worker->server->listen_count; i++)
        if (!open_port(datapath, &worker->server->listen[i]))
            goto failed;
    return datapath;
failed:
    sg_datapath_free(datapath);
    return NULL;
}

void sg_datapath_free(struct sg_datapath *datapath)
{
    if (!datapath)
        return;
    for (uint32_t i = 0; datapath->sessions && i < datapath->session_max; i++)
        if (datapath->sessions[i])
            sg_server_session_close(datapath->sessions[i], SG_REASON_SHUTDOWN);
    sg_plain_free_all(datapath);
    sg_udp_tx_flush(&datapath->back);
    event_del(&datapath->send_back);
    for (unsigned i = 0; i < datapath->port_count; i++) {
        event_del(&datapath->ports[i].readable);
        close(datapath->ports[i].fd);
    }
    sg_udp_rx_dispose(&datapath->rx);
    sg_udp_tx_dispose(&datapath->out);
    sg_udp_tx_dispose(&datapath->back);
    sg_aead_ctx_free(datapath->aead);
    sg_traffic_free(datapath->traffic);
    free(datapath->sessions);
    free(datapath->slots);
    free(datapath);
}

void sg_datapath_users_changed(struct sg_datapath *datapath)
{
    for (uint32_t i = 0; i < datapath->session_max; i++) {
        struct sg_server_session *session = datapath->sessions[i];
        if (session &&
            !sg_policy_user_valid(datapath->worker->policy, session->who.user, session->who.credential_digest))
            sg_server_session_close(session, SG_REASON_UNAUTHORIZED);
    }
    sg_plain_users_changed(datapath);
}

void sg_datapath_drain(struct sg_datapath *datapath, uint32_t seconds)
{
    struct sg_msg drain = {.type = SG_MSG_DRAIN};
    drain.seconds = seconds;
    for (uint32_t i = 0; i < datapath->session_max; i++)
        if (datapath->sessions[i])
            sg_server_channel_write(datapath->sessions[i]->current, &drain);
}

unsigned sg_datapath_kick(struct sg_datapath *datapath, const char *user)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < datapath->session_max; i++) {
        struct sg_server_session *session = datapath->sessions[i];
        if (!session || strcmp(session->who.user, user) != 0)
            continue;
        sg_server_session_close(session, SG_REASON_KICKED);
        count++;
    }
    return count;
}

void sg_datapath_status(const struct sg_datapath *datapath, struct json_t *status)
{
    unsigned on_udp = 0, without_stream = 0;
    json_t *suites = json_object();
    for (uint32_t i = 0; i < datapath->session_max; i++) {
        const struct sg_server_session *session = datapath->sessions[i];
        if (!session)
            continue;
        on_udp += sg_session_on_udp(&session->core);
        without_stream += session->current->bev == NULL;
        const char *name = session->current->suite->name;
        json_object_set_new(suites, name, json_integer(json_integer_value(json_object_get(suites, name)) + 1));
    }
    json_object_set_new(status, "sessions", json_integer(datapath->session_count));
    json_object_set_new(status, "sessions_opened", json_integer((json_int_t)datapath->sessions_opened));
    json_object_set_new(status, "sessions_resumed", json_integer((json_int_t)datapath->sessions_resumed));
    json_object_set_new(status, "sessions_on_udp", json_integer(on_udp));
    json_object_set_new(status, "sessions_without_stream", json_integer(without_stream));
    json_object_set_new(status, "associations", json_integer(datapath->association_count));
    json_object_set_new(status, "plain_associations", json_integer(sg_plain_count(datapath)));
    json_object_set_new(status, "suites", suites);
    json_object_set_new(status, "up", sg_ledger_json(&datapath->up));
    json_object_set_new(status, "down", sg_ledger_json(&datapath->down));
}

void sg_datapath_metrics(const struct sg_datapath *datapath, struct json_t *metrics)
{
    json_object_set_new(metrics, "up_batches", sg_histogram_json(&datapath->up_batches));
    json_object_set_new(metrics, "down_batches", sg_histogram_json(&datapath->down_batches));
    if (!datapath->worker->policy->config->metrics.per_user)
        return;
    json_t *users = json_object();
    sg_traffic_json(datapath->traffic, users);
    for (uint32_t i = 0; i < datapath->session_max; i++)
        if (datapath->sessions[i])
            sg_traffic_json_one(users, sg_session_user(datapath->sessions[i]), &datapath->sessions[i]->counts);
    json_object_set_new(metrics, "user_traffic", users);
}
