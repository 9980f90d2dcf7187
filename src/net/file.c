/* Replacing a file: temporary name, fsync, rename. mkostemp picks the name, so that two writers never share one. */
#include "net/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void sg_file_sync_dir(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(dir);
}

/* The new file gets the owner of the one that it replaces. */
static bool copy_owner(const char *path, int fd)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return errno == ENOENT;
    if (st.st_uid == geteuid() && st.st_gid == getegid())
        return true;
    return fchown(fd, st.st_uid, st.st_gid) == 0 || st.st_uid == geteuid();
}

/* Takes fd over. */
static bool write_new(const char *path, int fd, sg_file_write_fn *write, void *ctx)
{
    FILE *file = fdopen(fd, "w");
    if (!file) {
        close(fd);
        return false;
    }
    bool good = copy_owner(path, fd) && write(file, ctx) && fflush(file) == 0 && fsync(fd) == 0;
    int error = errno;
    bool closed = fclose(file) == 0;
    if (!good)
        errno = error;
    return good && closed;
}

enum sg_err sg_file_replace(const char *path, sg_file_write_fn *write, void *ctx)
{
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
        errno = ENOMEM;
        return SG_ERR_SYSTEM;
    }
    int fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
    bool good = fd >= 0 && write_new(path, fd, write, ctx) && rename(temporary, path) == 0;
    int error = errno;
    if (good)
        sg_file_sync_dir(path);
    else if (fd >= 0)
        unlink(temporary);
    free(temporary);
    errno = error;
    return good ? SG_OK : SG_ERR_SYSTEM;
}
