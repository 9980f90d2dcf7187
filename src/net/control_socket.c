/*
 * Who may ask is decided twice: by the mode of the file, and by the credentials of who connected. Who does not ask, or
 * does not read, is cut off after a few seconds.
 */
#include "net/control_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

enum { ASKERS_MAX = 8, ASKER_LIMIT_S = 3, PAUSE_MS = 100 };

struct sg_control_asker {
    struct sg_control_asker *next, **link;
    struct sg_control_socket *control;
    struct bufferevent *bev;
};

struct sg_control_socket {
    struct event_base *base;
    sg_control_fn *fn;
    void *ctx;
    int fd;
    struct event *acceptable;
    struct event *resume;
    unsigned asker_count;
    struct sg_control_asker *askers;
    struct sockaddr_un addr;
};

static void free_asker(struct sg_control_asker *asker)
{
    *asker->link = asker->next;
    if (asker->next)
        asker->next->link = asker->link;
    asker->control->asker_count--;
    bufferevent_free(asker->bev);
    free(asker);
}

static void on_written(struct bufferevent *bev, void *ctx)
{
    (void)bev;
    free_asker(ctx);
}

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)bev;
    (void)what;
    free_asker(ctx);
}

void sg_control_answer(struct sg_control_asker *asker, char *text)
{
    struct evbuffer *output = bufferevent_get_output(asker->bev);
    bool made = text && evbuffer_add(output, text, strlen(text)) == 0;
    free(text);
    bufferevent_setcb(asker->bev, NULL, on_written, on_end, asker);
    if (!made || bufferevent_enable(asker->bev, EV_WRITE) != 0)
        free_asker(asker);
}

static void on_request(struct bufferevent *bev, void *ctx)
{
    struct sg_control_asker *asker = ctx;
    char request[SG_CONTROL_REQUEST_MAX];
    struct evbuffer *input = bufferevent_get_input(bev);
    struct evbuffer_ptr end = evbuffer_search_eol(input, NULL, NULL, EVBUFFER_EOL_LF);
    if (end.pos < 0 && evbuffer_get_length(input) < sizeof request)
        return; /* the rest of the line is still to come */
    if (end.pos < 0 || (size_t)end.pos >= sizeof request) {
        free_asker(asker);
        return;
    }
    bufferevent_disable(bev, EV_READ);
    evbuffer_remove(input, request, (size_t)end.pos);
    request[end.pos] = '\0';
    evbuffer_drain(input, evbuffer_get_length(input));
    asker->control->fn(asker->control->ctx, request, asker);
}

/* Takes over fd. */
static void serve(struct sg_control_socket *control, int fd)
{
    static const struct timeval limit = {.tv_sec = ASKER_LIMIT_S};
    struct sg_control_asker *asker = calloc(1, sizeof *asker);
    if (asker)
        asker->bev = bufferevent_socket_new(control->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!asker || !asker->bev) {
        close(fd);
        free(asker);
        return;
    }
    asker->control = control;
    asker->link = &control->askers;
    asker->next = control->askers;
    if (asker->next)
        asker->next->link = &asker->next;
    control->askers = asker;
    control->asker_count++;
    bufferevent_setcb(asker->bev, on_request, NULL, on_end, asker);
    bufferevent_set_timeouts(asker->bev, &limit, &limit);
    if (bufferevent_enable(asker->bev, EV_READ) != 0)
        free_asker(asker);
}

/* The owner of the process, and root. */
static bool may_ask(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && (cred.uid == 0 || cred.uid == geteuid());
}

static void on_resume(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_control_socket *control = ctx;
    (void)fd;
    (void)what;
    event_add(control->acceptable, NULL);
}

static void on_acceptable(evutil_socket_t fd, short what, void *ctx)
{
    (void)what;
    struct sg_control_socket *control = ctx;
    int asker = accept4((int)fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (asker < 0) {
        /* out of descriptors: who waits would be seen again at once, and again */
        static const struct timeval pause = {.tv_usec = PAUSE_MS * 1000};
        event_del(control->acceptable);
        evtimer_add(control->resume, &pause);
        return;
    }
    if (control->asker_count >= ASKERS_MAX || !may_ask(asker))
        close(asker);
    else
        serve(control, asker);
}

/* A socket that nobody answers at is left over from a process that died. Anything else stays. */
static bool remove_stale(const struct sockaddr_un *addr)
{
    struct stat st;
    if (lstat(addr->sun_path, &st) != 0)
        return errno == ENOENT;
    if (!S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool refused = connect(fd, (const struct sockaddr *)addr, sizeof *addr) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused && unlink(addr->sun_path) == 0;
}

/* The mode is set between bind and listen: before listen nobody can connect. */
static int listen_at(const struct sockaddr_un *addr)
{
    if (!remove_stale(addr)) {
        errno = EADDRINUSE;
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (bind(fd, (const struct sockaddr *)addr, sizeof *addr) == 0) {
        if (chmod(addr->sun_path, 0600) == 0 && listen(fd, ASKERS_MAX) == 0)
            return fd;
        int error = errno;
        unlink(addr->sun_path);
        errno = error;
    }
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

struct sg_control_socket *sg_control_socket_new(struct event_base *base, const char *path, sg_control_fn *fn, void *ctx)
{
    struct sg_control_socket *control = calloc(1, sizeof *control);
    if (!control)
        return NULL;
    *control = (struct sg_control_socket){.base = base, .fn = fn, .ctx = ctx, .fd = -1};
    control->addr.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof control->addr.sun_path) {
        free(control);
        errno = ENAMETOOLONG;
        return NULL;
    }
    memcpy(control->addr.sun_path, path, strlen(path));
    control->fd = listen_at(&control->addr);
    control->resume = evtimer_new(base, on_resume, control);
    if (control->fd >= 0 && control->resume)
        control->acceptable = event_new(base, control->fd, EV_READ | EV_PERSIST, on_acceptable, control);
    if (!control->acceptable || event_add(control->acceptable, NULL) != 0) {
        int error = control->fd < 0 ? errno : ENOMEM;
        sg_control_socket_free(control);
        errno = error;
        return NULL;
    }
    return control;
}

void sg_control_socket_free(struct sg_control_socket *control)
{
    if (!control)
        return;
    for (struct sg_control_asker *asker = control->askers, *next = NULL; asker; asker = next) {
        next = asker->next;
        free_asker(asker);
    }
    if (control->acceptable)
        event_free(control->acceptable);
    if (control->resume)
        event_free(control->resume);
    if (control->fd >= 0) {
        close(control->fd);
        unlink(control->addr.sun_path);
    }
    free(control);
}
