/* The directories, and privileges by libcap-ng. Landlock and the filter have files of their own. */
#include "net/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cap-ng.h>
#include <openssl/x509.h>

/* Accounts of people, by the usual limits of login.defs(5); the others are those of services, and nobody. */
enum { FIRST_PERSON = 1000, LAST_PERSON = 60000 };

/* --- directories --- */

/* Takes over path. What does not fit, or could not be allocated, stays closed. */
static void add(struct sg_sandbox *sandbox, enum sg_sandbox_use use, char *path)
{
    if (!path || sandbox->count == SG_SANDBOX_PATHS_MAX) {
        free(path);
        return;
    }
    sandbox->paths[sandbox->count].path = path;
    sandbox->paths[sandbox->count++].use = use;
}

void sg_sandbox_add(struct sg_sandbox *sandbox, enum sg_sandbox_use use, const char *path)
{
    if (path)
        add(sandbox, use, strdup(path));
}

void sg_sandbox_add_dir_of(struct sg_sandbox *sandbox, enum sg_sandbox_use use, const char *file)
{
    char *copy = file ? strdup(file) : NULL;
    if (copy)
        add(sandbox, use, strdup(dirname(copy)));
    free(copy);
}

/*
 * Permissions keep an ordinary user from the secrets in /etc, where files may be replaced. They do not keep root from
 * them, without capabilities either (/etc/shadow).
 */
void sg_sandbox_add_system(struct sg_sandbox *sandbox)
{
    if (geteuid() != 0) {
        sg_sandbox_add(sandbox, SG_SANDBOX_READ, "/etc");
    } else {
        sg_sandbox_add(sandbox, SG_SANDBOX_READ_FILE, "/etc/localtime");
        sg_sandbox_add(sandbox, SG_SANDBOX_READ, "/etc/ssl/certs");
    }
    /* links lead out of /etc: certificates of packages */
    sg_sandbox_add(sandbox, SG_SANDBOX_READ, "/usr/share/ca-certificates");
    sg_sandbox_add(sandbox, SG_SANDBOX_READ, "/usr/local/share/ca-certificates");
    sg_sandbox_add(sandbox, SG_SANDBOX_READ, X509_get_default_cert_dir());
}

/* The directories in one, without links, and without those that are named. */
static void add_dirs_in(struct sg_sandbox *sandbox, const char *parent, const char *const *without)
{
    DIR *dir = opendir(parent);
    if (!dir)
        return;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        char *path = NULL;
        bool left_out = entry->d_type != DT_DIR || entry->d_name[0] == '.';
        for (const char *const *name = without; *name && !left_out; name++)
            left_out = strcmp(entry->d_name, *name) == 0;
        if (!left_out && asprintf(&path, "%s/%s", parent, entry->d_name) > 0)
            add(sandbox, SG_SANDBOX_READ, path);
    }
    closedir(dir);
}

void sg_sandbox_add_names(struct sg_sandbox *sandbox)
{
    static const char *const files[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf"};
    static const char *const of_processes[] = {"proc", "sys", "dev", NULL};
    static const char *const of_people[] = {"user", NULL};
    uid_t user = geteuid();
    char *target = realpath("/etc/resolv.conf", NULL);
    if (user == 0) {
        for (size_t i = 0; i < sizeof files / sizeof *files; i++)
            sg_sandbox_add(sandbox, SG_SANDBOX_READ_FILE, files[i]);
        sg_sandbox_add_dir_of(sandbox, SG_SANDBOX_READ, target && strncmp(target, "/etc/", 5) != 0 ? target : NULL);
    } else if (user < FIRST_PERSON || user > LAST_PERSON) {
        add_dirs_in(sandbox, "/", of_processes);
    } else {
        sg_sandbox_add(sandbox, SG_SANDBOX_READ, "/etc");
        sg_sandbox_add_dir_of(sandbox, SG_SANDBOX_READ, target);
        add_dirs_in(sandbox, "/run", of_people);
    }
    free(target);
}

void sg_sandbox_dispose(struct sg_sandbox *sandbox)
{
    for (unsigned i = 0; i < sandbox->count; i++)
        free(sandbox->paths[i].path);
    sandbox->count = 0;
}

/* --- privileges --- */

bool sg_sandbox_become(const char *user, char error[static SG_SANDBOX_ERROR_MAX])
{
    const struct passwd *entry = getpwnam(user);
    if (!entry) {
        snprintf(error, SG_SANDBOX_ERROR_MAX, "user: there is no user %.100s", user);
        return false;
    }
    if (entry->pw_uid == geteuid())
        return true;
    if (geteuid() != 0) {
        snprintf(error, SG_SANDBOX_ERROR_MAX, "user: only root can become %.100s", user);
        return false;
    }
    capng_clear(CAPNG_SELECT_ALL);
    if (capng_change_id((int)entry->pw_uid, (int)entry->pw_gid, CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING) == 0)
        return true;
    snprintf(error, SG_SANDBOX_ERROR_MAX, "user: cannot become %.100s: %s", user, strerror(errno));
    return false;
}

static bool has_capability(capng_type_t set)
{
    for (unsigned i = 0; i <= CAP_LAST_CAP; i++)
        if (capng_have_capability(set, i) == 1)
            return true;
    return false;
}

/*
 * Only who may set capabilities can empty the bounding set; for others it is worth nothing. Where there are none
 * nothing is asked of the kernel: a service manager that took them away may also have forbidden the call (@privileged).
 */
static bool drop_capabilities(void)
{
    if (capng_get_caps_process() != 0)
        return false;
    if (!has_capability(CAPNG_EFFECTIVE) && !has_capability(CAPNG_PERMITTED) && !has_capability(CAPNG_INHERITABLE) &&
        !has_capability(CAPNG_AMBIENT))
        return true;
    bool bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 1;
    capng_clear(CAPNG_SELECT_ALL);
    return (!bounds || capng_apply(CAPNG_SELECT_BOUNDS) == 0) && capng_apply(CAPNG_SELECT_AMBIENT) == 0 &&
           capng_apply(CAPNG_SELECT_CAPS) == 0;
}

bool sg_sandbox_drop(char error[static SG_SANDBOX_ERROR_MAX])
{
    bool dropped = drop_capabilities();
    if (dropped && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        return true;
    snprintf(error, SG_SANDBOX_ERROR_MAX, "%s: %s",
             dropped ? "new privileges cannot be ruled out (PR_SET_NO_NEW_PRIVS)" : "capabilities cannot be dropped",
             strerror(errno));
    return false;
}
