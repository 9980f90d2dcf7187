/* Where a client keeps what it remembers from one run to the next: a folder of its user. */
#ifndef SG_NET_STATE_DIR_H
#define SG_NET_STATE_DIR_H

#include <stdbool.h>

enum { SG_STATE_PATH_MAX = 400 };

/*
 * The path of a file below $STATE_DIRECTORY, $XDG_STATE_HOME/sealgram or ~/.local/state/sealgram. False with errno:
 * none of them is set, or the path is too long.
 */
bool sg_state_path(const char *name, char path[static SG_STATE_PATH_MAX]);

/* Makes each directory of a path that is not there yet, for its owner alone. False with errno. */
bool sg_state_make_dirs(char *path);

#endif
