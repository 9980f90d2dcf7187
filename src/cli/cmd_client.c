/* `sealgram client`: reads options and invites, then runs the client. */
#include "cli/cli.h"
#include "cli/invite_list.h"
#include "cli/log_args.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "client/client.h"
#include "net/device.h"
#include "net/dscp.h"
#include "net/invite.h"
#include "net/known_servers.h"
#include "net/log.h"
#include "net/relay.h"
#include "net/rundir.h"

enum { LISTENERS_MAX = 64 };

enum key {
    KEY_CA = 256,
    KEY_CERT,
    KEY_KEY,
    KEY_STATUS,
    KEY_NO_SANDBOX,
    KEY_NO_SOCKS,
    KEY_SOCKS_USER,
    KEY_SOCKS_PASSWORD,
    KEY_WORKERS,
    KEY_RELAY_IDLE,
    KEY_LOG_FORMAT,
    KEY_LOG_ADDRESSES,
    KEY_DSCP,
    KEY_RESOLVE,
};

struct arguments {
    struct sg_client_options options;
    struct sg_endpoint socks[LISTENERS_MAX];
    struct sg_client_forward forwards[LISTENERS_MAX];
    struct sg_cli_invites invites;
    struct sg_known_server resolves[SG_CLI_INVITES_MAX];
    bool no_socks;
    const char *invite_arg;
    const char *password_file;
    char password[256];
    int verbosity;
    struct sg_cli_log log;
};

static void add_socks(struct argp_state *state, struct arguments *args, const char *text)
{
    if (args->options.socks_count == LISTENERS_MAX)
        argp_error(state, "--socks: more than %d", LISTENERS_MAX);
    const char *problem = sg_listen_parse(text, true, &args->socks[args->options.socks_count]);
    if (problem)
        argp_error(state, "--socks %s: %s", text, problem);
    args->options.socks_count++;
}

/* PROTO:LISTEN=TARGET. The target's name points into a copy of the text, which lives as long as the program. */
static void add_forward(struct argp_state *state, struct arguments *args, const char *text)
{
    struct sg_client_forward *forward = &args->forwards[args->options.forward_count];
    if (args->options.forward_count == LISTENERS_MAX)
        argp_error(state, "--forward: more than %d", LISTENERS_MAX);
    forward->datagram_only = strncmp(text, "udp-only:", 9) == 0;
    forward->udp = forward->datagram_only || strncmp(text, "udp:", 4) == 0;
    if (!forward->udp && strncmp(text, "tcp:", 4) != 0)
        argp_error(state, "--forward %s: must begin with udp:, udp-only: or tcp:", text);
    char listen[128];
    const char *start = strchr(text, ':') + 1;
    const char *equals = strchr(text, '=');
    size_t len = equals && equals > start ? (size_t)(equals - start) : 0;
    if (!equals || len >= sizeof listen)
        argp_error(
            state,
            "--forward %s: not of the form udp:LISTEN=TARGET or tcp:LISTEN=TARGET, as in udp:127.0.0.1:5353=9.9.9.9:53",
            text);
    memcpy(listen, start, len);
    listen[len] = '\0';
    const char *problem = sg_listen_parse(listen, true, &forward->listen);
    if (problem)
        argp_error(state, "--forward %s: LISTEN: %s", text, problem);
    if (sg_target_parse(equals + 1, false, &forward->target) != SG_OK)
        argp_error(state, "--forward %s: TARGET is not of the form HOST:PORT, as in 9.9.9.9:53", text);
    args->options.forward_count++;
}

static void add_resolve(struct argp_state *state, struct arguments *args, const char *text)
{
    if (args->options.resolve_count == SG_CLI_INVITES_MAX)
        argp_error(state, "--resolve: more than %d", SG_CLI_INVITES_MAX);
    if (!sg_known_server_parse(text, &args->resolves[args->options.resolve_count]))
        argp_error(state, "--resolve %s: not of the form HOST:PORT:ADDR[,ADDR...], as in vpn.example.org:%d:192.0.2.1",
                   text, SG_DEFAULT_PORT);
    args->options.resolve_count++;
}

/* Each --resolve must be of a server that an invite names: another is a slip of the pen. */
static bool check_resolves(const struct arguments *args)
{
    for (size_t i = 0; i < args->options.resolve_count; i++) {
        const struct sg_known_server *resolve = &args->resolves[i];
        bool found = false;
        for (size_t k = 0; k < args->invites.count && !found; k++)
            found = sg_known_servers_find(resolve, 1, args->invites.list[k].host, args->invites.list[k].port) != NULL;
        if (found)
            continue;
        sg_log(SG_LOG_ERROR, "--resolve %s:%u: no invite names that server; the first is of %s:%u", resolve->host,
               resolve->port, args->invites.list[0].host, args->invites.list[0].port);
        return false;
    }
    return true;
}

static uint64_t parse_relay_idle_ms(const struct argp_state *state, const char *text)
{
    char *end = NULL;
    unsigned long seconds = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || seconds < 60 || seconds > SG_RELAY_IDLE_MAX_S)
        argp_error(state, "--relay-idle %s: not a number of seconds from 60 to %d", text, SG_RELAY_IDLE_MAX_S);
    return (uint64_t)seconds * 1000;
}

static unsigned parse_workers(const struct argp_state *state, const char *text)
{
    char *end = NULL;
    unsigned long workers = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || workers < 1 || workers > SG_CLIENT_WORKERS_MAX)
        argp_error(state, "--workers %s: not a number from 1 to %d", text, SG_CLIENT_WORKERS_MAX);
    return (unsigned)workers;
}

/* --- invites and passwords --- */

static void strip_line_end(char *line)
{
    line[strcspn(line, "\r\n")] = '\0';
}

/* The password of local applications: the first line of a file that only its owner reads. */
static bool read_password(struct arguments *args)
{
    struct stat st;
    bool good = false;
    FILE *file = fopen(args->password_file, "re");
    if (!file || fstat(fileno(file), &st) != 0) {
        sg_log(SG_LOG_ERROR, "%s: %s", args->password_file, strerror(errno));
        goto out;
    }
    if (S_ISREG(st.st_mode) && (st.st_mode & 077)) {
        sg_log(SG_LOG_ERROR, "%s: others may read it (mode %04o): chmod 600 %s", args->password_file,
               (unsigned)st.st_mode & 07777, args->password_file);
        goto out;
    }
    char line[258];
    if (!fgets(line, sizeof line, file))
        line[0] = '\0';
    strip_line_end(line);
    good = line[0] != '\0' && strlen(line) < sizeof args->password;
    if (good)
        memcpy(args->password, line, strlen(line) + 1);
    else
        sg_log(SG_LOG_ERROR, "%s: the first line must be a password of 1 to 255 bytes", args->password_file);
    sodium_memzero(line, sizeof line);
    args->options.socks_password = args->password;
out:
    if (file)
        fclose(file);
    return good;
}

/* --- the command line --- */

static error_t parse_option(int key, char *value, struct argp_state *state);

static const struct argp_option option_list[] = {
    {"socks", 's', "ADDR:PORT", 0, "SOCKS5 for local applications (127.0.0.1:1080); may be given several times", 0},
    {"no-socks", KEY_NO_SOCKS, NULL, 0, "forwards only", 0},
    {"socks-user", KEY_SOCKS_USER, "NAME", 0, "local applications must log in as NAME", 0},
    {"socks-password-file", KEY_SOCKS_PASSWORD, "FILE", 0, "with the password in the first line of FILE", 0},
    {"forward", 'f', "PROTO:LISTEN=TARGET", 0,
     "carry what arrives at LISTEN, an ADDR:PORT of this machine, to TARGET, a HOST:PORT as the server reaches it, and "
     "the answers back, as in udp:127.0.0.1:5353=9.9.9.9:53; PROTO is tcp, udp, or udp-only (as udp, but what does not "
     "fit into a record is dropped and never travels inside TCP); may be given several times",
     0},
    {"dscp", KEY_DSCP, "LIST", 0, "copy these code points from datagrams to the records, as in ef,af41 (none)", 0},
    {"resolve", KEY_RESOLVE, "HOST:PORT:ADDR[,ADDR...]", 0,
     "the addresses of an invite's server, which is not looked up then; may be given several times", 0},
    {"relay-idle", KEY_RELAY_IDLE, "SECONDS", 0, "end a TCP relay in which nothing moves for so long (14400)", 0},
    {"workers", KEY_WORKERS, "N", 0, "carry the traffic with N threads, each with a session of its own (1)", 0},
    {"ca", KEY_CA, "FILE", 0, "CA certificates that know a server whose invite has no pin (the system's)", 0},
    {"cert", KEY_CERT, "FILE", 0, "own certificate, for servers that ask for one", 0},
    {"key", KEY_KEY, "FILE", 0, "its private key", 0},
    {"no-sandbox", KEY_NO_SANDBOX, NULL, 0, "do not restrict files and system calls: for debuggers", 0},
    {"status-socket", KEY_STATUS, "PATH", 0, "where `sealgram status` asks", 0},
    {"verbose", 'v', NULL, 0, "log everything", 0},
    {"quiet", 'q', NULL, 0, "log errors only", 0},
    {"log-format", KEY_LOG_FORMAT, "FORMAT", 0, "log lines as text (default) or json", 0},
    {"log-addresses", KEY_LOG_ADDRESSES, "HOW", 0, "targets in log lines: full (default) or masked", 0},
    {0},
};

static const struct argp argp = {
    .options = option_list,
    .parser = parse_option,
    .args_doc = "INVITE|@FILE|-",
    .doc =
        "Carries the traffic of local applications to a Sealgram server, each datagram sealed.\v"
        "INVITE is the line that `sealgram invite` prints; @FILE reads it from a file, - from standard input. Several "
        "in a file are tried in order. Prints one line `ready ...` once datagrams can be carried. Exit code: 0 after "
        "SIGTERM or SIGINT, 1 after an error, 2 for a wrong command line.",
};

static void take_argument(struct argp_state *state, struct arguments *args, char *value)
{
    if (args->invite_arg)
        argp_error(state, "one INVITE is enough: put several into a file and give @FILE");
    args->invite_arg = value;
}

/* What only the whole of the options can tell. */
static void check_options(struct argp_state *state, struct arguments *args)
{
    struct sg_client_options *options = &args->options;
    if (!args->invite_arg)
        argp_error(state, "INVITE is missing: the line that `sealgram invite` printed, or @FILE");
    if (!options->socks_user != !args->password_file)
        argp_error(state, "--socks-user and --socks-password-file belong together");
    if (!options->certificate != !options->key)
        argp_error(state, "--cert and --key belong together");
    if (args->no_socks && (options->socks_count > 0 || options->forward_count == 0))
        argp_error(state, "--no-socks goes with --forward, and not with --socks");
    if (options->socks_count == 0 && !args->no_socks)
        add_socks(state, args, "127.0.0.1:1080");
    for (size_t i = 0; i < options->socks_count; i++) {
        char text[SG_ENDPOINT_TEXT_MAX];
        sg_endpoint_format(&args->socks[i], text);
        if (!options->socks_user && !sg_client_is_local(&args->socks[i].ip))
            argp_error(state,
                       "--socks %s: not a loopback address, so everyone who reaches it could use it: set "
                       "--socks-user and --socks-password-file",
                       text);
    }
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *args = state->input;
    switch (key) {
    case 's':
        add_socks(state, args, value);
        return 0;
    case 'f':
        add_forward(state, args, value);
        return 0;
    case 'v':
        args->verbosity++;
        return 0;
    case 'q':
        args->verbosity = -1;
        return 0;
    case KEY_NO_SOCKS:
        args->no_socks = true;
        return 0;
    case KEY_SOCKS_USER:
        if (strlen(value) < 1 || strlen(value) > 255)
            argp_error(state, "--socks-user: must have 1 to 255 bytes");
        args->options.socks_user = value;
        return 0;
    case KEY_SOCKS_PASSWORD:
        args->password_file = value;
        return 0;
    case KEY_RELAY_IDLE:
        args->options.relay_idle_ms = parse_relay_idle_ms(state, value);
        return 0;
    case KEY_WORKERS:
        args->options.workers = parse_workers(state, value);
        return 0;
    case KEY_RESOLVE:
        add_resolve(state, args, value);
        return 0;
    case KEY_DSCP:
        if (!sg_dscp_parse(value, &args->options.dscp))
            argp_error(state, "--dscp %s: not a list of code points, as in ef,af41,cs5 or 46,34", value);
        return 0;
    case KEY_CA:
        args->options.ca_file = value;
        return 0;
    case KEY_CERT:
        args->options.certificate = value;
        return 0;
    case KEY_KEY:
        args->options.key = value;
        return 0;
    case KEY_NO_SANDBOX:
        args->options.no_sandbox = true;
        return 0;
    case KEY_LOG_FORMAT:
        sg_cli_log_format(state, &args->log, value);
        return 0;
    case KEY_LOG_ADDRESSES:
        sg_cli_log_addresses(state, &args->log, value);
        return 0;
    case KEY_STATUS:
        args->options.status_socket = value;
        return 0;
    case ARGP_KEY_ARG:
        take_argument(state, args, value);
        return 0;
    case ARGP_KEY_END:
        check_options(state, args);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum sg_log_level log_level(int verbosity)
{
    if (verbosity < 0)
        return SG_LOG_ERROR;
    return verbosity == 0 ? SG_LOG_INFO : SG_LOG_DEBUG;
}

/* sg_client_read_fn: what was there before stays until the new list is whole. */
static bool read_again(void *ctx, const struct sg_invite **invites, size_t *count)
{
    struct arguments *args = ctx;
    static struct sg_cli_invites fresh;
    bool good = sg_cli_invites_take_again(&fresh, args->options.invite_file);
    if (good)
        args->invites = fresh;
    sodium_memzero(&fresh, sizeof fresh);
    *invites = args->invites.list;
    *count = args->invites.count;
    return good;
}

int sg_cmd_client(int argc, char **argv)
{
    static struct arguments args = {.options = {.relay_idle_ms = (uint64_t)SG_RELAY_IDLE_S * 1000}};
    char status_path[SG_RUNDIR_PATH_MAX];
    int exit_code = SG_EXIT_FAILED;

    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    sg_log_set_level(log_level(args.verbosity));
    sg_cli_log_apply(&args.log);
    args.options.socks = args.socks;
    args.options.forwards = args.forwards;
    args.options.resolves = args.resolves;
    if (!sg_cli_invites_take(&args.invites, args.invite_arg) || (args.password_file && !read_password(&args)) ||
        !check_resolves(&args))
        goto out;
    if (!args.options.status_socket) {
        if (sg_rundir_status_path("client", status_path)) {
            args.options.status_socket = status_path;
        } else {
            int error = errno;
            sg_rundir_path(status_path);
            sg_log(SG_LOG_WARN, "no socket for `sealgram status`: %s: %s: --status-socket names another place",
                   status_path, strerror(error));
        }
    }
    args.options.invites = args.invites.list;
    args.options.invite_count = args.invites.count;
    args.options.invite_file = args.invite_arg[0] == '@' ? args.invite_arg + 1 : NULL;
    args.options.read_again = read_again;
    args.options.read_again_ctx = &args;
    exit_code = sg_client_run(&args.options);
out:
    sodium_memzero(&args, sizeof args);
    return exit_code;
}
