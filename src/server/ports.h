/*
 * The local UDP ports of associations: out of which range they are taken, and which of them outbound sockets have at
 * this moment. All workers share it; nothing here waits.
 */
#ifndef SG_SERVER_PORTS_H
#define SG_SERVER_PORTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

/* All 0: the kernel chooses ports. */
struct sg_ports {
    uint16_t first, last;            /* the range, both included; 0: none */
    _Atomic uint64_t taken[2][1024]; /* a bit for each port, of IPv4 and IPv6 */
};

/*
 * A socket as sg_udp_open makes it, at that address and a port of the range: one drawn at random, or the next that is
 * free. -1 with errno: there is none (EADDRINUSE, also after 64 that other programs have), or sockets are short.
 */
int sg_ports_open(const struct sg_ports *ports, const struct sg_ip *ip, unsigned flags);

/* An outbound socket has this port (of family 4 or 6), at every address of this host; and has it no more. */
void sg_ports_take(struct sg_ports *ports, uint8_t family, uint16_t port);
void sg_ports_give(struct sg_ports *ports, uint8_t family, uint16_t port);
bool sg_ports_is_taken(const struct sg_ports *ports, uint8_t family, uint16_t port);

#endif
