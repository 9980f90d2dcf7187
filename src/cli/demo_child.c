/* Child processes of the demonstration and the doctor. They run the same program file as this, as a user would. */
#include "cli/demo_child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

enum { ARGS_MAX = 32, STATUS_MAX = 65536 };

static bool spawn(struct sg_demo_child *child, const char *log, const char *const *argv, int out)
{
    char *args[ARGS_MAX] = {NULL};
    size_t count = 0;
    posix_spawn_file_actions_t actions;
    args[count++] = strdup("sealgram");
    for (; *argv && count < ARGS_MAX - 1; argv++)
        args[count++] = strdup(*argv);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    errno = posix_spawn(&child->pid, "/proc/self/exe", &actions, NULL, args, environ);
    bool good = errno == 0;
    posix_spawn_file_actions_destroy(&actions);
    for (size_t i = 0; i < count; i++)
        free(args[i]);
    return good;
}

bool sg_demo_child_start(struct sg_demo_child *child, const char *dir, const char *name, const char *const *argv)
{
    int ends[2];
    char *log = NULL;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    bool good = asprintf(&log, "%s/%s.log", dir, name) > 0 && spawn(child, log, argv, ends[1]);
    close(ends[1]);
    child->out = ends[0];
    (void)fcntl(child->out, F_SETFL, O_NONBLOCK);
    if (!good) {
        child->pid = 0;
        close(child->out);
        child->out = -1;
    }
    free(log);
    return good;
}

int sg_demo_child_wait(struct sg_demo_child *child)
{
    int status = 0;
    if (child->pid <= 0)
        return -1;
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR) {
        /* a signal is no answer */
    }
    child->pid = 0;
    if (child->out >= 0)
        close(child->out);
    child->out = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int sg_demo_child_stop(struct sg_demo_child *child)
{
    if (child->pid <= 0)
        return -1;
    kill(child->pid, SIGTERM);
    return sg_demo_child_wait(child);
}

struct json_t *sg_demo_child_status(const struct sg_demo_child *child, const char *dir, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *text = malloc(STATUS_MAX);
    size_t len = 0;
    ssize_t got = -1;
    json_t *document = NULL;
    int path_len =
        snprintf(address.sun_path, sizeof address.sun_path, "%s/sealgram/%s-%ld.sock", dir, name, (long)child->pid);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (text && fd >= 0 && path_len < (int)sizeof address.sun_path &&
        connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
        send(fd, "status\n", 7, MSG_NOSIGNAL) == 7) {
        while (len < STATUS_MAX && (got = read(fd, text + len, STATUS_MAX - len)) > 0)
            len += (size_t)got;
        document = got == 0 ? json_loadb(text, len, 0, NULL) : NULL;
    }
    if (fd >= 0)
        close(fd);
    free(text);
    return document;
}

void sg_demo_remove_dir(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry = NULL;
    while (dir && (entry = readdir(dir))) {
        char *inner = NULL;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            asprintf(&inner, "%s/%s", path, entry->d_name) < 0)
            continue;
        if (unlink(inner) != 0 && (errno == EISDIR || errno == EPERM))
            sg_demo_remove_dir(inner);
        free(inner);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}
