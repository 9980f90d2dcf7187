/* Invites one a line, from wherever INVITE says. What is wrong is logged with its place, never what is secret. */
#include "cli/invite_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "net/device.h"
#include "net/log.h"

enum { LINE_MAX_BYTES = 4096 };

static void warn_if_readable(FILE *file, const char *name)
{
    struct stat st;
    if (fstat(fileno(file), &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077))
        sg_log(SG_LOG_WARN, "%s holds an invite and others may read it (mode %04o): chmod 600 %s", name,
               (unsigned)st.st_mode & 07777, name);
}

/* One invite, as where says it was found. */
static bool add_invite(struct sg_cli_invites *invites, const char *text, const char *where)
{
    char problem[SG_INVITE_TEXT_MAX];
    char error[SG_DEVICE_ERROR_MAX];
    if (invites->count == SG_CLI_INVITES_MAX) {
        sg_log(SG_LOG_ERROR, "%s: more than %d invites", where, SG_CLI_INVITES_MAX);
        return false;
    }
    if (!sg_invite_parse(text, &invites->list[invites->count], problem)) {
        sg_log(SG_LOG_ERROR, "%s: %s; is the line whole? Copy it again, or ask for a new invite", where, problem);
        return false;
    }
    if (!sg_device_name(&invites->list[invites->count], !invites->is_again, error)) {
        sg_log(SG_LOG_ERROR, "%s: %s", where, error);
        return false;
    }
    invites->count++;
    return true;
}

/* Invites one a line; empty lines and lines that begin with # do not count. */
static bool read_invites(struct sg_cli_invites *invites, FILE *file, const char *name)
{
    char line[LINE_MAX_BYTES];
    char where[LINE_MAX_BYTES];
    bool good = true;
    size_t before = invites->count;
    for (unsigned number = 1; good && fgets(line, sizeof line, file); number++) {
        size_t len = 0;
        const char *text = sg_invite_trim(line, &len);
        snprintf(where, sizeof where, "%s:%u", name, number);
        if (len > 0 && *text != '#')
            good = add_invite(invites, line, where);
    }
    sodium_memzero(line, sizeof line);
    if (good && ferror(file)) {
        sg_log(SG_LOG_ERROR, "%s: %s", name, strerror(errno));
        return false;
    }
    if (good && invites->count == before)
        sg_log(SG_LOG_ERROR, "%s: no invite in it", name);
    return good && invites->count > before;
}

/* Closes the file; NULL is one that could not be opened (errno). */
static bool read_file(struct sg_cli_invites *invites, FILE *file, const char *name)
{
    if (!file) {
        sg_log(SG_LOG_ERROR, "%s: %s", name, strerror(errno));
        return false;
    }
    warn_if_readable(file, name);
    bool good = read_invites(invites, file, name);
    fclose(file);
    return good;
}

bool sg_cli_invites_take(struct sg_cli_invites *invites, const char *text)
{
    if (text[0] == '-' && text[1] == '\0')
        return read_invites(invites, stdin, "standard input");
    if (text[0] != '@' && !strstr(text, "://") && access(text, F_OK) == 0) {
        sg_log(SG_LOG_ERROR, "INVITE: %s is a file: @%s reads the invite in it", text, text);
        return false;
    }
    if (text[0] == '@' && text[1] == '\0') {
        sg_log(SG_LOG_ERROR, "INVITE: after @ stands the name of the file with the invite, as in @alice.invite");
        return false;
    }
    if (text[0] != '@') {
        sg_log(SG_LOG_INFO, "an invite on the command line shows in `ps`: @FILE keeps it secret");
        return add_invite(invites, text, "INVITE");
    }
    FILE *file = fopen(text + 1, "re");
    return read_file(invites, file, text + 1);
}

bool sg_cli_invites_take_again(struct sg_cli_invites *invites, const char *path)
{
    struct stat st;
    *invites = (struct sg_cli_invites){.is_again = true};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would hold up all */
    if (fd < 0 && errno == EACCES) {
        sg_log(SG_LOG_ERROR,
               "%s: Permission denied: was it replaced by another file? The sandbox leaves open the one that was there "
               "at the start: write into that one, or start the client again",
               path);
        return false;
    }
    if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
        close(fd);
        sg_log(SG_LOG_ERROR, "%s: not a file that can be read again", path);
        return false;
    }
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!file && fd >= 0)
        close(fd);
    return read_file(invites, file, path);
}
