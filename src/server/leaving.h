/* Connections that end, and still count: their slot is held until the socket is closed. */
#ifndef SG_SERVER_LEAVING_H
#define SG_SERVER_LEAVING_H

#include "core/reason.h"
#include "server/usage.h"

struct bufferevent;

/*
 * Ends a connection: flushed first, unless reason is NONE (it is broken), and SHUTDOWN with what the kernel takes now.
 * bev may be NULL: it is closed already. The slot is given back and usage released when the socket is closed, and not
 * before.
 */
void sg_leave(struct bufferevent *bev, struct sg_usage *usage, enum sg_usage_kind slot, enum sg_reason reason);

#endif
