/*
 * CONNECT: the name is resolved, policy looks at every address, the permitted ones are dialled, the streams are
 * joined.
 */
#include <stdlib.h>
#include <unistd.h>

#include "core/guard.h"
#include "core/socks5.h"
#include "net/dial.h"
#include "net/own_routes.h"
#include "net/sockaddr.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/tunnel.h"
#include "server/worker.h"

struct connecting {
    uint16_t port;
    struct sg_resolve *resolve;
    struct sg_dial *dial;
};

static void dispose(struct sg_tunnel *tunnel)
{
    struct connecting *connecting = tunnel->state;
    if (connecting->resolve)
        sg_resolve_cancel(connecting->resolve);
    if (connecting->dial)
        sg_dial_cancel(connecting->dial);
    free(connecting);
    tunnel->state = NULL;
}

static const struct sg_tunnel_setup setup = {.dispose = dispose, .command = SG_RULE_CONNECT};

/*
 * A route may have become local since the name was looked at, or be so only for this server's packets: where the
 * connection ended counts. What the operator opened is opened.
 */
static bool ended_here(const struct sg_tunnel *tunnel, int fd, const struct sg_endpoint *peer)
{
    struct sg_endpoint local = sg_socket_local(fd);
    return !sg_guard_is_allowed(&tunnel->worker->policy->guard, &peer->ip) &&
           (sg_ip_equal(&local.ip, &peer->ip) || sg_own_routes_has(&peer->ip));
}

static void on_dialled(void *ctx, int fd, int error)
{
    struct sg_tunnel *tunnel = ctx;
    struct connecting *connecting = tunnel->state;
    connecting->dial = NULL;
    if (fd < 0) {
        sg_tunnel_fail(tunnel, sg_socks5_rep_of_errno(error));
        return;
    }
    struct sg_endpoint peer = sg_socket_peer(fd);
    struct sg_verdict verdict = sg_tunnel_judge(tunnel, &peer); /* policy may be another one by now */
    if (verdict.outcome == SG_RULES_ALLOW && ended_here(tunnel, fd, &peer))
        verdict = (struct sg_verdict){.outcome = SG_RULES_DENY, .special = "own"};
    if (verdict.outcome != SG_RULES_ALLOW) {
        close(fd);
        sg_tunnel_refuse(tunnel, &verdict, &peer);
        return;
    }
    struct sg_endpoint bound = sg_socket_local(fd);
    sg_tunnel_reply(tunnel, SG_SOCKS5_REP_SUCCEEDED, &bound);
    sg_tunnel_join(tunnel, fd);
}

static void dial(struct sg_tunnel *tunnel, const struct sg_ip *ips, size_t count)
{
    struct connecting *connecting = tunnel->state;
    struct sg_ip allowed[SG_RESOLVE_MAX_IPS];
    size_t allowed_count = 0;
    struct sg_verdict first = {.outcome = SG_RULES_DENY};
    struct sg_endpoint first_to = {.port = connecting->port};
    for (size_t i = 0; i < count && i < SG_RESOLVE_MAX_IPS; i++) {
        struct sg_endpoint to = {.ip = sg_ip_unmap(&ips[i]), .port = connecting->port};
        struct sg_verdict verdict = sg_tunnel_judge(tunnel, &to);
        bool is_first = i == 0 || (verdict.outcome == SG_RULES_ALLOW && allowed_count == 0);
        first = is_first ? verdict : first;
        first_to = is_first ? to : first_to;
        if (verdict.outcome == SG_RULES_ALLOW)
            allowed[allowed_count++] = to.ip;
    }
    if (allowed_count == 0) {
        sg_tunnel_refuse(tunnel, &first, &first_to);
        return;
    }
    sg_tunnel_tell(tunnel, &first, &first_to);
    connecting->dial =
        sg_dial_start(tunnel->worker->base, allowed, allowed_count, connecting->port, 0, on_dialled, tunnel);
    if (!connecting->dial)
        sg_tunnel_fail(tunnel, SG_SOCKS5_REP_GENERAL);
}

static void on_resolved(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count)
{
    struct sg_tunnel *tunnel = ctx;
    struct connecting *connecting = tunnel->state;
    connecting->resolve = NULL;
    if (err != SG_OK)
        sg_tunnel_fail(tunnel, err == SG_ERR_FULL ? SG_SOCKS5_REP_GENERAL : SG_SOCKS5_REP_NO_HOST);
    else
        dial(tunnel, ips, count);
}

void sg_connect_start(struct sg_worker *worker, const struct sg_handover *handover, const struct sg_target *target)
{
    struct connecting *connecting = calloc(1, sizeof *connecting);
    struct sg_tunnel *tunnel = sg_tunnel_new(worker, handover, &setup, connecting);
    if (!tunnel)
        return;
    connecting->port = target->port;
    sg_tunnel_aim(tunnel, target, target->port);
    if (target->atyp != SG_ATYP_NAME) {
        dial(tunnel, &target->ip, 1);
        return;
    }
    struct sg_verdict verdict = sg_tunnel_judge(tunnel, &tunnel->at);
    if (verdict.outcome == SG_RULES_DENY) {
        sg_tunnel_refuse(tunnel, &verdict, &tunnel->at); /* no look-up tells its name server of it */
        return;
    }
    connecting->resolve = sg_resolver_start(&worker->resolver, tunnel->who.user, (const char *)target->name,
                                            target->name_len, on_resolved, tunnel);
    if (!connecting->resolve)
        sg_tunnel_fail(tunnel, SG_SOCKS5_REP_GENERAL);
}
