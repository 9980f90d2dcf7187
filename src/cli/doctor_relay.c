/* The doctor's side of SOCKS5. Greeting and request go apart: some relays take what comes at once for one message. */
#include "cli/doctor_relay.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "core/socks5.h"
#include "net/clock.h"
#include "net/sockaddr.h"
#include "net/udp.h"

enum {
    GREETING_BYTES = 3, /* version, one method, none */
    CONNECT_SECONDS = 5,
    REPLY_MS = 10000,
    PROBE_REPLY_MS = 3000,
    LAST_MS = 1000,
    PROBES_MAX = 16,
};

/* --- the TCP side --- */

static int dial(const struct sg_endpoint *socks)
{
    const struct timeval limit = {.tv_sec = CONNECT_SECONDS};
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(socks, &ss);
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* bounds connect too */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)&ss, len) == 0)
        return fd;
    int error = errno == EINPROGRESS ? ETIMEDOUT : errno;
    close(fd);
    errno = error;
    return -1;
}

struct talk {
    int fd;
    struct sg_socks5_client client;
    uint8_t bytes[SG_SOCKS5_REQUEST_MAX];
    size_t have;
};

/* Greets and sends the request. False: problem says why, and the connection is closed. */
static bool talk_start(struct talk *talk, const struct sg_endpoint *socks, uint8_t command,
                       const struct sg_target *target, char problem[static SG_RELAY_TEXT_MAX])
{
    uint8_t flight[SG_SOCKS5_FLIGHT_MAX], method[2];
    struct sg_wbuf w = sg_wbuf_init(flight, sizeof flight);
    size_t consumed = 0;
    talk->have = 0;
    talk->fd = dial(socks);
    if (talk->fd < 0) {
        snprintf(problem, SG_RELAY_TEXT_MAX, "%s", strerror(errno));
        return false;
    }
    snprintf(problem, SG_RELAY_TEXT_MAX, "it does not answer as a SOCKS5 server");
    if (sg_socks5_client_flight(&talk->client, &w, NULL, NULL, command, target) == SG_OK &&
        send(talk->fd, flight, GREETING_BYTES, MSG_NOSIGNAL) == GREETING_BYTES &&
        recv(talk->fd, method, sizeof method, MSG_WAITALL) == (ssize_t)sizeof method) {
        size_t rest = sg_wbuf_len(&w) - GREETING_BYTES;
        enum sg_socks5_client_event event = sg_socks5_client_input(&talk->client, method, sizeof method, &consumed);
        if (event == SG_SOCKS5_CLIENT_NEED_MORE &&
            send(talk->fd, flight + GREETING_BYTES, rest, MSG_NOSIGNAL) == (ssize_t)rest)
            return true;
        snprintf(problem, SG_RELAY_TEXT_MAX, "%s", sg_socks5_client_text(event));
    }
    close(talk->fd);
    return false;
}

/* Waits for the reply until then. True if there is one: talk->client has it. */
static bool talk_reply(struct talk *talk, uint64_t until_ms)
{
    while (talk->have < sizeof talk->bytes) {
        uint64_t now_ms = sg_now_ms();
        struct pollfd wait = {.fd = talk->fd, .events = POLLIN};
        if (now_ms >= until_ms || poll(&wait, 1, (int)(until_ms - now_ms)) <= 0)
            return false;
        ssize_t got = recv(talk->fd, talk->bytes + talk->have, sizeof talk->bytes - talk->have, MSG_DONTWAIT);
        if (got <= 0)
            return false;
        talk->have += (size_t)got;
        size_t consumed = 0;
        enum sg_socks5_client_event event = sg_socks5_client_input(&talk->client, talk->bytes, talk->have, &consumed);
        if (event != SG_SOCKS5_CLIENT_NEED_MORE)
            return event == SG_SOCKS5_CLIENT_REPLY;
        talk->have -= consumed;
        memmove(talk->bytes, talk->bytes + consumed, talk->have);
    }
    return false;
}

/* --- the association --- */

static bool open_udp(struct sg_relay *relay, const struct sg_endpoint *socks)
{
    struct sg_endpoint any = {.ip.family = relay->at.ip.family};
    struct sockaddr_storage ss;
    if (sg_ip_is_unspecified(&relay->at.ip)) { /* "where you reached me" */
        relay->at.ip = socks->ip;
        any.ip.family = socks->ip.family;
    }
    relay->udp = sg_udp_open(&any, SG_UDP_ROOMY);
    socklen_t len = sg_sockaddr_from(&relay->at, &ss);
    return relay->udp >= 0 && connect(relay->udp, (const struct sockaddr *)&ss, len) == 0;
}

enum sg_relay_result sg_relay_open(struct sg_relay *relay, const struct sg_endpoint *socks, struct sg_reflector *own,
                                   char problem[static SG_RELAY_TEXT_MAX])
{
    struct sg_target none = {.atyp = socks->ip.family == 6 ? SG_ATYP_IPV6 : SG_ATYP_IPV4,
                             .ip.family = socks->ip.family};
    struct talk talk;
    *relay = (struct sg_relay){.tcp = -1, .udp = -1, .own = own};
    randombytes_buf(&relay->nonce, sizeof relay->nonce);
    if (!talk_start(&talk, socks, SG_SOCKS5_CMD_UDP_ASSOCIATE, &none, problem))
        return SG_RELAY_UNREACHABLE;
    relay->tcp = talk.fd;
    if (!talk_reply(&talk, sg_now_ms() + REPLY_MS)) {
        snprintf(problem, SG_RELAY_TEXT_MAX, "no reply to UDP ASSOCIATE");
        sg_relay_close(relay);
        return SG_RELAY_UNREACHABLE;
    }
    relay->at = sg_target_endpoint(&talk.client.bound);
    if (talk.client.rep != SG_SOCKS5_REP_SUCCEEDED || talk.client.bound.atyp == SG_ATYP_NAME) {
        snprintf(problem, SG_RELAY_TEXT_MAX, "UDP ASSOCIATE was answered %02x: %s", talk.client.rep,
                 talk.client.rep ? sg_socks5_rep_text(talk.client.rep)
                                 : "with a name, which no datagram can be sent to");
        sg_relay_close(relay);
        return SG_RELAY_NO_UDP;
    }
    if (open_udp(relay, socks))
        return SG_RELAY_OPEN;
    snprintf(problem, SG_RELAY_TEXT_MAX, "the relay's address: %s", strerror(errno));
    sg_relay_close(relay);
    return SG_RELAY_NO_UDP;
}

void sg_relay_close(struct sg_relay *relay)
{
    if (relay->tcp >= 0)
        close(relay->tcp);
    if (relay->udp >= 0)
        close(relay->udp);
    relay->tcp = relay->udp = -1;
}

/* --- questions and answers --- */

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void send_question(struct sg_relay *relay, const struct sg_relay_question *q, uint64_t nonce)
{
    static uint8_t bytes[SG_SOCKS5_UDP_HEADER_MAX + SG_PROBE_MAX];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    struct sg_target target = sg_endpoint_target(&q->to);
    sg_socks5_udp_encode_header(&w, &target);
    size_t header = sg_wbuf_len(&w);
    sg_probe_write(bytes + header, q->len, q->from, nonce);
    /* an ICMP error of an earlier one makes a send fail once, and is gone then */
    for (unsigned i = 0; i < 2 && send(relay->udp, bytes, header + q->len, 0) < 0 && errno == ECONNREFUSED; i++)
        continue;
}

struct reply {
    uint64_t nonce;
    size_t len;
    struct sg_endpoint seen;
};

/* Takes datagrams off the socket until one is an answer. */
static bool take_answer(struct sg_relay *relay, struct reply *out)
{
    static uint8_t bytes[SG_SOCKS5_UDP_HEADER_MAX + SG_PROBE_MAX];
    struct sg_socks5_udp header;
    for (;;) {
        ssize_t got = recv(relay->udp, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got < 0 && errno == ECONNREFUSED)
            continue;
        if (got < 0)
            return false;
        if (sg_socks5_udp_decode(bytes, (size_t)got, &header) != SG_OK)
            continue;
        out->len = (size_t)got - header.data_offset;
        if (sg_probe_read(bytes + header.data_offset, out->len, &out->nonce, &out->seen))
            return true;
    }
}

/* Waits for the next answer, and serves the own reflector meanwhile. False when the time is over, or on a signal. */
static bool next_answer(struct sg_relay *relay, uint64_t until_us, struct reply *out)
{
    struct pollfd fds[SG_REFLECT_SOCKETS + 1];
    for (;;) {
        if (take_answer(relay, out))
            return true;
        uint64_t now = now_us();
        if (now >= until_us)
            return false;
        unsigned count = relay->own ? sg_reflector_poll(relay->own, fds) : 0;
        fds[count] = (struct pollfd){.fd = relay->udp, .events = POLLIN};
        struct timespec wait = {.tv_sec = (time_t)((until_us - now) / 1000000),
                                .tv_nsec = (long)((until_us - now) % 1000000 * 1000)};
        if (ppoll(fds, count + 1, &wait, NULL) < 0)
            return false;
        if (relay->own)
            sg_reflector_work(relay->own);
    }
}

bool sg_relay_ask(struct sg_relay *relay, const struct sg_relay_question *q, struct sg_endpoint *seen)
{
    uint64_t first = relay->nonce;
    struct reply reply;
    for (unsigned i = 0; i < q->tries; i++) {
        send_question(relay, q, relay->nonce++);
        uint64_t until = now_us() + (uint64_t)q->try_ms * 1000;
        while (next_answer(relay, until, &reply)) {
            if (reply.nonce - first >= relay->nonce - first || reply.len != q->len)
                continue; /* of an earlier question */
            if (seen)
                *seen = reply.seen;
            return true;
        }
    }
    return false;
}

static int compare_us(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

static void sum_up(struct sg_relay_trips *out, uint32_t *trips_us, unsigned count)
{
    out->lost = out->sent - count;
    if (count == 0)
        return;
    qsort(trips_us, count, sizeof trips_us[0], compare_us);
    uint32_t median_us = trips_us[count / 2];
    out->min_ms = trips_us[0] / 1000.0;
    out->median_ms = median_us / 1000.0;
    out->max_ms = trips_us[count - 1] / 1000.0;
}

void sg_relay_echo(struct sg_relay *relay, const struct sg_relay_question *q, unsigned count, unsigned spacing_ms,
                   struct sg_relay_trips *out)
{
    static uint64_t sent_us[SG_RELAY_ECHOES_MAX];
    static uint32_t trips_us[SG_RELAY_ECHOES_MAX];
    bool back[SG_RELAY_ECHOES_MAX] = {false};
    uint64_t first = relay->nonce, start = now_us();
    unsigned returned = 0;
    *out = (struct sg_relay_trips){.sent = count};
    for (unsigned i = 0; i < count; i++) {
        struct reply reply;
        sent_us[i] = now_us();
        send_question(relay, q, relay->nonce++);
        uint64_t wait_us = i + 1 < count ? (uint64_t)(i + 1) * spacing_ms * 1000 : now_us() - start + LAST_MS * 1000;
        while (returned < count && next_answer(relay, start + wait_us, &reply)) {
            uint64_t which = reply.nonce - first;
            if (which > i || reply.len != q->len)
                continue;
            out->doubled += back[which];
            if (!back[which])
                trips_us[returned++] = (uint32_t)(now_us() - sent_us[which]);
            back[which] = true;
        }
    }
    sum_up(out, trips_us, returned);
}

/* --- policy --- */

static enum sg_relay_verdict judge(int reply)
{
    switch (reply) {
    case SG_SOCKS5_REP_POLICY:
        return SG_VERDICT_REFUSED;
    case SG_SOCKS5_REP_SUCCEEDED:
    case SG_SOCKS5_REP_NO_ROUTE:
    case SG_SOCKS5_REP_NO_HOST:
    case SG_SOCKS5_REP_REFUSED:
    case SG_SOCKS5_REP_TIMED_OUT:
        return SG_VERDICT_TRIED;
    default:
        return SG_VERDICT_UNCLEAR;
    }
}

void sg_relay_probe(const struct sg_endpoint *socks, struct sg_relay_probe *probes, unsigned count)
{
    static struct talk talks[PROBES_MAX];
    bool asked[PROBES_MAX];
    char problem[SG_RELAY_TEXT_MAX];
    for (unsigned i = 0; i < count && i < PROBES_MAX; i++) {
        struct sg_target target;
        asked[i] = sg_target_parse(probes[i].target, false, &target) == SG_OK &&
                   talk_start(&talks[i], socks, SG_SOCKS5_CMD_CONNECT, &target, problem);
    }
    uint64_t until_ms = sg_now_ms() + PROBE_REPLY_MS;
    for (unsigned i = 0; i < count && i < PROBES_MAX; i++) {
        bool replied = asked[i] && talk_reply(&talks[i], until_ms);
        probes[i].reply = replied ? talks[i].client.rep : -1;
        probes[i].verdict = judge(probes[i].reply);
        if (asked[i])
            close(talks[i].fd);
    }
}
