/* The folders of the XDG base directory specification, and of systemd.exec(5). */
#include "net/state_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool sg_state_make_dirs(char *path)
{
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        bool good = mkdir(path, 0700) == 0 || errno == EEXIST;
        *at = '/';
        if (!good)
            return false;
    }
    return true;
}

bool sg_state_path(const char *name, char path[static SG_STATE_PATH_MAX])
{
    const char *state = secure_getenv("STATE_DIRECTORY"), *xdg = secure_getenv("XDG_STATE_HOME");
    const char *home = secure_getenv("HOME");
    int len = -1;
    if (state && state[0] == '/')
        len = snprintf(path, SG_STATE_PATH_MAX, "%s/%s", state, name);
    else if (xdg && xdg[0] == '/')
        len = snprintf(path, SG_STATE_PATH_MAX, "%s/sealgram/%s", xdg, name);
    else if (home && home[0] == '/')
        len = snprintf(path, SG_STATE_PATH_MAX, "%s/.local/state/sealgram/%s", home, name);
    errno = len < 0 ? ENOENT : ENAMETOOLONG;
    return len >= 0 && len < SG_STATE_PATH_MAX;
}
