/* The one socket that is asked is found in the run directories; whoever does not answer in time is not waited for. */
#include "cli/ask.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "net/rundir.h"

enum { ANSWER_MAX = 1024 * 1024, FOUND_MAX = 32, ANSWER_SECONDS = 8, TOLD_SECONDS = 2 };

/* Of all that is waited for at the socket. */
static void limit_time(int fd, int seconds)
{
    const struct timeval limit = {.tv_sec = seconds};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    limit_time(fd, ANSWER_SECONDS);
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
    char dirs[SG_RUNDIR_SEARCH_MAX][SG_RUNDIR_PATH_MAX];
    const char *closed; /* a directory that this user may not look into, or NULL */
};

/* Adds the sockets of one directory that somebody answers on. */
static void search_dir(struct found *found, const char *dir_path, const char *role)
{
    DIR *dir = opendir(dir_path);
    if (!dir && errno == EACCES)
        found->closed = dir_path;
    const struct dirent *entry = NULL;
    while (dir && found->count < FOUND_MAX && (entry = readdir(dir))) {
        size_t len = strlen(entry->d_name);
        char *path = NULL;
        if (len < 6 || strcmp(entry->d_name + len - 5, ".sock") != 0 ||
            strncmp(entry->d_name, role, strlen(role)) != 0 || asprintf(&path, "%s/%s", dir_path, entry->d_name) < 0)
            continue;
        int fd = connect_to(path);
        if (fd < 0) {
            if (errno == EACCES)
                found->closed = dir_path;
            free(path);
            continue;
        }
        found->path[found->count] = path;
        found->fd[found->count++] = fd;
    }
    if (dir)
        closedir(dir);
}

static void search(struct found *found, const char *role)
{
    unsigned dir_count = sg_rundir_search(found->dirs);
    for (unsigned i = 0; i < dir_count; i++)
        search_dir(found, found->dirs[i], role);
}

/* A connection to the one program that runs, or -1 after saying which there are; *code is then the exit code. */
static int connect_to_only(const char *role, int *code)
{
    struct found found = {.count = 0};
    search(&found, role);
    int only = found.count == 1 ? found.fd[0] : -1;
    if (found.count == 0) {
        const char *what = role[0] ? "server" : "server or client";
        if (found.closed)
            sg_cli_error(
                "no running %s of this user was found, and %s is closed to this user: ask as the user that runs "
                "it (sudo, if that is root)",
                what, found.closed);
        else
            sg_cli_error("no running %s was found; --socket PATH names one", what);
        *code = SG_EXIT_FAILED;
    } else if (found.count > 1) {
        sg_cli_error("several %s run; name one with --socket PATH:", role[0] ? "servers" : "programs");
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

/* NULL: there was none, or it did not end. */
static char *exchange(int fd, const char *request)
{
    size_t len = 0;
    char *text = malloc(ANSWER_MAX + 1);
    ssize_t got = -1;
    if (text)
        len = (size_t)snprintf(text, ANSWER_MAX, "%s\n", request);
    if (!text || send(fd, text, len, MSG_NOSIGNAL) != (ssize_t)len) {
        free(text);
        return NULL;
    }
    len = 0;
    while (len < ANSWER_MAX && (got = read(fd, text + len, ANSWER_MAX - len)) > 0)
        len += (size_t)got;
    text[len] = '\0';
    if (got == 0 && strlen(text) == len)
        return text;
    free(text);
    return NULL;
}

/* What may be the matter with a control socket that was named. */
static const char *explain(int error)
{
    switch (error) {
    case EACCES:
        return ": it is another user's: ask as that user (as root: sudo)";
    case ENOENT:
        return ": does the program run? The log of its start, or its status_socket, says where its socket is";
    case ECONNREFUSED:
        return ": the program that made it does not run any more";
    default:
        return "";
    }
}

char *sg_cli_ask(const char *path, const char *role, const char *request, int *code)
{
    *code = SG_EXIT_FAILED;
    int fd = path ? connect_to(path) : connect_to_only(role, code);
    if (fd < 0 && path)
        sg_cli_error("%s: %s%s", path, strerror(errno), explain(errno));
    if (fd < 0)
        return NULL;
    char *text = exchange(fd, request);
    if (!text)
        sg_cli_error("%s: did not answer", path ? path : "the program");
    close(fd);
    return text;
}

int sg_cli_order(const char *path, const char *request)
{
    static const char ok[] = "ok: ", error[] = "error: ";
    int code = SG_EXIT_FAILED;
    char *text = sg_cli_ask(path, "server-", request, &code);
    if (!text)
        return code;
    text[strcspn(text, "\n")] = '\0';
    code = SG_EXIT_FAILED;
    if (strncmp(text, ok, strlen(ok)) == 0) {
        puts(text + strlen(ok));
        code = fflush(stdout) == 0 ? SG_EXIT_OK : SG_EXIT_FAILED;
    } else if (strncmp(text, error, strlen(error)) == 0) {
        sg_cli_error("%s", text + strlen(error));
    } else {
        sg_cli_error("%s: did not answer", path ? path : "the program");
    }
    free(text);
    return code;
}

static void tell_users_changed(int fd)
{
    static const char error[] = "error: ";
    limit_time(fd, TOLD_SECONDS);
    char *answer = exchange(fd, "users");
    if (answer && strncmp(answer, error, strlen(error)) == 0) {
        answer[strcspn(answer, "\n")] = '\0';
        sg_cli_error("a running server does not take the change, and goes on with the users that it had: %s",
                     answer + strlen(error));
    }
    free(answer);
    close(fd);
}

void sg_cli_tell_users_changed(const char *path)
{
    struct found found = {.count = 0};
    int fd = path ? connect_to(path) : -1;
    if (fd >= 0)
        tell_users_changed(fd);
    if (path)
        return;
    search(&found, "server-");
    for (unsigned i = 0; i < found.count; i++) {
        tell_users_changed(found.fd[i]);
        free(found.path[i]);
    }
}
