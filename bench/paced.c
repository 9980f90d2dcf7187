/*
 * Paced datagrams, as of voice or a game: each association sends at fixed times, whatever became of those before, to a
 * sink in another network namespace. Sender and sink are one thread of one process, so that one clock has both times
 * and a one-way delay is exact. The delay counts from the send call to the moment the sink has the datagram.
 */
#include "modes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "socks.h"
#include "timing.h"
#include "wire.h"

enum { STAMP_BYTES = 24, NS_PER_MS = 1000000 };
#define NS_PER_S UINT64_C(1000000000)

enum phase { WARM_UP = 1, MEASURED };

struct stamp {
    uint32_t phase, association;
    uint64_t sequence, sent_ns;
};
static_assert(sizeof(struct stamp) == STAMP_BYTES, "the stamp precedes the pattern");

struct paced {
    const struct bench_options *options;
    int *senders; /* a socket for each association */
    int sink;
    uint8_t header[BENCH_SOCKS_HEADER];
    size_t header_len;
    struct bench_rx *rx;
    enum phase phase;
    uint64_t count; /* of datagrams in this phase */
    uint64_t sent, refused, arrived, duplicates, corrupt, overtaken, late_sends;
    uint64_t newest;     /* 1 + the highest sequence number that arrived */
    uint64_t *delays_ns; /* by sequence number; 0: not arrived */
};

/* --- sending --- */

static uint8_t pattern_at(uint64_t sequence, size_t i)
{
    return (uint8_t)((sequence * 131 + i) * 2654435761U >> 16);
}

static void send_datagram(struct paced *paced, uint64_t sequence)
{
    const struct bench_options *options = paced->options;
    const uint32_t association = (uint32_t)(sequence % options->associations);
    uint8_t bytes[BENCH_PLAIN_ROOM], *payload = bytes + paced->header_len;
    memcpy(bytes, paced->header, paced->header_len);
    for (size_t i = STAMP_BYTES; i < options->size; i++)
        payload[i] = pattern_at(sequence, i);
    const struct stamp stamp = {paced->phase, association, sequence, bench_now_ns()};
    memcpy(payload, &stamp, sizeof stamp);
    /* A refusal belongs to an earlier datagram, and a full buffer is the relay's: such a datagram does not arrive. */
    if (send(paced->senders[association], bytes, paced->header_len + options->size, 0) < 0)
        paced->refused++;
    paced->sent++;
}

/* --- receiving --- */

static bool is_what_was_sent(const struct paced *paced, const struct stamp *stamp, const uint8_t *bytes, size_t len)
{
    if (len != paced->options->size || stamp->sequence >= paced->count ||
        stamp->association != stamp->sequence % paced->options->associations)
        return false;
    for (size_t i = STAMP_BYTES; i < len; i++)
        if (bytes[i] != pattern_at(stamp->sequence, i))
            return false;
    return true;
}

static void take_datagram(struct paced *paced, const uint8_t *bytes, size_t len, uint64_t now)
{
    struct stamp stamp = {0};
    if (len >= sizeof stamp)
        memcpy(&stamp, bytes, sizeof stamp);
    if (stamp.phase == WARM_UP && paced->phase == MEASURED)
        return; /* later than its phase */
    if (stamp.phase != paced->phase || !is_what_was_sent(paced, &stamp, bytes, len)) {
        paced->corrupt++;
        return;
    }
    if (paced->delays_ns[stamp.sequence] != 0) {
        paced->duplicates++;
        return;
    }
    paced->delays_ns[stamp.sequence] = now > stamp.sent_ns ? now - stamp.sent_ns : 1;
    paced->arrived++;
    paced->overtaken += stamp.sequence < paced->newest;
    if (stamp.sequence >= paced->newest)
        paced->newest = stamp.sequence + 1;
}

static void receive(struct paced *paced)
{
    for (unsigned count = BENCH_BATCH; count == BENCH_BATCH;) {
        count = bench_rx_read(paced->rx, paced->sink);
        const uint64_t now = bench_now_ns();
        for (unsigned i = 0; i < count; i++)
            take_datagram(paced, bench_rx_bytes(paced->rx, i), paced->rx->msgs[i].msg_len, now);
    }
}

/* Takes what arrives until then. */
static void receive_until(struct paced *paced, uint64_t end_ns)
{
    struct pollfd readable = {paced->sink, POLLIN, 0};
    for (uint64_t now = bench_now_ns(); now < end_ns; now = bench_now_ns()) {
        const uint64_t wait_ns = end_ns - now;
        const struct timespec wait = {(time_t)(wait_ns / NS_PER_S), (long)(wait_ns % NS_PER_S)};
        if (ppoll(&readable, 1, &wait, NULL) > 0)
            receive(paced);
        if (paced->sent == paced->count && paced->arrived == paced->count)
            return;
    }
}

/* --- phases --- */

/* Sends for so long, the associations in turn, each at its rate; then waits for what is still under way. */
static void run_phase(struct paced *paced, enum phase phase, double seconds)
{
    const struct bench_options *options = paced->options;
    const uint64_t per_second = (uint64_t)options->rate * options->associations;
    paced->phase = phase;
    paced->count = (uint64_t)(seconds * (double)per_second);
    paced->sent = paced->refused = paced->arrived = paced->duplicates = paced->corrupt = 0;
    paced->overtaken = paced->late_sends = paced->newest = 0;
    free(paced->delays_ns);
    paced->delays_ns = calloc(paced->count + 1, sizeof *paced->delays_ns);
    if (!paced->delays_ns)
        bench_die("memory");
    const uint64_t start = bench_now_ns();
    for (uint64_t sequence = 0; sequence < paced->count; sequence++) {
        const uint64_t due = start + sequence * NS_PER_S / per_second;
        receive_until(paced, due);
        paced->late_sends += bench_now_ns() > due + NS_PER_MS;
        send_datagram(paced, sequence);
    }
    receive_until(paced, bench_now_ns() + (uint64_t)options->timeout_ms * NS_PER_MS);
}

/* --- opening --- */

/* A socket bound to the sink's address over there; this thread comes back. */
static int open_sink(const struct bench_options *options)
{
    const int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    const int there = open(options->far, O_RDONLY | O_CLOEXEC);
    if (here < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0)
        bench_die(options->far);
    const int sink = bench_udp_open(&options->target, NULL, false);
    if (setns(here, CLONE_NEWNET) != 0)
        bench_die("setns");
    close(here);
    close(there);
    return sink;
}

static int open_sender(const struct bench_options *options)
{
    struct sockaddr_in local, relay = options->peer;
    socklen_t len = sizeof local;
    if (options->peer.sin_port == 0)
        return bench_udp_open(NULL, &options->target, false);
    /* Connecting, to the proxy at first, tells the address that datagrams will come from. */
    const int udp = bench_udp_open(NULL, &options->peer, false);
    if (getsockname(udp, (struct sockaddr *)&local, &len) != 0)
        bench_die("getsockname");
    bench_socks_associate(&options->peer, &local, &relay);
    if (connect(udp, (const struct sockaddr *)&relay, sizeof relay) != 0)
        bench_die("connect to the relay");
    return udp;
}

static void open_paced(struct paced *paced, const struct bench_options *options)
{
    if (!options->far || options->size < STAMP_BYTES) {
        fprintf(stderr, "paced needs --far, and --size of at least %d\n", STAMP_BYTES);
        exit(2);
    }
    paced->options = options;
    paced->sink = open_sink(options);
    paced->rx = bench_rx_new(false);
    paced->senders = calloc(options->associations, sizeof *paced->senders);
    if (!paced->senders)
        bench_die("memory");
    if (options->peer.sin_port != 0) {
        bench_socks_header(paced->header, &options->target);
        paced->header_len = sizeof paced->header;
    }
    for (unsigned i = 0; i < options->associations; i++)
        paced->senders[i] = open_sender(options);
    prctl(PR_SET_TIMERSLACK, 1UL);
}

/* --- the result --- */

static int compare(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* The delay that the given share of those that arrived does not exceed, in microseconds. */
static double delay_us(const struct paced *paced, double share)
{
    const uint64_t first = paced->count - paced->arrived; /* those that did not arrive are zeros, sorted to the front */
    const double rank = share * (double)paced->arrived;
    uint64_t index = (uint64_t)rank;
    index -= index > 0 && (double)index == rank;
    index = index < paced->arrived ? index : paced->arrived - 1;
    return (double)paced->delays_ns[first + index] / 1000;
}

static void print_result(struct paced *paced)
{
    qsort(paced->delays_ns, paced->count, sizeof *paced->delays_ns, compare);
    printf("{\"sent\": %ju, \"refused\": %ju, \"delivered\": %ju, \"share\": %.6f, \"duplicates\": %ju, "
           "\"corrupt\": %ju, \"overtaken\": %ju, \"late_sends\": %ju, \"p50_us\": %.1f, \"p90_us\": %.1f, "
           "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           (uintmax_t)paced->sent, (uintmax_t)paced->refused, (uintmax_t)paced->arrived,
           (double)paced->arrived / (double)paced->sent, (uintmax_t)paced->duplicates, (uintmax_t)paced->corrupt,
           (uintmax_t)paced->overtaken, (uintmax_t)paced->late_sends, delay_us(paced, 0.5), delay_us(paced, 0.9),
           delay_us(paced, 0.99), delay_us(paced, 0.999), delay_us(paced, 1));
}

int bench_run_paced(const struct bench_options *options)
{
    static struct paced only; /* until the process ends */
    struct paced *paced = &only;
    open_paced(paced, options);
    run_phase(paced, WARM_UP, options->warm_up_seconds);
    if (options->wait_for_start)
        bench_wait_for_line("ready");
    run_phase(paced, MEASURED, options->seconds);
    if (paced->arrived == 0) {
        fprintf(stderr, "nothing arrived\n");
        return 1;
    }
    print_result(paced);
    return paced->corrupt == 0 ? 0 : 1;
}
