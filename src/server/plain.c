/*
 * Plain UDP by policy. An association is keyed by the client's IP address and UDP port; it waits for its first
 * datagram when the client did not name the port. It lives as long as its TCP connection, at most 60 s before it
 * latched.
 */
#include "server/plain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "core/guard.h"
#include "core/socks5.h"
#include "net/clock.h"
#include "net/finish.h"
#include "net/log.h"
#include "net/log_text.h"
#include "net/sockaddr.h"
#include "server/channel_conn.h"
#include "server/config.h"
#include "server/datapath.h"
#include "server/leaving.h"
#include "server/names.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/usage.h"
#include "server/verdict.h"
#include "server/worker.h"

enum { LATCH_MS = 60000 };

struct sg_plain {
    struct sg_plain *next;
    struct sg_datapath *datapath;
    struct sg_handover who;
    struct sg_endpoint client; /* port 0: not latched */
    struct sg_port *port;      /* where its datagrams arrive; own_port for one that did not get the shared one */
    struct sg_port own_port;   /* fd -1: not in use */
    struct sg_ip local;        /* the address that the client sends to */
    struct sg_permits permits;
    struct sg_outbound outbound;
    struct sg_names names;
    uint64_t active_ms;
    struct event timer;
};

/* Ends an association: everything but its TCP connection. */
static void free_plain(struct sg_plain *plain)
{
    struct sg_datapath *datapath = plain->datapath;
    struct sg_plain **link = &datapath->plain;
    while (*link != plain)
        link = &(*link)->next;
    *link = plain->next;
    sg_names_cancel(&plain->names);
    event_del(&plain->timer);
    sg_outbound_dispose(&plain->outbound);
    sg_permits_dispose(&plain->permits);
    if (plain->own_port.fd >= 0) {
        sg_datapath_flush_back(datapath); /* what waits for this socket */
        event_del(&plain->own_port.readable);
        close(plain->own_port.fd);
    }
    datapath->association_count--;
    free(plain);
}

static void end_plain(struct sg_plain *plain, enum sg_reason reason)
{
    struct sg_handover who = plain->who;
    free_plain(plain);
    sg_leave(who.bev, who.usage, SG_USAGE_ASSOCIATION, reason);
}

/* --- idle time --- */

static uint64_t idle_limit_ms(const struct sg_plain *plain)
{
    return plain->client.port == 0 ? LATCH_MS : plain->datapath->worker->policy->config->timeouts.association_ms;
}

/* To be called when the limit changes; what is sent later is seen when the timer ends. */
static void arm_timer(struct sg_plain *plain, uint64_t now_ms)
{
    uint64_t end_ms = plain->active_ms + idle_limit_ms(plain);
    uint64_t wait_ms = end_ms > now_ms ? end_ms - now_ms : 0;
    struct timeval tv = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
    evtimer_add(&plain->timer, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_plain *plain = ctx;
    (void)fd;
    (void)what;
    uint64_t now_ms = sg_now_ms();
    if (now_ms - plain->active_ms >= idle_limit_ms(plain))
        end_plain(plain, SG_REASON_IDLE);
    else
        arm_timer(plain, now_ms);
}

/* --- from targets to the client --- */

static void on_packets(struct sg_outbound *outbound, struct sg_udp_packet *packets, unsigned count)
{
    struct sg_plain *plain = (struct sg_plain *)((char *)outbound - offsetof(struct sg_plain, outbound));
    struct sg_datapath *datapath = plain->datapath;
    /* records must not be cut, and leave by the shared port too; one of its own cuts what is too long anyway */
    const struct sg_udp_to to = {.fd = plain->port->fd,
                                 .may_fragment = plain->port != &plain->own_port,
                                 .peer = plain->client,
                                 .local = plain->local,
                                 .ledger = &datapath->down};
    for (unsigned i = 0; i < count; i++) {
        if (!packets[i].bytes)
            continue;
        if (plain->client.port == 0) {
            sg_ledger_drop(&datapath->down, SG_REASON_NO_PATH);
            continue;
        }
        size_t room_len = SG_SOCKS5_UDP_HEADER_MAX + packets[i].len;
        uint8_t *room = sg_udp_tx_room(&datapath->back, room_len);
        struct sg_target source = sg_endpoint_target(&packets[i].from->peer);
        struct sg_wbuf w = sg_wbuf_init(room, room_len);
        sg_socks5_udp_encode_header(&w, &source);
        sg_wbuf_bytes(&w, packets[i].bytes, packets[i].len);
        sg_udp_tx_to(&datapath->back, &to);
        sg_udp_tx_add(&datapath->back, room, sg_wbuf_len(&w), packets[i].len);
    }
    sg_datapath_send_back(datapath);
}

static void on_target_error(struct sg_outbound *outbound, const struct sg_endpoint *target, enum sg_reason reason)
{
    /* SOCKS5 has no message for it: a plain client learns nothing, and its association lives on */
    (void)outbound;
    (void)target;
    (void)reason;
}

static const struct sg_outbound_owner outbound_owner = {.on_packets = on_packets, .on_error = on_target_error};

/* --- from the client to targets --- */

/* name: what the client gave for the target, or NULL; known: what it is in this association already, or NULL. */
static void forward(struct sg_plain *plain, const struct sg_target *name, struct sg_outbound_name *known,
                    const struct sg_endpoint *target, uint8_t *data, size_t len)
{
    struct sg_permit_answer fresh = {0};
    enum sg_reason reason = SG_REASON_POLICY;
    if (sg_permits_target(&plain->permits, name, target, known ? &known->answer : &fresh))
        reason = sg_outbound_send(&plain->outbound, target, data, len);
    if (reason != SG_REASON_NONE)
        sg_ledger_drop(&plain->datapath->up, reason);
    else if (name && !known)
        sg_outbound_name_add(&plain->outbound, name->name, name->name_len, &target->ip, &fresh);
}

static void forward_named(struct sg_names *names, uint32_t number, const struct sg_target *name,
                          const struct sg_endpoint *target, uint8_t *data, size_t len, uint64_t now_ms)
{
    struct sg_plain *plain = (struct sg_plain *)((char *)names - offsetof(struct sg_plain, names));
    (void)number;
    (void)now_ms;
    forward(plain, name, sg_outbound_name_find(&plain->outbound, name->name, name->name_len), target, data, len);
}

static void renew_named(struct sg_names *names, uint32_t number, const struct sg_target *name, const struct sg_ip *ips,
                        size_t count, uint64_t now_ms)
{
    struct sg_plain *plain = (struct sg_plain *)((char *)names - offsetof(struct sg_plain, names));
    (void)number;
    sg_outbound_name_renew(&plain->outbound, name, ips, count, now_ms);
}

/* A plain client's names are few; of one that leads nowhere it is told as little as of ICMP errors. */
static const struct sg_names_owner names_owner = {.look_ups_max = 16, .forward = forward_named, .renew = renew_named};

static void receive_for(struct sg_plain *plain, struct sg_udp_packet *packet, uint64_t now_ms)
{
    struct sg_datapath *datapath = plain->datapath;
    struct sg_socks5_udp header;
    enum sg_err err = sg_socks5_udp_decode(packet->bytes, packet->len, &header);
    if (err != SG_OK) {
        sg_ledger_drop(&datapath->up,
                       err == SG_ERR_UNSUPPORTED && header.frag != 0 ? SG_REASON_FRAGMENT : SG_REASON_MALFORMED);
        return;
    }
    bool latches = plain->client.port == 0;
    plain->client = packet->from->peer;
    plain->local = packet->from->local;
    plain->active_ms = now_ms;
    if (latches)
        arm_timer(plain, now_ms);
    uint8_t *data = packet->bytes + header.data_offset;
    size_t len = packet->len - header.data_offset;
    enum sg_reason reason = sg_usage_police(plain->who.usage, SG_QUOTA_UP, len, now_ms);
    if (reason != SG_REASON_NONE) {
        sg_ledger_drop(&datapath->up, reason);
        return;
    }
    struct sg_endpoint target = {.ip = sg_ip_unmap(&header.target.ip), .port = header.target.port};
    if (header.target.atyp != SG_ATYP_NAME) {
        forward(plain, NULL, NULL, &target, data, len);
        return;
    }
    struct sg_outbound_name *known =
        sg_outbound_name_find(&plain->outbound, header.target.name, header.target.name_len);
    if (known) {
        target.ip = known->ip;
        if (sg_outbound_name_use(known, now_ms))
            sg_names_renew(&plain->names, 0, &header.target);
        forward(plain, &header.target, known, &target, data, len);
    } else if (sg_permits_lookup(&plain->permits, &header.target)) {
        sg_names_wait(&plain->names, 0, &header.target, data, len);
    } else {
        sg_ledger_drop(&datapath->up, SG_REASON_POLICY);
    }
}

/*
 * The association of a source on the shared ports: the one keyed by it, else the only one that waits for that
 * address.
 */
static struct sg_plain *find_plain(const struct sg_port *port, const struct sg_endpoint *peer)
{
    struct sg_plain *waiting = NULL;
    unsigned waiting_count = 0;
    for (struct sg_plain *p = port->datapath->plain; p; p = p->next) {
        if (p->port != port || !sg_ip_equal(&p->client.ip, &peer->ip))
            continue;
        if (p->client.port == peer->port)
            return p;
        if (p->client.port == 0) {
            waiting = p;
            waiting_count++;
        }
    }
    return waiting_count == 1 ? waiting : NULL;
}

void sg_plain_receive(struct sg_port *port, struct sg_udp_packet *packet, uint64_t now_ms)
{
    struct sg_plain *plain = find_plain(port, &packet->from->peer);
    if (plain)
        receive_for(plain, packet, now_ms);
    else
        sg_ledger_drop(&port->datapath->up, port->datapath->plain ? SG_REASON_PLAIN_SOURCE : SG_REASON_PLAIN_REFUSED);
}

/* --- start and end --- */

static void work_on_batch(struct sg_plain *plain, unsigned count, uint64_t now_ms)
{
    struct sg_datapath *datapath = plain->datapath;
    for (unsigned i = 0; i < count; i++) {
        struct sg_udp_packet *packet = &datapath->rx.packets[i];
        datapath->up.received++;
        datapath->up.received_bytes += packet->len;
        const struct sg_endpoint *peer = &packet->from->peer;
        if (sg_ip_equal(&peer->ip, &plain->client.ip) && (plain->client.port == 0 || plain->client.port == peer->port))
            receive_for(plain, packet, now_ms);
        else
            sg_ledger_drop(&datapath->up, SG_REASON_PLAIN_SOURCE);
    }
    sg_udp_tx_flush(&datapath->out);
}

static void on_own_port(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_plain *plain = ctx;
    struct sg_datapath *datapath = plain->datapath;
    uint64_t now_ms = sg_now_ms();
    unsigned count = 0;
    (void)what;
    (void)sg_udp_recv(&datapath->rx, fd);
    while ((count = sg_udp_next(&datapath->rx)) > 0)
        work_on_batch(plain, count, now_ms);
    sg_ledger_lost(&datapath->up, sg_udp_lost(&datapath->rx, &plain->own_port.lost));
}

static void on_tcp_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)bev;
    (void)what;
    end_plain(ctx, SG_REASON_NONE);
}

/* Nothing more is said on the connection; what comes is thrown away. */
static void on_tcp_input(struct bufferevent *bev, void *ctx)
{
    (void)ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    evbuffer_drain(input, evbuffer_get_length(input));
}

/* The shared port that the TCP connection's address leads to, or NULL. */
static struct sg_port *shared_port(struct sg_datapath *datapath, const struct sg_endpoint *local)
{
    /* what is not sealed arrives at worker 0 */
    for (unsigned i = 0; i < datapath->port_count && datapath->worker->index == 0; i++) {
        struct sg_port *port = &datapath->ports[i];
        static const struct sg_ip zero;
        bool any = memcmp(port->bound.ip.bytes, zero.bytes, sizeof zero.bytes) == 0;
        if (port->bound.port == local->port && port->bound.ip.family == local->ip.family &&
            (any || sg_ip_equal(&port->bound.ip, &local->ip)))
            return port;
    }
    return NULL;
}

static bool is_taken(const struct sg_port *port, const struct sg_endpoint *client)
{
    for (const struct sg_plain *p = port->datapath->plain; p; p = p->next)
        if (p->port == port && sg_ip_equal(&p->client.ip, &client->ip) && p->client.port == client->port)
            return true;
    return false;
}

/* A relay port of its own, on the address that the client connected to. */
static bool open_own_port(struct sg_plain *plain)
{
    const struct sg_ports *ports = &plain->datapath->worker->server->ports;
    plain->own_port.fd = sg_ports_open(ports, &plain->who.local.ip, SG_UDP_PKTINFO | SG_UDP_GRO | SG_UDP_ROOMY);
    if (plain->own_port.fd < 0)
        return false;
    plain->own_port.datapath = plain->datapath;
    plain->own_port.bound = sg_socket_local(plain->own_port.fd);
    event_assign(&plain->own_port.readable, plain->datapath->base, plain->own_port.fd, EV_READ | EV_PERSIST,
                 on_own_port, plain);
    event_add(&plain->own_port.readable, NULL);
    plain->port = &plain->own_port;
    return true;
}

static void write_reply(struct bufferevent *bev, uint8_t rep, const struct sg_endpoint *bound)
{
    uint8_t bytes[64];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_socks5_reply_encode(&w, rep, bound);
    bufferevent_write(bev, bytes, sg_wbuf_len(&w));
}

/*
 * Where the client shall send: by the advertised address, where there is one, unless it is on this machine; a NAT in
 * front may map the shared port to another, but not a relay port that the association has for itself.
 */
static struct sg_endpoint relay_endpoint(const struct sg_plain *plain)
{
    static const struct sg_ip loopback = {.family = 4, .bytes = {127, 0, 0, 1}};
    const struct sg_ip *local = &plain->who.local.ip;
    struct sg_endpoint relay = {.ip = *local, .port = plain->port->bound.port};
    struct sg_endpoint advertised = sg_config_advertised(plain->datapath->worker->policy->config, local);
    bool is_here = sg_guard_same_class(&plain->who.peer.ip, &loopback);
    if (is_here && !sg_guard_same_class(&advertised.ip, &loopback))
        return relay;
    if (!sg_ip_is_unspecified(&advertised.ip))
        relay.ip = advertised.ip;
    if (advertised.port != 0 && plain->port != &plain->own_port)
        relay.port = advertised.port;
    return relay;
}

/* The new association, on a port, linked; or NULL when memory or sockets do not allow it. */
static struct sg_plain *make_plain(struct sg_worker *worker, const struct sg_handover *who, uint16_t client_port)
{
    struct sg_datapath *datapath = worker->datapath;
    struct sg_plain *plain = calloc(1, sizeof *plain);
    if (!plain)
        return NULL;
    plain->datapath = datapath;
    plain->who = *who;
    plain->own_port.fd = -1;
    plain->client = (struct sg_endpoint){.ip = who->peer.ip, .port = client_port};
    plain->active_ms = sg_now_ms();
    plain->port = shared_port(datapath, &who->local);
    sg_permits_init(&plain->permits, worker, &plain->who);
    sg_outbound_init(&plain->outbound, datapath, &plain->permits, &outbound_owner);
    sg_names_init(&plain->names, datapath, &plain->permits, &names_owner);
    evtimer_assign(&plain->timer, datapath->base, on_timer, plain);
    bool placed = (plain->port && !is_taken(plain->port, &plain->client)) || open_own_port(plain);
    plain->next = datapath->plain;
    datapath->plain = plain;
    datapath->association_count++;
    if (!placed) {
        free_plain(plain);
        return NULL;
    }
    return plain;
}

/* The reply to a user whom rules leave no target at all; SUCCEEDED if there may be one. */
static uint8_t refuse_all(const struct sg_worker *worker, const struct sg_handover *who)
{
    const struct sg_rule_asker asker = {.user = who->user, .from = who->peer.ip, .command = SG_RULE_UDP};
    const struct sg_rule_target anything = {.name_unknown = true};
    struct sg_target shown = {.atyp = SG_ATYP_IPV4};
    struct sg_verdict verdict = sg_verdict_of(worker->policy, &asker, &anything);
    if (verdict.outcome != SG_RULES_DENY)
        return SG_SOCKS5_REP_SUCCEEDED;
    sg_verdict_tell(verdict.rule, who->user, &who->peer, SG_RULE_UDP, &shown);
    return sg_verdict_reply(&verdict);
}

void sg_plain_assoc_start(struct sg_worker *worker, const struct sg_handover *handover, const struct sg_target *request)
{
    struct sg_handover who = *handover;
    struct sg_endpoint none = {0};
    uint8_t rep = refuse_all(worker, &who);
    uint16_t client_port = sg_socks5_promised_port(request, &who.peer.ip);
    struct sg_plain *plain = rep == SG_SOCKS5_REP_SUCCEEDED ? make_plain(worker, &who, client_port) : NULL;
    if (!plain) {
        write_reply(who.bev, rep == SG_SOCKS5_REP_SUCCEEDED ? SG_SOCKS5_REP_GENERAL : rep, &none);
        sg_leave(who.bev, who.usage, SG_USAGE_ASSOCIATION,
                 rep == SG_SOCKS5_REP_SUCCEEDED ? SG_REASON_LIMIT : SG_REASON_POLICY);
        return;
    }
    struct sg_endpoint bound = relay_endpoint(plain);
    bufferevent_set_timeouts(who.bev, NULL, NULL);
    bufferevent_setcb(who.bev, on_tcp_input, NULL, on_tcp_end, plain);
    bufferevent_enable(who.bev, EV_READ | EV_WRITE);
    write_reply(who.bev, SG_SOCKS5_REP_SUCCEEDED, &bound);
    arm_timer(plain, plain->active_ms);
    char client[SG_ENDPOINT_TEXT_MAX];
    const char *user = who.user[0] ? who.user : "-";
    sg_log_endpoint(&who.peer, client);
    sg_log_event(SG_LOG_INFO, "plain_association_start",
                 SG_LOG_FIELDS(sg_log_word("user", user), sg_log_word("client", client)), "plain association of %s",
                 user);
}

unsigned sg_plain_count(const struct sg_datapath *datapath)
{
    unsigned count = 0;
    for (const struct sg_plain *p = datapath->plain; p; p = p->next)
        count++;
    return count;
}

void sg_plain_users_changed(struct sg_datapath *datapath)
{
    for (struct sg_plain *p = datapath->plain, *next; p; p = next) {
        next = p->next;
        if (!sg_policy_user_valid(datapath->worker->policy, p->who.user, p->who.credential_digest))
            end_plain(p, SG_REASON_UNAUTHORIZED);
    }
}

unsigned sg_plain_kick(struct sg_datapath *datapath, const char *user)
{
    unsigned count = 0;
    for (struct sg_plain *p = datapath->plain, *next; p; p = next) {
        next = p->next;
        if (strcmp(p->who.user, user) != 0)
            continue;
        end_plain(p, SG_REASON_KICKED);
        count++;
    }
    return count;
}

void sg_plain_free_all(struct sg_datapath *datapath)
{
    for (struct sg_plain *p = datapath->plain, *next = NULL; p; p = next) {
        next = p->next;
        end_plain(p, SG_REASON_SHUTDOWN);
    }
}
