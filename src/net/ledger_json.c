/* Counters as JSON objects, for `sealgram status` and the metrics. */
#include "net/ledger_json.h"

#include <stdio.h>

#include <jansson.h>

struct json_t *sg_ledger_json(const struct sg_ledger *ledger)
{
    json_t *object = json_object();
    json_t *drops = json_object();
    json_object_set_new(object, "received", json_integer((json_int_t)ledger->received));
    json_object_set_new(object, "received_bytes", json_integer((json_int_t)ledger->received_bytes));
    json_object_set_new(object, "forwarded", json_integer((json_int_t)ledger->forwarded));
    json_object_set_new(object, "forwarded_bytes", json_integer((json_int_t)ledger->forwarded_bytes));
    json_object_set_new(object, "session", json_integer((json_int_t)ledger->session));
    json_object_set_new(object, "streamed", json_integer((json_int_t)ledger->streamed));
    json_object_set_new(object, "oversized", json_integer((json_int_t)ledger->oversized));
    json_object_set_new(object, "queued", json_integer((json_int_t)ledger->queued));
#define SG_LEDGER_DROP(id, code, name, text)                                                                           \
    if ((code) != 0)                                                                                                   \
        json_object_set_new(drops, name, json_integer((json_int_t)ledger->drops[code]));
    SG_REASON_MAP(SG_LEDGER_DROP)
#undef SG_LEDGER_DROP
    json_object_set_new(object, "drops", drops);
    return object;
}

struct json_t *sg_histogram_json(const struct sg_histogram *histogram)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < SG_HISTOGRAM_BUCKETS; i++) {
        char name[12];
        snprintf(name, sizeof name, "%u", i);
        json_object_set_new(object, name, json_integer((json_int_t)histogram->buckets[i]));
    }
    json_object_set_new(object, "sum", json_integer((json_int_t)histogram->sum));
    return object;
}
