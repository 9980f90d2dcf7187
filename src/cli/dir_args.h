/* The arguments that commands on a server's directory share: DIR, often USER, and switches. */
#ifndef SG_CLI_DIR_ARGS_H
#define SG_CLI_DIR_ARGS_H

#include <stdbool.h>
#include <stdio.h>

#include <argp.h>

#include "core/err.h"
#include "net/invite.h"
#include "server/users.h"

struct sg_config;

/* Keys of options that commands may have among theirs. */
enum { SG_DIR_ARG_EXPIRES = 300, SG_DIR_ARG_USES, SG_DIR_ARG_OUT, SG_DIR_ARG_ADDRESS };

struct sg_dir_args {
    bool wants_user; /* set by the command */
    const char *dir;
    const char *user;
    bool replace;                /* --replace */
    bool certificate;            /* --certificate */
    struct sg_user_terms terms;  /* --expires, --uses */
    const char *out;             /* --out: where the invite goes, NULL: standard output */
    struct sg_ip_list addresses; /* --address: of the server, for the invite */
    bool quiet;                  /* -q: no hints */
};

/* Parses; ends the process with exit code 2 on a wrong command line, as argp does. options may be NULL. */
void sg_dir_args_parse(struct sg_dir_args *args, const struct argp_option *options, const char *doc, int argc,
                       char **argv);

/* The same arguments as the child of another command's parser, whose first child input is a struct sg_dir_args. */
extern const struct argp_child sg_dir_args_children[];

/*
 * Adds args->user to the users of config and writes the invite line. Returns the exit code; what is not 0 was explained
 * on standard error. The caller wipes line.
 */
int sg_cli_make_invite(const struct sg_config *config, const struct sg_dir_args *args,
                       char line[static SG_INVITE_LINE_MAX]);

/*
 * Opens what the invite is written to: standard output, or with --out a new file that only its owner may read. To be
 * called before anything is changed. NULL after a line on standard error: the file exists already, or cannot be made.
 */
FILE *sg_cli_open_invite(const struct sg_dir_args *args);

/*
 * Writes the invite line, if code is SG_EXIT_OK so far, and closes what sg_cli_open_invite gave; otherwise, or if that
 * fails, which a line on standard error says, the new file is removed. Returns the exit code.
 */
int sg_cli_close_invite(FILE *file, const struct sg_dir_args *args, const char *line, int code);

/* Tells what to do with the invite, unless quiet. */
void sg_cli_hint_invite(const struct sg_dir_args *args);

/* Parses the value of --expires: false if it is none, or not to come. */
bool sg_cli_parse_expiry(const char *text, int64_t now, int64_t *out);

/* Parses the value of --address; ends the process on a wrong one, as argp does. */
void sg_cli_parse_addresses(const struct argp_state *state, struct sg_dir_args *args, const char *text);

/* The exit code of what an edit of the user file returned. */
int sg_cli_users_exit(enum sg_err err);

/* A line `sealgram: ...` on standard error for people to read, unless quiet. */
void sg_cli_hint(const struct sg_dir_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
