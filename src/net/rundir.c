/*
 * The directory of control sockets. Below /tmp anybody could have made it first: it must be a directory, ours, and
 * closed.
 */
#include "net/rundir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char system_dir[] = "/run/sealgram";

/* $XDG_RUNTIME_DIR/sealgram, with room for a socket's name. */
static bool find_session_dir(char out[static SG_RUNDIR_PATH_MAX])
{
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    if (!runtime || runtime[0] != '/')
        return false;
    int len = snprintf(out, SG_RUNDIR_PATH_MAX, "%s/sealgram", runtime);
    return len > 0 && len < SG_RUNDIR_PATH_MAX - 32;
}

static bool is_ours(const char *dir)
{
    struct stat st;
    return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

static void name_temporary(char out[static SG_RUNDIR_PATH_MAX])
{
    snprintf(out, SG_RUNDIR_PATH_MAX, "/tmp/sealgram-%u", (unsigned)geteuid());
}

void sg_rundir_path(char out[static SG_RUNDIR_PATH_MAX])
{
    if (find_session_dir(out))
        return;
    if (geteuid() == 0 || is_ours(system_dir))
        snprintf(out, SG_RUNDIR_PATH_MAX, "%s", system_dir);
    else
        name_temporary(out);
}

unsigned sg_rundir_search(char out[static SG_RUNDIR_SEARCH_MAX][SG_RUNDIR_PATH_MAX])
{
    unsigned count = 0;
    if (find_session_dir(out[count]))
        count++;
    snprintf(out[count], SG_RUNDIR_PATH_MAX, "%s", system_dir);
    if (count == 0 || strcmp(out[0], system_dir) != 0)
        count++;
    name_temporary(out[count]);
    if (is_ours(out[count]))
        count++;
    return count;
}

bool sg_rundir_status_path(const char *name, char out[static SG_RUNDIR_PATH_MAX])
{
    char dir[SG_RUNDIR_PATH_MAX];
    struct stat st;
    sg_rundir_path(dir);
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return false;
    if (lstat(dir, &st) != 0)
        return false;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077)) {
        errno = EPERM;
        return false;
    }
    char *path = NULL;
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
