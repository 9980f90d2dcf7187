/*
 * New associations: many local sockets that send one datagram each through a forward, so that each is one association.
 * A window of them waits for its echo at any time; what is lost is sent again. They stay open until a further line is
 * read, so that what an idle one costs can be measured. All have one port, on addresses of their own in 127.0.0.0/8:
 * the relay needs a port for each, and there are not twice as many.
 */
#include "modes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "histogram.h"
#include "timing.h"
#include "wire.h"

enum { EVENTS = 64, WAIT_MS = 20, GIVE_UP_SECONDS = 60, FIRST_ADDRESS = 0x7f010001 };

struct opening {
    int udp;
    uint64_t sent_ns; /* 0: not yet */
    bool echoed;
};

struct openings {
    const struct bench_options *options;
    struct opening *all;
    unsigned next, waiting, done;
    uint64_t retries;
    int epoll;
    struct bench_histogram round_trips;
};

static void send_one(struct openings *openings, unsigned number)
{
    uint8_t payload[BENCH_PLAIN_ROOM] = {0};
    size_t size = openings->options->size ? openings->options->size : 64;
    memcpy(payload, &number, sizeof number);
    openings->all[number].sent_ns = bench_now_ns();
    if (send(openings->all[number].udp, payload, size, 0) < 0)
        openings->retries++; /* it will be, as one that was lost */
}

static void send_more(struct openings *openings)
{
    for (; openings->next < openings->options->associations && openings->waiting < openings->options->window;
         openings->next++) {
        send_one(openings, openings->next);
        openings->waiting++;
    }
}

static void take_echo(struct openings *openings, unsigned number)
{
    struct opening *opening = &openings->all[number];
    uint8_t payload[BENCH_PLAIN_ROOM];
    unsigned echoed;
    ssize_t len = recv(opening->udp, payload, sizeof payload, MSG_DONTWAIT);
    if (len < (ssize_t)sizeof echoed || opening->echoed)
        return;
    memcpy(&echoed, payload, sizeof echoed);
    if (echoed != number) {
        fprintf(stderr, "socket %u got the echo of %u\n", number, echoed);
        exit(1);
    }
    opening->echoed = true;
    bench_histogram_add(&openings->round_trips, bench_now_ns() - opening->sent_ns);
    openings->waiting--;
    openings->done++;
}

static void send_again(struct openings *openings)
{
    const uint64_t now = bench_now_ns(), limit_ns = (uint64_t)openings->options->timeout_ms * 1000000;
    for (unsigned number = 0; number < openings->next; number++) {
        if (!openings->all[number].echoed && openings->all[number].sent_ns + limit_ns < now) {
            send_one(openings, number);
            openings->retries++;
        }
    }
}

/* False when some were not echoed in time. */
static bool open_all(struct openings *openings)
{
    struct epoll_event events[EVENTS];
    const uint64_t start = bench_now_ns();
    uint64_t scan_ns = start;
    while (openings->done < openings->options->associations) {
        send_more(openings);
        int count = epoll_wait(openings->epoll, events, EVENTS, WAIT_MS);
        for (int i = 0; i < count; i++)
            take_echo(openings, events[i].data.u32);
        const uint64_t now = bench_now_ns();
        if (now - start > GIVE_UP_SECONDS * 1000000000ULL)
            return false;
        if (now - scan_ns > WAIT_MS * 1000000ULL) {
            send_again(openings);
            scan_ns = now;
        }
    }
    return true;
}

static void prepare(struct openings *openings, const struct bench_options *options)
{
    openings->options = options;
    openings->all = calloc(options->associations, sizeof *openings->all);
    openings->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!openings->all || openings->epoll < 0)
        bench_die("epoll");
    struct sockaddr_in local = {.sin_family = AF_INET};
    for (unsigned number = 0; number < options->associations; number++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
        local.sin_addr.s_addr = htonl(FIRST_ADDRESS + number);
        openings->all[number].udp = bench_udp_open(&local, &options->peer, false);
        socklen_t len = sizeof local;
        if (getsockname(openings->all[number].udp, (struct sockaddr *)&local, &len) != 0)
            bench_die("getsockname");
        if (epoll_ctl(openings->epoll, EPOLL_CTL_ADD, openings->all[number].udp, &event) != 0)
            bench_die("epoll");
    }
}

int bench_run_opening(const struct bench_options *options)
{
    static struct openings only; /* until the process ends */
    struct openings *openings = &only;
    prepare(openings, options);
    if (options->wait_for_start)
        bench_wait_for_line("ready");
    const uint64_t start = bench_now_ns();
    const bool all = open_all(openings);
    printf("{\"associations\": %u, \"seconds\": %.4f, \"retries\": %ju, \"p50_us\": %.2f, \"p99_us\": %.2f}\n",
           openings->done, (double)(bench_now_ns() - start) / 1e9, (uintmax_t)openings->retries,
           bench_histogram_us(&openings->round_trips, 0.5), bench_histogram_us(&openings->round_trips, 0.99));
    if (options->wait_for_start)
        bench_wait_for_line("open");
    return all ? 0 : 1;
}
