/* Datagrams that are too long for a record: they travel inside TLS, slower and in order, and their user should know. */
#ifndef SG_CLIENT_OVERSIZE_H
#define SG_CLIENT_OVERSIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sg_uplink;

enum sg_oversize {
    SG_OVERSIZE_UP,      /* from an application, by the stream */
    SG_OVERSIZE_DROPPED, /* from an application that has forbidden the stream (udp-only) */
    SG_OVERSIZE_DOWN,    /* to an application, by the stream */
};

/*
 * Counts a datagram, as its plaintext, if it is longer than a record may be on a UDP path that works, and logs it: once
 * for each flow, each way and each class of sizes. Plaintexts that are no datagrams are left alone.
 */
void sg_oversize_note(struct sg_uplink *uplink, enum sg_oversize what, const uint8_t *plaintext, size_t len);

#endif
