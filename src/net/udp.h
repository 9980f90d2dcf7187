/*
 * Batched UDP. One receive call brings many datagrams, those of one sender in one piece where the kernel put them
 * together (GRO); one send call takes many, runs of equal length as super-packets that the kernel or the device cuts
 * (GSO).
 */
#ifndef SG_NET_UDP_H
#define SG_NET_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/reason.h"
#include "net/share.h"

/* For arrays of the data path that are written before they are read: clearing them first, as the compiler does
 * otherwise (-ftrivial-auto-var-init), costs as much as a datagram. */
#define SG_UNCLEARED __attribute__((uninitialized))

/* For what is called once in many datagrams by a function that each of them calls: what it needs of registers and stack
 * is not paid for by all. */
#define SG_RARE __attribute__((noinline))

enum {
    SG_UDP_MESSAGES = 32, /* that one receive call brings; each may hold several datagrams of one sender */
    SG_UDP_BATCH = 64,    /* datagrams worked on at a time, and segments of one send */
    SG_UDP_WAITING = 256, /* datagrams collected before they are sent */
    SG_UDP_PAYLOAD_MAX = 65507,
    SG_UDP_CONTROL_BYTES = 128,
};

/* Where a datagram came from, and how. */
struct sg_udp_from {
    struct sg_endpoint peer;
    struct sg_ip local; /* where it arrived, family 0 unless the socket tells (SG_UDP_PKTINFO) */
    uint8_t dscp;       /* 0 unless the socket tells (SG_UDP_DSCP) */
};

struct sg_udp_packet {
    uint8_t *bytes; /* writable; what lies right before and after belongs to others */
    size_t len;
    const struct sg_udp_from *from; /* good until more is received; those that came as one piece have the same */
};

/* Receives for every socket of one worker; all of it is worked off before more is received. */
struct sg_udp_rx {
    struct sg_udp_packet packets[SG_UDP_BATCH]; /* filled by sg_udp_next */
    uint32_t overflow; /* of the last call: the socket's count of datagrams dropped in the kernel, if has_overflow */
    bool has_overflow;
    unsigned received;                        /* messages of the last call */
    unsigned at;                              /* the message that sg_udp_next is at */
    size_t offset;                            /* where in it */
    size_t segment;                           /* length of its datagrams but the last; 0: not looked at yet */
    struct sg_udp_from from[SG_UDP_MESSAGES]; /* whose the messages are */
    struct mmsghdr msgs[SG_UDP_MESSAGES];
    struct iovec iov[SG_UDP_MESSAGES];
    struct sockaddr_storage names[SG_UDP_MESSAGES];
    _Alignas(8) uint8_t control[SG_UDP_MESSAGES][SG_UDP_CONTROL_BYTES];
    uint8_t *memory;
};

SG_MUST_CHECK enum sg_err sg_udp_rx_init(struct sg_udp_rx *rx);
void sg_udp_rx_dispose(struct sg_udp_rx *rx);

/*
 * Receives once. Positive: datagrams came, sg_udp_next gives them out. 0: nothing waits. -1 with errno: a socket error
 * (which is then cleared).
 */
int sg_udp_recv(struct sg_udp_rx *rx, int fd);

/* The next datagrams of the last call, in rx->packets: how many, at most SG_UDP_BATCH. 0: there are no more. */
unsigned sg_udp_next(struct sg_udp_rx *rx);

/*
 * How many the kernel dropped for want of room since the socket was last asked about, as far as the last call's
 * datagrams tell (one that came after the loss does): call it when sg_udp_next has given them all. A super-packet
 * counts once. seen: the socket's own, 0 at first.
 */
uint32_t sg_udp_lost(const struct sg_udp_rx *rx, uint32_t *seen);

/* Where datagrams go. */
struct sg_udp_to {
    int fd;
    bool is_connected; /* the socket is: peer is not looked at */
    bool may_fragment; /* what is too long for the path, though the socket has SG_UDP_DONTFRAG; not if connected */
    uint8_t dscp;
    struct sg_endpoint peer;
    struct sg_ip local;       /* the source address; family 0: the kernel chooses */
    struct sg_ledger *ledger; /* counts them; may be NULL */
};

/* A run of datagrams that one send carries as a super-packet: one way, one length (the last: less). */
struct sg_udp_group {
    struct sg_udp_to to;
    bool closed;   /* takes no more */
    bool is_first; /* of its socket and of those that may or may not fragment */
    unsigned count;
    uint16_t first, last; /* of its datagrams, chained by next */
    uint16_t older;       /* a group of the same bucket that was made before */
    uint16_t next;        /* the group of that kind that was made after it */
    size_t segment, bytes, data_bytes;
};

struct sg_udp_waiting {
    struct iovec data;
    size_t data_len;
    uint16_t next;
};

enum { SG_UDP_BUCKETS = 64 };

/*
 * Collects datagrams for any number of sockets and sends them with as few calls as possible; for each socket and
 * address they leave in the order in which they were added, those that may fragment apart from those that may not.
 */
struct sg_udp_tx {
    unsigned count, group_count;
    bool segments_refused;           /* the kernel makes none, or not for a device: one send a datagram from then on */
    struct sg_udp_to to;             /* what sg_udp_tx_to said last */
    struct sg_udp_group *current;    /* the group that takes what is added, or NULL */
    uint16_t newest[SG_UDP_BUCKETS]; /* group, by its socket */
    struct sg_udp_waiting waiting[SG_UDP_WAITING];
    struct sg_udp_group groups[SG_UDP_WAITING];
    struct mmsghdr msgs[SG_UDP_BATCH];
    struct sg_udp_group *sending[SG_UDP_BATCH];
    struct iovec iov[SG_UDP_WAITING];
    struct sockaddr_storage names[SG_UDP_BATCH];
    _Alignas(8) uint8_t control[SG_UDP_BATCH][SG_UDP_CONTROL_BYTES];
    uint8_t *memory;
    size_t used;
};

SG_MUST_CHECK enum sg_err sg_udp_tx_init(struct sg_udp_tx *tx);
void sg_udp_tx_dispose(struct sg_udp_tx *tx);

/*
 * Memory for datagrams that are yet to be made and added, good until the next flush; len for a whole batch,
 * SG_UDP_BATCH times SG_UDP_ROOM_MAX at most. What was collected before may be sent first.
 */
enum { SG_UDP_ROOM_MAX = 66 * 1024 };
uint8_t *sg_udp_tx_room(struct sg_udp_tx *tx, size_t len);

/* From now on what is added goes there (copied). */
void sg_udp_tx_to(struct sg_udp_tx *tx, const struct sg_udp_to *to);

/*
 * Adds one datagram; its bytes must stay valid until the flush. The ledger counts it as queued, and once the kernel has
 * spoken as forwarded with data_len bytes, or as dropped.
 */
void sg_udp_tx_add(struct sg_udp_tx *tx, uint8_t *bytes, size_t len, size_t data_len);
void sg_udp_tx_flush(struct sg_udp_tx *tx);

enum sg_udp_flags {
    SG_UDP_PKTINFO = 1,     /* tell the local address of each datagram */
    SG_UDP_RECVERR = 2,     /* queue ICMP errors (sg_udp_read_error) */
    SG_UDP_DONTFRAG = 4,    /* DF on each datagram, whatever the kernel learned about the path; see may_fragment */
    SG_UDP_REUSEPORT = 8,   /* set by sg_udp_open_shared */
    SG_UDP_BIG = 16,        /* large kernel buffers (4 MiB): this socket carries many flows */
    SG_UDP_GRO = 32,        /* the kernel may hand over several datagrams of a sender at once (for sg_udp_recv) */
    SG_UDP_ROOMY = 64,      /* kernel buffers for one fast flow (1 MiB) */
    SG_UDP_DSCP = 128,      /* tell the code point of each datagram */
    SG_UDP_BROADCAST = 256, /* may send to broadcast addresses: policy judges targets, not the kernel */
};

/* Turns SG_UDP_DONTFRAG off, so that the socket is as any other, and on again. False with errno. */
bool sg_udp_let_fragment(int fd, uint8_t family, bool may_fragment);

/* A socket that is bound already gets the options that sg_udp_open gives. False with errno. */
bool sg_udp_adopt(int fd, uint8_t family, unsigned flags);

/* A non-blocking socket of the address' family (IPv6 only IPv6), bound to it. -1 with errno on failure. */
int sg_udp_open(const struct sg_endpoint *bind_to, unsigned flags);
/* The same, with an address and port that several loops may have between them. */
int sg_udp_open_shared(const struct sg_endpoint *bind_to, unsigned flags, enum sg_share share);

/*
 * The sockets that share the socket's address and port (SG_UDP_REUSEPORT) are numbered in the order in which they were
 * bound. From now on a datagram whose first byte is first goes to the one that its second byte numbers, all others to
 * number 0. False with errno where the kernel cannot.
 */
bool sg_udp_steer(int fd, uint8_t first);
/* Whether the kernel can do that with sockets of a family, tried with one of its own. False with errno. */
bool sg_udp_can_steer(uint8_t family);

/* False where the kernel has no IPv6 (6) or IPv4 (4) at all: no socket of the family can be made. */
bool sg_udp_has_family(uint8_t family);

/* The longest UDP payload of the route to an endpoint, by the kernel's figure; 0 if it does not say. */
size_t sg_udp_route_payload(const struct sg_endpoint *to);

/*
 * An ICMP error from the error queue: the target it concerns, and REFUSED, UNREACHABLE or TOO_BIG. False when none is
 * left.
 */
struct sg_udp_error {
    struct sg_endpoint target;
    enum sg_reason reason;
};
bool sg_udp_read_error(int fd, struct sg_udp_error *out);

#endif
