/* How many files this process may have open (RLIMIT_NOFILE). */
#ifndef SG_NET_OPEN_FILES_H
#define SG_NET_OPEN_FILES_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Raises the limit to what the system allows, and puts it into *limit. False where that is not enough for a server or
 * client with so many workers to start and serve anybody: the reason and the next step have been logged. Libraries
 * that find no file left end the process, or call it another fault.
 */
bool sg_open_files_raise(unsigned workers, size_t *limit);

#endif
