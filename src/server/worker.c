/* Making and ending of a worker. */
#include "server/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "net/ledger_json.h"
#include "net/listen_failed.h"
#include "net/listener.h"
#include "net/log.h"
#include "net/loop.h"
#include "net/service.h"
#include "net/tls_gate.h"
#include "server/channel_conn.h"
#include "server/config.h"
#include "server/conn.h"
#include "server/datapath.h"
#include "server/plain.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/tunnel.h"

static void on_accept(void *ctx, int fd)
{
    sg_conn_accept(ctx, fd);
}

static bool open_listeners(struct sg_worker *worker)
{
    const struct sg_server *server = worker->server;
    enum sg_share share = sg_share_of(worker->index, server->worker_count);
    for (unsigned i = 0; i < server->listen_count && i < SG_WORKER_LISTENERS; i++) {
        struct sg_endpoint bound;
        int passed = sg_service_take(SG_SERVICE_STREAM, &server->listen[i], worker->index);
        struct sg_listener *listener =
            sg_listener_new(worker->base, &server->listen[i], passed, share, &bound, on_accept, worker);
        if (!listener)
            return sg_listen_failed("TCP", &server->listen[i], "listen", errno);
        worker->listeners[worker->listener_count++] = listener;
    }
    return true;
}

/* Its share of the handshakes that may begin in a second. */
static unsigned handshake_rate(const struct sg_worker *worker)
{
    unsigned count = worker->server->worker_count;
    return (worker->policy->config->limits.handshakes_per_second + count - 1) / count;
}

struct sg_worker *sg_worker_new(struct sg_server *server, unsigned index, const struct sg_loop *loop)
{
    struct sg_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return NULL;
    worker->server = server;
    worker->index = index;
    worker->base = loop->base;
    worker->inbox = loop->inbox;
    worker->policy = sg_policy_ref(server->policy);
    worker->resolver = (struct sg_resolver){.service = server->names, .inbox = loop->inbox};
    worker->gate = sg_tls_gate_new(worker->base, handshake_rate(worker));
    /* TCP first: its error names the port that another program has */
    if (worker->gate && open_listeners(worker) && (worker->datapath = sg_datapath_new(worker)))
        return worker;
    sg_worker_close(worker);
    sg_worker_free(worker);
    return NULL;
}

void sg_worker_close(struct sg_worker *worker)
{
    if (!worker)
        return;
    worker->closed = true;
    for (unsigned i = 0; i < worker->listener_count; i++)
        sg_listener_free(worker->listeners[i]);
    worker->listener_count = 0;
    sg_conns_free_all(worker);
    sg_channel_conns_free_all(worker);
    sg_tunnels_free_all(worker);
    sg_datapath_free(worker->datapath);
    worker->datapath = NULL;
    sg_tls_gate_free(worker->gate);
    worker->gate = NULL;
}

void sg_worker_free(struct sg_worker *worker)
{
    if (!worker)
        return;
    sg_policy_release(worker->policy);
    free(worker);
}

void sg_worker_turn_to(struct sg_worker *worker, struct sg_policy *policy)
{
    bool other_users = policy->generation != worker->policy->generation;
    sg_policy_release(worker->policy);
    worker->policy = sg_policy_ref(policy);
    sg_tls_gate_set_rate(worker->gate, handshake_rate(worker));
    sg_tunnels_policy_changed(worker);
    if (!other_users)
        return;
    /* some were let in by the old file and have yet to say what they want: they may begin again */
    sg_conns_free_all(worker);
    sg_channel_conns_free_all(worker);
    sg_datapath_users_changed(worker->datapath);
}

void sg_worker_kick(struct sg_worker *worker, const char *user, struct sg_kicked *kicked)
{
    kicked->sessions += sg_datapath_kick(worker->datapath, user);
    kicked->plain += sg_plain_kick(worker->datapath, user);
    kicked->relays += sg_tunnels_kick(worker, user);
}

void sg_worker_status(const struct sg_worker *worker, struct json_t *status)
{
    json_t *tcp = json_object();
    json_object_set_new(tcp, "accepted", json_integer((json_int_t)worker->accepted));
    json_object_set_new(tcp, "before_request", json_integer(worker->conn_count));
    json_object_set_new(tcp, "relays", json_integer(worker->tunnel_count));
    json_object_set_new(tcp, "refused_caps", json_integer((json_int_t)worker->refused_caps));
    json_object_set_new(tcp, "refused_displaced", json_integer((json_int_t)worker->displaced));
    json_object_set_new(tcp, "refused_first_byte", json_integer((json_int_t)worker->refused_first));
    json_object_set_new(tcp, "refused_deadline", json_integer((json_int_t)worker->refused_deadline));
    json_object_set_new(tcp, "refused_credentials", json_integer((json_int_t)worker->refused_auth));
    json_object_set_new(tcp, "refused_busy", json_integer((json_int_t)worker->refused_busy));
    json_object_set_new(status, "tls_handshakes", json_integer((json_int_t)worker->tls_handshakes));
    json_object_set_new(status, "tcp", tcp);
    sg_datapath_status(worker->datapath, status);
}

void sg_worker_metrics(const struct sg_worker *worker, struct json_t *metrics)
{
    json_object_set_new(metrics, "handshake_us", sg_histogram_json(&worker->handshake_us));
    sg_datapath_metrics(worker->datapath, metrics);
}
