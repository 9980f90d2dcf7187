/*
 * Look-ups for datagrams whose target is a name: a bounded number of them, with a bounded number of datagrams
 * waiting.
 */
#ifndef SG_SERVER_NAMES_H
#define SG_SERVER_NAMES_H

#include "core/addr.h"

struct sg_server_session;

/* Keeps the datagram and looks its name up, or joins a look-up under way. Counts it as queued, or as dropped. */
void sg_names_wait(struct sg_server_session *session, uint32_t number, const struct sg_target *target,
                   const uint8_t *data, size_t len);

/* Cancels all look-ups of a session; what waited counts as dropped. */
void sg_names_cancel(struct sg_server_session *session);

#endif
