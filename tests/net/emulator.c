/*
 * The network emulator: a program between two network namespaces, with a TUN device in each, that carries IPv4 and
 * IPv6 packets as wire.h says. Commands (command.h) come as lines on its standard input, each answered by a line; those
 * behind the options are run at the start. It prints `ready seed=N` when the devices exist, and ends, with the ledger
 * as its last line, on SIGTERM, SIGINT or the end of its input. Its users set addresses and switch the devices on.
 */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

/* How many packets are read from one device before the other has its turn; and how often before a command is run, so
 * that it acts behind all that was sent before it. */
enum { BATCH = 64, COMMAND_BATCHES = 1024 };

enum { SOURCE_STDIN = EMU_DIRECTIONS, SOURCE_SIGNAL, SOURCES };

struct emulator {
    struct emu_wire *wire;
    int tun[EMU_DIRECTIONS]; /* [EMU_UP] is the client's: what is read there goes up */
    int epoll, signals;
    bool ended;
    char line[EMU_COMMAND_MAX];
    size_t line_len;
    bool line_too_long;
};

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * EMU_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* --- packets --- */

static void deliver_due(struct emulator *emulator, uint64_t now_ns)
{
    struct emu_flight *flight;
    while ((flight = emu_wire_take(emulator->wire, now_ns))) {
        int out = emulator->tun[flight->direction == EMU_UP ? EMU_DOWN : EMU_UP];
        emu_wire_done(emulator->wire, flight, write(out, flight->bytes, flight->len) == (ssize_t)flight->len);
    }
}

/* Gives how many packets there were. */
static unsigned read_packets(struct emulator *emulator, enum emu_direction direction)
{
    uint8_t bytes[EMU_PACKET_MAX], answer[EMU_ICMP_MAX];
    unsigned count = 0;
    for (; count < BATCH; count++) {
        ssize_t len = read(emulator->tun[direction], bytes, sizeof bytes);
        if (len <= 0)
            break;
        uint64_t now_ns = clock_ns();
        size_t answered = emu_wire_send(emulator->wire, direction, bytes, (size_t)len, now_ns, answer);
        if (answered > 0 && write(emulator->tun[direction], answer, answered) < 0)
            fprintf(stderr, "emulator: an ICMP error was not taken: %s\n", strerror(errno));
        deliver_due(emulator, now_ns);
    }
    return count;
}

static void read_all_packets(struct emulator *emulator)
{
    for (unsigned i = 0; i < COMMAND_BATCHES; i++)
        if (read_packets(emulator, EMU_UP) + read_packets(emulator, EMU_DOWN) == 0)
            return;
}

/* --- commands --- */

static void run_line(struct emulator *emulator)
{
    read_all_packets(emulator);
    emulator->line[emulator->line_too_long ? 0 : emulator->line_len] = '\0';
    emu_command_run(emulator->wire, emulator->line, clock_ns(), stdout);
    fflush(stdout);
    emulator->line_len = 0;
    emulator->line_too_long = false;
}

static void read_commands(struct emulator *emulator)
{
    char bytes[4096];
    ssize_t len = read(STDIN_FILENO, bytes, sizeof bytes);
    if (len == 0 || (len < 0 && errno != EINTR && errno != EAGAIN))
        emulator->ended = true;
    for (ssize_t i = 0; i < len; i++) {
        if (bytes[i] == '\n')
            run_line(emulator);
        else if (emulator->line_len + 1 < sizeof emulator->line)
            emulator->line[emulator->line_len++] = bytes[i];
        else
            emulator->line_too_long = true;
    }
}

/* --- running --- */

static int wait_for_events(struct emulator *emulator, struct epoll_event *events)
{
    uint64_t next_ns = emu_wire_next_ns(emulator->wire), now_ns = clock_ns();
    uint64_t wait_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / EMU_NS_PER_S), .tv_nsec = (long)(wait_ns % EMU_NS_PER_S)};
    return epoll_pwait2(emulator->epoll, events, SOURCES, next_ns == EMU_FOREVER ? NULL : &wait, NULL);
}

static int run(struct emulator *emulator)
{
    while (!emulator->ended) {
        struct epoll_event events[SOURCES];
        int count = wait_for_events(emulator, events);
        if (count < 0 && errno != EINTR) {
            perror("emulator: epoll");
            return 1;
        }
        for (int i = 0; i < count; i++) {
            if (events[i].data.u32 == SOURCE_STDIN)
                read_commands(emulator);
            else if (events[i].data.u32 == SOURCE_SIGNAL)
                emulator->ended = true;
            else
                read_packets(emulator, (enum emu_direction)events[i].data.u32);
        }
        deliver_due(emulator, clock_ns());
    }
    emu_command_write_ledger(emulator->wire, stdout);
    return 0;
}

static bool watch(struct emulator *emulator, int descriptor, unsigned source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = source};
    return epoll_ctl(emulator->epoll, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

static bool prepare(struct emulator *emulator)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    prctl(PR_SET_TIMERSLACK, 1UL);
    emulator->signals = signalfd(-1, &signals, SFD_CLOEXEC);
    emulator->epoll = epoll_create1(EPOLL_CLOEXEC);
    return emulator->signals >= 0 && emulator->epoll >= 0 && watch(emulator, STDIN_FILENO, SOURCE_STDIN) &&
           watch(emulator, emulator->signals, SOURCE_SIGNAL) && watch(emulator, emulator->tun[EMU_UP], EMU_UP) &&
           watch(emulator, emulator->tun[EMU_DOWN], EMU_DOWN);
}

/* A TUN device in a network namespace, given by its file. The process stays in that namespace. */
static int open_tun(const char *namespace, const char *device)
{
    int descriptor = open(namespace, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || setns(descriptor, CLONE_NEWNET) != 0) {
        perror(namespace);
        return -1;
    }
    close(descriptor);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    descriptor = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0 || ioctl(descriptor, TUNSETIFF, &request) != 0) {
        perror("/dev/net/tun");
        return -1;
    }
    return descriptor;
}

static const struct option options[] = {
    {"client", required_argument, NULL, 'c'},
    {"server", required_argument, NULL, 's'},
    {"device", required_argument, NULL, 'd'},
    {"seed", required_argument, NULL, 'n'},
    {NULL, 0, NULL, 0},
};

int main(int argc, char **argv)
{
    const char *namespaces[EMU_DIRECTIONS] = {NULL, NULL}, *device = "wire";
    uint64_t seed = 0;
    if (getrandom(&seed, 4, 0) != 4)
        perror("emulator: getrandom");
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'c')
            namespaces[EMU_UP] = optarg;
        else if (option == 's')
            namespaces[EMU_DOWN] = optarg;
        else if (option == 'd')
            device = optarg;
        else if (option == 'n')
            seed = strtoull(optarg, NULL, 0);
        else
            return 2;
    }
    if (!namespaces[EMU_UP] || !namespaces[EMU_DOWN]) {
        fprintf(stderr, "usage: emulator --client NETNS --server NETNS [--device NAME] [--seed N] [COMMAND...]\n");
        return 2;
    }
    static struct emulator emulator;
    emulator.wire = emu_wire_new(seed);
    for (unsigned d = 0; d < EMU_DIRECTIONS; d++)
        emulator.tun[d] = open_tun(namespaces[d], device);
    int status = 1;
    if (!emulator.wire || emulator.tun[EMU_UP] < 0 || emulator.tun[EMU_DOWN] < 0 || !prepare(&emulator))
        goto out;
    for (int i = optind; i < argc; i++) {
        snprintf(emulator.line, sizeof emulator.line, "%s", argv[i]);
        if (!emu_command_run(emulator.wire, emulator.line, clock_ns(), stderr))
            goto out;
    }
    printf("ready seed=%" PRIu64 "\n", seed);
    fflush(stdout);
    status = run(&emulator);
out:
    emu_wire_free(emulator.wire);
    return status;
}
