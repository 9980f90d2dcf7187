/*
 * Bulk TCP: connections through a SOCKS5 proxy (CONNECT) to a server that sends without end or takes whatever comes,
 * as the first byte of the connection asks.
 */
#include "modes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "socks.h"
#include "timing.h"
#include "wire.h"

enum { EVENTS = 64, CHUNK = 256 * 1024, BACKLOG = 512 };
enum direction { DOWN = 'd', UP = 'u' };

static uint8_t chunk[CHUNK];

static void watch(int epoll, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        bench_die("epoll");
}

/* --- the server --- */

static void accept_one(int epoll, int listener)
{
    uint8_t direction;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    /* The proxy relays the byte at once, so this waits hardly ever. */
    if (recv(fd, &direction, 1, 0) != 1) {
        close(fd);
        return;
    }
    watch(epoll, fd, direction == DOWN ? EPOLLOUT : EPOLLIN);
}

static void serve_one(const struct epoll_event *event)
{
    const int fd = event->data.fd;
    ssize_t len = event->events & EPOLLOUT ? send(fd, chunk, sizeof chunk, MSG_DONTWAIT | MSG_NOSIGNAL)
                                           : recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (len == 0 || (len < 0 && errno != EAGAIN))
        close(fd);
}

int bench_run_stream_server(const struct bench_options *options)
{
    const int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), epoll = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (const struct sockaddr *)&options->local, sizeof options->local) != 0 ||
        listen(listener, BACKLOG) != 0)
        bench_die("listen");
    watch(epoll, listener, EPOLLIN);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_one(epoll, listener);
            else
                serve_one(&events[i]);
        }
    }
}

/* --- the load --- */

static uint64_t move_bytes(int epoll, double seconds)
{
    const uint64_t end = bench_now_ns() + (uint64_t)(seconds * 1e9);
    uint64_t bytes = 0;
    while (bench_now_ns() < end) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            const int fd = events[i].data.fd;
            ssize_t len = events[i].events & EPOLLOUT ? send(fd, chunk, sizeof chunk, MSG_DONTWAIT | MSG_NOSIGNAL)
                                                      : recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
            if (len > 0)
                bytes += (uint64_t)len;
            else if (len == 0 || errno != EAGAIN)
                bench_die("a connection ended");
        }
    }
    return bytes;
}

int bench_run_stream(const struct bench_options *options)
{
    const uint8_t direction = options->upload ? UP : DOWN;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < options->associations; i++) {
        int fd = bench_socks_connect(&options->peer, &options->target);
        if (send(fd, &direction, 1, MSG_NOSIGNAL) != 1)
            bench_die("send");
        watch(epoll, fd, options->upload ? EPOLLOUT : EPOLLIN);
    }
    move_bytes(epoll, options->warm_up_seconds);
    if (options->wait_for_start)
        bench_wait_for_line("ready");
    const uint64_t cpu = bench_own_cpu_ns(), start = bench_now_ns();
    const uint64_t bytes = move_bytes(epoll, options->seconds);
    printf("{\"connections\": %u, \"bytes\": %ju, \"seconds\": %.4f, \"load_cpu_ns\": %ju}\n", options->associations,
           (uintmax_t)bytes, (double)(bench_now_ns() - start) / 1e9, (uintmax_t)(bench_own_cpu_ns() - cpu));
    return 0;
}
