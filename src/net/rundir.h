/*
 * Where running programs put their control sockets: $XDG_RUNTIME_DIR/sealgram, /run/sealgram for root, else
 * /tmp/sealgram-UID.
 */
#ifndef SG_NET_RUNDIR_H
#define SG_NET_RUNDIR_H

#include <stdbool.h>

enum { SG_RUNDIR_PATH_MAX = 108 }; /* what a socket address holds */

/* Where this process puts its own (not made). /run/sealgram serves whoever owns it: a service's RuntimeDirectory. */
void sg_rundir_path(char out[static SG_RUNDIR_PATH_MAX]);

/*
 * Where programs that this user may ask can have put theirs, each once; returns how many. A directory below /tmp is
 * among them only if it is this user's.
 */
enum { SG_RUNDIR_SEARCH_MAX = 3 };
unsigned sg_rundir_search(char out[static SG_RUNDIR_SEARCH_MAX][SG_RUNDIR_PATH_MAX]);

/*
 * The path of this process' control socket, NAME-PID.sock, the directory made (0700) and checked to be ours. False
 * with errno: EPERM when it belongs to somebody else or others can enter, ENAMETOOLONG.
 */
bool sg_rundir_status_path(const char *name, char out[static SG_RUNDIR_PATH_MAX]);

#endif
