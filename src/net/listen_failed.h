/* The one log line about an address that cannot be listened on: which, why, and what to do about it. */
#ifndef SG_NET_LISTEN_FAILED_H
#define SG_NET_LISTEN_FAILED_H

#include "core/addr.h"

/*
 * Logs that a socket of kind ("TCP" or "UDP") cannot listen on an address that setting (an option, or a key of
 * server.yaml) names, with the reason error, an errno, and the next step. Always returns false, for `return
 * sg_listen_failed(...)`.
 */
bool sg_listen_failed(const char *kind, const struct sg_endpoint *at, const char *setting, int error);

/* The same for a socket in the file system. */
bool sg_listen_failed_path(const char *path, const char *setting, int error);

#endif
