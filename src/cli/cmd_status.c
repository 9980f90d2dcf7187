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

/* The sockets in the run directory that somebody answers on. Returns how many; paths are the caller's to free. */
static size_t find_sockets(char *paths[static FOUND_MAX])
{
    char dir_path[SG_RUNDIR_PATH_MAX];
    size_t count = 0;
    sg_rundir_path(dir_path);
    DIR *dir = opendir(dir_path);
    const struct dirent *entry = NULL;
    while (dir && count < FOUND_MAX && (entry = readdir(dir))) {
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
        close(fd);
        paths[count++] = path;
    }
    if (dir)
        closedir(dir);
    return count;
}

/* The one running program's socket, or NULL after saying which there are. The caller frees it. */
static char *find_only_socket(void)
{
    char *paths[FOUND_MAX];
    size_t count = find_sockets(paths);
    if (count == 1)
        return paths[0];
    if (count == 0)
        sg_cli_error("no running server or client was found; --socket PATH names one");
    else
        sg_cli_error("several programs run; name one with --socket PATH:");
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, "  %s\n", paths[i]);
        free(paths[i]);
    }
    return NULL;
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

/* Objects as indented blocks, everything else as `key: value`; drops that never happened are left out. */
static void print_object(json_t *object, int indent, bool skip_zero)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(object, key, value)
    {
        if (json_is_object(value)) {
            printf("%*s%s:\n", indent, "", key);
            print_object(value, indent + 2, strcmp(key, "drops") == 0);
            continue;
        }
        if (skip_zero && json_is_integer(value) && json_integer_value(value) == 0)
            continue;
        char *text = json_is_string(value) ? strdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY);
        printf("%*s%s: %s\n", indent, "", key, text ? text : "?");
        free(text);
    }
}

int sg_cmd_status(int argc, char **argv)
{
    struct arguments args = {.json = false};
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    char *found = args.socket ? NULL : find_only_socket();
    const char *path = args.socket ? args.socket : found;
    if (!path)
        return SG_EXIT_USAGE;
    int code = SG_EXIT_FAILED;
    int fd = connect_to(path);
    json_t *document = fd < 0 ? NULL : read_document(fd);
    if (fd < 0) {
        sg_cli_error("%s: %s", path, strerror(errno));
    } else if (!document) {
        sg_cli_error("%s: did not answer with a status", path);
    } else {
        code = SG_EXIT_OK;
        if (args.json)
            json_dumpf(document, stdout, JSON_INDENT(2));
        else
            print_object(document, 0, false);
        if (args.json)
            putchar('\n');
    }
    json_decref(document);
    if (fd >= 0)
        close(fd);
    free(found);
    return code;
}
