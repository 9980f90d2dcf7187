/*
 * BIND: listens on the address that the client connected to, tells where, and joins the first permitted peer.
 * DST.ADDR names the only host that may connect, unless it is unspecified. Rules judge the peer that comes; the request
 * is refused if they leave none.
 */
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>

#include "core/socks5.h"
#include "net/listener.h"
#include "net/sockaddr.h"
#include "server/tunnel.h"
#include "server/worker.h"

enum { WAIT_SECONDS = 120 };

struct binding {
    struct sg_listener *listener;
    struct sg_resolve *resolve;
    struct event *limit;
    bool anybody;
    struct sg_ip peers[SG_RESOLVE_MAX_IPS];
    size_t peer_count;
};

static void dispose(struct sg_tunnel *tunnel)
{
    struct binding *binding = tunnel->state;
    sg_listener_free(binding->listener);
    if (binding->resolve)
        sg_resolve_cancel(binding->resolve);
    if (binding->limit)
        event_free(binding->limit);
    free(binding);
    tunnel->state = NULL;
}

static const struct sg_tunnel_setup setup = {.dispose = dispose, .command = SG_RULE_BIND};

static bool may_connect(const struct binding *binding, const struct sg_ip *peer)
{
    for (size_t i = 0; i < binding->peer_count; i++)
        if (sg_ip_equal(&binding->peers[i], peer))
            return true;
    return binding->anybody;
}

static void on_accept(void *ctx, int fd)
{
    struct sg_tunnel *tunnel = ctx;
    struct sg_endpoint peer = sg_socket_peer(fd);
    struct sg_verdict verdict = {.outcome = SG_RULES_DENY};
    if (may_connect(tunnel->state, &peer.ip)) {
        verdict = sg_tunnel_judge(tunnel, &peer);
        sg_tunnel_tell(tunnel, &verdict, &peer);
    }
    if (verdict.outcome != SG_RULES_ALLOW) {
        close(fd);
        return;
    }
    sg_tunnel_reply(tunnel, SG_SOCKS5_REP_SUCCEEDED, &peer);
    sg_tunnel_join(tunnel, fd);
}

static void on_limit(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    sg_tunnel_fail(ctx, SG_SOCKS5_REP_TIMED_OUT);
}

static void start_listening(struct sg_tunnel *tunnel)
{
    static const struct timeval wait = {.tv_sec = WAIT_SECONDS};
    struct binding *binding = tunnel->state;
    struct sg_endpoint at = {.ip = tunnel->who.local.ip};
    struct sg_endpoint bound;
    binding->listener = sg_listener_new(tunnel->worker->base, &at, -1, SG_ALONE, &bound, on_accept, tunnel);
    binding->limit = evtimer_new(tunnel->worker->base, on_limit, tunnel);
    if (!binding->listener || !binding->limit) {
        sg_tunnel_fail(tunnel, SG_SOCKS5_REP_GENERAL);
        return;
    }
    evtimer_add(binding->limit, &wait);
    sg_tunnel_reply(tunnel, SG_SOCKS5_REP_SUCCEEDED, &bound);
}

static void on_resolved(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count)
{
    struct sg_tunnel *tunnel = ctx;
    struct binding *binding = tunnel->state;
    binding->resolve = NULL;
    if (err != SG_OK) {
        sg_tunnel_fail(tunnel, err == SG_ERR_FULL ? SG_SOCKS5_REP_GENERAL : SG_SOCKS5_REP_NO_HOST);
        return;
    }
    struct sg_verdict verdict = {.outcome = SG_RULES_DENY};
    struct sg_endpoint peer = {.port = tunnel->at.port};
    for (size_t i = 0; i < count && i < SG_RESOLVE_MAX_IPS; i++) {
        peer.ip = sg_ip_unmap(&ips[i]);
        verdict = sg_tunnel_judge(tunnel, &peer);
        if (verdict.outcome != SG_RULES_DENY)
            binding->peers[binding->peer_count++] = peer.ip;
    }
    if (binding->peer_count == 0)
        sg_tunnel_refuse(tunnel, &verdict, &peer);
    else
        start_listening(tunnel);
}

void sg_bind_start(struct sg_worker *worker, const struct sg_handover *handover, const struct sg_target *target)
{
    struct binding *binding = calloc(1, sizeof *binding);
    struct sg_tunnel *tunnel = sg_tunnel_new(worker, handover, &setup, binding);
    if (!tunnel)
        return;
    sg_tunnel_aim(tunnel, target, 0); /* the peer's port is its own choice */
    struct sg_verdict verdict = sg_tunnel_judge(tunnel, &tunnel->at);
    if (verdict.outcome == SG_RULES_DENY) {
        sg_tunnel_refuse(tunnel, &verdict, &tunnel->at);
        return;
    }
    if (target->atyp != SG_ATYP_NAME) {
        binding->anybody = sg_ip_is_unspecified(&target->ip);
        binding->peers[binding->peer_count++] = sg_ip_unmap(&target->ip);
        start_listening(tunnel);
        return;
    }
    binding->resolve = sg_resolver_start(&worker->resolver, tunnel->who.user, (const char *)target->name,
                                         target->name_len, on_resolved, tunnel);
    if (!binding->resolve)
        sg_tunnel_fail(tunnel, SG_SOCKS5_REP_GENERAL);
}
