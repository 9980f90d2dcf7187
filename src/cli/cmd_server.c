/* `sealgram server`: runs a server, or checks its configuration. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/log_args.h"
#include "net/log.h"
#include "net/open_files.h"
#include "net/service.h"
#include "server/config.h"
#include "server/helper.h"
#include "server/server.h"

enum { KEY_CHECK = 256, KEY_LOG_FORMAT, KEY_LOG_ADDRESSES };

struct arguments {
    const char *config;
    bool check;
    bool has_level;
    enum sg_log_level level;
    struct sg_cli_log log;
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *args = state->input;
    switch (key) {
    case 'c':
        args->config = value;
        return 0;
    case 'v':
        args->level = SG_LOG_DEBUG;
        args->has_level = true;
        return 0;
    case 'q':
        args->level = SG_LOG_ERROR;
        args->has_level = true;
        return 0;
    case KEY_LOG_FORMAT:
        sg_cli_log_format(state, &args->log, value);
        return 0;
    case KEY_LOG_ADDRESSES:
        sg_cli_log_addresses(state, &args->log, value);
        return 0;
    case KEY_CHECK:
        args->check = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s': the configuration is named with -c", value);
        return 0;
    case ARGP_KEY_END:
        if (!args->config)
            argp_error(state, "-c FILE is missing: the server.yaml that `sealgram init` made");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "the configuration, server.yaml", 0},
    {"check", KEY_CHECK, NULL, 0, "find what a start would find, then end", 0},
    {"verbose", 'v', NULL, 0, "log more", 0},
    {"quiet", 'q', NULL, 0, "log errors only", 0},
    {"log-format", KEY_LOG_FORMAT, "FORMAT", 0, "log lines as text or json", 0},
    {"log-addresses", KEY_LOG_ADDRESSES, "HOW", 0,
     "addresses in log lines: masked or full; both options go before the configuration", 0},
    {0},
};

static const struct argp argp = {
    .options = options,
    .parser = parse_option,
    .doc = "Runs a server until SIGTERM or SIGINT. Prints one line `ready ADDR:PORT...` once it serves.\v"
           "Exit code: 0 after a signal, 1 if it cannot start, 2 for a wrong command line, 3 for an unusable "
           "configuration.",
};

/* The authenticator's helper process comes first: it is to have nothing of what the server loads. */
static int run(struct sg_config *config)
{
    const struct sg_helper_options helper_options = {.command = config->authenticator.command,
                                                     .user = config->user,
                                                     .processes = config->authenticator.processes,
                                                     .timeout_ms = config->authenticator.timeout_seconds * 1000};
    sg_service_start();
    int helper = helper_options.command ? sg_helper_start(&helper_options) : -1;
    if (helper_options.command && helper < 0) {
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "the authenticator's helper process cannot be started: %s",
                     strerror(errno));
        return SG_EXIT_FAILED;
    }
    return sg_server_run(config, helper);
}

/* The configuration says how, the command line goes before it, now and after a reload. */
static void set_up_log(const struct arguments *args, struct sg_config *config)
{
    const struct sg_config_log said = {.has_level = args->has_level,
                                       .level = args->level,
                                       .has_format = args->log.has_format,
                                       .format = args->log.format,
                                       .has_addresses = args->log.has_addresses,
                                       .addresses = args->log.addresses};
    sg_config_keep_log(&said, &config->log);
    sg_config_use_log(&config->log);
}

int sg_cmd_server(int argc, char **argv)
{
    struct arguments args = {.level = SG_LOG_INFO};
    char error[SG_CONFIG_ERROR_MAX];
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    sg_log_set_level(args.level);
    sg_cli_log_apply(&args.log);
    size_t files = 0;
    if (!sg_open_files_raise(1, &files))
        return SG_EXIT_FAILED;
    struct sg_config *config = sg_config_load(args.config, error);
    if (!config) {
        sg_log_event(SG_LOG_ERROR, "config_refused", NULL, "%s", error);
        return SG_EXIT_CONFIG;
    }
    set_up_log(&args, config);
    int code = args.check ? sg_server_check(config) : run(config);
    if (args.check && code == 0)
        printf("configuration ok: %s\n", args.config);
    sg_config_free(config);
    return code;
}
