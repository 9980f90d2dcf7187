/* One text by HTTP: GET of one path, and nothing else. For what may be slow, idle or hostile at the other end. */
#ifndef SG_NET_HTTP_TEXT_H
#define SG_NET_HTTP_TEXT_H

#include <stdbool.h>

#include "core/addr.h"

struct evbuffer;
struct event_base;
struct sg_http_text;

/* At most so many connections at a time, each with one request, gone after so long whatever it does. */
enum { SG_HTTP_READERS_MAX = 8, SG_HTTP_READER_MS = 5000, SG_HTTP_REQUEST_MAX = 8192 };

/* Appends the text. False when memory is short. Called on the event loop. */
typedef bool sg_http_text_fn(void *ctx, struct evbuffer *out);

struct sg_http_text_options {
    struct sg_endpoint listen;
    const char *path; /* as "/metrics" */
    const char *content_type;
    sg_http_text_fn *fn;
    void *ctx;
};

/* Serves from now on; the texts in options are borrowed for as long. NULL with errno. */
struct sg_http_text *sg_http_text_new(struct event_base *base, const struct sg_http_text_options *options);
/* Ends all connections. NULL is accepted. */
void sg_http_text_free(struct sg_http_text *http);

#endif
