/* Files that are replaced whole: a reader sees the old contents or the new ones, never half of either. */
#ifndef SG_NET_FILE_H
#define SG_NET_FILE_H

#include <stdbool.h>
#include <stdio.h>

#include "core/err.h"

/* Writes the contents; false with errno when that fails. */
typedef bool sg_file_write_fn(FILE *file, void *ctx);

/*
 * Writes a new file beside path (mode 0600), syncs it and renames it over path, which need not exist. Where path
 * exists, the new file belongs to the same owner, so that root may edit the files of a server that is not root.
 * SYSTEM with errno set; path is then unchanged and nothing else is left behind.
 */
SG_MUST_CHECK enum sg_err sg_file_replace(const char *path, sg_file_write_fn *write, void *ctx);

/* Makes the names in the directory of path durable. Best effort: some file systems cannot. */
void sg_file_sync_dir(const char *path);

#endif
