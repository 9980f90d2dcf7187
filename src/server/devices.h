/*
 * Devices that have joined by a token that counts them: a file beside the user file, one device a line, `NAME TOKEN
 * DEVICE JOINED`. It is read when the server starts and replaced whole when a device joins. All functions may be called
 * from any thread; only sg_devices_join waits, for the disk.
 */
#ifndef SG_SERVER_DEVICES_H
#define SG_SERVER_DEVICES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "server/users.h"

enum { SG_DEVICES_ERROR_MAX = 512 };

struct sg_devices;

/* A file that is not there holds no device. error has FILE:LINE and the reason. */
SG_MUST_CHECK enum sg_err sg_devices_load(const char *path, struct sg_devices **out,
                                          char error[static SG_DEVICES_ERROR_MAX]);
void sg_devices_free(struct sg_devices *devices); /* accepts NULL */

/* True if this device has joined by this token. */
bool sg_devices_has(struct sg_devices *devices, const struct sg_device_claim *claim);
/* How many have joined by a token (its SHA-256 in hexadecimal). */
size_t sg_devices_count(struct sg_devices *devices, const char *token);

/*
 * The device joins, and the file says so before this returns; devices of tokens that users does not have any more are
 * forgotten. OK also if it has joined before. FULL: as many as may have; SYSTEM, with errno: the file cannot be
 * written, and the device has not joined.
 */
SG_MUST_CHECK enum sg_err sg_devices_join(struct sg_devices *devices, const char *user,
                                          const struct sg_device_claim *claim, const struct sg_users *users);

#endif
