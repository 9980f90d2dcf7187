/* DIR [USER] and switches, by argp. */
#include "cli/dir_args.h"

#include <argp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "server/user_line.h"
#include "server/users.h"

/* A number of s, m, h or d to come, or a date of UTC, which may go without its time of day. */
bool sg_cli_parse_expiry(const char *text, int64_t now, int64_t *out)
{
    static const struct {
        char unit;
        long seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    char date[64];
    char *end = NULL;
    if (!strchr(text, '-')) {
        unsigned long count = text[0] >= '1' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
        for (size_t i = 0; end && i < sizeof units / sizeof units[0]; i++) {
            if (end[0] != units[i].unit || end[1] != '\0' || count > 36500)
                continue;
            *out = now + (int64_t)count * units[i].seconds;
            return true;
        }
        return false;
    }
    snprintf(date, sizeof date, "%.40s%s", text, strchr(text, 'T') ? "" : "T00:00:00Z");
    return sg_user_date_parse(date, out) && *out > now;
}

static bool parse_uses(const char *text, uint32_t *out)
{
    char *end = NULL;
    unsigned long value = text[0] >= '1' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    *out = (uint32_t)value;
    return end && *end == '\0' && value <= SG_USER_USES_MAX;
}

void sg_cli_parse_addresses(const struct argp_state *state, struct sg_dir_args *args, const char *text)
{
    if (!sg_ip_list_parse(text, strlen(text), &args->addresses))
        argp_error(state, "--address %s: not 1 to 8 IP addresses with commas between, as in 192.0.2.1,2001:db8::1",
                   text);
}

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
    case 'q':
        args->quiet = true;
        return 0;
    case SG_DIR_ARG_EXPIRES:
        if (!sg_cli_parse_expiry(value, time(NULL), &args->terms.expires))
            argp_error(state, "--expires %s: not a time to come: 12h, 7d, 2026-12-24 or 2026-12-24T18:00:00Z", value);
        return 0;
    case SG_DIR_ARG_OUT:
        args->out = value;
        return 0;
    case SG_DIR_ARG_ADDRESS:
        sg_cli_parse_addresses(state, args, value);
        return 0;
    case SG_DIR_ARG_USES:
        if (!parse_uses(value, &args->terms.uses))
            argp_error(state, "--uses %s: not a number from 1 to 10000", value);
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
        if (args->wants_user && !sg_user_name_is_valid(args->user))
            argp_error(state, "'%s' is not a user name: 1 to 64 of letters, digits and . _ - @", args->user);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option child_options[] = {
    {"quiet", 'q', NULL, 0, "no hints on standard error", 0},
    {0},
};

static const struct argp child = {.options = child_options, .parser = parse_option};

const struct argp_child sg_dir_args_children[] = {{.argp = &child}, {0}};

void sg_dir_args_parse(struct sg_dir_args *args, const struct argp_option *options, const char *doc, int argc,
                       char **argv)
{
    const struct argp argp = {
        .options = options, .parser = parse_option, .args_doc = args->wants_user ? "DIR USER" : "DIR", .doc = doc};
    if (argp_parse(&argp, argc, argv, 0, NULL, args) != 0)
        exit(SG_EXIT_USAGE);
}

int sg_cli_users_exit(enum sg_err err)
{
    if (err == SG_OK)
        return SG_EXIT_OK;
    return err == SG_ERR_MALFORMED || err == SG_ERR_DENIED ? SG_EXIT_CONFIG : SG_EXIT_FAILED;
}

void sg_cli_hint(const struct sg_dir_args *args, const char *format, ...)
{
    va_list list;
    if (args->quiet)
        return;
    va_start(list, format);
    fputs("sealgram: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}
