/*
 * The outbound side of one association: a socket per address family in use, the addresses that it has sent to, and
 * the names that it resolved. Sealed and plain associations both have one; what comes back goes to their owner.
 */
#ifndef SG_SERVER_OUTBOUND_H
#define SG_SERVER_OUTBOUND_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "core/addr.h"
#include "core/contacts.h"
#include "core/reason.h"
#include "server/permit.h"

struct sg_datapath;
struct sg_outbound;
struct sg_udp_packet;

struct sg_outbound_owner {
    /* A batch came from targets; packets whose len is 0 with bytes NULL were dropped. Work it off before returning. */
    void (*on_packets)(struct sg_outbound *outbound, struct sg_udp_packet *packets, unsigned count);
    /* An ICMP error concerns a target. */
    void (*on_error)(struct sg_outbound *outbound, const struct sg_endpoint *target, enum sg_reason reason);
};

struct sg_outbound_leg {
    int fd; /* -1: not in use */
    uint16_t port;
    uint32_t lost; /* by the kernel */
    struct event readable;
};

/*
 * A name keeps its first permitted address for as long as that answers. It is in doubt after an ICMP error, and when
 * datagrams went there for a while and nothing came back: then the name is looked up again.
 */
struct sg_outbound_name {
    struct sg_outbound_name *next;
    struct sg_ip ip;
    struct sg_permit_answer answer;
    uint64_t looked_up_ms;
    uint64_t unanswered_ms; /* when the first datagram went there that nothing came after; 0: none did */
    bool has_failed;        /* an ICMP error says so */
    bool is_paid;           /* out of its user's memory, as all but the first are */
    uint8_t len;
    char name[];
};

struct sg_outbound {
    struct sg_datapath *datapath;
    const struct sg_outbound_owner *owner;
    struct sg_permits *permits;     /* of the user */
    struct sg_outbound_leg legs[2]; /* IPv4, IPv6 */
    unsigned wakes;                 /* since errors were looked for */
    struct sg_contacts contacts;
    struct sg_outbound_name *names;
};

/* permits is the user's, and lives longer. */
void sg_outbound_init(struct sg_outbound *outbound, struct sg_datapath *datapath, struct sg_permits *permits,
                      const struct sg_outbound_owner *owner);
void sg_outbound_dispose(struct sg_outbound *outbound);

/*
 * Sends one datagram to a numeric target that policy has passed, opening the socket for its family if needed, through
 * the datapath's batch (flushed by the caller). Counts in the up ledger. NONE, or why it could not even be tried (not
 * counted).
 */
enum sg_reason sg_outbound_send(struct sg_outbound *outbound, const struct sg_endpoint *target, uint8_t *data,
                                size_t len);

/* What a name is in this association, or NULL; and to remember one that was just looked up. */
struct sg_outbound_name *sg_outbound_name_find(const struct sg_outbound *outbound, const uint8_t *name, size_t len);
void sg_outbound_name_add(struct sg_outbound *outbound, const uint8_t *name, size_t len, const struct sg_ip *ip,
                          const struct sg_permit_answer *answer);

/* A datagram goes to it. True: look it up again, as its address is in doubt; at most every 10 s. */
bool sg_outbound_name_use(struct sg_outbound_name *name, uint64_t now_ms);
/*
 * It was looked up again, for a port: of the addresses that policy passes the one after that in doubt is used from now
 * on, which is the same one if there is no other. count 0: nobody knows, and all stays.
 */
void sg_outbound_name_renew(struct sg_outbound *outbound, const struct sg_target *name, const struct sg_ip *ips,
                            size_t count, uint64_t now_ms);

#endif
