/*
 * The closed loop: each association keeps its share of the window in flight and sends again when echoes come back, so
 * the load adapts to what the relay carries. Each payload has the number of its association and slot, a sequence
 * number, and a pattern that depends on it; an echo must equal what was sent.
 */
#include "modes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "histogram.h"
#include "socks.h"
#include "timing.h"
#include "wire.h"

enum { STAMP_BYTES = 16, PATTERN_BYTES = 4096, PATTERN_OFFSETS = 2048, SCAN_MS = 20, EVENTS = 64, BURST_MIN_MAX = 32 };

static const size_t mixed_sizes[] = {64, 1200, 128, 512, 300, 1200, 64, 900};
enum { MIXED_SIZES = sizeof mixed_sizes / sizeof mixed_sizes[0] };

struct stamp {
    uint32_t association;
    uint32_t slot;
    uint64_t sequence;
};
static_assert(sizeof(struct stamp) == STAMP_BYTES, "the stamp precedes the pattern");

struct slot {
    uint64_t sequence; /* of the datagram in flight or, when free, of the last one */
    uint64_t sent_ns;
    size_t size;
    bool in_flight;
};

struct association {
    int udp, tcp;
    struct slot *slots;
    unsigned *free; /* indices of slots that are not in flight */
    unsigned free_count;
    uint64_t echoed;
};

struct load {
    const struct bench_options *options;
    unsigned share; /* slots of each association */
    unsigned burst_min;
    struct association *associations;
    int epoll;
    bool sending;
    uint64_t sequence, sizes_used;
    uint64_t sent, echoed, echoed_bytes, echoed_in_time, bytes_in_time, lost, late, corrupt;
    uint64_t in_flight;
    uint8_t header[BENCH_SOCKS_HEADER];
    size_t header_len;
    uint8_t pattern[PATTERN_BYTES];
    struct bench_histogram round_trips;
    struct bench_rx *rx;
    struct bench_burst burst;
};

/* --- sending --- */

static const uint8_t *pattern_of(const struct load *load, uint64_t sequence)
{
    return load->pattern + sequence % PATTERN_OFFSETS;
}

static void append_datagram(struct load *load, unsigned number, size_t size, uint64_t now)
{
    struct association *association = &load->associations[number];
    unsigned index = association->free[--association->free_count];
    struct slot *slot = &association->slots[index];
    const struct stamp stamp = {number, index, ++load->sequence};
    struct bench_burst *burst = &load->burst;
    uint8_t *at = burst->bytes + burst->used;
    memcpy(at, load->header, load->header_len);
    memcpy(at + load->header_len, &stamp, sizeof stamp);
    memcpy(at + load->header_len + sizeof stamp, pattern_of(load, stamp.sequence), size - sizeof stamp);
    burst->len[burst->count++] = load->header_len + size;
    burst->used += load->header_len + size;
    *slot = (struct slot){.sequence = stamp.sequence, .sent_ns = now, .size = size, .in_flight = true};
    load->sent++;
    load->in_flight++;
}

static size_t next_size(struct load *load)
{
    return load->options->size ? load->options->size : mixed_sizes[load->sizes_used++ % MIXED_SIZES];
}

/* Sends all that the association's share allows. With GSO it waits until a burst is worth it, and all datagrams of a
 * burst have one size. */
static void fill(struct load *load, unsigned number)
{
    struct association *association = &load->associations[number];
    const bool gso = load->options->gso;
    if (!load->sending || association->free_count < load->burst_min)
        return;
    const uint64_t now = bench_now_ns();
    while (association->free_count > 0) {
        size_t size = next_size(load);
        while (association->free_count > 0 && load->burst.count < BENCH_BATCH &&
               load->burst.used + load->header_len + size <= BENCH_SUPER_BYTES) {
            append_datagram(load, number, size, now);
            size = gso ? size : next_size(load);
        }
        bench_burst_send(&load->burst, association->udp, gso);
    }
}

static void free_slot(struct load *load, struct association *association, unsigned index)
{
    association->slots[index].in_flight = false;
    association->free[association->free_count++] = index;
    load->in_flight--;
}

/* --- receiving --- */

static bool is_what_was_sent(const struct load *load, const struct slot *slot, const uint8_t *bytes, size_t len)
{
    return len == slot->size && memcmp(bytes + STAMP_BYTES, pattern_of(load, slot->sequence), len - STAMP_BYTES) == 0;
}

static void take_echo(struct load *load, unsigned number, const uint8_t *bytes, size_t len, uint64_t now)
{
    struct association *association = &load->associations[number];
    struct stamp stamp;
    size_t header = load->options->socks ? bench_socks_header_len(bytes, len) : 0;
    bytes += header;
    len -= header;
    if (len >= sizeof stamp)
        memcpy(&stamp, bytes, sizeof stamp);
    if (len < sizeof stamp || stamp.association != number || stamp.slot >= load->share) {
        load->corrupt++;
        return;
    }
    struct slot *slot = &association->slots[stamp.slot];
    if (!slot->in_flight || stamp.sequence < slot->sequence) {
        load->late++;
        return;
    }
    if (stamp.sequence != slot->sequence || !is_what_was_sent(load, slot, bytes, len)) {
        load->corrupt++;
        return;
    }
    bench_histogram_add(&load->round_trips, now - slot->sent_ns);
    load->echoed++;
    load->echoed_bytes += len;
    association->echoed++;
    free_slot(load, association, stamp.slot);
}

static void receive(struct load *load, unsigned number)
{
    unsigned count = bench_rx_read(load->rx, load->associations[number].udp);
    const uint64_t now = bench_now_ns();
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *bytes = bench_rx_bytes(load->rx, i);
        size_t left = load->rx->msgs[i].msg_len, segment = bench_rx_segment(load->rx, i);
        while (left > 0) {
            size_t len = left < segment ? left : segment;
            take_echo(load, number, bytes, len, now);
            bytes += len;
            left -= len;
        }
    }
    fill(load, number);
}

static void give_up_late(struct load *load)
{
    const uint64_t now = bench_now_ns(), limit_ns = (uint64_t)load->options->timeout_ms * 1000000;
    for (unsigned number = 0; number < load->options->associations; number++) {
        struct association *association = &load->associations[number];
        for (unsigned index = 0; index < load->share; index++) {
            const struct slot *slot = &association->slots[index];
            if (slot->in_flight && slot->sent_ns + limit_ns < now) {
                free_slot(load, association, index);
                load->lost++;
            }
        }
        fill(load, number);
    }
}

/* --- phases --- */

/* Until the time is over; or, when not sending, until nothing is in flight. */
static void run_until(struct load *load, uint64_t end_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t scan_ns = bench_now_ns() + SCAN_MS * 1000000;
    for (uint64_t now = bench_now_ns(); now < end_ns && (load->sending || load->in_flight > 0); now = bench_now_ns()) {
        int count = epoll_wait(load->epoll, events, EVENTS, SCAN_MS);
        for (int i = 0; i < count; i++)
            receive(load, events[i].data.u32);
        if (now >= scan_ns) {
            give_up_late(load);
            scan_ns = now + SCAN_MS * 1000000;
        }
    }
}

/* Sends for so long, then collects what is still under way. Gives the seconds that sending took; the rate is that of
 * the echoes in that time. */
static double run_phase(struct load *load, double seconds)
{
    const uint64_t start = bench_now_ns();
    load->sending = true;
    for (unsigned number = 0; number < load->options->associations; number++)
        fill(load, number);
    run_until(load, start + (uint64_t)(seconds * 1e9));
    load->sending = false;
    load->echoed_in_time = load->echoed;
    load->bytes_in_time = load->echoed_bytes;
    const uint64_t end = bench_now_ns();
    run_until(load, end + (uint64_t)(load->options->timeout_ms + 2 * SCAN_MS) * 1000000);
    return (double)(end - start) / 1e9;
}

static void reset_counts(struct load *load)
{
    load->sent = load->echoed = load->echoed_bytes = load->lost = load->late = load->corrupt = 0;
    memset(&load->round_trips, 0, sizeof load->round_trips);
    for (unsigned number = 0; number < load->options->associations; number++)
        load->associations[number].echoed = 0;
}

static void open_association(struct load *load, unsigned number)
{
    const struct bench_options *options = load->options;
    struct association *association = &load->associations[number];
    struct sockaddr_in local, proxy = options->peer;
    socklen_t len = sizeof local;
    if (options->spread)
        proxy.sin_addr.s_addr = htonl(ntohl(proxy.sin_addr.s_addr) + number);
    struct sockaddr_in relay = proxy;
    /* Connecting, to the proxy at first, tells the address that datagrams will come from. */
    association->udp = bench_udp_open(NULL, &proxy, options->gso);
    if (getsockname(association->udp, (struct sockaddr *)&local, &len) != 0)
        bench_die("getsockname");
    association->tcp = options->socks ? bench_socks_associate(&proxy, &local, &relay) : -1;
    if (connect(association->udp, (const struct sockaddr *)&relay, sizeof relay) != 0)
        bench_die("connect to the relay");
    association->slots = calloc(load->share, sizeof *association->slots);
    association->free = calloc(load->share, sizeof *association->free);
    if (!association->slots || !association->free)
        bench_die("memory");
    for (unsigned index = 0; index < load->share; index++)
        association->free[association->free_count++] = index;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, association->udp, &event) != 0)
        bench_die("epoll");
}

static void open_load(struct load *load, const struct bench_options *options)
{
    load->options = options;
    load->share = options->window / options->associations ? options->window / options->associations : 1;
    load->burst_min = options->gso ? load->share / 8 : 1;
    load->burst_min = load->burst_min > BURST_MIN_MAX ? BURST_MIN_MAX : load->burst_min;
    load->burst_min = load->burst_min < 1 ? 1 : load->burst_min;
    load->rx = bench_rx_new(options->gso);
    load->associations = calloc(options->associations, sizeof *load->associations);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!load->associations || load->epoll < 0)
        bench_die("epoll");
    if (options->socks) {
        bench_socks_header(load->header, &options->target);
        load->header_len = sizeof load->header;
    }
    uint32_t state = 2463534242U; /* xorshift: bytes that repeat nowhere */
    for (size_t i = 0; i < PATTERN_BYTES; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        load->pattern[i] = (uint8_t)state;
    }
    for (unsigned number = 0; number < options->associations; number++)
        open_association(load, number);
}

static void print_result(const struct load *load, double seconds, uint64_t cpu_ns)
{
    uint64_t slowest = UINT64_MAX;
    unsigned silent = 0;
    for (unsigned number = 0; number < load->options->associations; number++) {
        silent += load->associations[number].echoed == 0;
        if (load->associations[number].echoed < slowest)
            slowest = load->associations[number].echoed;
    }
    const double mean = (double)load->echoed / load->options->associations;
    const uint64_t never = load->lost > load->late ? load->lost - load->late : 0;
    printf("{\"sent\": %ju, \"echoed\": %ju, \"per_second\": %.0f, \"gbit\": %.4f, \"lost\": %ju, \"late\": %ju, "
           "\"corrupt\": %ju, \"seconds\": %.4f, \"load_cpu_ns\": %ju, \"window\": %u, \"slowest\": %ju, "
           "\"mean\": %.1f, \"silent\": %u, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f}\n",
           (uintmax_t)load->sent, (uintmax_t)load->echoed, (double)load->echoed_in_time / seconds,
           (double)load->bytes_in_time * 8 / seconds / 1e9, (uintmax_t)never, (uintmax_t)load->late,
           (uintmax_t)load->corrupt, seconds, (uintmax_t)cpu_ns, load->share * load->options->associations,
           (uintmax_t)slowest, mean, silent, bench_histogram_us(&load->round_trips, 0.5),
           bench_histogram_us(&load->round_trips, 0.99), bench_histogram_us(&load->round_trips, 0.999));
}

int bench_run_load(const struct bench_options *options)
{
    static struct load only; /* until the process ends */
    struct load *load = &only;
    open_load(load, options);
    run_phase(load, options->warm_up_seconds);
    reset_counts(load);
    if (options->wait_for_start)
        bench_wait_for_line("ready");
    const uint64_t cpu = bench_own_cpu_ns();
    const double seconds = run_phase(load, options->seconds);
    print_result(load, seconds, bench_own_cpu_ns() - cpu);
    return load->corrupt == 0 ? 0 : 1;
}
