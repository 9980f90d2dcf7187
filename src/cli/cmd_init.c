/* `sealgram init`: makes all that a server needs, in one directory, or nothing. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/addr.h"
#include "core/guard.h"
#include "net/cert.h"
#include "net/invite.h"
#include "net/sockaddr.h"
#include "server/config.h"
#include "server/users.h"

struct arguments {
    const char *dir;
    const char *listen[SG_CONFIG_LISTEN_MAX];
    unsigned listen_count;
    const char *host;
    const char *allow[SG_CONFIG_NETS_MAX];
    unsigned allow_count;
    const char *user;
    char host_text[256];
};

static const char *const file_names[] = {"server.yaml", "key.pem", "cert.pem", "users"};
enum { FILE_CONFIG, FILE_KEY, FILE_CERT, FILE_USERS, FILE_COUNT };

static char *path_in(const char *dir, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0) {
        sg_cli_error("out of memory");
        exit(SG_EXIT_FAILED);
    }
    return path;
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *args = state->input;
    struct sg_target target;
    struct sg_cidr net;
    switch (key) {
    case 'l':
        if (sg_target_parse(value, false, &target) != SG_OK || target.atyp == SG_ATYP_NAME)
            argp_error(state, "--listen %s: not of the form ADDR:PORT, as in 0.0.0.0:1443", value);
        if (args->listen_count == SG_CONFIG_LISTEN_MAX)
            argp_error(state, "--listen: more than %d", SG_CONFIG_LISTEN_MAX);
        args->listen[args->listen_count++] = value;
        return 0;
    case 'h':
        if (strlen(value) == 0 || strlen(value) >= sizeof args->host_text || strpbrk(value, " \t\"\\/#@[]"))
            argp_error(state, "--host %s: not a name or an address", value);
        args->host = value;
        return 0;
    case 'a':
        if (sg_cidr_parse(value, &net) != SG_OK)
            argp_error(state, "--allow %s: not of the form ADDRESS/BITS without host bits, as in 10.0.0.0/8", value);
        if (args->allow_count == SG_CONFIG_NETS_MAX)
            argp_error(state, "--allow: more than %d", SG_CONFIG_NETS_MAX);
        args->allow[args->allow_count++] = value;
        return 0;
    case 'u':
        if (!sg_user_name_is_valid(value))
            argp_error(state, "--user %s: not a user name: 1 to 64 of letters, digits and . _ - @", value);
        args->user = value;
        return 0;
    case ARGP_KEY_ARG:
        if (args->dir)
            argp_error(state, "one DIR is enough");
        args->dir = value;
        return 0;
    case ARGP_KEY_END:
        if (!args->dir)
            argp_error(state, "DIR is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"listen", 'l', "ADDR:PORT", 0, "where to listen (0.0.0.0:1443 and [::]:1443); may be given several times", 0},
    {"host", 'h', "NAME_OR_ADDR", 0, "how clients reach the server (its first public address)", 0},
    {"allow", 'a', "CIDR", 0, "open a target range that is refused otherwise; may be given several times", 0},
    {"user", 'u', "NAME", 0, "invite a first user", 0},
    {0},
};

static const struct argp argp = {
    .options = options,
    .parser = parse_option,
    .args_doc = "DIR",
    .doc = "Makes DIR with server.yaml, key.pem, cert.pem and users. Overwrites nothing.\v"
           "Prints the next command to type; with --user the invite too.",
};

/* The first address of an interface that is up, by how far it reaches: ordinary first, then whatever is not loopback. */
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
        int worth = !class ? 4 : strcmp(class, "loopback") == 0 ? 1 : strcmp(class, "link_local") == 0 ? 2 : 3;
        if (worth > best) {
            best = worth;
            sg_ip_format(&ip, out);
        }
    }
    freeifaddrs(list);
    return best > 0;
}

/* --host, else the first specific address to listen on, else one of the machine's own. */
static void choose_host(struct arguments *args)
{
    struct sg_target target;
    char text[SG_IP_TEXT_MAX] = "127.0.0.1";
    if (args->host) {
        snprintf(args->host_text, sizeof args->host_text, "%s", args->host);
        return;
    }
    for (unsigned i = 0; i < args->listen_count; i++) {
        if (sg_target_parse(args->listen[i], false, &target) != SG_OK || sg_ip_is_unspecified(&target.ip))
            continue;
        sg_ip_format(&target.ip, args->host_text);
        return;
    }
    find_own_address(text);
    snprintf(args->host_text, sizeof args->host_text, "%s", text);
    fprintf(stderr, "sealgram: clients will be told to connect to %s; --host NAME_OR_ADDR says otherwise\n", text);
}

static void write_list(FILE *file, const char *const *items, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        fprintf(file, "  - \"%s\"\n", items[i]);
}

static void write_config(FILE *file, const struct arguments *args)
{
    static const char *const both[] = {"0.0.0.0:1443", "[::]:1443"};
    fputs("# Sealgram server. `sealgram server -c FILE --check` checks this file; every key is in server.yaml(5).\n\n"
          "# Where to listen; one port number serves TCP and UDP.\nlisten:\n",
          file);
    if (args->listen_count > 0)
        write_list(file, args->listen, args->listen_count);
    else
        write_list(file, both, 2);
    fprintf(file,
            "\n# How clients reach this server: stands in invites.\nhost: \"%s\"\n\n"
            "# UDP endpoint to tell clients, where it is not the address they connected to (behind a NAT that maps "
            "ports).\n"
            "# advertise: \"203.0.113.7:1443\"\n\n"
            "certificate: cert.pem\nkey: key.pem\nusers: users\n\n"
            "# Client certificates signed by this CA name their user by subject CN (sealgram invite --certificate).\n"
            "# client_ca: ca.pem\n\n"
            "# Targets on loopback, private, link-local and other special networks are refused unless listed here.\n",
            args->host_text);
    if (args->allow_count > 0) {
        fputs("allow:\n", file);
        write_list(file, args->allow, args->allow_count);
    } else {
        fputs("# allow:\n#   - \"10.0.0.0/8\"\n", file);
    }
    fputs("\n# Clients that may speak SOCKS5 in the clear (nobody), and that may have plain UDP associations.\n"
          "# plain_socks:\n#   from: [\"127.0.0.0/8\"]\n"
          "plain_udp:\n  from: [\"127.0.0.0/8\", \"::1/128\"]\n\n"
          "# limits:\n#   sessions: 512\n#   associations: 16384\n#   associations_per_user: 16384\n"
          "# timeouts:\n#   association_seconds: 120\n#   dns_seconds: 17\n",
          file);
}

static FILE *create(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? NULL : fdopen(fd, "w");
}

static bool write_file(const char *path, const struct arguments *args)
{
    FILE *file = create(path);
    if (!file) {
        sg_cli_error("%s: %s", path, strerror(errno));
        return false;
    }
    if (args)
        write_config(file, args);
    else
        fputs("# Sealgram users: NAME KIND VALUE CREATED. Edit with `sealgram invite`, `passwd` and `revoke`.\n", file);
    bool good = fflush(file) == 0 && fsync(fileno(file)) == 0;
    good = fclose(file) == 0 && good;
    if (!good)
        sg_cli_error("%s: %s", path, strerror(errno));
    return good;
}

/* Nothing is written where anything of ours stands. */
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

static bool write_files(struct arguments *args, char *const paths[static FILE_COUNT])
{
    char error[SG_CERT_ERROR_MAX];
    if (sg_cert_make_key(paths[FILE_KEY], error) != SG_OK ||
        sg_cert_make(paths[FILE_KEY], paths[FILE_CERT], args->host_text, error) != SG_OK) {
        sg_cli_error("%s", error);
        return false;
    }
    return write_file(paths[FILE_USERS], NULL) && write_file(paths[FILE_CONFIG], args);
}

static int invite_first_user(struct arguments *args)
{
    char command[] = "sealgram invite";
    char *argv[] = {command, NULL, NULL, NULL};
    char *dir = strdup(args->dir), *user = strdup(args->user);
    argv[1] = dir;
    argv[2] = user;
    int code = dir && user ? sg_cmd_invite(3, argv) : SG_EXIT_FAILED;
    free(dir);
    free(user);
    return code;
}

int sg_cmd_init(int argc, char **argv)
{
    static struct arguments args;
    char *paths[FILE_COUNT];
    int code = SG_EXIT_FAILED;
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    for (unsigned i = 0; i < FILE_COUNT; i++)
        paths[i] = path_in(args.dir, file_names[i]);
    bool made_dir = mkdir(args.dir, 0700) == 0;
    if (!made_dir && errno != EEXIST) {
        sg_cli_error("%s: %s", args.dir, strerror(errno));
        goto out;
    }
    if (!is_free(paths))
        goto out;
    choose_host(&args);
    if (!write_files(&args, paths)) {
        for (unsigned i = 0; i < FILE_COUNT; i++)
            unlink(paths[i]);
        if (made_dir)
            rmdir(args.dir);
        goto out;
    }
    code = args.user ? invite_first_user(&args) : SG_EXIT_OK;
    if (!args.user)
        fprintf(stderr, "sealgram: next: sealgram invite %s NAME > NAME.invite\n", args.dir);
    fprintf(stderr, "sealgram: %s: sealgram server -c %s/server.yaml\n", args.user ? "next, here" : "then", args.dir);
out:
    for (unsigned i = 0; i < FILE_COUNT; i++)
        free(paths[i]);
    return code;
}
