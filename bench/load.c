/* A load generator for UDP relays, with its own echo server: the command line. `bench/run` uses it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "modes.h"
#include "wire.h"

static const char usage[] =
    "usage: load socks   --peer PROXY --target ECHO [options]   through a SOCKS5 proxy\n"
    "       load forward --peer ADDRESS [options]              plain datagrams\n"
    "       load open    --peer FORWARD [options]              one datagram for each new association\n"
    "       load stream  --peer PROXY --target SERVER [options] [--upload]   TCP, --associations connections\n"
    "       load serve   --listen ADDRESS                      what stream connects to\n"
    "       load paced   [--peer PROXY] --target SINK --far NETNS [options]   one-way delay to a sink there\n"
    "       load echo    --listen ADDRESS [--gso]\n"
    "       load relay   --listen ADDRESS --target ECHO\n"
    "Addresses are IPV4:PORT. Options:\n"
    "  --associations N  sources, each with its share of the window (1)\n"
    "  --window N        datagrams in flight in all (512)\n"
    "  --size N|mixed    bytes of payload (512)\n"
    "  --gso             many datagrams in one packet, out and in\n"
    "  --seconds S       (1)    --warm-up S (0.2)\n"
    "  --timeout MS      then a datagram is lost (200)\n"
    "  --spread          association N has the peer's address + N\n"
    "  --rate N          paced: datagrams a second of each association (50)\n"
    "  --wait            after the warm-up print \"ready\" and wait for a line\n";

static _Noreturn void show_usage(void)
{
    fputs(usage, stderr);
    exit(2);
}

enum choice {
    PEER = 1,
    TARGET,
    LISTEN,
    ASSOCIATIONS,
    WINDOW,
    SIZE,
    GSO,
    SECONDS,
    WARM_UP,
    TIMEOUT,
    WAIT,
    UPLOAD,
    SPREAD,
    RATE,
    FAR
};

static const struct option long_options[] = {
    {"peer", required_argument, NULL, PEER},
    {"target", required_argument, NULL, TARGET},
    {"listen", required_argument, NULL, LISTEN},
    {"associations", required_argument, NULL, ASSOCIATIONS},
    {"window", required_argument, NULL, WINDOW},
    {"size", required_argument, NULL, SIZE},
    {"gso", no_argument, NULL, GSO},
    {"seconds", required_argument, NULL, SECONDS},
    {"warm-up", required_argument, NULL, WARM_UP},
    {"timeout", required_argument, NULL, TIMEOUT},
    {"wait", no_argument, NULL, WAIT},
    {"upload", no_argument, NULL, UPLOAD},
    {"spread", no_argument, NULL, SPREAD},
    {"rate", required_argument, NULL, RATE},
    {"far", required_argument, NULL, FAR},
    {NULL, 0, NULL, 0},
};

static unsigned read_number(const char *text, unsigned low, unsigned high)
{
    char *end = NULL;
    unsigned long number = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || number < low || number > high) {
        fprintf(stderr, "not a number from %u to %u: %s\n", low, high, text);
        exit(2);
    }
    return (unsigned)number;
}

static void read_option(struct bench_options *options, int option)
{
    switch (option) {
    case PEER:
        options->peer = bench_address(optarg);
        break;
    case TARGET:
        options->target = bench_address(optarg);
        break;
    case LISTEN:
        options->local = bench_address(optarg);
        break;
    case ASSOCIATIONS:
        options->associations = read_number(optarg, 1, 16000);
        break;
    case WINDOW:
        options->window = read_number(optarg, 1, 65536);
        break;
    case SIZE:
        options->size = strcmp(optarg, "mixed") == 0 ? 0 : read_number(optarg, 16, 1400);
        break;
    case GSO:
        options->gso = true;
        break;
    case SECONDS:
        options->seconds = strtod(optarg, NULL);
        break;
    case WARM_UP:
        options->warm_up_seconds = strtod(optarg, NULL);
        break;
    case TIMEOUT:
        options->timeout_ms = read_number(optarg, 1, 60000);
        break;
    case WAIT:
        options->wait_for_start = true;
        break;
    case SPREAD:
        options->spread = true;
        break;
    case UPLOAD:
        options->upload = true;
        break;
    case RATE:
        options->rate = read_number(optarg, 1, 100000);
        break;
    case FAR:
        options->far = optarg;
        break;
    default:
        show_usage();
    }
}

static const struct {
    const char *name;
    int (*run)(const struct bench_options *options);
} modes[] = {
    {"socks", bench_run_load},    {"forward", bench_run_load},        {"open", bench_run_opening},
    {"stream", bench_run_stream}, {"serve", bench_run_stream_server}, {"echo", bench_run_echo},
    {"relay", bench_run_relay},   {"paced", bench_run_paced},
};

int main(int argc, char **argv)
{
    struct bench_options options = {.associations = 1,
                                    .window = 512,
                                    .size = 512,
                                    .rate = 50,
                                    .seconds = 1,
                                    .warm_up_seconds = 0.2,
                                    .timeout_ms = 200};
    const char *mode = argc > 1 ? argv[1] : "";
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;)
        read_option(&options, option);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    options.socks = strcmp(mode, "socks") == 0;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(mode, modes[i].name) == 0)
            return modes[i].run(&options);
    }
    show_usage();
}
