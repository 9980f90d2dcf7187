/* The key file, device.key: 32 random bytes, mode 0600. The name is 16 bytes of their keyed hash of the token. */
#include "net/device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "net/file.h"
#include "net/state_dir.h"

enum { KEY_BYTES = 32, NAME_BYTES = 16 };

bool sg_device_path(char path[static SG_STATE_PATH_MAX])
{
    return sg_state_path("device.key", path);
}

static bool read_key(const char *path, uint8_t key[static KEY_BYTES])
{
    uint8_t bytes[KEY_BYTES + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, bytes, sizeof bytes);
    close(fd);
    memcpy(key, bytes, KEY_BYTES);
    sodium_memzero(bytes, sizeof bytes);
    if (n != KEY_BYTES && n >= 0)
        errno = EINVAL;
    return n == KEY_BYTES;
}

static bool write_key(FILE *file, void *ctx)
{
    return fwrite(ctx, 1, KEY_BYTES, file) == KEY_BYTES;
}

/* Two clients that start together must not have two keys: the file gets its name by link, which replaces nothing. */
static bool make_key(char *path)
{
    char draft[SG_STATE_PATH_MAX + 16];
    uint8_t key[KEY_BYTES];
    snprintf(draft, sizeof draft, "%s.%d", path, (int)getpid());
    randombytes_buf(key, sizeof key);
    bool good = sg_state_make_dirs(path) && sg_file_replace(draft, write_key, key) == SG_OK;
    sodium_memzero(key, sizeof key);
    if (!good)
        return false;
    good = link(draft, path) == 0 || errno == EEXIST;
    int error = errno;
    unlink(draft);
    sg_file_sync_dir(path);
    errno = error;
    return good;
}

bool sg_device_name(struct sg_invite *invite, bool may_make, char error[static SG_DEVICE_ERROR_MAX])
{
    char path[SG_STATE_PATH_MAX] = "";
    char name[sodium_base64_ENCODED_LEN(NAME_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
    uint8_t key[KEY_BYTES], bytes[NAME_BYTES];
    size_t len = strlen(invite->password);
    if (strncmp(invite->password, SG_DEVICE_TOKEN_PREFIX, strlen(SG_DEVICE_TOKEN_PREFIX)) != 0)
        return true;
    if (!sg_device_path(path) ||
        (!read_key(path, key) && (errno != ENOENT || !may_make || !make_key(path) || !read_key(path, key)))) {
        snprintf(error, SG_DEVICE_ERROR_MAX, "the invite counts devices, and this one's key cannot be kept in %s: %s",
                 path[0] ? path : "the home directory", errno == EINVAL ? "it has not 32 bytes" : strerror(errno));
        return false;
    }
    crypto_generichash(bytes, sizeof bytes, (const uint8_t *)invite->password, len, key, sizeof key);
    sodium_bin2base64(name, sizeof name, bytes, sizeof bytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    snprintf(invite->password + len, sizeof invite->password - len, ".%s", name);
    sodium_memzero(key, sizeof key);
    sodium_memzero(bytes, sizeof bytes);
    sodium_memzero(name, sizeof name);
    return true;
}
