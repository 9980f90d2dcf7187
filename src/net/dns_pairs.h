/*
 * The two questions for a name, for A and for AAAA records. c-ares answers when it knows both, and some networks drop
 * all questions of one kind: each look-up would wait for every try of the one that nobody answers. So what a channel
 * sends and receives passes here: a question whose twin was answered with addresses is given up a second later, or
 * 50 ms where that kind was never answered of late. c-ares then gets the answer that there is no such address.
 */
#ifndef SG_NET_DNS_PAIRS_H
#define SG_NET_DNS_PAIRS_H

#include <ares.h>

struct event_base;
struct sg_dns_pairs;

/* Some questions are given up: sg_dns_pairs_next gives their sockets. It may free the pairs at its end. */
typedef void sg_dns_pairs_fn(void *ctx);

/* NULL: memory is short. Free comes after the channel is destroyed; it accepts NULL. */
struct sg_dns_pairs *sg_dns_pairs_new(struct event_base *base, sg_dns_pairs_fn *fn, void *ctx);
void sg_dns_pairs_free(struct sg_dns_pairs *pairs);

/* For ares_set_socket_functions; the user data are the pairs. */
extern const struct ares_socket_functions sg_dns_pairs_functions;

/* The next socket that c-ares is to read from now; ARES_SOCKET_BAD: there is no more. */
ares_socket_t sg_dns_pairs_next(struct sg_dns_pairs *pairs);

#endif
