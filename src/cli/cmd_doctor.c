/*
 * `sealgram doctor`: what a SOCKS5 relay, or a server by way of a throwaway client, does for datagrams. Here is the
 * command line, and the reflector that may run far away.
 */
#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <sodium.h>

#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/doctor_relay.h"
#include "cli/doctor_show.h"
#include "cli/progress.h"
#include "net/invite.h"

enum { ECHOES = 50 };

volatile sig_atomic_t sg_doctor_interrupted;

static void on_interrupt(int number)
{
    (void)number;
    sg_doctor_interrupted = 1;
}

/* --- the report --- */

static bool begin_report(struct sg_doctor *doctor)
{
    doctor->report =
        json_pack("{s:s, s:b, s:{s:n, s:n}, s:n, s:[], s:{s:n, s:n, s:n}, s:n, s:n, s:n, s:[], s:[]}", "relay", "",
                  "own_client", doctor->invite != NULL, "udp", "relayed", "path", "targets", "trips", "size", "largest",
                  "sealed", "record_max", "mapping", "outer", "filtering", "policy", "not_examined");
    return doctor->report != NULL;
}

/* --- the reflector --- */

static int reflect(const struct sg_doctor *doctor)
{
    struct sg_reflector reflector;
    struct pollfd fds[SG_REFLECT_SOCKETS];
    char text[SG_ENDPOINT_TEXT_MAX];
    if (!sg_reflector_open(&reflector, &doctor->reflect, true)) {
        sg_cli_error("doctor: --reflect %s: %s", doctor->reflect_text, strerror(errno));
        return SG_EXIT_FAILED;
    }
    fputs("ready", stdout);
    for (unsigned i = 0; i < reflector.where.count; i++) {
        sg_endpoint_format(&reflector.where.at[i], text);
        printf(" %s", text);
    }
    putchar('\n');
    fflush(stdout);
    while (!sg_doctor_interrupted) {
        unsigned count = sg_reflector_poll(&reflector, fds);
        if (poll(fds, count, 1000) > 0)
            sg_reflector_work(&reflector);
    }
    sg_reflector_close(&reflector);
    return SG_EXIT_OK;
}

/* --- the command line --- */

enum key { KEY_REFLECTOR = 256, KEY_REFLECT, KEY_CA, KEY_CERT, KEY_KEY };

static void pass_on(struct sg_doctor *doctor, const char *option, const char *value)
{
    if (doctor->passed_on_count + 2 > SG_DOCTOR_PASSED_ON_MAX)
        return;
    doctor->passed_on[doctor->passed_on_count++] = option;
    doctor->passed_on[doctor->passed_on_count++] = value;
}

static unsigned parse_count(struct argp_state *state, const char *text)
{
    char *end = NULL;
    unsigned long count = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || count < 1 || count > SG_RELAY_ECHOES_MAX)
        argp_error(state, "--count %s: not a number from 1 to %d", text, SG_RELAY_ECHOES_MAX);
    return (unsigned)count;
}

static void parse_reflect(struct argp_state *state, struct sg_doctor *doctor, const char *option, const char *text)
{
    if (!sg_reflect_parse(text, &doctor->reflect))
        argp_error(state, "--%s %s: not of the form ADDR:PORT or ADDR:PORT,ADDR2:PORT2 with two ports that differ",
                   option, text);
}

static void parse_socks(struct argp_state *state, struct sg_doctor *doctor, const char *text)
{
    struct sg_target target;
    if (sg_target_parse(text, false, &target) != SG_OK || target.atyp == SG_ATYP_NAME)
        argp_error(state, "--socks %s: not of the form ADDR:PORT, as in 127.0.0.1:1080", text);
    doctor->socks = sg_target_endpoint(&target);
    doctor->socks_text = text;
}

static void take_invite(struct argp_state *state, struct sg_doctor *doctor, const char *text)
{
    char problem[SG_INVITE_TEXT_MAX];
    struct sg_invite invite;
    if (doctor->invite)
        argp_error(state, "one INVITE is enough");
    if (text[0] != '@' && strcmp(text, "-") != 0 && !sg_invite_parse(text, &invite, problem))
        argp_error(state, "INVITE: %s", problem);
    sodium_memzero(&invite, sizeof invite);
    doctor->invite = text;
}

/* What only the whole of the options can tell. */
static void check_options(struct argp_state *state, const struct sg_doctor *doctor)
{
    int ways = (doctor->invite != NULL) + (doctor->socks_text != NULL) + (doctor->reflect_text != NULL);
    if (ways != 1)
        argp_error(state, "one of INVITE, --socks and --reflect must be given");
    if (doctor->reflect_text && (doctor->json || doctor->reflector_text))
        argp_error(state, "--reflect goes alone");
    if (doctor->passed_on_count > 0 && !doctor->invite)
        argp_error(state, "--ca, --cert and --key go with an INVITE");
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct sg_doctor *doctor = state->input;
    switch (key) {
    case 's':
        parse_socks(state, doctor, value);
        return 0;
    case 'j':
        doctor->json = true;
        return 0;
    case 'n':
        doctor->echoes = parse_count(state, value);
        return 0;
    case KEY_REFLECTOR:
        parse_reflect(state, doctor, "reflector", value);
        doctor->reflector_text = value;
        return 0;
    case KEY_REFLECT:
        parse_reflect(state, doctor, "reflect", value);
        doctor->reflect_text = value;
        return 0;
    case KEY_CA:
        pass_on(doctor, "--ca", value);
        return 0;
    case KEY_CERT:
        pass_on(doctor, "--cert", value);
        return 0;
    case KEY_KEY:
        pass_on(doctor, "--key", value);
        return 0;
    case ARGP_KEY_ARG:
        take_invite(state, doctor, value);
        return 0;
    case ARGP_KEY_END:
        check_options(state, doctor);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"socks", 's', "ADDR:PORT", 0, "examine this SOCKS5 server, ours or another's", 0},
    {"reflector", KEY_REFLECTOR, "ADDR:PORT[,ADDR2:PORT2]", 0,
     "ask the reflector there (targets on this machine, if the relay reaches any)", 0},
    {"reflect", KEY_REFLECT, "ADDR:PORT[,ADDR2:PORT2]", 0,
     "be such a reflector, on own addresses; with one address PORT + 1 is used too", 0},
    {"count", 'n', "N", 0, "datagrams for loss and round trip, 25 a second (50)", 0},
    {"json", 'j', NULL, 0, "print a JSON document", 0},
    {"ca", KEY_CA, "FILE", 0, "as of `sealgram client`", 0},
    {"cert", KEY_CERT, "FILE", 0, "as of `sealgram client`", 0},
    {"key", KEY_KEY, "FILE", 0, "as of `sealgram client`", 0},
    {0},
};

static const struct argp argp = {
    .options = options,
    .parser = parse_option,
    .args_doc = "INVITE|@FILE|-\n--socks ADDR:PORT\n--reflect ADDR:PORT[,ADDR2:PORT2]",
    .doc =
        "Tells what a way does for datagrams: is UDP open, loss and round trip, the largest datagram, the class of the "
        "NAT, and which targets are refused.\v"
        "With an INVITE it starts a client for the time of the examination. Policy is probed with CONNECT requests to "
        "127.0.0.1, ::1, 10.0.0.1, 192.168.0.1, fd00::1, 169.254.169.254 and 224.0.0.1: where policy does not refuse "
        "them, the server tries to connect there. Exit code: 0 examined, 1 the relay or server cannot be reached, 2 "
        "wrong command line.",
};

static int print_report(const struct sg_doctor *doctor)
{
    if (doctor->json) {
        json_dumpf(doctor->report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else {
        sg_doctor_show(doctor->report);
    }
    return fflush(stdout) == 0 ? SG_EXIT_OK : SG_EXIT_FAILED;
}

static bool examine(struct sg_doctor *doctor)
{
    bool good = sg_doctor_examine(doctor);
    sg_progress_stop();
    return good;
}

int sg_cmd_doctor(int argc, char **argv)
{
    static struct sg_doctor doctor = {.client.out = -1, .echoes = ECHOES};
    const struct sigaction interrupt = {.sa_handler = on_interrupt};
    int code = SG_EXIT_FAILED;
    if (argp_parse(&argp, argc, argv, 0, NULL, &doctor) != 0)
        return SG_EXIT_USAGE;
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &interrupt, NULL);
    if (doctor.reflect_text)
        return reflect(&doctor);
    if (begin_report(&doctor) && (!doctor.invite || sg_doctor_client_start(&doctor)) && examine(&doctor))
        code = print_report(&doctor);
    sg_doctor_client_stop(&doctor);
    json_decref(doctor.report);
    return code;
}
