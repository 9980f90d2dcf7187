/* `sealgram init`: makes all that a server needs, in one directory, or nothing. */
#include <argp.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "cli/cli.h"
#include "cli/dir_args.h"
#include "cli/server_yaml.h"
#include "core/addr.h"
#include "core/guard.h"
#include "net/cert.h"
#include "net/file.h"
#include "net/sockaddr.h"
#include "server/config.h"
#include "server/users.h"

enum option_key { KEY_LISTEN = 256, KEY_HOST, KEY_ALLOW, KEY_USER };

struct arguments {
    struct sg_dir_args common; /* DIR, the user, -q */
    const char *listen[SG_CONFIG_LISTEN_MAX];
    unsigned listen_count;
    const char *allow[SG_CONFIG_NETS_MAX];
    unsigned allow_count;
    char host[256];
};

/* In the order in which they come into place: the one that makes a server of a directory is the last. */
static const char *const file_names[] = {"key.pem", "cert.pem", "users", "server.yaml"};
enum { FILE_KEY, FILE_CERT, FILE_USERS, FILE_CONFIG, FILE_COUNT };

static char *path_in(const char *dir, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0) {
        sg_cli_error("out of memory");
        exit(SG_EXIT_FAILED);
    }
    return path;
}

/* Adds to a list of at most max; the parse ends on one too many and on one given twice. */
static void add_item(struct argp_state *state, const char *option, const char **list, unsigned *count, unsigned max,
                     const char *value)
{
    for (unsigned i = 0; i < *count; i++)
        if (strcmp(list[i], value) == 0)
            argp_error(state, "%s %s: given twice", option, value);
    if (*count == max)
        argp_error(state, "%s: more than %u", option, max);
    list[(*count)++] = value;
}

static void add_listen(struct argp_state *state, struct arguments *args, const char *value)
{
    struct sg_endpoint endpoint;
    const char *problem = sg_listen_parse(value, false, &endpoint);
    if (problem)
        argp_error(state, "--listen %s: %s", value, problem);
    add_item(state, "--listen", args->listen, &args->listen_count, SG_CONFIG_LISTEN_MAX, value);
}

static void add_allow(struct argp_state *state, struct arguments *args, const char *value)
{
    struct sg_cidr net;
    if (sg_cidr_parse(value, &net) != SG_OK)
        argp_error(state, "--allow %s: not of the form ADDRESS/BITS without host bits, as in 10.0.0.0/8", value);
    add_item(state, "--allow", args->allow, &args->allow_count, SG_CONFIG_NETS_MAX, value);
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *args = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &args->common;
        return 0;
    case KEY_LISTEN:
        add_listen(state, args, value);
        return 0;
    case KEY_HOST:
        if (!sg_invite_host_is_valid(value))
            argp_error(state,
                       "--host %s: neither a name nor an address that clients can connect to, as in vpn.example.org "
                       "(the port is that of --listen)",
                       value);
        snprintf(args->host, sizeof args->host, "%s", value);
        return 0;
    case KEY_ALLOW:
        add_allow(state, args, value);
        return 0;
    case KEY_USER:
        if (!sg_user_name_is_valid(value))
            argp_error(state, "--user %s: not a user name: 1 to 64 of letters, digits and . _ - @", value);
        args->common.user = value;
        return 0;
    case SG_DIR_ARG_OUT:
        args->common.out = value;
        return 0;
    case SG_DIR_ARG_ADDRESS:
        sg_cli_parse_addresses(state, &args->common, value);
        return 0;
    case ARGP_KEY_END:
        if (args->common.out && !args->common.user)
            argp_error(state, "--out %s: there is no invite without --user NAME", args->common.out);
        if (args->common.addresses.count > 0 && !args->common.user)
            argp_error(state, "--address: there is no invite without --user NAME");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"listen", KEY_LISTEN, "ADDR:PORT", 0, "where to listen (0.0.0.0:1443 and [::]:1443); may be given several times",
     0},
    {"host", KEY_HOST, "NAME_OR_ADDR", 0, "how clients reach the server (the address in --listen, else its own)", 0},
    {"allow", KEY_ALLOW, "CIDR", 0, "open a target range that is refused otherwise; may be given several times", 0},
    {"user", KEY_USER, "NAME", 0, "invite a first user", 0},
    {"address", SG_DIR_ARG_ADDRESS, "ADDR[,ADDR...]", 0,
     "what --host stands for, into the invite: for clients that cannot look the name up", 0},
    {"out", SG_DIR_ARG_OUT, "FILE", 0, "make FILE (mode 0600) with the invite, and print none", 0},
    {0},
};

/* The first address of an interface that is up; one that the whole world reaches is better than a private one. */
static bool find_own_address(char out[static SG_IP_TEXT_MAX])
{
    struct ifaddrs *list = NULL;
    int best = 0;
    if (getifaddrs(&list) != 0)
        return false;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        struct sockaddr_storage ss = {0};
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) ||
            (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
            continue;
        memcpy(&ss, i->ifa_addr,
               i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        struct sg_ip ip = sg_sockaddr_endpoint(&ss).ip;
        const char *class = sg_guard_class(&ip);
        int worth = !class ? 2 : strcmp(class, "loopback") == 0 || strcmp(class, "link_local") == 0 ? 0 : 1;
        if (worth > best) {
            best = worth;
            sg_ip_format(&ip, out);
        }
    }
    freeifaddrs(list);
    return best > 0;
}

/* --host, else the first specific address to listen on, else one of the machine's own, else its name. */
static void choose_host(struct arguments *args)
{
    struct sg_target target;
    char address[SG_IP_TEXT_MAX];
    if (args->host[0])
        return;
    for (unsigned i = 0; i < args->listen_count; i++) {
        if (sg_target_parse(args->listen[i], false, &target) != SG_OK || sg_ip_is_unspecified(&target.ip))
            continue;
        sg_ip_format(&target.ip, args->host);
        return;
    }
    if (find_own_address(address))
        snprintf(args->host, sizeof args->host, "%s", address);
    else if (gethostname(args->host, sizeof args->host - 1) != 0 || !sg_invite_host_is_valid(args->host))
        snprintf(args->host, sizeof args->host, "localhost");
    sg_cli_hint(&args->common, "clients will be told to connect to %s; --host NAME_OR_ADDR says otherwise", args->host);
}

/* --- the files, made in a directory of their own inside DIR, then linked into place --- */

static bool write_yaml(FILE *file, void *ctx)
{
    const struct arguments *args = ctx;
    const struct sg_server_yaml yaml = {.listen = args->listen,
                                        .listen_count = args->listen_count,
                                        .host = args->host,
                                        .allow = args->allow,
                                        .allow_count = args->allow_count};
    return sg_server_yaml_write(file, &yaml) && !ferror(file);
}

static bool write_file(const char *path, sg_file_write_fn *write, void *ctx)
{
    if (sg_file_replace(path, write, ctx) == SG_OK)
        return true;
    sg_cli_error("%s: %s", path, strerror(errno));
    return false;
}

static bool write_files(struct arguments *args, char *const paths[static FILE_COUNT])
{
    char error[SG_CERT_ERROR_MAX];
    if (sg_cert_make_key(paths[FILE_KEY], error) != SG_OK ||
        sg_cert_make(paths[FILE_KEY], paths[FILE_CERT], args->host, error) != SG_OK) {
        sg_cli_error("%s", error);
        return false;
    }
    return write_file(paths[FILE_USERS], sg_users_write_empty, NULL) &&
           write_file(paths[FILE_CONFIG], write_yaml, args);
}

/* What was written is read as the server will read it, and the first user invited. Returns the exit code. */
static int try_files(struct arguments *args, const char *draft, char line[static SG_INVITE_LINE_MAX])
{
    struct sg_config *config = sg_cli_load_dir(draft);
    int code = config ? SG_EXIT_OK : SG_EXIT_FAILED;
    if (config && args->common.user)
        code = sg_cli_make_invite(config, &args->common, line);
    sg_config_free(config);
    return code;
}

/* link refuses to overwrite, so that a file which came up in the meantime stays as it is. */
static bool place_files(char *const from[static FILE_COUNT], char *const to[static FILE_COUNT])
{
    unsigned placed = 0;
    while (placed < FILE_COUNT && link(from[placed], to[placed]) == 0)
        placed++;
    if (placed == FILE_COUNT) {
        sg_file_sync_dir(to[0]);
        return true;
    }
    if (errno == EEXIST)
        sg_cli_error("%s exists already: nothing was changed", to[placed]);
    else
        sg_cli_error("%s: %s", to[placed], strerror(errno));
    while (placed > 0)
        unlink(to[--placed]);
    return false;
}

static bool is_free(char *const paths[static FILE_COUNT])
{
    struct stat st;
    for (unsigned i = 0; i < FILE_COUNT; i++) {
        if (lstat(paths[i], &st) != 0)
            continue;
        sg_cli_error("%s exists already: nothing was changed", paths[i]);
        return false;
    }
    return true;
}

static int fill_dir(struct arguments *args, char line[static SG_INVITE_LINE_MAX])
{
    char *paths[FILE_COUNT] = {NULL}, *drafts[FILE_COUNT] = {NULL}, *lock = NULL;
    char *draft = path_in(args->common.dir, ".init-XXXXXX");
    int code = SG_EXIT_FAILED;
    for (unsigned i = 0; i < FILE_COUNT; i++)
        paths[i] = path_in(args->common.dir, file_names[i]);
    if (!is_free(paths))
        goto out;
    if (!mkdtemp(draft)) {
        sg_cli_error("%s: %s", args->common.dir, strerror(errno));
        goto out;
    }
    for (unsigned i = 0; i < FILE_COUNT; i++)
        drafts[i] = path_in(draft, file_names[i]);
    lock = path_in(draft, "users.lock");
    choose_host(args);
    if (write_files(args, drafts))
        code = try_files(args, draft, line);
    if (code == SG_EXIT_OK && !place_files(drafts, paths))
        code = SG_EXIT_FAILED;
    for (unsigned i = 0; i < FILE_COUNT; i++)
        unlink(drafts[i]);
    unlink(lock);
    rmdir(draft);
out:
    for (unsigned i = 0; i < FILE_COUNT; i++) {
        free(paths[i]);
        free(drafts[i]);
    }
    free(lock);
    free(draft);
    return code;
}

/* --- the command --- */

static void hint_next(const struct arguments *args)
{
    const char *dir = args->common.dir;
    if (args->common.user) {
        sg_cli_hint_invite(&args->common);
        sg_cli_hint(&args->common, "next, here: sealgram server -c %s/server.yaml", dir);
        return;
    }
    sg_cli_hint(&args->common, "next: sealgram invite --out NAME.invite %s NAME", dir);
    sg_cli_hint(&args->common, "then: sealgram server -c %s/server.yaml", dir);
}

/* Fills the directory and hands out the first user's invite, if one is wanted. Returns the exit code. */
static int make_server(struct arguments *args)
{
    char line[SG_INVITE_LINE_MAX] = "";
    FILE *invite = args->common.user ? sg_cli_open_invite(&args->common) : NULL;
    if (args->common.user && !invite)
        return SG_EXIT_FAILED;
    int code = fill_dir(args, line);
    if (invite)
        code = sg_cli_close_invite(invite, &args->common, line, code);
    sodium_memzero(line, sizeof line);
    return code;
}

static const struct argp argp = {
    .options = options,
    .parser = parse_option,
    .args_doc = "DIR",
    .doc = "Makes DIR with server.yaml, key.pem, cert.pem and users. Overwrites nothing.\v"
           "Prints the next command to type; with --user the invite too.",
    .children = sg_dir_args_children,
};

int sg_cmd_init(int argc, char **argv)
{
    static struct arguments args;
    sigset_t ending, before;
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    /* A signal ends the program when all is in place, or nothing. */
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGHUP);
    sigprocmask(SIG_BLOCK, &ending, &before);
    bool made_dir = mkdir(args.common.dir, 0700) == 0;
    int code = SG_EXIT_FAILED;
    if (made_dir || errno == EEXIST)
        code = make_server(&args);
    else
        sg_cli_error("%s: %s", args.common.dir, strerror(errno));
    if (code != SG_EXIT_OK && made_dir)
        rmdir(args.common.dir);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (code == SG_EXIT_OK)
        hint_next(&args);
    return code;
}
