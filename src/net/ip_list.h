/* Addresses one after the other, as invites, options and files have them: "192.0.2.1,2001:db8::1". */
#ifndef SG_NET_IP_LIST_H
#define SG_NET_IP_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"

enum { SG_IP_LIST_MAX = 8, SG_IP_LIST_TEXT_MAX = SG_IP_LIST_MAX * SG_IP_TEXT_MAX };

struct sg_ip_list {
    size_t count;
    struct sg_ip ips[SG_IP_LIST_MAX];
};

/* Parses 1 to 8 addresses with a comma between; IPv6 with or without []. False, and out is empty, if it is not that. */
bool sg_ip_list_parse(const char *text, size_t len, struct sg_ip_list *out);
void sg_ip_list_format(const struct sg_ip_list *list, char out[static SG_IP_LIST_TEXT_MAX]);

/* Adds an address, unless it is there or there is no room. */
void sg_ip_list_add(struct sg_ip_list *list, const struct sg_ip *ip);
bool sg_ip_list_equal(const struct sg_ip_list *a, const struct sg_ip_list *b);

#endif
