/* `sealgram revoke`: removes a user; a running server, which is told, ends the user's sessions. */
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/dir_args.h"
#include "server/config.h"
#include "server/users.h"

int sg_cmd_revoke(int argc, char **argv)
{
    struct sg_dir_args args = {.wants_user = true};
    char error[SG_USERS_ERROR_MAX];
    sg_dir_args_parse(&args, NULL,
                      "Removes USER from the server in DIR.\vA running server is told, and ends the user's sessions.",
                      argc, argv);
    struct sg_config *config = sg_cli_load_dir(args.dir);
    if (!config)
        return SG_EXIT_CONFIG;
    enum sg_err err = sg_users_remove(config->users, args.user, error);
    if (err != SG_OK)
        sg_cli_error("%s", error);
    else
        sg_cli_tell_users_changed(config->status_socket);
    sg_config_free(config);
    return sg_cli_users_exit(err);
}
