/* `sealgram renew-cert`: a new certificate with the same key, so that pins stay right. */
#include <argp.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/dir_args.h"
#include "net/cert.h"
#include "server/config.h"

static const struct argp_option options[] = {
    {"quiet", 'q', NULL, 0, "no hints on standard error", 0},
    {0},
};

int sg_cmd_renew_cert(int argc, char **argv)
{
    struct sg_dir_args args = {.wants_user = false};
    char error[SG_CERT_ERROR_MAX];
    int code = SG_EXIT_CONFIG;
    sg_dir_args_parse(&args, options,
                      "Makes a new certificate, valid for 10 years, with the key of the server in DIR.\v"
                      "Invites stay valid: they pin the key. A running server uses it after `sealgram reload`.",
                      argc, argv);
    struct sg_config *config = sg_cli_load_dir(args.dir);
    if (!config)
        return SG_EXIT_CONFIG;
    if (!config->host) {
        sg_cli_error("%s: host: is missing: the name or address that clients connect to", config->file);
    } else {
        enum sg_err err = sg_cert_make(config->key, config->certificate, config->host, error);
        code = err == SG_OK ? SG_EXIT_OK : err == SG_ERR_MALFORMED ? SG_EXIT_CONFIG : SG_EXIT_FAILED;
        if (err != SG_OK)
            sg_cli_error("%s", error);
    }
    if (code == SG_EXIT_OK)
        sg_cli_hint(&args, "%s is new; `sealgram reload` makes a running server use it", config->certificate);
    sg_config_free(config);
    return code;
}
