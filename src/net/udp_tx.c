/*
 * Sending: datagrams are gathered into groups, each of which one message of sendmmsg carries. A group of several is
 * cut by the kernel or the device (UDP_SEGMENT); where that is refused its datagrams go one by one.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "net/sockaddr.h"
#include "net/udp.h"

enum { MEMORY_BYTES = SG_UDP_BATCH * SG_UDP_ROOM_MAX, GROUP_BYTES_MAX = 65000, NONE = 0xffff };

static void forget_groups(struct sg_udp_tx *tx)
{
    tx->count = tx->group_count = 0;
    tx->current = NULL;
    memset(tx->newest, 0xff, sizeof tx->newest); /* NONE */
}

/* One that has never heard of UDP_SEGMENT may pass over it in silence, and send a group as one long datagram. */
static bool kernel_knows_segments(void)
{
    int value = 0;
    socklen_t len = sizeof value;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool knows = getsockopt(fd, SOL_UDP, UDP_SEGMENT, &value, &len) == 0;
    close(fd);
    return knows;
}

enum sg_err sg_udp_tx_init(struct sg_udp_tx *tx)
{
    memset(tx, 0, sizeof *tx);
    tx->segments_refused = !kernel_knows_segments();
    forget_groups(tx);
    void *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return SG_ERR_NOMEM;
    tx->memory = memory;
    return SG_OK;
}

void sg_udp_tx_dispose(struct sg_udp_tx *tx)
{
    if (tx->memory)
        munmap(tx->memory, MEMORY_BYTES);
    tx->memory = NULL;
}

/* --- collecting --- */

static bool is_same_way(const struct sg_udp_to *a, const struct sg_udp_to *b)
{
    return a->fd == b->fd && a->is_connected == b->is_connected && a->may_fragment == b->may_fragment &&
           (a->is_connected || sg_endpoint_equal(&a->peer, &b->peer)) && sg_ip_equal(&a->local, &b->local);
}

static bool is_same(const struct sg_udp_to *a, const struct sg_udp_to *b)
{
    return a->dscp == b->dscp && a->ledger == b->ledger && is_same_way(a, b);
}

static uint16_t *bucket_of(struct sg_udp_tx *tx, int fd)
{
    return &tx->newest[(unsigned)fd % SG_UDP_BUCKETS];
}

/* The newest group that goes this way, if it takes its like: an older one may not, or order would change. Or NULL. */
static struct sg_udp_group *find_group(struct sg_udp_tx *tx, const struct sg_udp_to *to)
{
    for (uint16_t i = *bucket_of(tx, to->fd); i != NONE; i = tx->groups[i].older)
        if (is_same_way(&tx->groups[i].to, to))
            return is_same(&tx->groups[i].to, to) ? &tx->groups[i] : NULL;
    return NULL;
}

/* The newest group of that socket and kind. Or NULL. */
static struct sg_udp_group *find_socket(struct sg_udp_tx *tx, const struct sg_udp_to *to)
{
    for (uint16_t i = *bucket_of(tx, to->fd); i != NONE; i = tx->groups[i].older)
        if (tx->groups[i].to.fd == to->fd && tx->groups[i].to.may_fragment == to->may_fragment)
            return &tx->groups[i];
    return NULL;
}

void sg_udp_tx_to(struct sg_udp_tx *tx, const struct sg_udp_to *to)
{
    if (tx->current && is_same(&tx->to, to))
        return;
    tx->to = *to;
    tx->current = find_group(tx, to);
}

static bool takes(const struct sg_udp_tx *tx, const struct sg_udp_group *g, size_t len)
{
    return !tx->segments_refused && !g->closed && len > 0 && len <= g->segment && g->count < SG_UDP_BATCH &&
           g->bytes + len <= GROUP_BYTES_MAX;
}

static SG_RARE struct sg_udp_group *start_group(struct sg_udp_tx *tx, uint16_t first, size_t segment)
{
    uint16_t index = (uint16_t)tx->group_count++;
    uint16_t *newest = bucket_of(tx, tx->to.fd);
    struct sg_udp_group *before = find_socket(tx, &tx->to), *g = &tx->groups[index];
    *g = (struct sg_udp_group){
        .to = tx->to, .is_first = !before, .first = first, .older = *newest, .next = NONE, .segment = segment};
    *newest = index;
    if (before)
        before->next = index;
    return g;
}

static SG_RARE void send_all(struct sg_udp_tx *tx);

void sg_udp_tx_add(struct sg_udp_tx *tx, uint8_t *bytes, size_t len, size_t data_len)
{
    if (tx->count == SG_UDP_WAITING)
        send_all(tx);
    const uint16_t index = (uint16_t)tx->count++;
    struct sg_udp_group *g = tx->current;
    tx->waiting[index] =
        (struct sg_udp_waiting){.data = {.iov_base = bytes, .iov_len = len}, .data_len = data_len, .next = NONE};
    if (tx->to.ledger)
        tx->to.ledger->queued++;
    if (g && takes(tx, g, len))
        tx->waiting[g->last].next = index;
    else
        g = tx->current = start_group(tx, index, len);
    g->last = index;
    g->count++;
    g->bytes += len;
    g->data_bytes += data_len;
    g->closed = len < g->segment || len == 0;
}

uint8_t *sg_udp_tx_room(struct sg_udp_tx *tx, size_t len)
{
    if (tx->count + SG_UDP_BATCH > SG_UDP_WAITING || tx->used + len > MEMORY_BYTES)
        sg_udp_tx_flush(tx);
    uint8_t *room = tx->memory + tx->used;
    tx->used += len;
    return room;
}

/* --- sending --- */

static struct cmsghdr *add_control(struct msghdr *msg, struct cmsghdr *at, int level, int type, const void *data,
                                   size_t len)
{
    at->cmsg_level = level;
    at->cmsg_type = type;
    at->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(at), data, len);
    msg->msg_controllen += CMSG_SPACE(len);
    return (struct cmsghdr *)((uint8_t *)at + CMSG_SPACE(len));
}

/* The source address, and where the segments are cut. */
static void set_control(struct msghdr *msg, uint8_t *control, const struct sg_udp_group *g, bool segments)
{
    struct cmsghdr *at = (struct cmsghdr *)(void *)control;
    msg->msg_control = NULL;
    msg->msg_controllen = 0;
    if (!segments && g->to.local.family == 0 && g->to.dscp == 0)
        return;
    memset(control, 0, SG_UDP_CONTROL_BYTES);
    msg->msg_control = control;
    if (g->to.local.family == 6) {
        struct in6_pktinfo info = {0};
        memcpy(&info.ipi6_addr, g->to.local.bytes, 16);
        at = add_control(msg, at, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    } else if (g->to.local.family == 4) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, g->to.local.bytes, 4);
        at = add_control(msg, at, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
    if (g->to.dscp != 0) {           /* a socket looks at that of its own family */
        int octet = g->to.dscp << 2; /* not ECN capable */
        at = add_control(msg, at, IPPROTO_IP, IP_TOS, &octet, sizeof octet);
        at = add_control(msg, at, IPPROTO_IPV6, IPV6_TCLASS, &octet, sizeof octet);
    }
    if (segments) {
        uint16_t segment = (uint16_t)g->segment;
        add_control(msg, at, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment);
    }
}

/* The group's datagrams as they lie in memory: those that follow one another without a gap are one piece. */
static unsigned gather(const struct sg_udp_tx *tx, const struct sg_udp_group *g, struct iovec *iov)
{
    unsigned pieces = 0;
    const uint8_t *end = NULL;
    for (uint16_t i = g->first; i != NONE; i = tx->waiting[i].next) {
        const struct iovec *data = &tx->waiting[i].data;
        if (pieces > 0 && data->iov_base == end)
            iov[pieces - 1].iov_len += data->iov_len;
        else
            iov[pieces++] = *data;
        end = (const uint8_t *)data->iov_base + data->iov_len;
    }
    return pieces;
}

static void make_message(struct sg_udp_tx *tx, unsigned slot, struct sg_udp_group *g, struct iovec *iov)
{
    struct msghdr *msg = &tx->msgs[slot].msg_hdr;
    *msg = (struct msghdr){.msg_iov = iov, .msg_iovlen = gather(tx, g, iov)};
    if (!g->to.is_connected) {
        msg->msg_namelen = sg_sockaddr_from(&g->to.peer, &tx->names[slot]);
        msg->msg_name = &tx->names[slot];
    }
    set_control(msg, tx->control[slot], g, g->count > 1);
}

/* Counts datagrams that the kernel took, or refused. */
static void count_datagrams(struct sg_ledger *ledger, unsigned count, size_t data_bytes, int error)
{
    if (!ledger)
        return;
    ledger->queued -= count;
    if (error == 0) {
        ledger->forwarded += count;
        ledger->forwarded_bytes += data_bytes;
    } else {
        ledger->drops[error == EMSGSIZE ? SG_REASON_TOO_BIG : SG_REASON_SEND_FAILED] += count;
    }
}

static void count_group(const struct sg_udp_group *g, int error)
{
    count_datagrams(g->to.ledger, g->count, g->data_bytes, error);
}

/*
 * An ICMP error that waits on a socket is reported by the next send, which it must not eat: such a send is tried again.
 * How often in all, by the error that it ends with: some can only be of that kind, and come again only if another one
 * arrived in between; others may also be this host's own word on the datagram.
 */
static unsigned tries_of(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case EPROTO:
    case ENOPROTOOPT:
        return 32;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EACCES:
    case EMSGSIZE:
        return 8;
    default:
        return 1;
    }
}

/* Whether a group that ended with this error may still go one by one, which also serves where such an error waited. */
static bool may_split(const struct sg_udp_group *g, int error)
{
    return g->count > 1 && (error == EIO || error == EINVAL || error == EMSGSIZE);
}

/*
 * Sends messages until one fails for good; returns how many went, and errno of the one that did not. groups: what they
 * carry; NULL: one datagram each.
 */
static unsigned send_messages(int fd, struct mmsghdr *msgs, struct sg_udp_group *const *groups, unsigned count,
                              int *error)
{
    unsigned done = 0;
    unsigned tries = 0;
    *error = 0;
    while (done < count) {
        int sent = sendmmsg(fd, msgs + done, count - done, MSG_DONTWAIT);
        if (sent > 0) {
            done += (unsigned)sent;
            tries = 0;
        } else if (errno != EINTR) {
            *error = errno;
            if ((groups && may_split(groups[done], *error)) || ++tries >= tries_of(*error))
                return done;
        }
    }
    *error = 0;
    return done;
}

/* One by one: the kernel, the device or the path does not take the group as a whole. */
static void send_singly(struct sg_udp_tx *tx, unsigned slot, const struct sg_udp_group *g)
{
    struct mmsghdr single = tx->msgs[slot];
    set_control(&single.msg_hdr, tx->control[slot], g, false);
    single.msg_hdr.msg_iovlen = 1;
    for (uint16_t i = g->first; i != NONE; i = tx->waiting[i].next) {
        int error = 0;
        single.msg_hdr.msg_iov = &tx->waiting[i].data;
        (void)send_messages(g->to.fd, &single, NULL, 1, &error);
        count_datagrams(g->to.ledger, 1, tx->waiting[i].data_len, error);
    }
}

static void send_made(struct sg_udp_tx *tx, int fd, unsigned count)
{
    unsigned done = 0;
    while (done < count) {
        int error = 0;
        unsigned went = send_messages(fd, tx->msgs + done, tx->sending + done, count - done, &error);
        for (unsigned i = 0; i < went; i++)
            count_group(tx->sending[done++], 0);
        if (error == 0)
            continue;
        const struct sg_udp_group *g = tx->sending[done];
        if (may_split(g, error)) {
            tx->segments_refused |= error == EIO; /* the device will not do it next time either */
            send_singly(tx, done, g);
        } else {
            count_group(g, error);
        }
        done++;
    }
}

/*
 * All groups of one socket and kind, in their order. IPv4 has no control message for what may be cut, so the socket is
 * another one for as long as these take: no other thread sends by it, and what must not be cut is not among them.
 */
static void send_socket(struct sg_udp_tx *tx, struct sg_udp_group *first)
{
    const struct sg_udp_to *to = &first->to;
    unsigned made = 0, used = 0;
    if (to->may_fragment) /* else what is too long counts as such */
        (void)sg_udp_let_fragment(to->fd, to->peer.ip.family, true);
    for (struct sg_udp_group *g = first; g; g = g->next == NONE ? NULL : &tx->groups[g->next]) {
        if (made == SG_UDP_BATCH) {
            send_made(tx, to->fd, made);
            made = used = 0;
        }
        tx->sending[made] = g;
        make_message(tx, made++, g, tx->iov + used);
        used += g->count;
    }
    send_made(tx, to->fd, made);
    if (to->may_fragment)
        (void)sg_udp_let_fragment(to->fd, to->peer.ip.family, false);
}

static SG_RARE void send_all(struct sg_udp_tx *tx)
{
    for (unsigned i = 0; i < tx->group_count; i++)
        if (tx->groups[i].is_first)
            send_socket(tx, &tx->groups[i]);
    forget_groups(tx);
}

void sg_udp_tx_flush(struct sg_udp_tx *tx)
{
    send_all(tx);
    tx->used = 0;
}
