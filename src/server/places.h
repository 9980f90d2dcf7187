/* Whether a server could have the addresses, ports and sockets that a configuration names, without taking them. */
#ifndef SG_SERVER_PLACES_H
#define SG_SERVER_PLACES_H

#include <stdbool.h>

struct sg_config;

/*
 * Whether associations could have a port: those below where privilege begins are out of reach for a server that gave
 * its privileges up. False after logging why.
 */
bool sg_places_check_udp_ports(const struct sg_config *config);

/*
 * Whether the addresses of listen and metrics could be bound by this process. One that is in use may be so by the very
 * server whose configuration this is, and one that needs a privilege may be passed by a service manager: that is told,
 * and no fault. False after logging the first fault.
 */
bool sg_places_check_addresses(const struct sg_config *config);

/* Whether the control socket could be made where status_socket says, by the user that this process is. */
bool sg_places_check_control(const struct sg_config *config);

#endif
