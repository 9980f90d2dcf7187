/* What CONNECT and BIND have in common: the worker's list, replies, the relay, and the end. */
#include "server/tunnel.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "core/socks5.h"
#include "net/clock.h"
#include "net/keepalive.h"
#include "net/relay.h"
#include "net/sockaddr.h"
#include "server/leaving.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/usage.h"
#include "server/worker.h"

/* Ends a tunnel; its client's leg is finished (an answer may still be in it), or already gone. */
static void end_tunnel(struct sg_tunnel *tunnel)
{
    *tunnel->link = tunnel->next;
    if (tunnel->next)
        tunnel->next->link = tunnel->link;
    if (tunnel->state)
        tunnel->setup->dispose(tunnel);
    if (tunnel->look)
        event_free(tunnel->look);
    if (tunnel->relay)
        sg_relay_free(tunnel->relay);
    sg_leave(tunnel->who.bev, tunnel->who.usage, SG_USAGE_CONNECTION, SG_REASON_NORMAL);
    tunnel->worker->tunnel_count--;
    free(tunnel);
}

/* An answer cannot be written. */
static void on_client_gone(struct bufferevent *bev, short what, void *ctx)
{
    struct sg_tunnel *tunnel = ctx;
    (void)what;
    bufferevent_free(bev);
    tunnel->who.bev = NULL;
    end_tunnel(tunnel);
}

/*
 * Nothing is read from a client that waits: what it sends stays with the kernel. One that has only ended its side still
 * waits for CONNECT, which is answered soon; a BIND would keep its port.
 */
static void on_look(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_tunnel *tunnel = ctx;
    enum sg_peer_state peer = sg_peer_state(bufferevent_getfd(tunnel->who.bev));
    (void)fd;
    if (peer == SG_PEER_GONE || (peer == SG_PEER_ENDED && tunnel->setup->command == SG_RULE_BIND))
        on_client_gone(tunnel->who.bev, what, tunnel);
}

static void write_reply(struct bufferevent *bev, uint8_t rep, const struct sg_endpoint *bound)
{
    uint8_t bytes[SG_SOCKS5_REPLY_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_socks5_reply_encode(&w, rep, bound);
    bufferevent_write(bev, bytes, sg_wbuf_len(&w));
}

struct sg_tunnel *sg_tunnel_new(struct sg_worker *worker, const struct sg_handover *handover,
                                const struct sg_tunnel_setup *setup, void *state)
{
    struct sg_handover who = *handover;
    struct sg_tunnel *tunnel = state ? calloc(1, sizeof *tunnel) : NULL;
    if (!tunnel) {
        write_reply(who.bev, SG_SOCKS5_REP_GENERAL, NULL);
        sg_leave(who.bev, who.usage, SG_USAGE_CONNECTION, SG_REASON_BUSY);
        free(state);
        return NULL;
    }
    *tunnel = (struct sg_tunnel){.worker = worker, .who = *handover, .setup = setup, .state = state};
    tunnel->next = worker->tunnels;
    tunnel->link = &worker->tunnels;
    if (tunnel->next)
        tunnel->next->link = &tunnel->next;
    worker->tunnels = tunnel;
    worker->tunnel_count++;
    static const struct timeval look = {.tv_sec = 1};
    bufferevent_set_timeouts(handover->bev, NULL, NULL);
    bufferevent_setcb(handover->bev, NULL, NULL, on_client_gone, tunnel);
    bufferevent_disable(handover->bev, EV_READ);
    bufferevent_enable(handover->bev, EV_WRITE);
    tunnel->look = event_new(worker->base, -1, EV_PERSIST, on_look, tunnel);
    if (tunnel->look && event_add(tunnel->look, &look) == 0)
        return tunnel;
    sg_tunnel_fail(tunnel, SG_SOCKS5_REP_GENERAL);
    return NULL;
}

void sg_tunnel_reply(struct sg_tunnel *tunnel, uint8_t rep, const struct sg_endpoint *bound)
{
    write_reply(tunnel->who.bev, rep, bound);
}

void sg_tunnel_fail(struct sg_tunnel *tunnel, uint8_t rep)
{
    sg_tunnel_reply(tunnel, rep, NULL);
    end_tunnel(tunnel);
}

/* --- policy --- */

void sg_tunnel_aim(struct sg_tunnel *tunnel, const struct sg_target *target, uint16_t port)
{
    tunnel->at = (struct sg_endpoint){.port = port};
    if (target->atyp == SG_ATYP_NAME) {
        tunnel->name_len = target->name_len;
        memcpy(tunnel->name, target->name, target->name_len);
    } else if (!(tunnel->setup->command == SG_RULE_BIND && sg_ip_is_unspecified(&target->ip))) {
        tunnel->at.ip = sg_ip_unmap(&target->ip);
    }
}

struct sg_verdict sg_tunnel_judge(const struct sg_tunnel *tunnel, const struct sg_endpoint *at)
{
    const struct sg_rule_asker asker = {
        .user = tunnel->who.user, .from = tunnel->who.peer.ip, .command = tunnel->setup->command};
    const struct sg_rule_target target = {.name = tunnel->name_len > 0 ? tunnel->name : NULL,
                                          .name_len = tunnel->name_len,
                                          .ip = at->ip,
                                          .port = at->port};
    return sg_verdict_of(tunnel->worker->policy, &asker, &target);
}

void sg_tunnel_tell(const struct sg_tunnel *tunnel, const struct sg_verdict *verdict, const struct sg_endpoint *at)
{
    struct sg_target target = sg_endpoint_target(at);
    if (tunnel->name_len > 0)
        target = (struct sg_target){
            .atyp = SG_ATYP_NAME, .name_len = tunnel->name_len, .name = tunnel->name, .port = at->port};
    sg_verdict_tell(verdict->rule, tunnel->who.user, &tunnel->who.peer, tunnel->setup->command, &target);
}

void sg_tunnel_refuse(struct sg_tunnel *tunnel, const struct sg_verdict *verdict, const struct sg_endpoint *at)
{
    sg_tunnel_tell(tunnel, verdict, at);
    sg_tunnel_fail(tunnel, sg_verdict_reply(verdict));
}

/* --- the relay --- */

/* The client's leg is the first: what it sends goes up. */
static enum sg_quota_way way_of(bool from_b)
{
    return from_b ? SG_QUOTA_DOWN : SG_QUOTA_UP;
}

static size_t room_of(void *ctx, bool from_b, uint32_t *wait_ms)
{
    struct sg_tunnel *tunnel = ctx;
    struct sg_quota *quota = sg_usage_quota(tunnel->who.usage);
    if (!quota)
        return SIZE_MAX;
    if (!sg_usage_has_day(tunnel->who.usage)) {
        *wait_ms = SG_RELAY_OVER;
        return 0;
    }
    const struct sg_quota_time at = sg_usage_time(sg_now_ms());
    return sg_quota_room(quota, way_of(from_b), &at, wait_ms);
}

static void pay_for(void *ctx, bool from_b, size_t bytes)
{
    struct sg_tunnel *tunnel = ctx;
    struct sg_quota *quota = sg_usage_quota(tunnel->who.usage);
    if (!quota)
        return;
    const struct sg_quota_time at = sg_usage_time(sg_now_ms());
    sg_quota_pay(quota, way_of(from_b), bytes, &at);
}

static const struct sg_relay_shaper shaper = {.room = room_of, .pay = pay_for};

static void on_relay_end(void *ctx)
{
    struct sg_tunnel *tunnel = ctx;
    tunnel->relay = NULL;
    end_tunnel(tunnel);
}

void sg_tunnel_join(struct sg_tunnel *tunnel, int fd)
{
    struct bufferevent *to = bufferevent_socket_new(tunnel->worker->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!to) {
        close(fd);
        end_tunnel(tunnel);
        return;
    }
    tunnel->at = sg_socket_peer(fd);
    tunnel->setup->dispose(tunnel);
    tunnel->state = NULL;
    event_free(tunnel->look);
    tunnel->look = NULL;
    struct bufferevent *client = tunnel->who.bev;
    tunnel->who.bev = NULL;
    tunnel->relay =
        sg_relay_start(client, to, tunnel->worker->policy->config->timeouts.relay_idle_ms, on_relay_end, tunnel);
    if (tunnel->relay)
        sg_relay_shape(tunnel->relay, &shaper, tunnel);
    else
        end_tunnel(tunnel);
}

void sg_tunnels_policy_changed(struct sg_worker *worker)
{
    for (struct sg_tunnel *t = worker->tunnels, *next; t; t = next) {
        next = t->next;
        struct sg_verdict verdict = sg_tunnel_judge(t, &t->at);
        bool is_denied = verdict.outcome == SG_RULES_DENY;
        if (!sg_policy_user_valid(worker->policy, t->who.user, t->who.credential_digest) || (is_denied && t->relay))
            end_tunnel(t);
        else if (is_denied)
            sg_tunnel_refuse(t, &verdict, &t->at); /* the client waits for an answer */
    }
}

unsigned sg_tunnels_kick(struct sg_worker *worker, const char *user)
{
    unsigned count = 0;
    for (struct sg_tunnel *t = worker->tunnels, *next; t; t = next) {
        next = t->next;
        if (strcmp(t->who.user, user) != 0)
            continue;
        end_tunnel(t);
        count++;
    }
    return count;
}

void sg_tunnels_free_all(struct sg_worker *worker)
{
    for (struct sg_tunnel *t = worker->tunnels, *next = NULL; t; t = next) {
        next = t->next;
        end_tunnel(t);
    }
}
