/* Builds with tests: with SEALGRAM_TEST_SECCOMP=tell, a call that is missing from the list is named before the end. */
#include "net/sandbox_action.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <seccomp.h>

static void on_refused(int number, siginfo_t *info, void *ctx)
{
    char text[64];
    (void)number;
    (void)ctx;
    int len = snprintf(text, sizeof text, "sealgram: system call %d is not on the list\n", info->si_syscall);
    if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0) {
        /* the end says enough */
    }
    _exit(1);
}

uint32_t sg_sandbox_action(void)
{
    const struct sigaction tell = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};
    const char *wish = getenv("SEALGRAM_TEST_SECCOMP");
    if (!wish || strcmp(wish, "tell") != 0 || sigaction(SIGSYS, &tell, NULL) != 0)
        return SCMP_ACT_KILL_PROCESS;
    return SCMP_ACT_TRAP;
}
