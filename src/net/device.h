/*
 * The device that a client runs on, for invites that count devices: a random key in a file of its user, from which each
 * invite gets a name of the device of its own, so that servers cannot tell that they serve the same one.
 */
#ifndef SG_NET_DEVICE_H
#define SG_NET_DEVICE_H

#include <stdbool.h>

#include "net/invite.h"

enum { SG_DEVICE_ERROR_MAX = 512 };

/*
 * Puts the device's name behind the token of an invite that counts devices (it begins with sgd1_); leaves others as
 * they are. The key is made when it is first needed: in $STATE_DIRECTORY, $XDG_STATE_HOME/sealgram or
 * ~/.local/state/sealgram. False: error says why it can neither be read nor made.
 */
bool sg_device_name(struct sg_invite *invite, char error[static SG_DEVICE_ERROR_MAX]);

#endif
