/* The end of a connection in good order. */
#ifndef SG_NET_FINISH_H
#define SG_NET_FINISH_H

struct bufferevent;

/*
 * Takes the bufferevent over: writes what its output holds, then close_notify where it is TLS, then closes. After 2 s
 * without an end it is closed anyway. Input is thrown away. Its event base must still run for that; sg_finish_now
 * does it at once.
 */
void sg_finish(struct bufferevent *bev);

/* The same without waiting: what the kernel takes now is sent. For the end of a process. */
void sg_finish_now(struct bufferevent *bev);

#endif
