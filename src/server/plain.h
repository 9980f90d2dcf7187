/*
 * Plain RFC 1928 UDP associations, where policy allows them (docs/protocol.md section 10): for clients that know
 * nothing of sealed records. sg_plain_assoc_start (channel_conn.h) makes one.
 */
#ifndef SG_SERVER_PLAIN_H
#define SG_SERVER_PLAIN_H

#include <stdint.h>

struct sg_datapath;
struct sg_port;
struct sg_udp_packet;

/* A plain datagram arrived on a shared port: to its association, or dropped. */
void sg_plain_receive(struct sg_port *port, struct sg_udp_packet *packet, uint64_t now_ms);

unsigned sg_plain_count(const struct sg_datapath *datapath);
void sg_plain_users_changed(struct sg_datapath *datapath);
/* Ends those of one user: how many there were. */
unsigned sg_plain_kick(struct sg_datapath *datapath, const char *user);
void sg_plain_free_all(struct sg_datapath *datapath);

#endif
