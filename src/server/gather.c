/* One call to each worker's loop. */
#include "server/gather.h"

#include <jansson.h>

#include "net/clock.h"
#include "net/inbox.h"
#include "net/json_add.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/users.h"
#include "server/worker.h"

struct question {
    struct sg_worker *worker;
    json_t *answer;
};

static void answer_question(void *ctx)
{
    struct question *question = ctx;
    sg_worker_status(question->worker, question->answer);
}

static json_t *ask_worker(struct sg_worker *worker)
{
    struct question question = {.worker = worker, .answer = json_object()};
    if (worker->index == 0)
        answer_question(&question);
    else
        sg_inbox_call(worker->inbox, answer_question, &question);
    return question.answer;
}

struct json_t *sg_gather_status(struct sg_server *server)
{
    json_t *status = json_object();
    json_t *workers = json_array();
    json_object_set_new(status, "role", json_string("server"));
    json_object_set_new(status, "version", json_string(SG_VERSION));
    json_object_set_new(status, "uptime_seconds",
                        json_integer((json_int_t)((sg_now_ms() - server->started_ms) / 1000)));
    json_object_set_new(status, "users", json_integer((json_int_t)sg_users_count(server->policy->users)));
    for (unsigned i = 0; i < server->worker_count; i++) {
        json_t *part = ask_worker(server->workers[i]);
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
