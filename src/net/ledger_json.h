/* Counters as JSON objects, for `sealgram status` and the metrics. */
#ifndef SG_NET_LEDGER_JSON_H
#define SG_NET_LEDGER_JSON_H

#include "core/histogram.h"
#include "core/reason.h"

struct json_t;

/* A new reference: received, forwarded, bytes of both, session, queued, and drops with every reason by name. */
struct json_t *sg_ledger_json(const struct sg_ledger *ledger);

/* A new reference: the count of each bucket by its number, "0" and up, and the sum. */
struct json_t *sg_histogram_json(const struct sg_histogram *histogram);

#endif
