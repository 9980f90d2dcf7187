/*
 * The directory of status sockets. Below /tmp anybody could have made it first: it must be a directory, ours, and
 * closed.
 */
#include "net/rundir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void sg_rundir_path(char out[static SG_RUNDIR_PATH_MAX])
{
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    int len = 0;
    if (runtime && runtime[0] == '/')
        len = snprintf(out, SG_RUNDIR_PATH_MAX, "%s/sealgram", runtime);
    if (len > 0 && len < SG_RUNDIR_PATH_MAX - 32)
        return;
    if (geteuid() == 0)
        snprintf(out, SG_RUNDIR_PATH_MAX, "/run/sealgram");
    else
        snprintf(out, SG_RUNDIR_PATH_MAX, "/tmp/sealgram-%u", (unsigned)geteuid());
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
