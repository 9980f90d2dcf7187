/* The end of a connection in good order. */
#ifndef SG_NET_FINISH_H
#define SG_NET_FINISH_H

#include "core/reason.h"

struct bufferevent;
struct sg_finishing;

/*
 * Takes the bufferevent over: writes what its output holds, then close_notify where it is TLS, then closes. After 2 s
 * without an end it is closed anyway. Input is thrown away. Its event base must still run for that; sg_finish_now
 * does it at once.
 */
void sg_finish(struct bufferevent *bev);

/*
 * As sg_finish, for who counts it until it is gone: fn is called once, later, unless sg_finish_cancel comes first (it
 * is closed at once then). NULL: it is gone already, and fn is not called.
 */
typedef void sg_finish_fn(void *ctx);
struct sg_finishing *sg_finish_then(struct bufferevent *bev, sg_finish_fn *fn, void *ctx);
void sg_finish_cancel(struct sg_finishing *finishing);

/* Closes at once whatever still finishes (fn is called): at the end of a process, before the event bases are freed. */
void sg_finish_rest(void);

/* The same without waiting: what the kernel takes now is sent. For the end of a process. */
void sg_finish_now(struct bufferevent *bev);

/*
 * As the reason wants it: NONE is a connection that is lost, which is just freed; SHUTDOWN the end of a process; all
 * others finish in good order. Accepts NULL.
 */
void sg_finish_for(struct bufferevent *bev, enum sg_reason reason);

#endif
