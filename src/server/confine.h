/* What a server gives up once it has opened its ports (net/sandbox.h). */
#ifndef SG_SERVER_CONFINE_H
#define SG_SERVER_CONFINE_H

#include <stdbool.h>

struct sg_config;

/* Becomes the user of the configuration, if it names one. False after logging why. */
bool sg_confine_become(const struct sg_config *config);

/*
 * Drops all capabilities. Whoever the process is then must be able to read again what a reload reads. False after
 * logging why.
 */
bool sg_confine_drop(const struct sg_config *config);

/*
 * Finds what sg_confine_drop would find, and leaves nothing behind; but the process has no capability afterwards, and
 * is the user to become, if there is one. If there is none, files of another user are a warning: that user may be the
 * one who will start the server. False after logging why.
 */
bool sg_confine_check(const struct sg_config *config);

/* Closes the file system but for what a reload reads, before threads are started. False after logging why. */
bool sg_confine_files(const struct sg_config *config);

/* Filters system calls, once all threads are started. False after logging why. */
bool sg_confine_calls(const struct sg_config *config);

#endif
