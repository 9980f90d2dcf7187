/*
 * Where running programs put their control sockets: $RUNTIME_DIRECTORY of a service, $XDG_RUNTIME_DIR/sealgram,
 * /run/sealgram for root, else /tmp/sealgram-UID. A program that root starts and that becomes another user has a
 * directory below root's, named by the number of that user: no other socket is in that user's hands.
 */
#ifndef SG_NET_RUNDIR_H
#define SG_NET_RUNDIR_H

#include <stdbool.h>
#include <sys/types.h>

enum { SG_RUNDIR_PATH_MAX = 108 }; /* what a socket address holds */

/* Where this process puts its own (not made). */
void sg_rundir_path(char out[static SG_RUNDIR_PATH_MAX]);

/*
 * Where programs that this user may ask can have put theirs, each once; returns how many. A directory below /tmp is
 * among them only if it is this user's.
 */
enum { SG_RUNDIR_SEARCH_MAX = 32 };
unsigned sg_rundir_search(char out[static SG_RUNDIR_SEARCH_MAX][SG_RUNDIR_PATH_MAX]);

/*
 * Before root becomes another user: makes the directory that the process will have then (0700, that user's), below its
 * own, which others can enter from now on. False with errno: EPERM when the own one is somebody else's, or others can
 * write there.
 */
bool sg_rundir_make_for(uid_t uid, gid_t gid);

/*
 * The path of this process' control socket, NAME-PID.sock, the directory made (0700) and checked to be ours. False
 * with errno: EPERM when it belongs to somebody else or others can write there, ENAMETOOLONG.
 */
bool sg_rundir_status_path(const char *name, char out[static SG_RUNDIR_PATH_MAX]);

#endif
