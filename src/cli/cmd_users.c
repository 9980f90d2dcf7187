/* `sealgram users`: lists the users of a server. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/dir_args.h"
#include "server/config.h"
#include "server/users.h"

static void print_user(void *ctx, const char *name, enum sg_user_kind kind, const char *created)
{
    (void)ctx;
    printf("%-24s %-12s %s\n", name, sg_user_kind_name(kind), created);
}

int sg_cmd_users(int argc, char **argv)
{
    struct sg_dir_args args = {.wants_user = false};
    char error[SG_USERS_ERROR_MAX];
    struct sg_users *users = NULL;
    sg_dir_args_parse(&args, NULL, "Lists the users of the server in DIR: name, credential, and when it was made.",
                      argc, argv);
    struct sg_config *config = sg_cli_load_dir(args.dir);
    if (!config)
        return SG_EXIT_CONFIG;
    enum sg_err err = sg_users_load(config->users, &users, error);
    if (err == SG_OK)
        sg_users_each(users, print_user, NULL);
    else
        sg_cli_error("%s", error);
    sg_users_free(users);
    sg_config_free(config);
    return err == SG_OK ? SG_EXIT_OK : SG_EXIT_CONFIG;
}
