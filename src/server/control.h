/*
 * What may be asked of a running server over its control socket: `status`, `reload`, `users` (to look now whether the
 * user file has changed), `kick USER`, `drain SECONDS`.
 */
#ifndef SG_SERVER_CONTROL_H
#define SG_SERVER_CONTROL_H

#include <stdbool.h>

struct event_base;
struct sg_control_socket;
struct sg_server;

/*
 * Listens where the configuration says, else in the run directory. *out is NULL and false returned after logging why;
 * where there is no run directory *out is NULL, too, after a warning: the server goes on without.
 */
bool sg_control_open(struct event_base *base, struct sg_server *server, struct sg_control_socket **out);

#endif
