/* DIR [USER] and switches, by argp. */
#include "cli/dir_args.h"

#include <argp.h>
#include <stdlib.h>

#include "cli/cli.h"

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct sg_dir_args *args = state->input;
    switch (key) {
    case 'r':
        args->replace = true;
        return 0;
    case 'c':
        args->certificate = true;
        return 0;
    case ARGP_KEY_ARG:
        if (!args->dir)
            args->dir = value;
        else if (args->wants_user && !args->user)
            args->user = value;
        else
            argp_error(state, "'%s' is one argument too many", value);
        return 0;
    case ARGP_KEY_END:
        if (!args->dir)
            argp_error(state, "DIR is missing");
        if (args->wants_user && !args->user)
            argp_error(state, "USER is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void sg_dir_args_parse(struct sg_dir_args *args, const struct argp_option *options, const char *doc, int argc,
                       char **argv)
{
    const struct argp argp = {
        .options = options, .parser = parse_option, .args_doc = args->wants_user ? "DIR USER" : "DIR", .doc = doc};
    if (argp_parse(&argp, argc, argv, 0, NULL, args) != 0)
        exit(SG_EXIT_USAGE);
}
