/*
 * Who asks gets what was true at most FRESH_MS ago: to ask again and again is cheap, for us too, because workers are
 * asked no more often than that.
 */
#include "server/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <jansson.h>

#include "net/clock.h"
#include "net/http_text.h"
#include "net/listen_failed.h"
#include "net/log.h"
#include "net/process_stats.h"
#include "server/gather.h"
#include "server/metrics_text.h"
#include "server/server.h"

enum { FRESH_MS = 100 };

struct sg_metrics {
    struct sg_server *server;
    struct event_base *base;
    struct sg_endpoint at; /* family 0: nowhere */
    struct sg_process_watch *process;
    struct sg_http_text *http;
    struct evbuffer *text;
    uint64_t made_ms;
};

static bool make_text(struct sg_metrics *metrics)
{
    struct sg_process_stats process = sg_process_watch_read(metrics->process);
    json_t *doc = sg_gather_metrics(metrics->server);
    evbuffer_drain(metrics->text, evbuffer_get_length(metrics->text));
    bool made = doc && sg_metrics_text(metrics->text, doc, &process);
    json_decref(doc);
    return made;
}

static bool write_text(void *ctx, struct evbuffer *out)
{
    struct sg_metrics *metrics = ctx;
    uint64_t now_ms = sg_now_ms();
    if (metrics->made_ms == 0 || now_ms - metrics->made_ms >= FRESH_MS) {
        metrics->made_ms = 0;
        if (!make_text(metrics))
            return false;
        metrics->made_ms = now_ms;
    }
    size_t len = evbuffer_get_length(metrics->text);
    const uint8_t *bytes = evbuffer_pullup(metrics->text, -1);
    return bytes && evbuffer_add(out, bytes, len) == 0;
}

struct sg_metrics *sg_metrics_new(struct sg_server *server, struct event_base *base)
{
    struct sg_metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return NULL;
    metrics->server = server;
    metrics->base = base;
    metrics->text = evbuffer_new();
    metrics->process = sg_process_watch_new();
    if (metrics->text && metrics->process)
        return metrics;
    sg_metrics_free(metrics);
    return NULL;
}

static struct sg_http_text *serve_at(struct sg_metrics *metrics, const struct sg_endpoint *at)
{
    const struct sg_http_text_options options = {.listen = *at,
                                                 .path = "/metrics",
                                                 .content_type = "text/plain; version=0.0.4; charset=utf-8",
                                                 .fn = write_text,
                                                 .ctx = metrics};
    char text[SG_ENDPOINT_TEXT_MAX];
    struct sg_http_text *http = sg_http_text_new(metrics->base, &options);
    sg_endpoint_format(at, text);
    if (http)
        sg_log_event(SG_LOG_INFO, "listening",
                     SG_LOG_FIELDS(sg_log_word("address", text), sg_log_word("for", "metrics")),
                     "metrics at http://%s/metrics", text);
    else
        (void)sg_listen_failed("TCP", at, "metrics", errno);
    return http;
}

bool sg_metrics_turn_to(struct sg_metrics *metrics, const struct sg_config_metrics *config)
{
    struct sg_http_text *fresh = NULL;
    if (sg_endpoint_equal(&config->listen, &metrics->at))
        return true;
    if (config->listen.ip.family != 0 && !(fresh = serve_at(metrics, &config->listen)))
        return false;
    sg_http_text_free(metrics->http);
    metrics->http = fresh;
    metrics->at = config->listen;
    return true;
}

void sg_metrics_free(struct sg_metrics *metrics)
{
    if (!metrics)
        return;
    sg_http_text_free(metrics->http);
    sg_process_watch_free(metrics->process);
    if (metrics->text)
        evbuffer_free(metrics->text);
    free(metrics);
}
