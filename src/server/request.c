/*
 * What an authenticated connection asks for: it is refused, or handed over, with a slot of its user's, to CONNECT,
 * BIND, the channel or a plain association.
 */
#include <string.h>

#include <event2/bufferevent.h>

#include "net/tls.h"
#include "server/channel_conn.h"
#include "server/config.h"
#include "server/conn_state.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/tunnel.h"
#include "server/usage.h"
#include "server/users.h"
#include "server/worker.h"

bool sg_conn_is_listed(const struct sg_cidr *nets, unsigned count, const struct sg_ip *ip)
{
    for (unsigned i = 0; i < count; i++)
        if (sg_cidr_contains(&nets[i], ip))
            return true;
    return false;
}

static void refuse_request(struct sg_conn *conn, uint8_t rep)
{
    uint8_t bytes[SG_SOCKS5_REPLY_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    sg_socks5_reply_encode(&w, rep, NULL);
    bufferevent_write(conn->bev, bytes, sg_wbuf_len(&w));
    sg_conn_finish(conn);
}

/* What a request takes a slot of. */
static enum sg_usage_kind slot_of(uint8_t command)
{
    return command == SG_SOCKS5_CMD_UDP_ASSOCIATE ? SG_USAGE_ASSOCIATION : SG_USAGE_CONNECTION;
}

/* NONE when there is room for the request, and a slot was taken. */
static enum sg_reason take_slot(struct sg_usage *usage, uint8_t command)
{
    bool is_stream = command == SG_SOCKS5_CMD_CONNECT || command == SG_SOCKS5_CMD_BIND;
    if (is_stream && !sg_usage_has_day(usage))
        return SG_REASON_QUOTA;
    return sg_usage_take(usage, slot_of(command)) ? SG_REASON_NONE : SG_REASON_LIMIT;
}

/*
 * Fills the hand-over, a slot included, and takes the bufferevent out of conn. False: refused; until the answer is
 * taken the connection counts among those before their request, so that nobody who is at a limit has more of them.
 */
static bool hand_over(struct sg_conn *conn, struct sg_handover *out)
{
    struct sg_server *server = conn->worker->server;
    *out = (struct sg_handover){.bev = conn->bev, .peer = conn->peer, .local = conn->local};
    memcpy(out->user, conn->user, sizeof conn->user);
    sg_policy_credential(conn->worker->policy, conn->user, out->credential_digest);
    if (conn->is_external)
        memcpy(out->credential_digest, sg_policy_external_digest, sizeof out->credential_digest);
    out->usage = sg_usage_acquire(server->usage, conn->user, &conn->groups);
    enum sg_reason reason = out->usage ? take_slot(out->usage, conn->socks.command) : SG_REASON_BUSY;
    if (reason == SG_REASON_NONE) {
        conn->bev = NULL;
        bufferevent_setcb(out->bev, NULL, NULL, NULL, NULL);
        return true;
    }
    sg_usage_release(out->usage);
    if (conn->socks.command == SG_SOCKS5_CMD_CHANNEL) {
        sg_channel_conn_refuse(out, reason);
        sg_conn_finish(conn);
    } else {
        refuse_request(conn, sg_socks5_rep_of_reason(reason));
    }
    return false;
}

/* The request is permitted: whoever serves it takes over. */
static void serve(struct sg_conn *conn)
{
    struct sg_worker *worker = conn->worker;
    struct sg_handover handover;
    if (!hand_over(conn, &handover))
        return;
    switch (conn->socks.command) {
    case SG_SOCKS5_CMD_CONNECT:
        sg_connect_start(worker, &handover, &conn->socks.target);
        break;
    case SG_SOCKS5_CMD_BIND:
        sg_bind_start(worker, &handover, &conn->socks.target);
        break;
    case SG_SOCKS5_CMD_UDP_ASSOCIATE:
        sg_plain_assoc_start(worker, &handover, &conn->socks.target);
        break;
    default:
        sg_channel_conn_start(worker, &handover);
        break;
    }
    sg_conn_free(conn);
}

void sg_conn_serve_request(struct sg_conn *conn)
{
    const struct sg_config *config = conn->worker->policy->config;
    switch (conn->socks.command) {
    case SG_SOCKS5_CMD_CONNECT:
    case SG_SOCKS5_CMD_BIND:
        serve(conn);
        return;
    case SG_SOCKS5_CMD_UDP_ASSOCIATE:
        if (sg_conn_is_listed(config->plain_udp, config->plain_udp_count, &conn->peer.ip))
            serve(conn);
        else
            refuse_request(conn, SG_SOCKS5_REP_POLICY);
        return;
    case SG_SOCKS5_CMD_CHANNEL:
        if (conn->is_tls && sg_tls_alpn(conn->bev) == SG_TLS_ALPN_SEALGRAM)
            serve(conn);
        else
            refuse_request(conn, SG_SOCKS5_REP_COMMAND);
        return;
    default: /* any byte can come from the network */
        refuse_request(conn, SG_SOCKS5_REP_COMMAND);
        return;
    }
}
