/* `sealgram reload`, `sealgram kick` and `sealgram drain`: orders to a running server. */
#include <argp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "server/users.h"

struct arguments {
    bool wants_user;
    const char *socket;
    const char *user;
    const char *seconds;
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *args = state->input;
    switch (key) {
    case 's':
        args->socket = value;
        return 0;
    case 't':
        args->seconds = value;
        return 0;
    case ARGP_KEY_ARG:
        if (!args->wants_user)
            argp_error(state, "'%s': this command takes options only", value);
        if (args->user)
            argp_error(state, "'%s': one USER at a time", value);
        args->user = value;
        return 0;
    case ARGP_KEY_END:
        if (args->wants_user && !args->user)
            argp_error(state, "USER is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"socket", 's', "PATH", 0, "the control socket of the server (the only one that runs)", 0},
    {0},
};

int sg_cmd_reload(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .doc = "Makes a running server read its configuration, certificate and users again. Sessions stay.\v"
               "A fault changes nothing: it is printed, and the exit code is 1.",
    };
    struct arguments args = {.wants_user = false};
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    return sg_cli_order(args.socket, "reload");
}

int sg_cmd_kick(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "USER",
        .doc = "Ends the sessions, relays and plain associations that USER has on a running server.\v"
               "The user may come back: `sealgram revoke` removes one for good.",
    };
    struct arguments args = {.wants_user = true};
    char request[SG_USER_NAME_MAX + 8];
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    if (!sg_user_name_is_valid(args.user)) {
        sg_cli_error("'%s' is not a user name (1 to 64 of letters, digits and . _ - @)", args.user);
        return SG_EXIT_USAGE;
    }
    snprintf(request, sizeof request, "kick %s", args.user);
    return sg_cli_order(args.socket, request);
}

int sg_cmd_drain(int argc, char **argv)
{
    static const struct argp_option drain_options[] = {
        {"socket", 's', "PATH", 0, "the control socket of the server (the only one that runs)", 0},
        {"seconds", 't', "N", 0, "end after N seconds in any case, 0 to 86400 (60)", 0},
        {0},
    };
    static const struct argp argp = {
        .options = drain_options,
        .parser = parse_option,
        .doc = "Takes a running server out of service: it begins no session any more, tells clients to go to another "
               "server "
               "of their own list, and ends when all have left.\vSessions that cannot go anywhere last until the time "
               "is over.",
    };
    struct arguments args = {.seconds = "60"};
    char request[64];
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    if (snprintf(request, sizeof request, "drain %s", args.seconds) >= (int)sizeof request) {
        sg_cli_error("--seconds %s: not a number", args.seconds);
        return SG_EXIT_USAGE;
    }
    return sg_cli_order(args.socket, request);
}
