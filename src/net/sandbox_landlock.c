/*
 * Landlock, by its system calls: no library of Debian 12 knows it. What the running kernel does not know is left out of
 * what is asked for; a kernel without Landlock confines nothing, and that is no error.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/landlock.h>

#include "net/log.h"
#include "net/sandbox.h"

/* Newer than the headers of Debian 12. */
enum {
    ACCESS_FS_TRUNCATE = 1 << 14,  /* from ABI 3 */
    ACCESS_FS_IOCTL_DEV = 1 << 15, /* from ABI 5 */
    SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0,
    SCOPE_SIGNAL = 1 << 1, /* both from ABI 6 */
    ABI_OF_SCOPES = 6,
};

struct ruleset_attr {
    uint64_t handled_access_fs, handled_access_net, scoped;
};

/* Every right that a kernel of this ABI can take away. */
static uint64_t all_rights(int abi)
{
    uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1; /* the first 13, those of ABI 1 */
    if (abi >= 2)
        rights |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        rights |= ACCESS_FS_TRUNCATE;
    if (abi >= 5)
        rights |= ACCESS_FS_IOCTL_DEV;
    return rights;
}

static uint64_t rights_of(enum sg_sandbox_use use)
{
    switch (use) {
    case SG_SANDBOX_READ:
        return LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    case SG_SANDBOX_READ_FILE:
        return LANDLOCK_ACCESS_FS_READ_FILE;
    case SG_SANDBOX_REMOVE:
        return LANDLOCK_ACCESS_FS_REMOVE_FILE;
    case SG_SANDBOX_REPLACE:
        return LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_WRITE_FILE |
               LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | ACCESS_FS_TRUNCATE;
    }
    return 0;
}

/* What is not there, or may not be entered, stays closed. */
static void open_path(int ruleset, const char *path, int flags, uint64_t rights)
{
    struct landlock_path_beneath_attr beneath = {.allowed_access = rights};
    beneath.parent_fd = open(path, O_PATH | O_CLOEXEC | flags);
    if (beneath.parent_fd < 0)
        return;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0)
        sg_log(SG_LOG_WARN, "sandbox: %s stays closed: %s", path, strerror(errno));
    close(beneath.parent_fd);
}

/* Why there is no Landlock, from the error of the first question about it. */
static const char *missing_text(int error)
{
    switch (error) {
    case ENOSYS:
        return "this kernel has none";
    case EOPNOTSUPP:
        return "this kernel has it switched off (lsm=)";
    default:
        return strerror(error);
    }
}

static bool restrict_files(const struct sg_sandbox *sandbox)
{
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct ruleset_attr attr = {.handled_access_fs = all_rights(abi)};
    size_t size = sizeof attr.handled_access_fs;
    if (abi < 1) {
        static atomic_flag is_told = ATOMIC_FLAG_INIT; /* once, of all threads that ask for themselves */
        if (!sandbox->required && !atomic_flag_test_and_set(&is_told))
            sg_log(SG_LOG_INFO, "sandbox: files are not restricted: no Landlock: %s", missing_text(errno));
        return !sandbox->required;
    }
    if (abi >= ABI_OF_SCOPES) {
        attr.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
        size = sizeof attr;
    }
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0)
        return false;
    for (unsigned i = 0; i < sandbox->count; i++) {
        enum sg_sandbox_use use = sandbox->paths[i].use;
        int flags = use == SG_SANDBOX_READ_FILE ? 0 : O_DIRECTORY;
        open_path(ruleset, sandbox->paths[i].path, flags, rights_of(use) & attr.handled_access_fs);
    }
    bool good = syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
    int error = errno;
    close(ruleset);
    errno = error;
    return good;
}

/*
 * By the system calls themselves: the C library's functions change all threads. The capabilities to do it end with it,
 * so what no thread may ever get back is given up before.
 */
void sg_sandbox_become_nobody(void)
{
    enum { NOBODY = 65534 };
    if (geteuid() != 0)
        return;
    for (unsigned long i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
        (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    if (syscall(SYS_setgroups, 0, NULL) != 0 || syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY) != 0 ||
        syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) != 0)
        sg_log(SG_LOG_DEBUG, "sandbox: the resolver stays root: %s", strerror(errno));
}

bool sg_sandbox_confine(const struct sg_sandbox *sandbox, char error[static SG_SANDBOX_ERROR_MAX])
{
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        snprintf(error, SG_SANDBOX_ERROR_MAX, "core dumps cannot be forbidden: %s", strerror(errno));
        return false;
    }
    if (restrict_files(sandbox))
        return true;
    snprintf(error, SG_SANDBOX_ERROR_MAX, "the file system cannot be closed (Landlock): %s", missing_text(errno));
    return false;
}
