/* The arguments that commands on a server's directory share: DIR, often USER, and switches. */
#ifndef SG_CLI_DIR_ARGS_H
#define SG_CLI_DIR_ARGS_H

#include <stdbool.h>

struct argp_option;

struct sg_dir_args {
    bool wants_user; /* set by the command */
    const char *dir;
    const char *user;
    bool replace;     /* --replace */
    bool certificate; /* --certificate */
};

/* Parses; ends the process with exit code 2 on a wrong command line, as argp does. options may be NULL. */
void sg_dir_args_parse(struct sg_dir_args *args, const struct argp_option *options, const char *doc, int argc,
                       char **argv);

#endif
