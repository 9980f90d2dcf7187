/*
 * A TCP connection from accept to its request: first byte, TLS, in-band upgrade, SOCKS5 authentication. Then it is
 * handed to CONNECT, BIND, the channel or a plain association, and this struct is gone. docs/protocol.md sections 2
 * to 4.
 */
#ifndef SG_SERVER_CONN_H
#define SG_SERVER_CONN_H

struct sg_worker;

/* A connection was accepted: takes fd over, within the caps. */
void sg_conn_accept(struct sg_worker *worker, int fd);
void sg_conns_free_all(struct sg_worker *worker);

#endif
