/*
 * What a log line may hold: text that no terminal and no reader of logs takes for more than text, and addresses as the
 * operator wants them shown.
 */
#ifndef SG_NET_LOG_TEXT_H
#define SG_NET_LOG_TEXT_H

#include <stddef.h>

#include "core/addr.h"

/*
 * Copies len bytes as printable UTF-8, terminated, and returns how many bytes that took. Control characters (C0, DEL,
 * C1), line and paragraph separators, the characters that turn the direction of writing, and bytes that are no UTF-8
 * become \xHH each; a backslash becomes two, so that nobody can write such an escape. What does not fit in size
 * (at least 1) is cut off, never within a character or an escape.
 */
size_t sg_log_escape(char *out, size_t size, const char *in, size_t len);

/* The network of an address that a masked log shows: an IPv4 address without its last octet, an IPv6 address to /48. */
struct sg_ip sg_log_mask_ip(const struct sg_ip *ip);

/*
 * A client's or target's address as the log may show it: in full or masked, as sg_log_set_addresses said. The port
 * stays; of a name nothing but its port.
 */
void sg_log_endpoint(const struct sg_endpoint *ep, char out[static SG_ENDPOINT_TEXT_MAX]);
void sg_log_target(const struct sg_target *target, char out[static SG_TARGET_TEXT_MAX]);

#endif
