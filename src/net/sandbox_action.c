/* As it is shipped. */
#include "net/sandbox_action.h"

#include <seccomp.h>

uint32_t sg_sandbox_action(void)
{
    return SCMP_ACT_KILL_PROCESS;
}
