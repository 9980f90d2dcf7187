/* `sealgram impair`, not listed in the help: the bad network of impair.h as a process, for the end-to-end tests. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <jansson.h>
#include <sodium.h>

#include "cli/cli.h"
#include "cli/impair.h"

struct arguments {
    struct sg_impair_options options;
    uint8_t markers[SG_IMPAIR_MARKERS_MAX][SG_IMPAIR_MARKER_BYTES];
};

static void parse_endpoint(struct argp_state *state, const char *text, struct sg_endpoint *out)
{
    struct sg_target target;
    if (sg_target_parse(text, true, &target) != SG_OK || target.atyp == SG_ATYP_NAME)
        argp_error(state, "%s: not of the form ADDR:PORT", text);
    *out = sg_target_endpoint(&target);
}

static unsigned parse_rate(struct argp_state *state, const char *text)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value > 1000)
        argp_error(state, "%s: a rate is a number of datagrams per thousand", text);
    return (unsigned)value;
}

static void add_marker(struct argp_state *state, struct arguments *args, const char *text)
{
    size_t len = 0, at = args->options.marker_count;
    if (at == SG_IMPAIR_MARKERS_MAX ||
        sodium_hex2bin(args->markers[at], SG_IMPAIR_MARKER_BYTES, text, strlen(text), NULL, &len, NULL) != 0 ||
        len != SG_IMPAIR_MARKER_BYTES)
        argp_error(state, "--marker %s: must be %d bytes in hexadecimal, at most %d times", text,
                   SG_IMPAIR_MARKER_BYTES, SG_IMPAIR_MARKERS_MAX);
    args->options.marker_count++;
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *args = state->input;
    struct sg_impair_options *options = &args->options;
    switch (key) {
    case 'l':
        parse_endpoint(state, value, &options->listen);
        return 0;
    case 't':
        parse_endpoint(state, value, &options->to);
        return 0;
    case 's':
        options->seed = strtoull(value, NULL, 10);
        return 0;
    case 'x':
        options->loss = parse_rate(state, value);
        return 0;
    case 'r':
        options->reorder = parse_rate(state, value);
        return 0;
    case 'd':
        options->duplicate = parse_rate(state, value);
        return 0;
    case 'c':
        options->corrupt = parse_rate(state, value);
        return 0;
    case 'p':
        options->replay = parse_rate(state, value);
        return 0;
    case 'm':
        add_marker(state, args, value);
        return 0;
    case ARGP_KEY_END:
        if (options->listen.ip.family == 0 || options->to.ip.family == 0)
            argp_error(state, "--listen and --to are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_list[] = {
    {"listen", 'l', "ADDR:PORT", 0, "TCP and UDP; port 0 for any", 0},
    {"to", 't', "ADDR:PORT", 0, "the server", 0},
    {"seed", 's', "N", 0, "of all faults", 0},
    {"loss", 'x', "N", 0, "per thousand datagrams", 0},
    {"reorder", 'r', "N", 0, "per thousand datagrams", 0},
    {"duplicate", 'd', "N", 0, "per thousand datagrams", 0},
    {"corrupt", 'c', "N", 0, "per thousand datagrams", 0},
    {"replay", 'p', "N", 0, "per thousand datagrams", 0},
    {"marker", 'm', "HEX", 0, "16 bytes to look for in all that passes", 0},
    {0},
};

static const struct argp argp = {
    .options = option_list,
    .parser = parse_option,
    .doc = "A bad network between a client and a server on this machine. Prints its ledger as JSON at SIGTERM.",
};

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    (void)number;
    (void)what;
    event_base_loopbreak(ctx);
}

int sg_cmd_impair(int argc, char **argv)
{
    static struct arguments args;
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sg_endpoint bound;
    char text[SG_ENDPOINT_TEXT_MAX];
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    (void)sigaction(SIGPIPE, &ignore, NULL); /* a peer that is gone is an error of one connection */
    args.options.markers = (const uint8_t(*)[SG_IMPAIR_MARKER_BYTES])args.markers;
    struct event_base *base = event_base_new();
    struct event *signal_event = base ? evsignal_new(base, SIGTERM, on_signal, base) : NULL;
    struct sg_impair *impair = signal_event ? sg_impair_new(base, &args.options, &bound) : NULL;
    int code = SG_EXIT_FAILED;
    if (impair && event_add(signal_event, NULL) == 0) {
        sg_endpoint_format(&bound, text);
        printf("ready %s\n", text);
        fflush(stdout);
        event_base_dispatch(base);
        json_t *ledger = sg_impair_json(impair);
        json_dumpf(ledger, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(ledger);
        code = SG_EXIT_OK;
    } else {
        sg_cli_error("the relay cannot start: %s", strerror(errno));
    }
    sg_impair_free(impair);
    if (signal_event)
        event_free(signal_event);
    if (base)
        event_base_free(base);
    return code;
}
