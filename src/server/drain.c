/* docs/protocol.md section 5.3. */
#include "server/drain.h"

#include <stdatomic.h>

#include "net/clock.h"
#include "net/inbox.h"
#include "net/log.h"
#include "server/datapath.h"
#include "server/server.h"
#include "server/usage.h"
#include "server/worker.h"

struct order {
    struct sg_worker *worker;
    uint32_t seconds;
};

static void tell_sessions(void *ctx)
{
    const struct order *order = ctx;
    sg_datapath_drain(order->worker->datapath, order->seconds);
}

unsigned sg_drain_start(struct sg_server *server, uint32_t seconds)
{
    unsigned sessions = sg_usage_total(server->usage, SG_USAGE_SESSION);
    atomic_store(&server->draining, true);
    server->drained_ms = sg_now_ms() + (uint64_t)seconds * 1000;
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct order order = {.worker = server->workers[i], .seconds = seconds};
        if (i == 0)
            tell_sessions(&order);
        else
            sg_inbox_call(order.worker->inbox, tell_sessions, &order);
    }
    sg_log_event(SG_LOG_INFO, "draining",
                 SG_LOG_FIELDS(sg_log_number("sessions", sessions), sg_log_number("seconds", seconds)),
                 "draining: %u sessions are told to leave within %u s", sessions, seconds);
    return sessions;
}

bool sg_drain_is_over(const struct sg_server *server)
{
    if (!atomic_load(&server->draining))
        return false;
    return sg_now_ms() >= server->drained_ms || (sg_usage_total(server->usage, SG_USAGE_SESSION) == 0 &&
                                                 sg_usage_total(server->usage, SG_USAGE_ASSOCIATION) == 0 &&
                                                 sg_usage_total(server->usage, SG_USAGE_CONNECTION) == 0);
}
