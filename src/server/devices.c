/*
 * An array of devices under two locks: one is held by the writer while it waits for the disk, the other by whoever
 * looks, and by the writer for the moment of a change.
 */
#include "server/devices.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/file.h"
#include "server/user_line.h"

struct device {
    char user[SG_USER_NAME_MAX + 1];
    char token[65], device[65];
    char joined[SG_USER_DATE_MAX];
};

struct list {
    struct device *items;
    size_t count;
};

struct sg_devices {
    char *path;
    pthread_mutex_t writing, lock;
    struct list list;
};

static const char file_head[] =
    "# Devices that joined by invites with --uses, kept by the server. A line: NAME TOKEN DEVICE JOINED.\n";

static bool add(struct list *list, const struct device *device)
{
    struct device *grown = realloc(list->items, (list->count + 1) * sizeof *grown);
    if (!grown)
        return false;
    list->items = grown;
    list->items[list->count++] = *device;
    return true;
}

static bool is_hash(const char *text)
{
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static bool parse(char *line, struct device *out)
{
    char *rest = NULL, *fields[4] = {NULL};
    unsigned count = 0;
    for (char *field = strtok_r(line, " \n", &rest); field; field = strtok_r(NULL, " \n", &rest)) {
        if (count == 4)
            return false;
        fields[count++] = field;
    }
    if (count != 4 || !sg_user_name_is_valid(fields[0]) || !is_hash(fields[1]) || !is_hash(fields[2]) ||
        strlen(fields[3]) >= sizeof out->joined)
        return false;
    snprintf(out->user, sizeof out->user, "%s", fields[0]);
    snprintf(out->token, sizeof out->token, "%s", fields[1]);
    snprintf(out->device, sizeof out->device, "%s", fields[2]);
    snprintf(out->joined, sizeof out->joined, "%s", fields[3]);
    return true;
}

static enum sg_err read_lines(struct sg_devices *devices, FILE *file, char *error)
{
    char *line = NULL;
    size_t size = 0, number = 0;
    ssize_t len = 0;
    enum sg_err err = SG_OK;
    while (err == SG_OK && (len = getline(&line, &size, file)) >= 0) {
        struct device device;
        number++;
        if (line[0] == '#')
            continue;
        if (strlen(line) != (size_t)len || !parse(line, &device))
            err = SG_ERR_MALFORMED;
        else if (!add(&devices->list, &device))
            err = SG_ERR_NOMEM;
    }
    free(line);
    if (err != SG_OK)
        snprintf(error, SG_DEVICES_ERROR_MAX, "%.400s:%zu: %s", devices->path, number,
                 err == SG_ERR_NOMEM ? "out of memory" : "four fields are needed: NAME TOKEN DEVICE JOINED");
    return err;
}

enum sg_err sg_devices_load(const char *path, struct sg_devices **out, char error[static SG_DEVICES_ERROR_MAX])
{
    struct sg_devices *devices = calloc(1, sizeof *devices);
    enum sg_err err = SG_ERR_NOMEM;
    *out = NULL;
    snprintf(error, SG_DEVICES_ERROR_MAX, "out of memory");
    if (devices) {
        pthread_mutex_init(&devices->writing, NULL);
        pthread_mutex_init(&devices->lock, NULL);
        devices->path = strdup(path);
    }
    if (devices && devices->path) {
        FILE *file = fopen(path, "re");
        err = file ? read_lines(devices, file, error) : errno == ENOENT ? SG_OK : SG_ERR_SYSTEM;
        if (err == SG_ERR_SYSTEM)
            snprintf(error, SG_DEVICES_ERROR_MAX, "%.400s: %s", path, strerror(errno));
        if (file)
            fclose(file);
    }
    if (err == SG_OK)
        *out = devices;
    else
        sg_devices_free(devices);
    return err;
}

void sg_devices_free(struct sg_devices *devices)
{
    if (!devices)
        return;
    pthread_mutex_destroy(&devices->writing);
    pthread_mutex_destroy(&devices->lock);
    free(devices->list.items);
    free(devices->path);
    free(devices);
}

/* The lock, or the writer's, is held in both. */

static bool find(const struct list *list, const struct sg_device_claim *claim)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].token, claim->token) == 0 && strcmp(list->items[i].device, claim->device) == 0)
            return true;
    return false;
}

static size_t count_of(const struct list *list, const char *token)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        count += strcmp(list->items[i].token, token) == 0;
    return count;
}

bool sg_devices_has(struct sg_devices *devices, const struct sg_device_claim *claim)
{
    pthread_mutex_lock(&devices->lock);
    bool has = find(&devices->list, claim);
    pthread_mutex_unlock(&devices->lock);
    return has;
}

size_t sg_devices_count(struct sg_devices *devices, const char *token)
{
    pthread_mutex_lock(&devices->lock);
    size_t count = count_of(&devices->list, token);
    pthread_mutex_unlock(&devices->lock);
    return count;
}

static bool write_list(FILE *file, void *ctx)
{
    const struct list *list = ctx;
    bool good = fputs(file_head, file) >= 0;
    for (size_t i = 0; good && i < list->count; i++) {
        const struct device *d = &list->items[i];
        good = fprintf(file, "%s %s %s %s\n", d->user, d->token, d->device, d->joined) > 0;
    }
    return good;
}

/* The list as it will be: without what no token is left for, and with the new one. */
static bool make_next(const struct list *list, const struct device *fresh, const struct sg_users *users,
                      struct list *next)
{
    bool good = true;
    for (size_t i = 0; good && i < list->count; i++)
        if (sg_users_has_token(users, list->items[i].user, list->items[i].token))
            good = add(next, &list->items[i]);
    return good && add(next, fresh);
}

/* The writer's lock is held: nobody else changes the list. */
static enum sg_err join(struct sg_devices *devices, const char *user, const struct sg_device_claim *claim,
                        const struct sg_users *users)
{
    struct device fresh = {.user = ""};
    struct list next = {0};
    if (find(&devices->list, claim))
        return SG_OK;
    if (count_of(&devices->list, claim->token) >= claim->uses)
        return SG_ERR_FULL;
    snprintf(fresh.user, sizeof fresh.user, "%s", user);
    memcpy(fresh.token, claim->token, sizeof fresh.token);
    memcpy(fresh.device, claim->device, sizeof fresh.device);
    sg_user_date_write(time(NULL), fresh.joined);
    bool good = make_next(&devices->list, &fresh, users, &next);
    if (!good)
        errno = ENOMEM;
    if (!good || sg_file_replace(devices->path, write_list, &next) != SG_OK) {
        int error = errno;
        free(next.items);
        errno = error;
        return SG_ERR_SYSTEM;
    }
    pthread_mutex_lock(&devices->lock);
    struct device *before = devices->list.items;
    devices->list = next;
    pthread_mutex_unlock(&devices->lock);
    free(before);
    return SG_OK;
}

enum sg_err sg_devices_join(struct sg_devices *devices, const char *user, const struct sg_device_claim *claim,
                            const struct sg_users *users)
{
    pthread_mutex_lock(&devices->writing);
    enum sg_err err = join(devices, user, claim, users);
    pthread_mutex_unlock(&devices->writing);
    return err;
}
