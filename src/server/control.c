/* Answers are one text: the status as JSON, or a line that begins with `ok: ` or `error: `. */
#include "server/control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "net/control_socket.h"
#include "net/inbox.h"
#include "net/listen_failed.h"
#include "net/log.h"
#include "net/rundir.h"
#include "server/drain.h"
#include "server/gather.h"
#include "server/policy.h"
#include "server/reload.h"
#include "server/server.h"
#include "server/users.h"
#include "server/worker.h"

__attribute__((format(printf, 1, 2))) static char *line(const char *format, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    return len < 0 ? NULL : text;
}

static char *show_status(struct sg_server *server)
{
    json_t *document = sg_gather_status(server);
    char *text = document ? json_dumps(document, JSON_INDENT(2)) : NULL;
    json_decref(document);
    return text;
}

static void answer_reload(void *ctx, const char *answer)
{
    sg_control_answer(ctx, line("%s\n", answer));
}

struct kick {
    struct sg_worker *worker;
    const char *user;
    struct sg_kicked kicked;
};

static void kick_at(void *ctx)
{
    struct kick *kick = ctx;
    sg_worker_kick(kick->worker, kick->user, &kick->kicked);
}

static char *kick(struct sg_server *server, const char *user)
{
    struct kick kick = {.user = user};
    if (!sg_user_name_is_valid(user) || !sg_users_has(server->policy->users, user))
        return line("error: there is no user '%s'\n", user);
    for (unsigned i = 0; i < server->worker_count; i++) {
        kick.worker = server->workers[i];
        if (i == 0)
            kick_at(&kick);
        else
            sg_inbox_call(kick.worker->inbox, kick_at, &kick);
    }
    sg_log_event(SG_LOG_INFO, "user_kicked", SG_LOG_FIELDS(sg_log_word("user", user)),
                 "user %s was kicked: sessions %u, relays %u, plain associations %u", user, kick.kicked.sessions,
                 kick.kicked.relays, kick.kicked.plain);
    return line("ok: ended: sessions %u, relays %u, plain associations %u\n", kick.kicked.sessions, kick.kicked.relays,
                kick.kicked.plain);
}

static char *drain(struct sg_server *server, const char *text)
{
    char *end = NULL;
    unsigned long seconds = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (!end || *end != '\0' || seconds > SG_DRAIN_SECONDS_MAX)
        return line("error: '%s' is no number of seconds from 0 to %d\n", text, SG_DRAIN_SECONDS_MAX);
    unsigned sessions = sg_drain_start(server, (uint32_t)seconds);
    return line("ok: draining: %u sessions, at most %lu s\n", sessions, seconds);
}

static void answer_request(void *ctx, const char *request, struct sg_control_asker *asker)
{
    struct sg_server *server = ctx;
    if (strcmp(request, "status") == 0)
        sg_control_answer(asker, show_status(server));
    else if (strcmp(request, "reload") == 0)
        sg_reload_order(server->reload, SG_RELOAD_CONFIG, answer_reload, asker);
    else if (strcmp(request, "users") == 0)
        sg_reload_order(server->reload, SG_RELOAD_FILES, answer_reload, asker);
    else if (strncmp(request, "kick ", 5) == 0)
        sg_control_answer(asker, kick(server, request + 5));
    else if (strncmp(request, "drain ", 6) == 0)
        sg_control_answer(asker, drain(server, request + 6));
    else
        sg_control_answer(asker, line("error: a server answers to status, reload, kick USER and drain SECONDS\n"));
}

bool sg_control_open(struct event_base *base, struct sg_server *server, struct sg_control_socket **out)
{
    char path[SG_RUNDIR_PATH_MAX];
    const char *chosen = server->config->status_socket;
    *out = NULL;
    if (!chosen && !sg_rundir_status_path("server", path)) {
        sg_rundir_path(path);
        sg_log(SG_LOG_WARN, "no control socket: %s: %s", path, strerror(errno));
        return true;
    }
    *out = sg_control_socket_new(base, chosen ? chosen : path, answer_request, server);
    return *out || sg_listen_failed_path(chosen ? chosen : path, "status_socket", errno);
}
