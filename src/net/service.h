/*
 * What a service manager and a service say to each other (sd_notify(3), sd_listen_fds(3), systemd.exec(5)): ready,
 * reloading, stopping, alive; sockets that were opened before; credentials. Without a service manager nothing is said.
 */
#ifndef SG_NET_SERVICE_H
#define SG_NET_SERVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"

struct event_base;
struct sg_inbox;
struct sg_watchdog;

/* Connects to who wants to be told, before files are closed and threads started. Once in a process. */
void sg_service_start(void);
void sg_service_end(void);

/* Says lines, KEY=VALUE each. On any thread. */
void sg_service_say(const char *lines);

/* `RELOADING=1` with the time of now; READY=1 ends it. */
void sg_service_say_reloading(void);

/* --- sockets that were passed --- */

enum sg_service_kind { SG_SERVICE_STREAM, SG_SERVICE_DATAGRAM };

/* Whether this program wants a socket of this kind at this address. */
typedef bool sg_service_wants_fn(const void *ctx, enum sg_service_kind kind, const struct sg_endpoint *at);
/*
 * Looks at all sockets that were passed. NULL if each is wanted, and those of one kind at one address are as many as
 * those of another: *count of them, 0 if none was passed. Otherwise what is wrong, for a log line; where says in what
 * setting a wanted address stands.
 */
const char *sg_service_check_sockets(sg_service_wants_fn *wants, const void *ctx, const char *where, unsigned *count,
                                     char text[static 160]);
/* Number index of those at the address, the caller's from now on; -1: there is none, or it was taken. */
int sg_service_take(enum sg_service_kind kind, const struct sg_endpoint *at, unsigned index);

/* --- the watchdog --- */

/*
 * Tells the service manager in time that all loops of these inboxes still run, and says nothing as long as one does
 * not. *out is NULL if nobody wants to be told. False: memory is short.
 */
bool sg_watchdog_new(struct event_base *base, struct sg_inbox *const *inboxes, unsigned count,
                     struct sg_watchdog **out);
/*
 * At the end: first, before inboxes are freed, it asks nobody any more; when they were worked off, it is freed. Both
 * accept NULL.
 */
void sg_watchdog_stop(struct sg_watchdog *watchdog);
void sg_watchdog_free(struct sg_watchdog *watchdog);

#endif
