/* `sealgram users`: lists the users of a server. */
#include <stdio.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/dir_args.h"
#include "server/config.h"
#include "server/devices.h"
#include "server/user_line.h"
#include "server/users.h"

static void print_user(void *ctx, const struct sg_user_line *line)
{
    struct sg_devices *devices = ctx;
    char date[SG_USER_DATE_MAX];
    printf("%-24s %-12s %s", line->name, sg_user_kind_name(line->kind), line->created);
    sg_user_date_write(line->terms.expires, date);
    if (line->terms.expires)
        printf(" %s %s", line->terms.expires <= time(NULL) ? "expired" : "expires", date);
    if (line->terms.uses)
        printf(" devices %zu/%u", sg_devices_count(devices, line->value), (unsigned)line->terms.uses);
    putchar('\n');
}

int sg_cmd_users(int argc, char **argv)
{
    struct sg_dir_args args = {.wants_user = false};
    char error[SG_USERS_ERROR_MAX];
    struct sg_users *users = NULL;
    struct sg_devices *devices = NULL;
    sg_dir_args_parse(&args, NULL,
                      "Lists the users of the server in DIR: name, credential, when it was made, when it expires, and "
                      "how many devices have joined of those that may.",
                      argc, argv);
    struct sg_config *config = sg_cli_load_dir(args.dir);
    if (!config)
        return SG_EXIT_CONFIG;
    enum sg_err err = sg_users_load(config->users, &users, error);
    if (err == SG_OK)
        err = sg_devices_load(config->devices, &devices, error);
    if (err == SG_OK)
        sg_users_each(users, print_user, devices);
    else
        sg_cli_error("%s", error);
    sg_devices_free(devices);
    sg_users_free(users);
    sg_config_free(config);
    return err == SG_OK ? SG_EXIT_OK : SG_EXIT_CONFIG;
}
