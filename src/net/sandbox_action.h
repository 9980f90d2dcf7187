/* What becomes of a system call that is not on the list. */
#ifndef SG_NET_SANDBOX_ACTION_H
#define SG_NET_SANDBOX_ACTION_H

#include <stdint.h>

/*
 * An action of libseccomp. The process is killed, unless this is a build with tests whose environment says otherwise.
 */
uint32_t sg_sandbox_action(void);

#endif
