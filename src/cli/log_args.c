/* Options of the log on the command line: they go before what a configuration says. */
#include "cli/log_args.h"

#include <argp.h>

void sg_cli_log_format(const struct argp_state *state, struct sg_cli_log *log, const char *value)
{
    log->has_format = sg_log_parse_format(value, &log->format);
    if (!log->has_format)
        argp_error(state, "--log-format %s: must be text or json", value);
}

void sg_cli_log_addresses(const struct argp_state *state, struct sg_cli_log *log, const char *value)
{
    log->has_addresses = sg_log_parse_addresses(value, &log->addresses);
    if (!log->has_addresses)
        argp_error(state, "--log-addresses %s: must be masked or full", value);
}

void sg_cli_log_apply(const struct sg_cli_log *log)
{
    if (log->has_format)
        sg_log_set_format(log->format);
    if (log->has_addresses)
        sg_log_set_addresses(log->addresses);
}
