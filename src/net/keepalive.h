/* Connections whose other machine has vanished: the kernel asks after it. */
#ifndef SG_NET_KEEPALIVE_H
#define SG_NET_KEEPALIVE_H

/*
 * TCP keepalive on a socket, or on a listening one for all that it accepts: after 75 s without a sign of the other
 * machine it is asked, five times in 75 s; then the connection fails with ETIMEDOUT. That holds for a connection on
 * which nothing waits to be acknowledged. TCP_USER_TIMEOUT would bound the others too, but it also ends one whose
 * reader pauses; net/relay.c looks after these.
 */
void sg_keepalive_set(int fd);

/*
 * What has become of the other end of a connection that is not read for a while, whatever it has sent before:
 * EV_CLOSED of libevent 2.1.12 does not tell of a reset, and spins.
 */
enum sg_peer_state { SG_PEER_HERE, SG_PEER_ENDED, SG_PEER_GONE }; /* sends no more; the connection is no more */
enum sg_peer_state sg_peer_state(int fd);

#endif
