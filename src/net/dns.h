/*
 * Names to addresses by c-ares, on one event loop: /etc/hosts and the name servers of /etc/resolv.conf as these files
 * are now, not as they were at the start. Used by one thread at a time.
 */
#ifndef SG_NET_DNS_H
#define SG_NET_DNS_H

#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"

struct event_base;
struct sg_dns;

enum { SG_DNS_MAX_IPS = 16 };

/*
 * Called once; it may call nothing of this. ips is sorted by RFC 6724 and lives for the call; NOT_FOUND: there are
 * none.
 */
typedef void sg_dns_fn(void *ctx, enum sg_err err, const struct sg_ip *ips, size_t count);

/* NULL: memory is short, or the files cannot be read. Free calls back for all that is asked. Free accepts NULL. */
struct sg_dns *sg_dns_new(struct event_base *base);
void sg_dns_free(struct sg_dns *dns);

/*
 * Looks whether the files are others by now; questions that are asked from now on go by them, those under way go on as
 * they began. Another number than before: answers to questions from before may differ from those of now.
 */
uint64_t sg_dns_refresh(struct sg_dns *dns);

/* Asks for the addresses (A and AAAA) of a name. May call back before it returns. */
void sg_dns_ask(struct sg_dns *dns, const char *name, sg_dns_fn *fn, void *ctx);

#endif
