/* The part of SOCKS5 that a load generator needs: no authentication, CONNECT and UDP ASSOCIATE, IPv4. */
#ifndef BENCH_SOCKS_H
#define BENCH_SOCKS_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_SOCKS_HEADER = 10, BENCH_SOCKS_HEADER_MAX = 262 };

/* Asks the proxy for an association; the TCP connection, which holds it open, and in *relay where datagrams go.
 * local is where they will come from. Ends the program when the proxy refuses. */
int bench_socks_associate(const struct sockaddr_in *proxy, const struct sockaddr_in *local, struct sockaddr_in *relay);

/* Connects to target through the proxy; ends the program when that fails. */
int bench_socks_connect(const struct sockaddr_in *proxy, const struct sockaddr_in *target);

/* The header that precedes each datagram to target. */
void bench_socks_header(uint8_t out[static BENCH_SOCKS_HEADER], const struct sockaddr_in *target);

/* Length of the header of a received datagram; 0 if it has none. */
size_t bench_socks_header_len(const uint8_t *bytes, size_t len);

#endif
