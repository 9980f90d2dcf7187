/* The metrics as Prometheus reads them: text format 0.0.4. docs/metrics.md lists them all. */
#ifndef SG_SERVER_METRICS_TEXT_H
#define SG_SERVER_METRICS_TEXT_H

#include <stdbool.h>

#include "net/process_stats.h"

struct evbuffer;
struct json_t;

/* Appends every metric, from the document of sg_gather_metrics. False when memory is short. */
bool sg_metrics_text(struct evbuffer *out, const struct json_t *doc, const struct sg_process_stats *process);

#endif
