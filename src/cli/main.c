/* `sealgram`: finds the subcommand in a table and runs it. */
#include <argp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "cli/cli.h"
#include "server/config.h"

const char *argp_program_version = "sealgram " SG_VERSION;

static const struct sg_command commands[] = {
    {"init", "make a server's directory: configuration, key, certificate, users", sg_cmd_init},
    {"invite", "add a user and print the line that a client needs", sg_cmd_invite},
    {"users", "list the users", sg_cmd_users},
    {"passwd", "set a user's password", sg_cmd_passwd},
    {"revoke", "remove a user; the user's sessions end", sg_cmd_revoke},
    {"renew-cert", "make a new certificate with the same key", sg_cmd_renew_cert},
    {"policy", "what the rules say to a request, and which of them", sg_cmd_policy},
    {"server", "run a server", sg_cmd_server},
    {"client", "run a client for local applications", sg_cmd_client},
    {"reload", "make a running server read its files again", sg_cmd_reload},
    {"kick", "end what a user has open on a running server", sg_cmd_kick},
    {"drain", "take a running server out of service", sg_cmd_drain},
    {"status", "show what a running server or client does", sg_cmd_status},
    {"doctor", "what a way through a server or any SOCKS5 relay can do", sg_cmd_doctor},
    {"demo", "server, client and target behind a bad network, on this machine", sg_cmd_demo},
    {"impair", NULL, sg_cmd_impair},
};

void sg_cli_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("sealgram: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

struct sg_config *sg_cli_load_dir(const char *dir)
{
    char error[SG_CONFIG_ERROR_MAX];
    char *path = NULL;
    size_t len = strlen(dir);
    const char *slash = len > 0 && dir[len - 1] == '/' ? "" : "/";
    if (asprintf(&path, "%s%sserver.yaml", dir, slash) < 0) {
        sg_cli_error("out of memory");
        return NULL;
    }
    struct sg_config *config = sg_config_load(path, error);
    if (!config)
        sg_cli_error("%s%s", error, access(path, F_OK) == 0 ? "" : "; sealgram init DIR makes one");
    free(path);
    return config;
}

static void print_help(FILE *out)
{
    fputs("Usage: sealgram COMMAND [OPTION...]\n"
          "Protects every UDP datagram by itself between a client and a server.\n\nCommands:\n",
          out);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (commands[i].summary)
            fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`sealgram COMMAND -h` explains a command; `sealgram version` prints the version.\n"
          "Exit codes: 0 done, 1 failed while running, 2 wrong command line, 3 unusable configuration,\n"
          "certificate or user file.\n",
          out);
}

/* argp has -? for help, and no short way to the version; everybody tries -h. */
static void translate_help(int argc, char **argv)
{
    static char help[] = "--help";
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "-h") == 0)
            argv[i] = help;
}

static int run_command(int argc, char **argv)
{
    translate_help(argc, argv);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char name[64];
        if (strcmp(commands[i].name, argv[1]) != 0)
            continue;
        snprintf(name, sizeof name, "sealgram %s", commands[i].name);
        argv[1] = name; /* what argp calls the program */
        return commands[i].run(argc - 1, argv + 1);
    }
    sg_cli_error("there is no command '%s'; sealgram --help lists them", argv[1]);
    return SG_EXIT_USAGE;
}

static bool is_one_of(const char *word, const char *const *words)
{
    while (*words && strcmp(word, *words) != 0)
        words++;
    return *words != NULL;
}

int main(int argc, char **argv)
{
    argp_err_exit_status = SG_EXIT_USAGE;
    if (sodium_init() < 0) {
        sg_cli_error("libsodium does not start");
        return SG_EXIT_FAILED;
    }
    if (argc < 2) {
        print_help(stderr);
        return SG_EXIT_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 && argc == 3) {
        char help[] = "--help", *of_command[] = {argv[0], argv[2], help, NULL};
        return run_command(3, of_command);
    }
    if (is_one_of(argv[1], (const char *const[]){"--help", "-h", "-?", "help", NULL})) {
        print_help(stdout);
        return SG_EXIT_OK;
    }
    if (is_one_of(argv[1], (const char *const[]){"--version", "-V", "version", NULL})) {
        puts(argp_program_version);
        return SG_EXIT_OK;
    }
    return run_command(argc, argv);
}
