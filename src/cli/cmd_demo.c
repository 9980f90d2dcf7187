/*
 * `sealgram demo`: a throwaway server and client as processes of their own, and in this process a bad network between
 * them, an application that speaks SOCKS5, and a target that sends everything back. Loopback only.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <jansson.h>
#include <sodium.h>

#include "cli/cli.h"
#include "cli/demo_child.h"
#include "cli/demo_show.h"
#include "cli/impair.h"
#include "core/datagram.h"
#include "core/socks5.h"
#include "net/clock.h"
#include "net/invite.h"
#include "net/sockaddr.h"
#include "net/udp.h"

enum {
    DATAGRAMS = 3000,
    PER_TICK = 3,
    TICK_MS = 2,
    SHOWN_LEN = 96, /* of the first datagram, which is shown */
    LEN_MIN = 24,
    LEN_SPAN = 1000,
    READY_MS = 8000,
    DRAIN_MS = 800, /* longer than the network holds anything back */
    WHOLE_SECONDS = 19,
};

struct demo {
    char dir[64];
    struct event_base *base;
    struct event *tick;
    uint64_t seed;
    struct sg_demo_child server, client;
    struct sg_impair *impair;
    struct sg_endpoint server_at, impair_at, socks_at, target_at, relay_at;
    int target_fd, app_fd, app_tcp;
    struct event *target_event, *app_event;
    uint8_t shown[SHOWN_LEN];
    uint8_t record[SHOWN_LEN + 64];
    size_t record_len;
    uint8_t seen[DATAGRAMS]; /* how often each came back */
    struct sg_demo_counts counts;
};

/* 16 bytes at the start of every payload, to be looked for on the wire. */
static const uint8_t marker[1][SG_IMPAIR_MARKER_BYTES] = {"PLAINTEXT-MARKER"};

static bool fail(const char *what)
{
    sg_cli_error("demo: %s: %s", what, errno ? strerror(errno) : "failed");
    return false;
}

/* --- payloads: everything in them follows from number and seed, so that a change is seen --- */

static size_t payload_len(const struct demo *demo, uint32_t number)
{
    uint64_t mix = (demo->seed + number) * UINT64_C(0x9e3779b97f4a7c15);
    return number == 0 ? SHOWN_LEN : LEN_MIN + (size_t)(mix >> 33) % LEN_SPAN;
}

static size_t make_payload(const struct demo *demo, uint32_t number, uint8_t *out)
{
    size_t len = payload_len(demo, number);
    uint64_t mix = demo->seed ^ number;
    memcpy(out, marker[0], SG_IMPAIR_MARKER_BYTES);
    memcpy(out + SG_IMPAIR_MARKER_BYTES, &number, sizeof number);
    for (size_t i = SG_IMPAIR_MARKER_BYTES + sizeof number; i < len; i++) {
        mix = mix * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = number == 0 ? (uint8_t) "a voice that nobody else shall hear. "[(i - SG_IMPAIR_MARKER_BYTES - 4) % 37]
                             : (uint8_t)(mix >> 56);
    }
    return len;
}

/* --- the target --- */

static void on_target(evutil_socket_t fd, short what, void *ctx)
{
    struct demo *demo = ctx;
    uint8_t bytes[2048];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof from;
    ssize_t got = 0;
    (void)what;
    while ((got = recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len)) >= 0) {
        demo->counts.echoed++;
        (void)sendto(fd, bytes, (size_t)got, MSG_DONTWAIT, (struct sockaddr *)&from, from_len);
        from_len = sizeof from;
    }
}

/* --- the application --- */

static void send_datagram(struct demo *demo, uint32_t number)
{
    uint8_t bytes[SG_SOCKS5_UDP_HEADER_MAX + LEN_MIN + LEN_SPAN];
    struct sg_wbuf w = sg_wbuf_init(bytes, sizeof bytes);
    struct sg_target target = sg_endpoint_target(&demo->target_at);
    sg_socks5_udp_encode_header(&w, &target);
    size_t len = sg_wbuf_len(&w);
    len += make_payload(demo, number, bytes + len);
    if (send(demo->app_fd, bytes, len, 0) == (ssize_t)len)
        demo->counts.sent++;
}

static void on_app(evutil_socket_t fd, short what, void *ctx)
{
    struct demo *demo = ctx;
    uint8_t bytes[2048], expected[LEN_MIN + LEN_SPAN];
    struct sg_socks5_udp header;
    ssize_t got = 0;
    (void)what;
    while ((got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) >= 0) {
        uint32_t number = UINT32_MAX;
        bool whole = sg_socks5_udp_decode(bytes, (size_t)got, &header) == SG_OK;
        size_t len = whole ? (size_t)got - header.data_offset : 0;
        if (len >= SG_IMPAIR_MARKER_BYTES + sizeof number)
            memcpy(&number, bytes + header.data_offset + SG_IMPAIR_MARKER_BYTES, sizeof number);
        bool known = number < DATAGRAMS && make_payload(demo, number, expected) == len &&
                     memcmp(expected, bytes + header.data_offset, len) == 0;
        if (!known)
            demo->counts.altered++;
        else if (demo->seen[number]++ > 0)
            demo->counts.repeated++;
        else
            demo->counts.delivered++;
    }
}

/* The UDP ASSOCIATE. The client answers at once, so this waits for it. */
static bool associate(struct demo *demo)
{
    static const uint8_t request[] = {5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0};
    const struct timeval limit = {.tv_sec = 5};
    struct sockaddr_storage ss;
    uint8_t reply[12];
    socklen_t len = sg_sockaddr_from(&demo->socks_at, &ss);
    demo->app_tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (demo->app_tcp < 0 || setsockopt(demo->app_tcp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
        connect(demo->app_tcp, (struct sockaddr *)&ss, len) != 0 ||
        send(demo->app_tcp, request, sizeof request, 0) != (ssize_t)sizeof request ||
        recv(demo->app_tcp, reply, sizeof reply, MSG_WAITALL) != (ssize_t)sizeof reply || reply[3] != 0)
        return fail("UDP ASSOCIATE");
    demo->relay_at.ip.family = 4;
    memcpy(demo->relay_at.ip.bytes, reply + 6, 4);
    demo->relay_at.port = (uint16_t)(reply[10] << 8 | reply[11]);
    len = sg_sockaddr_from(&demo->relay_at, &ss);
    return connect(demo->app_fd, (struct sockaddr *)&ss, len) == 0 || fail("relay address");
}

/* --- the network's eye --- */

static void on_seen(void *ctx, bool up, const uint8_t *bytes, size_t len)
{
    struct demo *demo = ctx;
    size_t wanted = SG_RECORD_OVERHEAD + 4 + SG_ADDR_IPV4_BYTES + SHOWN_LEN;
    if (!up || demo->record_len > 0 || demo->counts.sent == 0 || len != wanted)
        return;
    memcpy(demo->record, bytes, len);
    demo->record_len = len;
}

/* --- running --- */

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    (void)ctx;
}

static void run_for(struct demo *demo, unsigned ms)
{
    uint64_t end_ms = sg_now_ms() + ms;
    do
        event_base_loop(demo->base, EVLOOP_ONCE);
    while (sg_now_ms() < end_ms);
}

/* Waits for the line `ready...` of a child while the network runs. */
static bool wait_ready(struct demo *demo, struct sg_demo_child *child, char *line, size_t size)
{
    uint64_t end_ms = sg_now_ms() + READY_MS;
    size_t len = 0;
    while (sg_now_ms() < end_ms) {
        ssize_t got = read(child->out, line + len, size - 1 - len);
        if (got == 0)
            break;
        len += got > 0 ? (size_t)got : 0;
        line[len] = '\0';
        if (strncmp(line, "ready", 5) == 0 && strchr(line, '\n'))
            return true;
        event_base_loop(demo->base, EVLOOP_ONCE);
    }
    errno = 0;
    return fail("a program did not get ready");
}

static bool parse_at(const char *text, struct sg_endpoint *out)
{
    char copy[64];
    struct sg_target target;
    snprintf(copy, sizeof copy, "%.*s", (int)strcspn(text, " \n"), text);
    if (sg_target_parse(copy, false, &target) != SG_OK)
        return false;
    *out = sg_target_endpoint(&target);
    return true;
}

/* A port that is free for TCP and UDP: the relay finds such ports, so one is opened and closed again. */
static bool find_port(struct demo *demo)
{
    struct sg_impair_options options = {.listen.ip = {4, {127, 0, 0, 1}}, .to = {{4, {127, 0, 0, 1}}, 9}};
    struct sg_impair *probe = sg_impair_new(demo->base, &options, &demo->server_at);
    sg_impair_free(probe);
    return probe || fail("no free port");
}

/* `sealgram init`; then the invite is turned to the network's port, as if that were the server. */
static bool init_server(struct demo *demo, char *invite_path, size_t size)
{
    char dir[96], listen[SG_ENDPOINT_TEXT_MAX], line[SG_INVITE_LINE_MAX] = "", problem[SG_INVITE_TEXT_MAX];
    struct sg_invite invite;
    struct sg_demo_child init = {.out = -1};
    snprintf(dir, sizeof dir, "%s/server", demo->dir);
    snprintf(invite_path, size, "%s/invite", demo->dir);
    sg_endpoint_format(&demo->server_at, listen);
    const char *const argv[] = {"init",    dir,           "--listen", listen, "--host", "127.0.0.1",
                                "--allow", "127.0.0.0/8", "--user",   "demo", NULL};
    if (!sg_demo_child_start(&init, demo->dir, "init", argv))
        return fail("init");
    (void)fcntl(init.out, F_SETFL, 0);
    ssize_t got = read(init.out, line, sizeof line - 1);
    line[got > 0 ? strcspn(line, "\n") : 0] = '\0';
    errno = 0;
    if (sg_demo_child_wait(&init) != 0 || !sg_invite_parse(line, &invite, problem))
        return fail("init");
    invite.port = demo->impair_at.port;
    sg_invite_format(&invite, line);
    int fd = open(invite_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = fd >= 0 && dprintf(fd, "%s\n", line) > 0;
    if (fd >= 0)
        close(fd);
    return good || fail("invite");
}

static bool start_programs(struct demo *demo)
{
    char config[96], at_invite[128] = "@", line[512];
    struct sg_impair_options options = {
        .listen.ip = {4, {127, 0, 0, 1}},
        .to = demo->server_at,
        .seed = demo->seed,
        .loss = 80,
        .reorder = 100,
        .duplicate = 40,
        .corrupt = 40,
        .replay = 40,
        .markers = marker,
        .marker_count = 1,
        .seen = on_seen,
        .ctx = demo,
    };
    demo->impair = sg_impair_new(demo->base, &options, &demo->impair_at);
    if (!demo->impair)
        return fail("network");
    if (!init_server(demo, at_invite + 1, sizeof at_invite - 1))
        return false;
    snprintf(config, sizeof config, "%s/server/server.yaml", demo->dir);
    const char *const server[] = {"server", "-c", config, NULL};
    const char *const client[] = {"client", "--socks", "127.0.0.1:0", at_invite, NULL};
    if (!sg_demo_child_start(&demo->server, demo->dir, "server", server) ||
        !wait_ready(demo, &demo->server, line, sizeof line))
        return false;
    printf("server:  %s", line);
    if (!sg_demo_child_start(&demo->client, demo->dir, "client", client) ||
        !wait_ready(demo, &demo->client, line, sizeof line))
        return false;
    printf("client:  %s", line);
    const char *socks = strstr(line, "socks=");
    return (socks && parse_at(socks + 6, &demo->socks_at)) || fail("ready line");
}

static bool open_sockets(struct demo *demo)
{
    struct sg_endpoint any = {.ip = {4, {127, 0, 0, 1}}};
    demo->target_fd = sg_udp_open(&any, SG_UDP_BIG);
    demo->app_fd = sg_udp_open(&any, SG_UDP_BIG);
    if (demo->target_fd < 0 || demo->app_fd < 0)
        return fail("socket");
    demo->target_at = sg_socket_local(demo->target_fd);
    demo->target_event = event_new(demo->base, demo->target_fd, EV_READ | EV_PERSIST, on_target, demo);
    demo->app_event = event_new(demo->base, demo->app_fd, EV_READ | EV_PERSIST, on_app, demo);
    return demo->target_event && demo->app_event && event_add(demo->target_event, NULL) == 0 &&
           event_add(demo->app_event, NULL) == 0;
}

static void exchange(struct demo *demo)
{
    make_payload(demo, 0, demo->shown);
    for (uint32_t number = 0; number < DATAGRAMS; number++) {
        send_datagram(demo, number);
        if (number % PER_TICK == PER_TICK - 1)
            run_for(demo, TICK_MS);
    }
    run_for(demo, DRAIN_MS);
    sg_impair_calm(demo->impair);
    /* the first datagram may have been lost or have gone inside TLS: one more of its kind, if no record was seen */
    for (unsigned i = 0; i < 20 && demo->record_len == 0; i++) {
        send_datagram(demo, 0);
        demo->counts.sent--;
        run_for(demo, 20);
    }
    run_for(demo, DRAIN_MS);
}

/* --- counting --- */

static uint64_t sum_drops(json_t *status, const char *ledger, const char *const *names)
{
    uint64_t sum = 0;
    json_t *drops = json_object_get(json_object_get(status, ledger), "drops");
    for (; *names; names++)
        sum += (uint64_t)json_integer_value(json_object_get(drops, *names));
    return sum;
}

static bool count(struct demo *demo)
{
    static const char *const replays[] = {"replayed", "too_old", NULL};
    static const char *const forgeries[] = {"forged",       "unknown_channel", "junk", "length",
                                            "sender_limit", "plain_refused",   NULL};
    struct sg_demo_counts *c = &demo->counts;
    struct sg_impair_ledger up, down;
    uint64_t tcp_clear = 0;
    json_t *server = sg_demo_child_status(&demo->server, demo->dir, "server");
    json_t *client = sg_demo_child_status(&demo->client, demo->dir, "client");
    sg_impair_ledgers(demo->impair, &up, &down, &tcp_clear);
    c->lost = up.lost + down.lost;
    c->reordered = up.reordered + down.reordered;
    c->clear = up.clear + down.clear + tcp_clear;
    c->replays_made = up.duplicated + up.replayed + down.duplicated + down.replayed;
    c->forgeries_made = up.corrupted + down.corrupted;
    c->replays_refused = sum_drops(server, "up", replays) + sum_drops(client, "down", replays);
    c->forgeries_refused = sum_drops(server, "up", forgeries) + sum_drops(client, "down", forgeries);
    bool good = server && client;
    json_decref(server);
    json_decref(client);
    errno = 0;
    return good || fail("status");
}

/* --- the end --- */

static void dispose(struct demo *demo)
{
    sg_demo_child_stop(&demo->client);
    sg_demo_child_stop(&demo->server);
    sg_impair_free(demo->impair);
    if (demo->target_event)
        event_free(demo->target_event);
    if (demo->app_event)
        event_free(demo->app_event);
    const int fds[] = {demo->target_fd, demo->app_fd, demo->app_tcp};
    for (unsigned i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (demo->tick)
        event_free(demo->tick);
    if (demo->base)
        event_base_free(demo->base);
    if (demo->dir[0])
        sg_demo_remove_dir(demo->dir);
}

static bool set_up(struct demo *demo)
{
    static const struct timeval tick = {.tv_usec = TICK_MS * 1000};
    demo->base = event_base_new();
    demo->tick = demo->base ? event_new(demo->base, -1, EV_PERSIST, on_tick, NULL) : NULL;
    if (!demo->tick || event_add(demo->tick, &tick) != 0)
        return fail("event loop");
    snprintf(demo->dir, sizeof demo->dir, "/tmp/sealgram-demo-XXXXXX");
    if (!mkdtemp(demo->dir)) {
        demo->dir[0] = '\0';
        return fail("/tmp");
    }
    return setenv("XDG_RUNTIME_DIR", demo->dir, 1) == 0 && find_port(demo) && open_sockets(demo);
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct demo *demo = state->input;
    char *end = NULL;
    if (key == ARGP_KEY_ARG)
        argp_error(state, "'%s': this command takes options only", value);
    if (key != 's')
        return ARGP_ERR_UNKNOWN;
    demo->seed = strtoull(value, &end, 10);
    if (*value == '\0' || *end != '\0')
        argp_error(state, "--seed %s: not a number", value);
    return 0;
}

static const struct argp_option options[] = {
    {"seed", 's', "N", 0, "of the network's faults (1)", 0},
    {0},
};

static const struct argp argp = {
    .options = options,
    .parser = parse_option,
    .doc =
        "Starts a server, a client, a bad network between them and a target, sends datagrams through, and shows what "
        "became of them. Loopback only; under 20 seconds.",
};

static struct demo *interrupted;

/* Whatever ends the demonstration early, nothing of it stays behind. */
static void on_interrupt(int number)
{
    (void)number;
    if (interrupted->client.pid > 0)
        kill(interrupted->client.pid, SIGTERM);
    if (interrupted->server.pid > 0)
        kill(interrupted->server.pid, SIGTERM);
    _exit(SG_EXIT_FAILED);
}

int sg_cmd_demo(int argc, char **argv)
{
    static struct demo demo = {
        .seed = 1, .server.out = -1, .client.out = -1, .target_fd = -1, .app_fd = -1, .app_tcp = -1};
    const struct sigaction interrupt = {.sa_handler = on_interrupt};
    if (argp_parse(&argp, argc, argv, 0, NULL, &demo) != 0)
        return SG_EXIT_USAGE;
    interrupted = &demo;
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &interrupt, NULL);
    sigaction(SIGALRM, &interrupt, NULL);
    alarm(WHOLE_SECONDS);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("Sealgram on this machine: application -> client -> bad network -> server -> target, and back.\n"
         "The network loses 8 % of the datagrams, holds 10 % back, doubles, alters and replays 4 % each.\n");
    bool good = set_up(&demo) && start_programs(&demo) && associate(&demo);
    if (good) {
        exchange(&demo);
        good = count(&demo);
        if (demo.record_len > 0)
            sg_demo_show_record(demo.shown, sizeof demo.shown, demo.record, demo.record_len);
        good = sg_demo_show_table(&demo.counts) && good && demo.record_len > 0;
        puts(good ? "\nEverything as it must be." : "\nSOMETHING IS WRONG.");
    }
    dispose(&demo);
    return good ? SG_EXIT_OK : SG_EXIT_FAILED;
}
