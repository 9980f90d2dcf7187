/*
 * The status socket. It says what is asked of it and reads nothing: the file mode decides who may
 * ask. A reader that does not read is cut off after a few seconds.
 */
#include "net/status_socket.h"

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
#include <jansson.h>

enum { READERS_MAX = 8, READER_LIMIT_S = 3 };

struct reader {
    struct reader *next, **link;
    struct sg_status_socket *status;
    struct bufferevent *bev;
};

struct sg_status_socket {
    struct event_base *base;
    sg_status_fn *fn;
    void *ctx;
    int fd;
    struct event *acceptable;
    unsigned reader_count;
    struct reader *readers;
    struct sockaddr_un addr;
};

static void free_reader(struct reader *reader)
{
    *reader->link = reader->next;
    if (reader->next)
        reader->next->link = reader->link;
    reader->status->reader_count--;
    bufferevent_free(reader->bev);
    free(reader);
}

static void on_written(struct bufferevent *bev, void *ctx)
{
    (void)bev;
    free_reader(ctx);
}

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)bev;
    (void)what;
    free_reader(ctx);
}

static int append_text(const char *text, size_t len, void *ctx)
{
    return evbuffer_add(ctx, text, len);
}

/* Takes over fd. */
static void serve(struct sg_status_socket *status, int fd)
{
    static const struct timeval limit = {.tv_sec = READER_LIMIT_S};
    struct reader *reader = calloc(1, sizeof *reader);
    if (reader)
        reader->bev = bufferevent_socket_new(status->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!reader || !reader->bev) {
        close(fd);
        free(reader);
        return;
    }
    reader->status = status;
    reader->link = &status->readers;
    reader->next = status->readers;
    if (reader->next)
        reader->next->link = &reader->next;
    status->readers = reader;
    status->reader_count++;

    struct evbuffer *output = bufferevent_get_output(reader->bev);
    json_t *document = status->fn(status->ctx);
    bool made = document && json_dump_callback(document, append_text, output, JSON_INDENT(2)) == 0 &&
                evbuffer_add(output, "\n", 1) == 0;
    json_decref(document);
    bufferevent_setcb(reader->bev, NULL, on_written, on_end, reader);
    bufferevent_set_timeouts(reader->bev, NULL, &limit);
    if (!made || bufferevent_enable(reader->bev, EV_WRITE) != 0)
        free_reader(reader);
}

static void on_acceptable(evutil_socket_t fd, short what, void *ctx)
{
    (void)what;
    struct sg_status_socket *status = ctx;
    int reader = accept4((int)fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (reader < 0)
        return;
    if (status->reader_count >= READERS_MAX)
        close(reader);
    else
        serve(status, reader);
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
        if (chmod(addr->sun_path, 0600) == 0 && listen(fd, READERS_MAX) == 0)
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

struct sg_status_socket *sg_status_socket_new(struct event_base *base, const char *path, sg_status_fn *fn, void *ctx)
{
    struct sg_status_socket *status = calloc(1, sizeof *status);
    if (!status)
        return NULL;
    *status = (struct sg_status_socket){.base = base, .fn = fn, .ctx = ctx, .fd = -1};
    status->addr.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof status->addr.sun_path) {
        free(status);
        errno = ENAMETOOLONG;
        return NULL;
    }
    memcpy(status->addr.sun_path, path, strlen(path));
    status->fd = listen_at(&status->addr);
    if (status->fd >= 0)
        status->acceptable = event_new(base, status->fd, EV_READ | EV_PERSIST, on_acceptable, status);
    if (!status->acceptable || event_add(status->acceptable, NULL) != 0) {
        int error = status->fd < 0 ? errno : ENOMEM;
        sg_status_socket_free(status);
        errno = error;
        return NULL;
    }
    return status;
}

void sg_status_socket_free(struct sg_status_socket *status)
{
    if (!status)
        return;
    for (struct reader *reader = status->readers, *next = NULL; reader; reader = next) {
        next = reader->next;
        free_reader(reader);
    }
    if (status->acceptable)
        event_free(status->acceptable);
    if (status->fd >= 0) {
        close(status->fd);
        unlink(status->addr.sun_path);
    }
    free(status);
}
