/* The modes of the load generator (load.c reads the command line). */
#ifndef BENCH_MODES_H
#define BENCH_MODES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

struct bench_options {
    bool socks;                /* through a SOCKS5 proxy; otherwise plain datagrams to peer */
    struct sockaddr_in peer;   /* the proxy, the forward or the echo server itself */
    struct sockaddr_in target; /* the echo server, as the proxy must see it */
    struct sockaddr_in local;  /* for echo and relay: where to listen */
    bool gso;
    bool upload;         /* stream: towards the target */
    bool spread;         /* each association has a peer of its own: the next address, the same port */
    bool wait_for_start; /* after the warm-up print "ready" and wait for a line */
    unsigned associations;
    unsigned window; /* datagrams in flight in all; each association has its share, at least one */
    size_t size;     /* bytes of payload; 0: mixed */
    unsigned rate;   /* paced: datagrams a second of each association */
    const char *far; /* paced: file of the network namespace in which target is */
    double seconds, warm_up_seconds;
    unsigned timeout_ms; /* then a datagram counts as lost and its place is used again */
};

/* Runs the load; prints its result as one line of JSON. Returns the exit status: 1 if an echo was not what was sent. */
int bench_run_load(const struct bench_options *options);

/* Opens associations through a forward, one datagram each; prints its result, and with wait_for_start "open", and
 * waits for a line before it closes them. */
int bench_run_opening(const struct bench_options *options);

/* Moves bytes through CONNECT on as many connections as there are associations; prints its result. */
int bench_run_stream(const struct bench_options *options);

/* What it connects to, until killed. */
int bench_run_stream_server(const struct bench_options *options);

/* Sends at fixed times, through peer if it has a port, to a sink of its own at target in the namespace far (which needs
 * root); prints the one-way delays. Returns 1 if nothing came or something was not what was sent. */
int bench_run_paced(const struct bench_options *options);

/* Sends back what comes, until killed. */
int bench_run_echo(const struct bench_options *options);

/* Forwards between many sources and one target with one call for each datagram, until killed. */
int bench_run_relay(const struct bench_options *options);

#endif
