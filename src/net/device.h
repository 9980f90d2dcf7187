/*
 * The device that a client runs on, for invites that count devices: a random key in a file of its user, from which each
 * invite gets a name of the device of its own, so that servers cannot tell that they serve the same one.
 */
#ifndef SG_NET_DEVICE_H
#define SG_NET_DEVICE_H

#include <stdbool.h>

#include "net/invite.h"
#include "net/state_dir.h"

enum { SG_DEVICE_ERROR_MAX = 512 };

/*
 * Puts the device's name behind the token of an invite that counts devices (it begins with sgd1_); leaves others as
 * they are. The key is made when it is first needed, if may_make, in $STATE_DIRECTORY, $XDG_STATE_HOME/sealgram or
 * ~/.local/state/sealgram. False: error says why it can neither be read nor made.
 */
bool sg_device_name(struct sg_invite *invite, bool may_make, char error[static SG_DEVICE_ERROR_MAX]);

/* Where the key is, or will be: a directory to leave readable. False if there is no place for it. */
bool sg_device_path(char path[static SG_STATE_PATH_MAX]);

#endif
