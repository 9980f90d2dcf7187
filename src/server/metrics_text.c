/*
 * One table of metrics: name, type, help, where the figures stand in the document, and the writer of their shape. What
 * the document does not have is left out, but for the two lines that say that the metric exists.
 */
#include "server/metrics_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>
#include <jansson.h>

#include "core/histogram.h"
#include "core/reason.h"

enum { LABEL_MAX = 160 };

struct writer {
    struct evbuffer *out;
    const json_t *doc;
    const struct sg_process_stats *process;
    bool failed;
};

struct metric {
    const char *name, *type, *help;
    void (*write)(struct writer *w, const struct metric *metric);
    const char *key;      /* in the document */
    unsigned first, last; /* histograms: buckets that are shown */
    double unit;          /* histograms: what a value of 1 is in */
};

/* --- pieces --- */

static const json_t *find(const struct writer *w, const char *first, const char *second)
{
    const json_t *value = json_object_get(w->doc, first);
    return second ? json_object_get(value, second) : value;
}

/* What may stand in a label's value: a user's name is the only one that is not ours. */
static void escape_label(const char *text, char out[static LABEL_MAX])
{
    size_t used = 0;
    for (; *text && used + 3 < LABEL_MAX; text++) {
        if (*text == '\\' || *text == '"')
            out[used++] = '\\';
        out[used++] = *text == '\n' ? ' ' : *text;
    }
    out[used] = '\0';
}

static void put(struct writer *w, const char *name, const char *labels, const json_t *value)
{
    if (json_is_integer(value))
        w->failed |= evbuffer_add_printf(
                         w->out, labels[0] ? "%s{%s} %" JSON_INTEGER_FORMAT "\n" : "%s%s %" JSON_INTEGER_FORMAT "\n",
                         name, labels, json_integer_value(value)) < 0;
}

static void put_number(struct writer *w, const char *name, double value)
{
    w->failed |= evbuffer_add_printf(w->out, "%s %.15g\n", name, value) < 0;
}

static const char *const directions[] = {"up", "down"};

/* --- shapes --- */

/* A figure of the document, or of one of its objects: "tcp.relays". */
static void write_value(struct writer *w, const struct metric *metric)
{
    char first[32];
    const char *dot = strchr(metric->key, '.');
    snprintf(first, sizeof first, "%.*s", dot ? (int)(dot - metric->key) : (int)strlen(metric->key), metric->key);
    put(w, metric->name, "", find(w, first, dot ? dot + 1 : NULL));
}

/* A figure of both ledgers. */
static void write_directions(struct writer *w, const struct metric *metric)
{
    for (unsigned i = 0; i < 2; i++) {
        char labels[LABEL_MAX];
        snprintf(labels, sizeof labels, "direction=\"%s\"", directions[i]);
        put(w, metric->name, labels, find(w, directions[i], metric->key));
    }
}

static void write_drops(struct writer *w, const struct metric *metric)
{
    for (unsigned i = 0; i < 2; i++) {
        json_t *drops = json_object_get(json_object_get(w->doc, directions[i]), metric->key);
        const char *reason = NULL;
        json_t *value = NULL;
        json_object_foreach(drops, reason, value)
        {
            char labels[LABEL_MAX];
            snprintf(labels, sizeof labels, "direction=\"%s\",reason=\"%s\"", directions[i], reason);
            put(w, metric->name, labels, value);
        }
    }
}

/* All of an object whose names begin so: the rest is the label's value. */
static void write_tcp_refused(struct writer *w, const struct metric *metric)
{
    json_t *tcp = json_object_get(w->doc, "tcp");
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(tcp, name, value)
    {
        char labels[LABEL_MAX];
        if (strncmp(name, metric->key, strlen(metric->key)) != 0)
            continue;
        snprintf(labels, sizeof labels, "reason=\"%s\"", name + strlen(metric->key));
        put(w, metric->name, labels, value);
    }
}

static void write_limits(struct writer *w, const struct metric *metric)
{
    const char *limit = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(w->doc, metric->key), limit, value)
    {
        char labels[LABEL_MAX];
        snprintf(labels, sizeof labels, "limit=\"%s\"", limit);
        put(w, metric->name, labels, value);
    }
}

static void write_suites(struct writer *w, const struct metric *metric)
{
    json_t *suites = json_object_get(w->doc, metric->key);
    const char *suite = NULL;
    json_t *value = NULL;
    json_object_foreach(suites, suite, value)
    {
        char labels[LABEL_MAX];
        snprintf(labels, sizeof labels, "suite=\"%s\"", suite);
        put(w, metric->name, labels, value);
    }
}

static void write_workers(struct writer *w, const struct metric *metric)
{
    const json_t *workers = json_object_get(w->doc, "workers");
    for (size_t i = 0; i < json_array_size(workers); i++) {
        char labels[LABEL_MAX];
        snprintf(labels, sizeof labels, "worker=\"%zu\"", i);
        put(w, metric->name, labels, json_object_get(json_array_get(workers, i), metric->key));
    }
}

static void write_worker_count(struct writer *w, const struct metric *metric)
{
    put_number(w, metric->name, (double)json_array_size(json_object_get(w->doc, "workers")));
}

static void write_build(struct writer *w, const struct metric *metric)
{
    w->failed |= evbuffer_add_printf(w->out, "%s{version=\"%s\"} 1\n", metric->name, SG_VERSION) < 0;
}

/* Prometheus wants each bucket to count all that is below its bound. labels ends with a comma or is empty. */
static void put_histogram(struct writer *w, const struct metric *metric, const char *labels, const json_t *histogram)
{
    json_int_t below = 0;
    char name[12];
    if (!histogram)
        return;
    for (unsigned i = 0; i < SG_HISTOGRAM_BUCKETS; i++) {
        snprintf(name, sizeof name, "%u", i);
        below += json_integer_value(json_object_get(histogram, name));
        if (i >= metric->first && i <= metric->last)
            w->failed |=
                evbuffer_add_printf(w->out, "%s_bucket{%sle=\"%.9g\"} %" JSON_INTEGER_FORMAT "\n", metric->name, labels,
                                    (double)(UINT64_C(1) << i) * metric->unit, below) < 0;
    }
    char own[LABEL_MAX] = "";
    if (labels[0])
        snprintf(own, sizeof own, "{%.*s}", (int)strlen(labels) - 1, labels);
    double sum = (double)json_integer_value(json_object_get(histogram, "sum")) * metric->unit;
    w->failed |= evbuffer_add_printf(w->out,
                                     "%s_bucket{%sle=\"+Inf\"} %" JSON_INTEGER_FORMAT "\n%s_sum%s %.15g\n"
                                     "%s_count%s %" JSON_INTEGER_FORMAT "\n",
                                     metric->name, labels, below, metric->name, own, sum, metric->name, own, below) < 0;
}

static void write_histogram(struct writer *w, const struct metric *metric)
{
    put_histogram(w, metric, "", json_object_get(w->doc, metric->key));
}

static void write_batches(struct writer *w, const struct metric *metric)
{
    put_histogram(w, metric, "direction=\"up\",", json_object_get(w->doc, "up_batches"));
    put_histogram(w, metric, "direction=\"down\",", json_object_get(w->doc, "down_batches"));
}

/* The figure metric->key of each user in a part of the document. */
static void write_for_users(struct writer *w, const struct metric *metric, const char *part)
{
    json_t *users = json_object_get(w->doc, part);
    const char *user = NULL;
    json_t *value = NULL;
    json_object_foreach(users, user, value)
    {
        char name[LABEL_MAX], labels[LABEL_MAX + 16];
        escape_label(user, name);
        snprintf(labels, sizeof labels, "user=\"%s\"", name);
        put(w, metric->name, labels, json_object_get(value, metric->key));
    }
}

/* What each user has open. */
static void write_user_usage(struct writer *w, const struct metric *metric)
{
    write_for_users(w, metric, "user_usage");
}

/* What each user's sessions carried: key is the end of the names of both directions, or a figure of both together. */
static void write_user_traffic(struct writer *w, const struct metric *metric)
{
    json_t *users = json_object_get(w->doc, "user_traffic");
    const char *user = NULL;
    json_t *value = NULL;
    json_object_foreach(users, user, value)
    {
        char name[LABEL_MAX], labels[LABEL_MAX + 48];
        escape_label(user, name);
        for (unsigned i = 0; i < 2; i++) {
            char key[32];
            snprintf(key, sizeof key, "%s%s", directions[i], metric->key);
            snprintf(labels, sizeof labels, "user=\"%s\",direction=\"%s\"", name, directions[i]);
            put(w, metric->name, labels, json_object_get(value, key));
        }
    }
}

static void write_user_drops(struct writer *w, const struct metric *metric)
{
    write_for_users(w, metric, "user_traffic");
}

static void write_process(struct writer *w, const struct metric *metric)
{
    const struct sg_process_stats *p = w->process;
    const struct {
        const char *key;
        double value;
    } values[] = {
        {"cpu", p->cpu_seconds},
        {"start", p->start_seconds},
        {"resident", (double)p->resident_bytes},
        {"virtual", (double)p->virtual_bytes},
        {"open_fds", (double)p->open_fds},
        {"max_fds", (double)p->max_fds},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (strcmp(values[i].key, metric->key) == 0)
            put_number(w, metric->name, values[i].value);
}

/* --- the table --- */

#define GAUGE "gauge"
#define COUNTER "counter"

static const struct metric metrics[] = {
    {"sealgram_build_info", GAUGE, "Always 1; the version is a label.", write_build, "", 0, 0, 0},
    {"sealgram_workers", GAUGE, "Threads that carry the traffic.", write_worker_count, "", 0, 0, 0},
    {"sealgram_worker_sessions", GAUGE, "Sessions of a worker.", write_workers, "sessions", 0, 0, 0},
    {"sealgram_worker_tls_handshakes_total", COUNTER, "TLS handshakes of a worker.", write_workers, "handshakes", 0, 0,
     0},
    {"sealgram_worker_received_datagrams_total", COUNTER, "Datagrams from clients that a worker received.",
     write_workers, "datagrams_received", 0, 0, 0},
    {"sealgram_users", GAUGE, "Users in the user file.", write_value, "users", 0, 0, 0},

    {"sealgram_sessions", GAUGE, "Sessions that are open.", write_value, "sessions", 0, 0, 0},
    {"sealgram_sessions_on_udp", GAUGE, "Sessions whose datagrams travel by UDP.", write_value, "sessions_on_udp", 0, 0,
     0},
    {"sealgram_sessions_without_stream", GAUGE, "Sessions that lost their connection and may be resumed.", write_value,
     "sessions_without_stream", 0, 0, 0},
    {"sealgram_suite_sessions", GAUGE, "Sessions by their suite.", write_suites, "suites", 0, 0, 0},
    {"sealgram_sessions_opened_total", COUNTER, "Sessions that were opened.", write_value, "sessions_opened", 0, 0, 0},
    {"sealgram_sessions_resumed_total", COUNTER, "Sessions that got a further channel: renewed or resumed.",
     write_value, "sessions_resumed", 0, 0, 0},
    {"sealgram_associations", GAUGE, "Sealed associations that are open.", write_value, "associations", 0, 0, 0},
    {"sealgram_plain_associations", GAUGE, "Plain UDP associations that are open.", write_value, "plain_associations",
     0, 0, 0},
    {"sealgram_remembered_bytes", GAUGE, "What associations remember, and what waits in them for names.", write_value,
     "remembered_bytes", 0, 0, 0},

    {"sealgram_received_datagrams_total", COUNTER, "Datagrams received: up from clients, down from targets.",
     write_directions, "received", 0, 0, 0},
    {"sealgram_received_bytes_total", COUNTER, "Their bytes.", write_directions, "received_bytes", 0, 0, 0},
    {"sealgram_forwarded_datagrams_total", COUNTER, "Datagrams sent on.", write_directions, "forwarded", 0, 0, 0},
    {"sealgram_forwarded_bytes_total", COUNTER, "Bytes of their data.", write_directions, "forwarded_bytes", 0, 0, 0},
    {"sealgram_session_messages_total", COUNTER, "Records that were about the session.", write_directions, "session", 0,
     0, 0},
    {"sealgram_streamed_datagrams_total", COUNTER, "Of the datagrams, those that travelled inside TLS.",
     write_directions, "streamed", 0, 0, 0},
    {"sealgram_oversized_datagrams_total", COUNTER,
     "Datagrams that were too long for a record of the UDP path, and travelled inside TLS for that alone.",
     write_directions, "oversized", 0, 0, 0},
    {"sealgram_queued_datagrams", GAUGE, "Datagrams that wait, for a name or the stream.", write_directions, "queued",
     0, 0, 0},
    {"sealgram_dropped_datagrams_total", COUNTER, "Datagrams that were dropped.", write_drops, "drops", 0, 0, 0},
    {"sealgram_batch_datagrams", "histogram", "Datagrams that one receive call brought.", write_batches, "", 0, 11, 1},

    {"sealgram_tcp_accepted_total", COUNTER, "TCP connections accepted.", write_value, "tcp.accepted", 0, 0, 0},
    {"sealgram_tcp_before_request", GAUGE, "TCP connections that have not said what they want.", write_value,
     "tcp.before_request", 0, 0, 0},
    {"sealgram_tcp_relays", GAUGE, "CONNECT and BIND relays that are open.", write_value, "tcp.relays", 0, 0, 0},
    {"sealgram_tcp_refused_total", COUNTER, "TCP connections ended before their request.", write_tcp_refused,
     "refused_", 0, 0, 0},
    {"sealgram_limit_refusals_total", COUNTER, "Requests that a limit of a user, or of all, refused.", write_limits,
     "refused_limits", 0, 0, 0},
    {"sealgram_look_ups", GAUGE, "Names that are being looked up.", write_value, "look_ups.pending", 0, 0, 0},
    {"sealgram_look_ups_refused_total", COUNTER, "Names that were not, as too many are.", write_value,
     "look_ups.refused", 0, 0, 0},
    {"sealgram_tls_handshakes_total", COUNTER, "TLS handshakes that succeeded.", write_value, "tls_handshakes", 0, 0,
     0},
    {"sealgram_tls_handshake_seconds", "histogram", "Time that they took.", write_histogram, "handshake_us", 8, 24,
     1e-6},

    {"sealgram_user_sessions", GAUGE, "Sessions of a user.", write_user_usage, "sessions", 0, 0, 0},
    {"sealgram_user_associations", GAUGE, "Associations of a user.", write_user_usage, "associations", 0, 0, 0},
    {"sealgram_user_connections", GAUGE, "TCP connections of a user.", write_user_usage, "connections", 0, 0, 0},
    {"sealgram_user_datagrams_total", COUNTER, "Datagrams of a user's sessions.", write_user_traffic, "", 0, 0, 0},
    {"sealgram_user_bytes_total", COUNTER, "Bytes of their data.", write_user_traffic, "_bytes", 0, 0, 0},
    {"sealgram_user_dropped_datagrams_total", COUNTER, "Of these, and of records that did not open, the dropped.",
     write_user_drops, "dropped", 0, 0, 0},

    {"process_cpu_seconds_total", COUNTER, "User and system time of the process.", write_process, "cpu", 0, 0, 0},
    {"process_start_time_seconds", GAUGE, "When the server started, since 1970.", write_process, "start", 0, 0, 0},
    {"process_resident_memory_bytes", GAUGE, "Memory that is resident.", write_process, "resident", 0, 0, 0},
    {"process_virtual_memory_bytes", GAUGE, "Address space.", write_process, "virtual", 0, 0, 0},
    {"process_open_fds", GAUGE, "Open descriptors.", write_process, "open_fds", 0, 0, 0},
    {"process_max_fds", GAUGE, "Descriptors that may be open.", write_process, "max_fds", 0, 0, 0},
};

bool sg_metrics_text(struct evbuffer *out, const struct json_t *doc, const struct sg_process_stats *process)
{
    struct writer w = {.out = out, .doc = doc, .process = process};
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        w.failed |= evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", metrics[i].name, metrics[i].help,
                                        metrics[i].name, metrics[i].type) < 0;
        metrics[i].write(&w, &metrics[i]);
    }
    return !w.failed;
}
