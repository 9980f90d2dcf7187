/* `sealgram invite`: adds a user and prints the one line that a client needs. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "cli/cli.h"
#include "cli/dir_args.h"
#include "net/cert.h"
#include "net/invite.h"
#include "server/config.h"
#include "server/users.h"

static const struct argp_option options[] = {
    {"replace", 'r', NULL, 0, "the user exists: a new token takes the place of the old one", 0},
    {"certificate", 'c', NULL, 0, "no token: the user shows a client certificate with USER as its subject CN", 0},
    {"quiet", 'q', NULL, 0, "no hints on standard error", 0},
    {0},
};

/* The port that clients connect to: that of the advertised or the first listen address. */
static uint16_t port_of(const struct sg_config *config)
{
    return config->advertise.port != 0 ? config->advertise.port : config->listen[0].port;
}

static int fill_invite(struct sg_invite *invite, const struct sg_config *config, const char *user)
{
    char error[SG_CERT_ERROR_MAX];
    if (!config->host) {
        sg_cli_error("%s: host: is missing: the name or address that clients connect to", config->file);
        return SG_EXIT_CONFIG;
    }
    if (sg_cert_pin(config->certificate, invite->pin, error) != SG_OK) {
        sg_cli_error("%s", error);
        return SG_EXIT_CONFIG;
    }
    snprintf(invite->user, sizeof invite->user, "%s", user);
    snprintf(invite->host, sizeof invite->host, "%s", config->host);
    invite->port = port_of(config);
    invite->has_pin = true;
    return SG_EXIT_OK;
}

static int add_user(struct sg_invite *invite, const struct sg_config *config, const struct sg_dir_args *args)
{
    char error[SG_USERS_ERROR_MAX];
    char value[65] = "-";
    char token[SG_TOKEN_TEXT_BYTES + 1] = "";
    enum sg_user_kind kind = args->certificate ? SG_USER_CERTIFICATE : SG_USER_TOKEN;
    if (!args->certificate)
        sg_token_make(token, value);
    enum sg_err err = sg_users_add(config->users, args->user, kind, value, args->replace, error);
    if (err == SG_ERR_EXISTS)
        sg_cli_error("%s; sealgram invite --replace %s %s makes a new invite, and the old one ends", error, args->dir,
                     args->user);
    else if (err != SG_OK)
        sg_cli_error("%s", error);
    if (err == SG_OK)
        snprintf(invite->password, sizeof invite->password, "%s", token);
    sodium_memzero(token, sizeof token);
    return sg_cli_users_exit(err);
}

int sg_cli_make_invite(const struct sg_config *config, const struct sg_dir_args *args,
                       char line[static SG_INVITE_LINE_MAX])
{
    struct sg_invite invite = {.has_pin = false};
    int code = fill_invite(&invite, config, args->user);
    if (code == SG_EXIT_OK)
        code = add_user(&invite, config, args);
    if (code == SG_EXIT_OK)
        sg_invite_format(&invite, line);
    sodium_memzero(&invite, sizeof invite);
    return code;
}

int sg_cmd_invite(int argc, char **argv)
{
    struct sg_dir_args args = {.wants_user = true};
    char line[SG_INVITE_LINE_MAX];
    sg_dir_args_parse(&args, options,
                      "Adds USER to the server in DIR and prints the invite: one line with all that a client needs.\v"
                      "A running server knows the user within a second.",
                      argc, argv);
    struct sg_config *config = sg_cli_load_dir(args.dir);
    if (!config)
        return SG_EXIT_CONFIG;
    int code = sg_cli_make_invite(config, &args, line);
    if (code == SG_EXIT_OK && (puts(line) < 0 || fflush(stdout) != 0)) {
        sg_cli_error("the invite could not be written: %s; --replace makes a new one", strerror(errno));
        code = SG_EXIT_FAILED;
    }
    if (code == SG_EXIT_OK)
        sg_cli_hint(&args,
                    args.certificate ? "on the client: sealgram client --cert FILE --key FILE @%s.invite"
                                     : "keep this line secret, in a file that only its owner may read; on the client: "
                                       "sealgram client @%s.invite",
                    args.user);
    sodium_memzero(line, sizeof line);
    sg_config_free(config);
    return code;
}
