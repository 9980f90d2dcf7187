/* One call to each worker's loop, whatever is asked. */
#include "server/gather.h"

#include <jansson.h>

#include "net/clock.h"
#include "net/inbox.h"
#include "net/json_add.h"
#include "net/resolver.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/usage.h"
#include "server/users.h"
#include "server/worker.h"

struct question {
    struct sg_worker *worker;
    bool metrics;
    json_t *answer;
};

static void answer_question(void *ctx)
{
    struct question *question = ctx;
    sg_worker_status(question->worker, question->answer);
    if (question->metrics)
        sg_worker_metrics(question->worker, question->answer);
}

static json_t *ask_worker(struct sg_worker *worker, bool metrics)
{
    struct question question = {.worker = worker, .metrics = metrics, .answer = json_object()};
    if (worker->index == 0)
        answer_question(&question);
    else
        sg_inbox_call(worker->inbox, answer_question, &question);
    return question.answer;
}

static json_t *gather(struct sg_server *server, bool metrics)
{
    json_t *status = json_object();
    json_t *workers = json_array();
    json_object_set_new(status, "role", json_string("server"));
    json_object_set_new(status, "version", json_string(SG_VERSION));
    json_object_set_new(status, "uptime_seconds",
                        json_integer((json_int_t)((sg_now_ms() - server->started_ms) / 1000)));
    json_object_set_new(status, "users", json_integer((json_int_t)sg_users_count(server->policy->users)));
    sg_usage_status(server->usage, status);
    struct sg_name_service_counts look_ups = sg_name_service_counts(server->names);
    json_object_set_new(
        status, "look_ups",
        json_pack("{s:I, s:I}", "pending", (json_int_t)look_ups.pending, "refused", (json_int_t)look_ups.refused));
    for (unsigned i = 0; i < server->worker_count; i++) {
        json_t *part = ask_worker(server->workers[i], metrics);
        sg_json_add(status, part);
        json_array_append_new(workers,
                              json_pack("{s:O?, s:O?, s:O?}", "sessions", json_object_get(part, "sessions"),
                                        "handshakes", json_object_get(part, "tls_handshakes"), "datagrams_received",
                                        json_object_get(json_object_get(part, "up"), "received")));
        json_decref(part);
    }
    json_object_set_new(status, "workers", workers);
    return status;
}

struct json_t *sg_gather_status(struct sg_server *server)
{
    return gather(server, false);
}

static void add_user(void *ctx, const char *user, const uint32_t counts[static SG_USAGE_KINDS])
{
    json_object_set_new(ctx, user[0] ? user : "-",
                        json_pack("{s:I, s:I, s:I}", "sessions", (json_int_t)counts[SG_USAGE_SESSION], "associations",
                                  (json_int_t)counts[SG_USAGE_ASSOCIATION], "connections",
                                  (json_int_t)counts[SG_USAGE_CONNECTION]));
}

struct json_t *sg_gather_metrics(struct sg_server *server)
{
    json_t *metrics = gather(server, true);
    if (!server->policy->config->metrics.per_user)
        return metrics;
    json_t *users = json_object();
    sg_usage_each(server->usage, add_user, users);
    json_object_set_new(metrics, "user_usage", users);
    return metrics;
}
