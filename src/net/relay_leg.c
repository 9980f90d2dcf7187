/*
 * A leg of a relay. After a reset Linux still gives what was received before it, but each error only once: a write that
 * failed has taken the news away from the reads that follow, so the leg remembers it.
 */
#include "net/relay_leg.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "net/tls_stream.h"

enum { DISCARD_BYTES = 16 * 1024, DESERTED_MS = 180 * 1000 };

bool sg_leg_take(struct sg_leg *leg, struct bufferevent *bev)
{
    bufferevent_set_timeouts(bev, NULL, NULL);
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    leg->bev = bev;
    leg->fd = bufferevent_getfd(bev);
    return sg_tls_take(bev, &leg->ssl, &leg->unsent);
}

/* A peer that ends and then resets leaves EPIPE, one that resets only ECONNRESET. */
static void note_error(struct sg_leg *leg, int error)
{
    leg->has_ended_before_error = !leg->ssl && error == EPIPE;
    leg->output = SG_LEG_BROKEN;
}

size_t sg_leg_unsent(const struct sg_leg *leg)
{
    return leg->ssl ? evbuffer_get_length(leg->unsent) : 0;
}

void sg_leg_flush(struct sg_leg *leg)
{
    int n = 1;
    while (n > 0 && leg->output != SG_LEG_BROKEN && sg_leg_unsent(leg) > 0)
        n = evbuffer_write(leg->unsent, leg->fd);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        note_error(leg, errno);
    if (leg->output == SG_LEG_BROKEN && leg->ssl)
        evbuffer_drain(leg->unsent, sg_leg_unsent(leg));
}

/* --- input --- */

static size_t read_tls(struct sg_leg *leg, uint8_t *bytes, size_t size)
{
    enum sg_tls_input input;
    size_t len = sg_tls_read(leg->ssl, bytes, size, &input);
    switch (input) {
    case SG_TLS_DRY:
        break;
    case SG_TLS_MORE:
        leg->has_more = true;
        break;
    case SG_TLS_ENDED:
        leg->input = SG_LEG_ENDED;
        break;
    case SG_TLS_BROKEN:
    case SG_TLS_CUT:
        leg->input = SG_LEG_BROKEN;
        break;
    }
    if (leg->needs_input && leg->input != SG_LEG_OPEN)
        leg->output = SG_LEG_BROKEN;
    sg_leg_flush(leg);
    return len;
}

static size_t read_plain(struct sg_leg *leg, uint8_t *bytes, size_t size)
{
    ssize_t n = recv(leg->fd, bytes, size, MSG_DONTWAIT);
    if (n > 0)
        return (size_t)n;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    leg->input = n == 0 && (leg->output != SG_LEG_BROKEN || leg->has_ended_before_error) ? SG_LEG_ENDED : SG_LEG_BROKEN;
    if (n < 0)
        leg->output = SG_LEG_BROKEN;
    return 0;
}

size_t sg_leg_read(struct sg_leg *leg, uint8_t *bytes, size_t size)
{
    leg->has_more = false;
    return leg->ssl ? read_tls(leg, bytes, size) : read_plain(leg, bytes, size);
}

static int take_error(const struct sg_leg *leg)
{
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(leg->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

void sg_leg_look(struct sg_leg *leg)
{
    uint8_t bytes[DISCARD_BYTES];
    bool is_broken = take_error(leg) != 0; /* first: recv would take it, but after an end it does not tell */
    ssize_t n = recv(leg->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (is_broken || (n < 0 && errno != EAGAIN && errno != EINTR))
        leg->output = SG_LEG_BROKEN;
}

/* --- output --- */

/* TLS fell short: what it waits for may never come. */
static void await_input(struct sg_leg *leg)
{
    leg->needs_input = true;
    if (leg->input != SG_LEG_OPEN)
        leg->output = SG_LEG_BROKEN;
}

static size_t write_tls(struct sg_leg *leg, const uint8_t *bytes, size_t len)
{
    if (sg_leg_unsent(leg) > 0)
        return 0;
    ssize_t n = sg_tls_write(leg->ssl, bytes, len);
    if (n < 0)
        leg->output = SG_LEG_BROKEN;
    else if ((size_t)n < len)
        await_input(leg);
    sg_leg_flush(leg);
    return leg->output == SG_LEG_BROKEN ? len : (size_t)n;
}

static size_t write_plain(struct sg_leg *leg, const uint8_t *bytes, size_t len)
{
    ssize_t n = send(leg->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0)
        return (size_t)n;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    note_error(leg, errno);
    return len;
}

size_t sg_leg_write(struct sg_leg *leg, const uint8_t *bytes, size_t len)
{
    leg->needs_input = false;
    if (leg->output == SG_LEG_BROKEN)
        return len;
    return leg->ssl ? write_tls(leg, bytes, len) : write_plain(leg, bytes, len);
}

bool sg_leg_end(struct sg_leg *leg)
{
    leg->needs_input = false;
    if (!leg->ssl) {
        if (shutdown(leg->fd, SHUT_WR) == 0)
            leg->output = SG_LEG_ENDED;
        else
            note_error(leg, take_error(leg));
        return true;
    }
    int said = sg_tls_end(leg->ssl);
    if (said != 0)
        leg->output = said > 0 ? SG_LEG_ENDED : SG_LEG_BROKEN;
    else
        await_input(leg);
    sg_leg_flush(leg);
    return leg->output != SG_LEG_OPEN;
}

bool sg_leg_is_deserted(const struct sg_leg *leg)
{
    int left = 0;
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (leg->output == SG_LEG_BROKEN || ioctl(leg->fd, SIOCOUTQ, &left) != 0 || left == 0 ||
        getsockopt(leg->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_state == TCP_CLOSE)
        return false;
    return info.tcpi_last_ack_recv > DESERTED_MS && info.tcpi_last_data_recv > DESERTED_MS;
}

void sg_leg_fail(struct sg_leg *leg)
{
    leg->input = SG_LEG_BROKEN;
    leg->output = SG_LEG_BROKEN;
}

bool sg_leg_is_delivered(const struct sg_leg *leg)
{
    int left = 0;
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (sg_leg_unsent(leg) > 0)
        return false;
    if (leg->output == SG_LEG_BROKEN || ioctl(leg->fd, SIOCOUTQ, &left) != 0 || left == 0)
        return true;
    return getsockopt(leg->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == TCP_CLOSE;
}

void sg_leg_arm_reset(const struct sg_leg *leg)
{
    static const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (leg->fd >= 0)
        (void)setsockopt(leg->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}
