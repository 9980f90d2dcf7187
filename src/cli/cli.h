/*
 * The command line: a table of subcommands, one file each. Exit codes: 0 done; 1 it failed while running; 2 wrong
 * command line; 3 the configuration, a certificate or the user file is unusable.
 */
#ifndef SG_CLI_CLI_H
#define SG_CLI_CLI_H

enum sg_exit { SG_EXIT_OK = 0, SG_EXIT_FAILED = 1, SG_EXIT_USAGE = 2, SG_EXIT_CONFIG = 3 };

struct sg_command {
    const char *name;
    const char *summary; /* NULL: not listed in the help */
    int (*run)(int argc, char **argv);
};

int sg_cmd_init(int argc, char **argv);
int sg_cmd_invite(int argc, char **argv);
int sg_cmd_users(int argc, char **argv);
int sg_cmd_passwd(int argc, char **argv);
int sg_cmd_revoke(int argc, char **argv);
int sg_cmd_renew_cert(int argc, char **argv);
int sg_cmd_policy(int argc, char **argv);
int sg_cmd_server(int argc, char **argv);
int sg_cmd_client(int argc, char **argv);
int sg_cmd_reload(int argc, char **argv);
int sg_cmd_kick(int argc, char **argv);
int sg_cmd_drain(int argc, char **argv);
int sg_cmd_status(int argc, char **argv);
int sg_cmd_doctor(int argc, char **argv);
int sg_cmd_demo(int argc, char **argv);
int sg_cmd_impair(int argc, char **argv);

struct sg_config;

/* The configuration of DIR (DIR/server.yaml), or NULL after saying why on standard error. */
struct sg_config *sg_cli_load_dir(const char *dir);

/* One line `sealgram: ...` on standard error. */
void sg_cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
