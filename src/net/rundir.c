/*
 * The directory of control sockets. Below /tmp anybody could have made it first: it must be a directory, ours, and
 * closed to the writing of others.
 */
#include "net/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char system_dir[] = "/run/sealgram";

enum { SOCKET_NAME_MAX = 32, USER_NAME_MAX = 12 };

/* False if no room is left for a socket's name. */
__attribute__((format(printf, 2, 3))) static bool write_path(char out[static SG_RUNDIR_PATH_MAX], const char *format,
                                                             ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(out, SG_RUNDIR_PATH_MAX, format, args);
    va_end(args);
    return len > 0 && len < SG_RUNDIR_PATH_MAX - SOCKET_NAME_MAX;
}

static bool is_ours(const char *dir)
{
    struct stat st;
    return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

/* The one directory that a service manager made for this service (RuntimeDirectory=). */
static bool find_service_dir(char out[static SG_RUNDIR_PATH_MAX])
{
    const char *dir = secure_getenv("RUNTIME_DIRECTORY");
    return dir && dir[0] == '/' && !strchr(dir, ':') && is_ours(dir) && write_path(out, "%s", dir);
}

static bool find_session_dir(char out[static SG_RUNDIR_PATH_MAX])
{
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    return runtime && runtime[0] == '/' && write_path(out, "%s/sealgram", runtime);
}

static bool find_temporary(char out[static SG_RUNDIR_PATH_MAX])
{
    return write_path(out, "/tmp/sealgram-%u", (unsigned)geteuid());
}

/* Of a program that was root: root made it below its own. */
static bool find_given(const char *of_root, char out[static SG_RUNDIR_PATH_MAX])
{
    return geteuid() != 0 && write_path(out, "%s/%u", of_root, (unsigned)geteuid()) && is_ours(out);
}

void sg_rundir_path(char out[static SG_RUNDIR_PATH_MAX])
{
    char session[SG_RUNDIR_PATH_MAX];
    bool has_session = find_session_dir(session);
    if (find_service_dir(out) || find_given(has_session ? session : system_dir, out))
        return;
    if (has_session)
        memcpy(out, session, sizeof session);
    else if (geteuid() != 0 && !is_ours(system_dir))
        (void)find_temporary(out);
    else
        (void)write_path(out, "%s", system_dir);
}

/* --- search --- */

static void add_once(char out[static SG_RUNDIR_SEARCH_MAX][SG_RUNDIR_PATH_MAX], unsigned *count, const char *dir)
{
    for (unsigned i = 0; i < *count; i++)
        if (strcmp(out[i], dir) == 0)
            return;
    if (*count < SG_RUNDIR_SEARCH_MAX && write_path(out[*count], "%s", dir))
        ++*count;
}

/* The directories below one: of services, and of users that root's programs became. */
static void add_below(char out[static SG_RUNDIR_SEARCH_MAX][SG_RUNDIR_PATH_MAX], unsigned *count, const char *dir_path)
{
    DIR *dir = opendir(dir_path);
    const struct dirent *entry = NULL;
    while (dir && (entry = readdir(dir))) {
        char path[SG_RUNDIR_PATH_MAX];
        struct stat st;
        if (entry->d_name[0] != '.' && write_path(path, "%s/%s", dir_path, entry->d_name) && lstat(path, &st) == 0 &&
            S_ISDIR(st.st_mode))
            add_once(out, count, path);
    }
    if (dir)
        closedir(dir);
}

unsigned sg_rundir_search(char out[static SG_RUNDIR_SEARCH_MAX][SG_RUNDIR_PATH_MAX])
{
    unsigned count = 0;
    char dir[SG_RUNDIR_PATH_MAX];
    if (find_session_dir(dir))
        add_once(out, &count, dir);
    add_once(out, &count, system_dir);
    if (find_temporary(dir) && is_ours(dir))
        add_once(out, &count, dir);
    for (unsigned i = 0, above = count; i < above; i++)
        add_below(out, &count, out[i]);
    if (find_service_dir(dir))
        add_once(out, &count, dir);
    return count;
}

/* --- making --- */

/* The directory, opened, made if there is none; -1 with errno, EPERM if it is not ours alone to write in. */
static int open_own(const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return -1;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & 022))
        return fd;
    close(fd);
    errno = EPERM;
    return -1;
}

static bool give(int above, const char *name, uid_t uid, gid_t gid)
{
    if (fchmod(above, 0755) != 0 || (mkdirat(above, name, 0700) != 0 && errno != EEXIST))
        return false;
    int fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool good = fd >= 0 && fchown(fd, uid, gid) == 0 && fchmod(fd, 0700) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return good;
}

bool sg_rundir_make_for(uid_t uid, gid_t gid)
{
    char dir[SG_RUNDIR_PATH_MAX], name[USER_NAME_MAX];
    sg_rundir_path(dir);
    int above = open_own(dir);
    if (above < 0)
        return false;
    snprintf(name, sizeof name, "%u", (unsigned)uid);
    bool good = give(above, name, uid, gid);
    int error = errno;
    close(above);
    errno = error;
    return good;
}

bool sg_rundir_status_path(const char *name, char out[static SG_RUNDIR_PATH_MAX])
{
    char dir[SG_RUNDIR_PATH_MAX];
    char *path = NULL;
    sg_rundir_path(dir);
    int fd = open_own(dir);
    if (fd < 0)
        return false;
    close(fd);
    int len = asprintf(&path, "%s/%s-%ld.sock", dir, name, (long)getpid());
    bool fits = len > 0 && len < SG_RUNDIR_PATH_MAX;
    if (fits)
        memcpy(out, path, (size_t)len + 1);
    else
        errno = ENAMETOOLONG;
    if (len > 0)
        free(path);
    return fits;
}
