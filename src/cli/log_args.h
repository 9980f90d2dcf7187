/* The options --log-format and --log-addresses, which server and client have in common. */
#ifndef SG_CLI_LOG_ARGS_H
#define SG_CLI_LOG_ARGS_H

#include <stdbool.h>

#include "net/log.h"

struct argp_state;

/* What was given; all else stays as it is. */
struct sg_cli_log {
    bool has_format, has_addresses;
    enum sg_log_format format;
    enum sg_log_addresses addresses;
};

/* The value of an option; a wrong one ends the program with the usage. */
void sg_cli_log_format(const struct argp_state *state, struct sg_cli_log *log, const char *value);
void sg_cli_log_addresses(const struct argp_state *state, struct sg_cli_log *log, const char *value);

void sg_cli_log_apply(const struct sg_cli_log *log);

#endif
