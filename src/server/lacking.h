/*
 * What this kernel lacks of what the server uses, found out before anything is opened. A server goes on without what it
 * can do without, and says so in one line of the log each.
 */
#ifndef SG_SERVER_LACKING_H
#define SG_SERVER_LACKING_H

#include <stdbool.h>

#include "core/err.h"

struct sg_server;

/*
 * Fills server->listen from the configuration: all addresses but the wildcard of a family that the kernel does not have
 * (ipv6.disable=1). A single address of such a family stays, for who opens it to fail. False after logging when no
 * address is left.
 */
SG_MUST_CHECK bool sg_lacking_choose_listen(struct sg_server *server);

/*
 * Whether so many workers can share the addresses to listen on. Several need a kernel that gives each the datagrams of
 * its sessions; where it cannot, says in the log that there is one worker instead, or (were_passed) that sockets were
 * passed in vain.
 */
SG_MUST_CHECK bool sg_lacking_can_share(const struct sg_server *server, unsigned workers, bool were_passed);

/* Logs, where it is so, that this machine's addresses are not known to the server (netlink). */
void sg_lacking_tell_netlink(void);

#endif
