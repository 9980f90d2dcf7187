/* The status of a running program: one JSON document for each connection to a UNIX socket. */
#ifndef SG_NET_STATUS_SOCKET_H
#define SG_NET_STATUS_SOCKET_H

struct event_base;
struct json_t;
struct sg_status_socket;

/* Makes the document; the caller releases it. NULL when memory is short. Called on the event loop.
 */
typedef struct json_t *sg_status_fn(void *ctx);

/*
 * Listens at path, mode 0600: what connects gets one document and a line feed, then the end. A
 * socket that a dead process left there is replaced. NULL with errno: EADDRINUSE when somebody else
 * answers there or the path is not a socket, ENAMETOOLONG when it does not fit a socket address.
 */
struct sg_status_socket *sg_status_socket_new(struct event_base *base, const char *path, sg_status_fn *fn, void *ctx);

/* Removes the path too. NULL is accepted. */
void sg_status_socket_free(struct sg_status_socket *status);

#endif
