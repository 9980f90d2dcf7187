/* The server's side of the sandbox: who it becomes, and which directories a reload needs. */
#include "server/confine.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "net/log.h"
#include "net/rundir.h"
#include "net/sandbox.h"
#include "server/config.h"

/* The control socket will be made by the user, in a directory that is the user's. */
static void make_run_directory(const char *user)
{
    const struct passwd *entry = getpwnam(user);
    if (entry && entry->pw_uid != 0 && !sg_rundir_make_for(entry->pw_uid, entry->pw_gid))
        sg_log(SG_LOG_WARN, "no directory for the control socket of %s can be made: %s", user, strerror(errno));
}

static const char *find_unreadable(const struct sg_config *config)
{
    const char *const files[] = {config->file,  config->certificate, config->key,
                                 config->users, config->client_ca,   config->client_crl};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (files[i] && access(files[i], R_OK) != 0)
            return files[i];
    return NULL;
}

/* What only root can read would be refused by the first reload, and a user file that changes would go unnoticed. */
static bool can_read_again(const struct sg_config *config)
{
    const char *file = find_unreadable(config);
    if (file && config->user)
        sg_log_event(SG_LOG_ERROR, "sandbox_failed", NULL,
                     "%s: %s (user) cannot read it: %s: chown it to %s, and let the directory be that user's, too",
                     file, config->user, strerror(errno), config->user);
    else if (file)
        sg_log_event(SG_LOG_ERROR, "sandbox_failed", NULL,
                     "%s: root without capabilities cannot read it again: %s: name its owner as user in %s, or start "
                     "the server as that user",
                     file, strerror(errno), config->file);
    return !file;
}

static bool say_why(const char *error)
{
    sg_log_event(SG_LOG_ERROR, "sandbox_failed", NULL, "%s", error);
    return false;
}

static bool become(const struct sg_config *config)
{
    char error[SG_SANDBOX_ERROR_MAX];
    return !config->user || sg_sandbox_become(config->user, error) || say_why(error);
}

static bool drop(const struct sg_config *config)
{
    char error[SG_SANDBOX_ERROR_MAX];
    if (!sg_sandbox_drop(error))
        return say_why(error);
    return can_read_again(config);
}

bool sg_confine_check(const struct sg_config *config)
{
    char error[SG_SANDBOX_ERROR_MAX];
    const char *file = NULL;
    if (config->user)
        return become(config) && drop(config);
    if (!sg_sandbox_drop(error))
        return say_why(error);
    if ((file = find_unreadable(config)))
        sg_log(SG_LOG_WARN,
               "%s: root without capabilities cannot read it again: %s; that is no fault if its owner starts "
               "the server",
               file, strerror(errno));
    return true;
}

bool sg_confine_become(const struct sg_config *config)
{
    if (config->user && geteuid() == 0 && !config->status_socket)
        make_run_directory(config->user);
    return become(config);
}

bool sg_confine_drop(const struct sg_config *config)
{
    if (!drop(config))
        return false;
    if (geteuid() == 0)
        sg_log(SG_LOG_INFO, "running as root without capabilities: user: in %s names whom to become", config->file);
    return true;
}

static void list_directories(const struct sg_config *config, struct sg_sandbox *out)
{
    char path[SG_RUNDIR_PATH_MAX];
    *out = (struct sg_sandbox){.count = 0};
    sg_sandbox_add_dir_of(out, SG_SANDBOX_READ, config->file);
    sg_sandbox_add_dir_of(out, SG_SANDBOX_READ, config->certificate);
    sg_sandbox_add_dir_of(out, SG_SANDBOX_READ, config->key);
    sg_sandbox_add_dir_of(out, SG_SANDBOX_READ, config->users);
    sg_sandbox_add_dir_of(out, SG_SANDBOX_READ, config->client_ca);
    sg_sandbox_add_dir_of(out, SG_SANDBOX_READ, config->client_crl);
    sg_sandbox_add_dir_of(out, SG_SANDBOX_REPLACE, config->devices);
    sg_sandbox_add_system(out);
    sg_rundir_path(path);
    if (config->status_socket)
        sg_sandbox_add_dir_of(out, SG_SANDBOX_REMOVE, config->status_socket);
    else
        sg_sandbox_add(out, SG_SANDBOX_REMOVE, path);
}

typedef bool step_fn(const struct sg_sandbox *sandbox, char error[static SG_SANDBOX_ERROR_MAX]);

static bool take(step_fn *step, const struct sg_config *config)
{
    char error[SG_SANDBOX_ERROR_MAX];
    struct sg_sandbox sandbox;
    if (!config->sandbox)
        return true;
    list_directories(config, &sandbox);
    sandbox.required = config->require_sandbox;
    bool good = step(&sandbox, error);
    sg_sandbox_dispose(&sandbox);
    if (!good)
        sg_log_event(SG_LOG_ERROR, "sandbox_failed", NULL, "%s", error);
    return good;
}

bool sg_confine_files(const struct sg_config *config)
{
    if (!config->sandbox)
        sg_log_event(SG_LOG_WARN, "sandbox_off", NULL, "sandbox: off in %s: system calls and files are not restricted",
                     config->file);
    return take(sg_sandbox_confine, config);
}

bool sg_confine_calls(const struct sg_config *config)
{
    return take(sg_sandbox_filter, config);
}
