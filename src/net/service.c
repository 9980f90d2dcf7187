/*
 * The protocol is a few environment variables and lines of text, and is promised to stay (sd_notify(3), Notes). It is
 * spoken here without libsystemd, which would bring four compression and cryptographic libraries into a process that
 * reads the bytes of strangers.
 */
#include "net/service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "net/inbox.h"
#include "net/log.h"
#include "net/sockaddr.h"

enum { FIRST_PASSED = 3, PASSED_MAX = 256 };

/* Of the process, as the environment is. Set before threads are started. */
static struct {
    int notify; /* -1: nobody is told */
    uint64_t watchdog_us;
    struct passed {
        int fd; /* -1: taken */
        int type;
        struct sg_endpoint at;
    } passed[PASSED_MAX];
    unsigned passed_count;
} service = {.notify = -1};

static int connect_notify(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || len >= sizeof addr.sun_path)
        return -1;
    memcpy(addr.sun_path, path, len);
    if (path[0] == '@')
        addr.sun_path[0] = '\0'; /* an abstract address has no end but its length */
    socklen_t addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '/'));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&addr, addr_len) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* A number of the environment, if it is for this process: 0 if there is none. */
static uint64_t number_for_us(const char *name, const char *pid_name)
{
    const char *text = getenv(name), *pid = getenv(pid_name);
    if (!text || (pid && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' ? value : 0;
}

static void look_at_passed(unsigned count)
{
    for (unsigned i = 0; i < count && i < PASSED_MAX; i++) {
        struct passed *passed = &service.passed[service.passed_count++];
        int fd = FIRST_PASSED + (int)i;
        socklen_t len = sizeof passed->type;
        *passed = (struct passed){.fd = fd};
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &passed->type, &len) == 0)
            passed->at = sg_socket_local(fd);
        int flags = fcntl(fd, F_GETFL);
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (flags >= 0)
            (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
}

void sg_service_start(void)
{
    static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                        "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES"};
    const char *path = getenv("NOTIFY_SOCKET");
    if (path)
        service.notify = connect_notify(path);
    if (path && service.notify < 0)
        sg_log(SG_LOG_WARN, "the service manager is not told anything: %s (NOTIFY_SOCKET): %s", path, strerror(errno));
    service.watchdog_us = number_for_us("WATCHDOG_USEC", "WATCHDOG_PID");
    if (getenv("LISTEN_PID"))
        look_at_passed((unsigned)number_for_us("LISTEN_FDS", "LISTEN_PID"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        (void)unsetenv(names[i]); /* not for programs that are started from here */
}

void sg_service_end(void)
{
    if (service.notify >= 0)
        close(service.notify);
    service.notify = -1;
    for (unsigned i = 0; i < service.passed_count; i++)
        if (service.passed[i].fd >= 0)
            close(service.passed[i].fd);
    service.passed_count = 0;
}

void sg_service_say(const char *lines)
{
    if (service.notify >= 0 && send(service.notify, lines, strlen(lines), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        sg_log(SG_LOG_DEBUG, "the service manager did not hear: %s", strerror(errno));
}

void sg_service_say_reloading(void)
{
    char lines[64];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(lines, sizeof lines, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
    sg_service_say(lines);
}

/* --- sockets that were passed --- */

/* Our addresses of IPv6 are IPv6 alone. */
static bool takes_ipv4_too(const struct passed *passed)
{
    int only = 1;
    socklen_t len = sizeof only;
    return passed->at.ip.family == 6 && getsockopt(passed->fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &len) == 0 && !only;
}

static bool is_such(const struct passed *passed, enum sg_service_kind kind, const struct sg_endpoint *at)
{
    return passed->type == (kind == SG_SERVICE_STREAM ? SOCK_STREAM : SOCK_DGRAM) && sg_endpoint_equal(&passed->at, at);
}

static unsigned count_such(enum sg_service_kind kind, const struct sg_endpoint *at)
{
    unsigned count = 0;
    for (unsigned i = 0; i < service.passed_count; i++)
        count += is_such(&service.passed[i], kind, at);
    return count;
}

const char *sg_service_check_sockets(sg_service_wants_fn *wants, const void *ctx, const char *where, unsigned *count,
                                     char text[static 160])
{
    *count = 0;
    for (unsigned i = 0; i < service.passed_count; i++) {
        const struct passed *passed = &service.passed[i];
        enum sg_service_kind kind = passed->type == SOCK_STREAM ? SG_SERVICE_STREAM : SG_SERVICE_DATAGRAM;
        bool has_kind = passed->type == SOCK_STREAM || passed->type == SOCK_DGRAM;
        char address[SG_ENDPOINT_TEXT_MAX] = "no address";
        if (passed->at.ip.family != 0)
            sg_endpoint_format(&passed->at, address);
        if (!has_kind || !wants(ctx, kind, &passed->at)) {
            snprintf(text, 160, "socket %u that was passed has %s, which is not in %s", i + 1, address, where);
            return text;
        }
        if (takes_ipv4_too(passed)) {
            snprintf(text, 160, "socket %u that was passed takes IPv4, too: it needs BindIPv6Only=ipv6-only", i + 1);
            return text;
        }
        unsigned such = count_such(kind, &passed->at);
        if (*count != 0 && such != *count)
            return "of each address that is passed as many sockets are needed, one for each worker";
        *count = such;
    }
    return NULL;
}

int sg_service_take(enum sg_service_kind kind, const struct sg_endpoint *at, unsigned index)
{
    for (unsigned i = 0; i < service.passed_count; i++) {
        struct passed *passed = &service.passed[i];
        if (!is_such(passed, kind, at) || index-- > 0)
            continue;
        int fd = passed->fd;
        passed->fd = -1;
        return fd;
    }
    return -1;
}

/* --- the watchdog --- */

/* Asked in turns: a loop that has yet to answer is not asked again. */
struct asked {
    struct sg_letter letter;
    struct sg_inbox *inbox;
    _Atomic bool waiting;
};

struct sg_watchdog {
    struct event *tick;
    unsigned count;
    struct asked asked[];
};

static void answer(void *ctx)
{
    struct asked *asked = ctx;
    atomic_store(&asked->waiting, false);
}

static void ask(struct sg_watchdog *watchdog)
{
    for (unsigned i = 0; i < watchdog->count; i++) {
        struct asked *asked = &watchdog->asked[i];
        atomic_store(&asked->waiting, true);
        asked->letter = (struct sg_letter){.fn = answer, .ctx = asked};
        sg_inbox_post(asked->inbox, &asked->letter);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_watchdog *watchdog = ctx;
    (void)fd;
    (void)what;
    for (unsigned i = 0; i < watchdog->count; i++)
        if (atomic_load(&watchdog->asked[i].waiting))
            return;
    sg_service_say("WATCHDOG=1");
    ask(watchdog);
}

bool sg_watchdog_new(struct event_base *base, struct sg_inbox *const *inboxes, unsigned count, struct sg_watchdog **out)
{
    const uint64_t tick_us = service.watchdog_us / 4;
    const struct timeval tick = {.tv_sec = (time_t)(tick_us / 1000000), .tv_usec = (suseconds_t)(tick_us % 1000000)};
    *out = NULL;
    if (tick_us == 0 || service.notify < 0)
        return true;
    struct sg_watchdog *watchdog = calloc(1, sizeof *watchdog + count * sizeof watchdog->asked[0]);
    if (!watchdog)
        return false;
    watchdog->count = count;
    for (unsigned i = 0; i < count; i++)
        watchdog->asked[i].inbox = inboxes[i];
    watchdog->tick = event_new(base, -1, EV_PERSIST, on_tick, watchdog);
    if (!watchdog->tick || event_add(watchdog->tick, &tick) != 0) {
        sg_watchdog_free(watchdog);
        return false;
    }
    *out = watchdog;
    return true;
}

void sg_watchdog_stop(struct sg_watchdog *watchdog)
{
    if (!watchdog || !watchdog->tick)
        return;
    event_free(watchdog->tick);
    watchdog->tick = NULL;
}

void sg_watchdog_free(struct sg_watchdog *watchdog)
{
    sg_watchdog_stop(watchdog);
    free(watchdog);
}
