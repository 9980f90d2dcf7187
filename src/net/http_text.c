/*
 * A server of HTTP/1.1 (RFC 9112) that knows one resource. Of a request only the first line says anything; the rest is
 * waited for and thrown away, a body is not. By hand, because libevent's evhttp accepts connections without number and
 * gives each as long as bytes trickle in.
 */
#include "net/http_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "net/listener.h"

struct reader {
    struct reader *next, **link;
    struct sg_http_text *http;
    struct bufferevent *bev;
    struct event *deadline;
};

struct sg_http_text {
    struct sg_http_text_options options;
    struct event_base *base;
    struct sg_listener *listener;
    struct reader *readers;
    unsigned reader_count;
};

static void free_reader(struct reader *reader)
{
    *reader->link = reader->next;
    if (reader->next)
        reader->next->link = reader->link;
    reader->http->reader_count--;
    if (reader->deadline)
        event_free(reader->deadline);
    if (reader->bev)
        bufferevent_free(reader->bev);
    free(reader);
}

static void on_deadline(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    free_reader(ctx);
}

static void on_end(struct bufferevent *bev, short what, void *ctx)
{
    (void)bev;
    (void)what;
    free_reader(ctx);
}

static void on_written(struct bufferevent *bev, void *ctx)
{
    (void)bev;
    free_reader(ctx);
}

/* --- requests --- */

enum answer { OK, BAD_REQUEST, NOT_FOUND, METHOD_NOT_ALLOWED, TOO_LARGE, UNAVAILABLE };

static const char *const status_lines[] = {
    [OK] = "200 OK",
    [BAD_REQUEST] = "400 Bad Request",
    [NOT_FOUND] = "404 Not Found",
    [METHOD_NOT_ALLOWED] = "405 Method Not Allowed\r\nAllow: GET",
    [TOO_LARGE] = "431 Request Header Fields Too Large",
    [UNAVAILABLE] = "503 Service Unavailable",
};

/* A request line: METHOD SP TARGET SP HTTP/1.x; the query of the target says nothing to us. */
static enum answer judge(char *line, const char *path)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version || strncmp(version + 1, "HTTP/1.", 7) != 0)
        return BAD_REQUEST;
    *target++ = '\0';
    *version = '\0';
    target[strcspn(target, "?")] = '\0';
    if (strcmp(target, path) != 0)
        return NOT_FOUND;
    return strcmp(line, "GET") == 0 ? OK : METHOD_NOT_ALLOWED;
}

/* Answers, and ends the connection once that is out. */
static void answer(struct reader *reader, enum answer kind)
{
    const struct sg_http_text_options *options = &reader->http->options;
    struct evbuffer *output = bufferevent_get_output(reader->bev);
    struct evbuffer *body = evbuffer_new();
    if (kind == OK && !(body && options->fn(options->ctx, body)))
        kind = UNAVAILABLE;
    bool has_body = kind == OK;
    bool made = evbuffer_add_printf(
                    output, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                    status_lines[kind], options->content_type, has_body ? evbuffer_get_length(body) : 0) > 0 &&
                (!has_body || evbuffer_add_buffer(output, body) == 0);
    if (body)
        evbuffer_free(body);
    bufferevent_disable(reader->bev, EV_READ); /* nothing more is held of what it says */
    bufferevent_setcb(reader->bev, NULL, on_written, on_end, reader);
    if (!made || bufferevent_enable(reader->bev, EV_WRITE) != 0)
        free_reader(reader);
}

static void on_input(struct bufferevent *bev, void *ctx)
{
    struct reader *reader = ctx;
    struct evbuffer *input = bufferevent_get_input(bev);
    size_t len = evbuffer_get_length(input);
    if (evbuffer_search(input, "\r\n\r\n", 4, NULL).pos < 0) {
        if (len > SG_HTTP_REQUEST_MAX)
            answer(reader, TOO_LARGE);
        return;
    }
    char *line = evbuffer_readln(input, NULL, EVBUFFER_EOL_CRLF_STRICT);
    evbuffer_drain(input, evbuffer_get_length(input)); /* what is unread when a socket closes may undo the answer */
    answer(reader, line ? judge(line, reader->http->options.path) : BAD_REQUEST);
    free(line);
}

/* --- connections --- */

static void on_accept(void *ctx, int fd)
{
    static const struct timeval limit = {.tv_sec = SG_HTTP_READER_MS / 1000,
                                         .tv_usec = SG_HTTP_READER_MS % 1000 * 1000};
    struct sg_http_text *http = ctx;
    struct reader *reader = http->reader_count < SG_HTTP_READERS_MAX ? calloc(1, sizeof *reader) : NULL;
    if (!reader) {
        close(fd);
        return;
    }
    *reader = (struct reader){.http = http, .next = http->readers, .link = &http->readers};
    if (reader->next)
        reader->next->link = &reader->next;
    http->readers = reader;
    http->reader_count++;
    reader->deadline = evtimer_new(http->base, on_deadline, reader);
    reader->bev = bufferevent_socket_new(http->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!reader->bev)
        close(fd);
    if (!reader->bev || !reader->deadline || evtimer_add(reader->deadline, &limit) != 0) {
        free_reader(reader);
        return;
    }
    bufferevent_setcb(reader->bev, on_input, NULL, on_end, reader);
    if (bufferevent_enable(reader->bev, EV_READ) != 0)
        free_reader(reader);
}

struct sg_http_text *sg_http_text_new(struct event_base *base, const struct sg_http_text_options *options)
{
    struct sg_http_text *http = calloc(1, sizeof *http);
    struct sg_endpoint bound;
    if (!http)
        return NULL;
    http->options = *options;
    http->base = base;
    http->listener = sg_listener_new(base, &options->listen, -1, SG_ALONE, &bound, on_accept, http);
    if (http->listener)
        return http;
    int error = errno;
    free(http);
    errno = error;
    return NULL;
}

void sg_http_text_free(struct sg_http_text *http)
{
    if (!http)
        return;
    for (struct reader *reader = http->readers, *next = NULL; reader; reader = next) {
        next = reader->next;
        free_reader(reader);
    }
    sg_listener_free(http->listener);
    free(http);
}
