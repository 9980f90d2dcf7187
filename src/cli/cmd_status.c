/* `sealgram status`: asks a running server or client what it does, over its socket. */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "cli/cli.h"
#include "net/rundir.h"

enum { DOCUMENT_MAX = 1024 * 1024, FOUND_MAX = 32, ANSWER_SECONDS = 5 };

struct arguments {
    bool json;
    const char *socket;
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *args = state->input;
    switch (key) {
    case 'j':
        args->json = true;
        return 0;
    case 's':
        args->socket = value;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s': this command takes options only", value);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"json", 'j', NULL, 0, "print the JSON document", 0},
    {"socket", 's', "PATH", 0, "the socket of the program to ask (the only one that runs)", 0},
    {0},
};

static const struct argp argp = {
    .options = options,
    .parser = parse_option,
    .doc = "Shows sessions, associations, datagrams and drops of a running server or client.",
};

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = ANSWER_SECONDS};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

struct found {
    char *path[FOUND_MAX];
    int fd[FOUND_MAX];
    unsigned count;
};

/* Adds the sockets of one directory that somebody answers on. */
static void search_dir(struct found *found, const char *dir_path)
{
    DIR *dir = opendir(dir_path);
    const struct dirent *entry = NULL;
    while (dir && found->count < FOUND_MAX && (entry = readdir(dir))) {
        size_t len = strlen(entry->d_name);
        char *path = NULL;
        if (len < 6 || strcmp(entry->d_name + len - 5, ".sock") != 0 ||
            asprintf(&path, "%s/%s", dir_path, entry->d_name) < 0)
            continue;
        int fd = connect_to(path);
        if (fd < 0) {
            free(path);
            continue;
        }
        found->path[found->count] = path;
        found->fd[found->count++] = fd;
    }
    if (dir)
        closedir(dir);
}

/* A connection to the one program that runs, or -1 after saying which there are; *code is then the exit code. */
static int connect_to_only(int *code)
{
    struct found found = {.count = 0};
    char dirs[SG_RUNDIR_SEARCH_MAX][SG_RUNDIR_PATH_MAX];
    unsigned dir_count = sg_rundir_search(dirs);
    for (unsigned i = 0; i < dir_count; i++)
        search_dir(&found, dirs[i]);
    int only = found.count == 1 ? found.fd[0] : -1;
    if (found.count == 0) {
        sg_cli_error("no running server or client was found; --socket PATH names one");
        *code = SG_EXIT_FAILED;
    } else if (found.count > 1) {
        sg_cli_error("several programs run; name one with --socket PATH:");
        *code = SG_EXIT_USAGE;
    }
    for (unsigned i = 0; i < found.count; i++) {
        if (only < 0) {
            fprintf(stderr, "  %s\n", found.path[i]);
            close(found.fd[i]);
        }
        free(found.path[i]);
    }
    return only;
}

static json_t *read_document(int fd)
{
    char *text = malloc(DOCUMENT_MAX);
    size_t len = 0;
    ssize_t got = 0;
    json_error_t error;
    while (text && len < DOCUMENT_MAX && (got = read(fd, text + len, DOCUMENT_MAX - len)) > 0)
        len += (size_t)got;
    json_t *document = text && got == 0 ? json_loadb(text, len, 0, &error) : NULL;
    free(text);
    return document;
}

/* A text as it is, unless it has what a terminal would obey; everything else in JSON. The caller frees it. */
static char *format_value(const json_t *value)
{
    const char *text = json_string_value(value);
    for (const char *c = text; c && *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            text = NULL;
    return text ? strdup(text) : json_dumps(value, JSON_ENCODE_ANY);
}

static void print_object(json_t *object, int indent, bool skip_zero);

/* The objects of a list as blocks, each behind a dash; other lists in one line. */
static void print_value(const char *key, json_t *value, int indent)
{
    size_t i = 0;
    json_t *item = NULL;
    if (json_is_object(value)) {
        printf("%*s%s:\n", indent, "", key);
        print_object(value, indent + 2, strcmp(key, "drops") == 0);
    } else if (json_is_array(value) && json_is_object(json_array_get(value, 0))) {
        printf("%*s%s:\n", indent, "", key);
        json_array_foreach(value, i, item)
        {
            printf("%*s-\n", indent + 2, "");
            print_object(item, indent + 4, false);
        }
    } else {
        char *text = format_value(value);
        printf("%*s%s: %s\n", indent, "", key, text ? text : "?");
        free(text);
    }
}

/* Objects as indented blocks, everything else as `key: value`; drops that never happened are left out. */
static void print_object(json_t *object, int indent, bool skip_zero)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(object, key, value) if (!skip_zero || !json_is_integer(value) || json_integer_value(value) != 0)
        print_value(key, value, indent);
}

/* Reads and prints what the program at fd says. Returns the exit code. */
static int show(int fd, const char *path, bool json)
{
    json_t *document = read_document(fd);
    if (!json_is_object(document)) {
        sg_cli_error("%s: did not answer with a status", path ? path : "the program");
        json_decref(document);
        return SG_EXIT_FAILED;
    }
    if (json) {
        json_dumpf(document, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_object(document, 0, false);
    }
    json_decref(document);
    return fflush(stdout) == 0 ? SG_EXIT_OK : SG_EXIT_FAILED;
}

int sg_cmd_status(int argc, char **argv)
{
    struct arguments args = {.json = false};
    int code = SG_EXIT_FAILED;
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    int fd = args.socket ? connect_to(args.socket) : connect_to_only(&code);
    if (fd < 0 && args.socket)
        sg_cli_error("%s: %s", args.socket, strerror(errno));
    if (fd < 0)
        return code;
    code = show(fd, args.socket, args.json);
    close(fd);
    return code;
}
