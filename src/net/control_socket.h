/*
 * The control socket of a running program: a UNIX socket for its owner and root, which answers one line of request with
 * one text, then ends. `sealgram status`, `reload` and `kick` speak to it.
 */
#ifndef SG_NET_CONTROL_SOCKET_H
#define SG_NET_CONTROL_SOCKET_H

struct event_base;
struct sg_control_socket;

enum { SG_CONTROL_REQUEST_MAX = 128 }; /* with its line feed */

/* The answer to a request (without its line feed), which the caller frees; NULL when memory is short. On the loop. */
typedef char *sg_control_fn(void *ctx, const char *request);

/*
 * Listens at path, mode 0600. A socket that a dead process left there is replaced. NULL with errno: EADDRINUSE when
 * somebody else answers there or the path is not a socket, ENAMETOOLONG when it does not fit a socket address.
 */
struct sg_control_socket *sg_control_socket_new(struct event_base *base, const char *path, sg_control_fn *fn,
                                                void *ctx);

/* Removes the path too. NULL is accepted. */
void sg_control_socket_free(struct sg_control_socket *control);

#endif
