/*
 * Builds without a sandbox: the run-time libraries of sanitizers start threads, trace, and call what they like. That is
 * said once at the start.
 */
#include <stddef.h>

#include "net/log.h"
#include "net/sandbox.h"

void sg_sandbox_become_nobody(void)
{
}

bool sg_sandbox_confine(const struct sg_sandbox *sandbox, char error[static SG_SANDBOX_ERROR_MAX])
{
    (void)sandbox;
    (void)error;
    return true;
}

bool sg_sandbox_filter(const struct sg_sandbox *sandbox, char error[static SG_SANDBOX_ERROR_MAX])
{
    (void)sandbox;
    (void)error;
    sg_log(SG_LOG_DEBUG, "sandbox: this build has none");
    return true;
}
