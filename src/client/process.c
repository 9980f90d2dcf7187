/*
 * The process around the clients: client 0 runs on its own thread, with signals and the status socket, the others each
 * on a thread of their own. `ready` is said when all are.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <jansson.h>
#include <sodium.h>

#include "client/client.h"
#include "client/uplink.h"
#include "net/control_socket.h"
#include "net/device.h"
#include "net/finish.h"
#include "net/json_add.h"
#include "net/listen_failed.h"
#include "net/log.h"
#include "net/loop.h"
#include "net/open_files.h"
#include "net/resolver.h"
#include "net/sandbox.h"
#include "net/service.h"

enum {
    SETTLE_MS = 3000,    /* for CLOSE and close_notify to leave: more than sg_finish takes */
    RESERVED_FILES = 64, /* of the limit of open files, for everything but local connections */
    FILES_PER_CONNECTION = 2,
    CONNECTIONS_MAX = 16384,
    SIGNALS = 3,
};

struct sg_process {
    const struct sg_client_options *options;
    unsigned count;
    struct sg_loop *loops[SG_CLIENT_WORKERS_MAX];
    struct sg_client clients[SG_CLIENT_WORKERS_MAX];
    struct sg_name_service *names;
    char known_path[SG_STATE_PATH_MAX]; /* empty: addresses of servers are not kept */
    struct sg_endpoint *bound;          /* of the listeners: SOCKS, then forwards */
    struct event *signals[SIGNALS];
    struct sg_control_socket *control;
    struct sg_watchdog *watchdog;
    unsigned ready_count, udp_count;
    bool ending;
    int exit_code;
};

/* --- what the clients tell --- */

static void stop(struct sg_process *process, int exit_code)
{
    process->exit_code = exit_code;
    event_base_loopbreak(process->loops[0]->base);
}

static void print_listeners(const struct sg_process *process)
{
    const struct sg_client_options *options = process->options;
    for (size_t i = 0; i < options->socks_count + options->forward_count; i++) {
        char text[SG_ENDPOINT_TEXT_MAX];
        bool socks = i < options->socks_count;
        bool udp = !socks && options->forwards[i - options->socks_count].udp;
        sg_endpoint_format(&process->bound[i], text);
        printf(" %s%s", socks ? "socks=" : udp ? "forward=udp:" : "forward=tcp:", text);
        sg_log_event(SG_LOG_INFO, "listening",
                     SG_LOG_FIELDS(sg_log_word("address", text), sg_log_word("for", socks ? "socks"
                                                                                    : udp ? "udp"
                                                                                          : "tcp")),
                     "listening on %s", text);
    }
}

static void take_ready(void *ctx)
{
    struct sg_client *client = ctx;
    struct sg_process *process = client->process;
    process->udp_count += client->on_udp;
    if (++process->ready_count < process->count || process->ending)
        return;
    printf("ready");
    print_listeners(process);
    printf(" path=%s\n", process->udp_count == process->count ? "udp" : "stream");
    sg_service_say("READY=1");
    if (fflush(stdout) != 0)
        sg_log(SG_LOG_WARN, "cannot write to standard output: %s", strerror(errno));
}

static void take_fatal(void *ctx)
{
    struct sg_client *client = ctx;
    stop(client->process, 1);
}

/* Once for each client. */
static void tell(struct sg_client *client, void (*fn)(void *ctx))
{
    if (client->has_told)
        return;
    client->has_told = true;
    client->told = (struct sg_letter){.fn = fn, .ctx = client};
    sg_inbox_post(client->process->loops[0]->inbox, &client->told);
}

void sg_client_on_ready(struct sg_client *client, const char *path)
{
    client->on_udp = strcmp(path, "udp") == 0;
    tell(client, take_ready);
}

void sg_client_on_fatal(struct sg_client *client, const char *text)
{
    sg_log_event(SG_LOG_ERROR, "gave_up", NULL, "%s", text);
    tell(client, take_fatal);
}

/* --- the status document --- */

struct question {
    const struct sg_client *client;
    json_t *answer;
};

static void answer_status(void *ctx)
{
    struct question *question = ctx;
    sg_client_status(question->client, question->answer);
}

static json_t *make_status(void *ctx)
{
    struct sg_process *process = ctx;
    json_t *status = json_object();
    if (!status)
        return NULL;
    json_object_set_new(status, "role", json_string("client"));
    json_object_set_new(status, "version", json_string(SG_VERSION));
    json_object_set_new(status, "workers", json_integer(process->count));
    for (unsigned i = 0; i < process->count; i++) {
        struct question question = {.client = &process->clients[i], .answer = json_object()};
        if (i == 0)
            answer_status(&question);
        else
            sg_inbox_call(process->loops[i]->inbox, answer_status, &question);
        sg_json_add(status, question.answer);
        json_decref(question.answer);
    }
    return status;
}

static void answer_request(void *ctx, const char *request, struct sg_control_asker *asker)
{
    if (strcmp(request, "status") != 0) {
        sg_control_answer(asker, strdup("error: a client answers to status only\n"));
        return;
    }
    json_t *document = make_status(ctx);
    sg_control_answer(asker, document ? json_dumps(document, JSON_INDENT(2)) : NULL);
    json_decref(document);
}

static bool open_control(struct sg_process *process)
{
    const char *path = process->options->status_socket;
    if (!path)
        return true;
    process->control = sg_control_socket_new(process->loops[0]->base, path, answer_request, process);
    return process->control || sg_listen_failed_path(path, "--status-socket", errno);
}

/* --- other invites --- */

/* To one client: the invites, of which it has copies then. */
struct change {
    struct sg_letter letter;
    struct sg_client *client;
    size_t count;
    struct sg_invite invites[];
};

static void use_invites(void *ctx)
{
    struct change *change = ctx;
    sg_client_use_invites(change->client, change->invites, change->count);
    sodium_memzero(change->invites, change->count * sizeof change->invites[0]);
    free(change);
}

static void tell_invites(struct sg_process *process, const struct sg_invite *invites, size_t count)
{
    for (unsigned i = 0; i < process->count; i++) {
        struct change *change = malloc(sizeof *change + count * sizeof change->invites[0]);
        if (!change) {
            sg_log(SG_LOG_ERROR, "out of memory: invites stay as they were");
            return;
        }
        *change = (struct change){
            .letter = {.fn = use_invites, .ctx = change}, .client = &process->clients[i], .count = count};
        memcpy(change->invites, invites, count * sizeof invites[0]);
        sg_inbox_post(process->loops[i]->inbox, &change->letter);
    }
}

static void on_hangup(evutil_socket_t number, short what, void *ctx)
{
    struct sg_process *process = ctx;
    const struct sg_client_options *options = process->options;
    const struct sg_invite *invites = NULL;
    size_t count = 0;
    (void)number;
    (void)what;
    if (!options->invite_file) {
        sg_log(SG_LOG_INFO, "SIGHUP: the invites are not from a file that could be read again");
        return;
    }
    sg_service_say_reloading();
    if (options->read_again(options->read_again_ctx, &invites, &count)) {
        tell_invites(process, invites, count);
        sg_log_event(SG_LOG_INFO, "invites_reloaded", SG_LOG_FIELDS(sg_log_number("invites", count)),
                     "%s read again: %zu invites", options->invite_file, count);
    } else {
        sg_log_event(SG_LOG_ERROR, "invites_reload_failed", NULL, "SIGHUP: the invites stay as they were");
    }
    sg_service_say("READY=1");
}

/* --- start --- */

/* Each local connection takes a file, and one more to the server: take what the system allows. */
static size_t count_connections(size_t files)
{
    size_t usable = (files > 2 * RESERVED_FILES ? files - RESERVED_FILES : RESERVED_FILES) / FILES_PER_CONNECTION;
    return usable < CONNECTIONS_MAX ? usable : CONNECTIONS_MAX;
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    (void)what;
    sg_log_event(SG_LOG_INFO, "stopping", NULL, "%s: ending", number == SIGINT ? "SIGINT" : "SIGTERM");
    stop(ctx, 0);
}

static bool catch_signals(struct sg_process *process)
{
    static const struct {
        int number;
        event_callback_fn fn;
    } signals[SIGNALS] = {{SIGTERM, on_signal}, {SIGINT, on_signal}, {SIGHUP, on_hangup}};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)sigaction(SIGPIPE, &ignore, NULL);
    for (size_t i = 0; i < SIGNALS; i++) {
        process->signals[i] = evsignal_new(process->loops[0]->base, signals[i].number, signals[i].fn, process);
        if (!process->signals[i] || event_add(process->signals[i], NULL) != 0)
            return false;
    }
    return true;
}

static bool make_loops(struct sg_process *process)
{
    const struct sg_client_options *options = process->options;
    process->bound = calloc(options->socks_count + options->forward_count, sizeof *process->bound);
    for (unsigned i = 0; i < process->count; i++)
        if (!(process->loops[i] = sg_loop_new()))
            return false;
    return process->bound && catch_signals(process);
}

static bool wants_socket(const void *ctx, enum sg_service_kind kind, const struct sg_endpoint *at)
{
    const struct sg_client_options *options = ctx;
    for (size_t i = 0; i < options->socks_count && kind == SG_SERVICE_STREAM; i++)
        if (sg_endpoint_equal(&options->socks[i], at))
            return true;
    for (size_t i = 0; i < options->forward_count; i++)
        if (options->forwards[i].udp == (kind == SG_SERVICE_DATAGRAM) &&
            sg_endpoint_equal(&options->forwards[i].listen, at))
            return true;
    return false;
}

/* Sockets that the service manager opened are those of --socks and --forward, one for each client. */
static bool check_passed(const struct sg_process *process)
{
    char text[160];
    unsigned passed = 0;
    const char *wrong = sg_service_check_sockets(wants_socket, process->options, "--socks or --forward", &passed, text);
    if (!wrong && passed != 0 && passed != process->count) {
        snprintf(text, sizeof text, "%u sockets of an address were passed: one is needed for each of %u --workers",
                 passed, process->count);
        wrong = text;
    }
    if (wrong)
        sg_log_event(SG_LOG_ERROR, "listen_failed", NULL, "%s", wrong);
    return !wrong;
}

/* Only servers that have a name are looked up. */
static void open_known_servers(struct sg_process *process)
{
    const struct sg_client_options *options = process->options;
    struct sg_ip ip;
    bool has_name = false;
    for (size_t i = 0; i < options->invite_count && !has_name; i++)
        has_name = sg_ip_parse(options->invites[i].host, &ip) != SG_OK;
    if (!has_name || sg_known_servers_open(process->known_path))
        return;
    sg_log(SG_LOG_DEBUG, "addresses of servers are not kept: %s", strerror(errno));
    process->known_path[0] = '\0';
}

static bool open_clients(struct sg_process *process, size_t connections)
{
    open_known_servers(process);
    for (unsigned i = 0; i < process->count; i++) {
        process->clients[i] = (struct sg_client){
            .process = process,
            .index = i,
            .share = sg_share_of(i, process->count),
            .options = process->options,
            .known_path = process->known_path[0] ? process->known_path : NULL,
            .resolver = {.service = process->names, .inbox = process->loops[i]->inbox},
            .connection_limit = connections / process->count,
        };
        if (!sg_client_open(&process->clients[i], process->loops[i], process->bound))
            return false;
    }
    return true;
}

static bool start_threads(struct sg_process *process)
{
    for (unsigned i = 0; i < process->count; i++) {
        sg_uplink_start(process->clients[i].uplink);
        if (i > 0 && !sg_loop_start(process->loops[i])) {
            sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "cannot start a thread: %s", strerror(errno));
            return false;
        }
    }
    return true;
}

typedef bool sandbox_fn(const struct sg_sandbox *sandbox, char error[static SG_SANDBOX_ERROR_MAX]);

/*
 * What SIGHUP reads: the files, not their directories, one of which may be the user's home. A directory of credentials
 * holds nothing else.
 */
static void add_invite_files(struct sg_sandbox *sandbox, const struct sg_client_options *options)
{
    const char *credentials = secure_getenv("CREDENTIALS_DIRECTORY");
    char device[SG_STATE_PATH_MAX];
    if (!options->invite_file)
        return;
    sg_sandbox_add(sandbox, SG_SANDBOX_READ, credentials);
    sg_sandbox_add(sandbox, SG_SANDBOX_READ_FILE, options->invite_file);
    sg_sandbox_add(sandbox, SG_SANDBOX_READ_FILE, options->ca_file);
    sg_sandbox_add(sandbox, SG_SANDBOX_READ_FILE, options->certificate);
    sg_sandbox_add(sandbox, SG_SANDBOX_READ_FILE, options->key);
    sg_sandbox_add(sandbox, SG_SANDBOX_READ_FILE, sg_device_path(device) ? device : NULL);
}

/* A step into the sandbox: a client reads again what its libraries do, its invites, what those need, and its servers'
 * addresses, which it writes too. */
static bool confine(struct sg_process *process, sandbox_fn *step)
{
    char error[SG_SANDBOX_ERROR_MAX];
    const struct sg_client_options *options = process->options;
    struct sg_sandbox sandbox = {.count = 0};
    if (options->no_sandbox)
        return true;
    sg_sandbox_add_system(&sandbox);
    add_invite_files(&sandbox, options);
    sg_sandbox_add_dir_of(&sandbox, SG_SANDBOX_REMOVE, options->status_socket);
    if (process->known_path[0])
        sg_sandbox_add_dir_of(&sandbox, SG_SANDBOX_REPLACE, process->known_path);
    bool good = step(&sandbox, error);
    sg_sandbox_dispose(&sandbox);
    if (!good)
        sg_log(SG_LOG_ERROR, "%s", error);
    return good;
}

/* With or without a sandbox: no debugger needs what root may do. */
static bool drop_privileges(void)
{
    char error[SG_SANDBOX_ERROR_MAX];
    if (sg_sandbox_drop(error))
        return true;
    sg_log(SG_LOG_ERROR, "%s", error);
    return false;
}

static bool start_names(struct sg_process *process)
{
    char error[SG_SANDBOX_ERROR_MAX];
    if (sg_name_service_start(process->names, !process->options->no_sandbox, error))
        return true;
    sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "resolver: %s", error);
    return false;
}

static bool start_watchdog(struct sg_process *process)
{
    struct sg_inbox *inboxes[SG_CLIENT_WORKERS_MAX];
    for (unsigned i = 0; i < process->count; i++)
        inboxes[i] = process->loops[i]->inbox;
    return sg_watchdog_new(process->loops[0]->base, inboxes, process->count, &process->watchdog);
}

static bool start(struct sg_process *process)
{
    size_t files = 0;
    process->count = process->options->workers > 0 ? process->options->workers : 1;
    if (!sg_open_files_raise(process->count, &files))
        return false;
    if (!make_loops(process)) {
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "cannot set up the event loops");
        return false;
    }
    return check_passed(process) && (process->names = sg_name_service_new()) &&
           open_clients(process, count_connections(files)) && open_control(process) && start_names(process) &&
           drop_privileges() && confine(process, sg_sandbox_confine) && start_watchdog(process) &&
           start_threads(process) && confine(process, sg_sandbox_filter);
}

/* --- end --- */

static void end(struct sg_process *process)
{
    process->ending = true;
    sg_watchdog_stop(process->watchdog);
    sg_control_socket_free(process->control);
    for (unsigned i = 0; i < process->count; i++)
        if (process->loops[i])
            sg_loop_stop(process->loops[i]);
    for (unsigned i = 0; i < process->count; i++)
        sg_client_close(&process->clients[i]);
    sg_name_service_free(process->names);
    for (size_t i = 0; i < SIGNALS; i++)
        if (process->signals[i])
            event_free(process->signals[i]);
    for (unsigned i = 0; i < process->count; i++)
        if (process->loops[i])
            sg_loop_settle(process->loops[i], SETTLE_MS);
    sg_finish_rest();
    sg_watchdog_free(process->watchdog);
    for (unsigned i = 0; i < process->count; i++)
        sg_loop_free(process->loops[i]);
    free(process->bound);
}

int sg_client_run(const struct sg_client_options *options)
{
    struct sg_process *process = calloc(1, sizeof *process);
    if (!process)
        return 1;
    process->options = options;
    process->exit_code = 1;
    sg_service_start();
    if (start(process))
        event_base_dispatch(process->loops[0]->base);
    sg_service_say("STOPPING=1");
    end(process);
    sg_service_end();
    int exit_code = process->exit_code;
    free(process);
    return exit_code;
}
