/* `sealgram invite`: adds a user and prints the one line that a client needs. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/dir_args.h"
#include "net/cert.h"
#include "net/invite.h"
#include "server/config.h"
#include "server/user_line.h"
#include "server/users.h"

static const struct argp_option options[] = {
    {"replace", 'r', NULL, 0, "the user exists: a new token takes the place of the old one", 0},
    {"certificate", 'c', NULL, 0, "no token: the user shows a client certificate with USER as its subject CN", 0},
    {"expires", SG_DIR_ARG_EXPIRES, "WHEN", 0, "until then: 12h, 7d, 2026-12-24 or 2026-12-24T18:00:00Z", 0},
    {"uses", SG_DIR_ARG_USES, "N", 0, "so many devices may join by it, and no more", 0},
    {"address", SG_DIR_ARG_ADDRESS, "ADDR[,ADDR...]", 0,
     "the server's addresses, for clients that cannot look its name up", 0},
    {"out", SG_DIR_ARG_OUT, "FILE", 0, "make FILE (mode 0600) with the invite, and print none", 0},
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
        sg_token_make(args->terms.uses > 0, token, value);
    enum sg_err err = sg_users_add(config->users, args->user, kind, value, &args->terms, args->replace, error);
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
    invite.addresses = args->addresses;
    if (code == SG_EXIT_OK)
        code = add_user(&invite, config, args);
    if (code == SG_EXIT_OK)
        sg_invite_format(&invite, line);
    sodium_memzero(&invite, sizeof invite);
    return code;
}

FILE *sg_cli_open_invite(const struct sg_dir_args *args)
{
    if (!args->out)
        return stdout;
    int fd = open(args->out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file)
        return file;
    if (errno == EEXIST)
        sg_cli_error("%s exists already: nothing was changed; --out takes the name of a new file", args->out);
    else
        sg_cli_error("%s: %s", args->out, strerror(errno));
    if (fd >= 0) {
        close(fd);
        unlink(args->out);
    }
    return NULL;
}

int sg_cli_close_invite(FILE *file, const struct sg_dir_args *args, const char *line, int code)
{
    bool made = file != stdout;
    if (code == SG_EXIT_OK &&
        (fprintf(file, "%s\n", line) < 0 || fflush(file) != 0 || (made && fsync(fileno(file)) != 0))) {
        sg_cli_error("the invite could not be written: %s; sealgram invite --replace %s %s makes a new one",
                     strerror(errno), args->dir, args->user);
        code = SG_EXIT_FAILED;
    }
    if (made)
        fclose(file);
    if (made && code != SG_EXIT_OK)
        unlink(args->out);
    return code;
}

void sg_cli_hint_invite(const struct sg_dir_args *args)
{
    const char *slash = args->out ? strrchr(args->out, '/') : NULL;
    const char *name = slash ? slash + 1 : args->out ? args->out : args->user;
    const char *suffix = args->out ? "" : ".invite";
    if (args->certificate)
        sg_cli_hint(args, "on the client: sealgram client --cert FILE --key FILE @%s%s", name, suffix);
    else if (args->out)
        sg_cli_hint(args,
                    "whoever has %s is let in as %s: bring it to the client by a way that nobody else can read; there: "
                    "sealgram client @%s",
                    args->out, args->user, name);
    else
        sg_cli_hint(args,
                    "keep this line secret, in a file that only its owner may read; on the client: sealgram client "
                    "@%s%s",
                    name, suffix);
}

/* What was agreed, in words: devices that have joined outlive the invite. */
static void tell_terms(const struct sg_dir_args *args)
{
    char date[SG_USER_DATE_MAX];
    const struct sg_user_terms *terms = &args->terms;
    sg_user_date_write(terms->expires, date);
    if (terms->uses > 0)
        sg_cli_hint(args, "%u %s may join by this invite%s%s, and may come back as long as %s is a user",
                    (unsigned)terms->uses, terms->uses == 1 ? "device" : "devices", terms->expires ? " until " : "",
                    terms->expires ? date : "", args->user);
    else if (terms->expires)
        sg_cli_hint(args, "this invite, and all that it let in, ends at %s", date);
}

int sg_cmd_invite(int argc, char **argv)
{
    struct sg_dir_args args = {.wants_user = true};
    char line[SG_INVITE_LINE_MAX];
    sg_dir_args_parse(&args, options,
                      "Adds USER to the server in DIR and prints the invite: one line with all that a client needs.\v"
                      "A running server is told, and knows the user at once.",
                      argc, argv);
    struct sg_config *config = sg_cli_load_dir(args.dir);
    if (!config)
        return SG_EXIT_CONFIG;
    int code = SG_EXIT_FAILED;
    FILE *file = sg_cli_open_invite(&args);
    if (file) {
        code = sg_cli_make_invite(config, &args, line);
        if (code == SG_EXIT_OK) /* before anybody can use the line */
            sg_cli_tell_users_changed(config->status_socket);
        code = sg_cli_close_invite(file, &args, line, code);
    }
    if (code == SG_EXIT_OK) {
        sg_cli_hint_invite(&args);
        tell_terms(&args);
    }
    sodium_memzero(line, sizeof line);
    sg_config_free(config);
    return code;
}
