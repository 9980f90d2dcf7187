/* Going out of service: no session begins any more, clients are told, and the server ends when all have left. */
#ifndef SG_SERVER_DRAIN_H
#define SG_SERVER_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

struct sg_server;

enum { SG_DRAIN_SECONDS_MAX = 86400 };

/* Starts, or sets another end. On the loop of worker 0. Returns how many sessions there are. */
unsigned sg_drain_start(struct sg_server *server, uint32_t seconds);

/* True once nothing is left to wait for, or its time is over: the server may end. */
bool sg_drain_is_over(const struct sg_server *server);

#endif
