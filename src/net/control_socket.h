/*
 * The control socket of a running program: a UNIX socket for its owner and root, which answers one line of request with
 * one text, then ends. `sealgram status`, `reload` and `kick` speak to it.
 */
#ifndef SG_NET_CONTROL_SOCKET_H
#define SG_NET_CONTROL_SOCKET_H

struct event_base;
struct sg_control_asker;
struct sg_control_socket;

enum { SG_CONTROL_REQUEST_MAX = 128 }; /* with its line feed */

/*
 * A request, without its line feed; on the loop. It is answered by sg_control_answer, at once or later; until then the
 * asker waits. sg_control_socket_free ends who still waits: nobody may answer them any more.
 */
typedef void sg_control_fn(void *ctx, const char *request, struct sg_control_asker *asker);

/* Takes the text over. NULL, as when memory is short, ends the connection without one. */
void sg_control_answer(struct sg_control_asker *asker, char *text);

/*
 * Listens at path, mode 0600. A socket that a dead process left there is replaced. NULL with errno: EADDRINUSE when
 * somebody else answers there or the path is not a socket, ENAMETOOLONG when it does not fit a socket address.
 */
struct sg_control_socket *sg_control_socket_new(struct event_base *base, const char *path, sg_control_fn *fn,
                                                void *ctx);

/* Removes the path too. NULL is accepted. */
void sg_control_socket_free(struct sg_control_socket *control);

#endif
