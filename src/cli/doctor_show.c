/* The doctor's report as lines for people: one subject each, every class explained in a few words. */
#include "cli/doctor_show.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void __attribute__((format(printf, 2, 3))) show(const char *label, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%-12s ", label);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

static void show_udp(json_t *udp)
{
    const char *path = text_of(udp, "path");
    if (strcmp(path, "udp") == 0)
        show("UDP", "open to the server: each datagram travels by itself, as a sealed record");
    else if (strcmp(path, "stream") == 0)
        show("UDP", "BLOCKED to the server: datagrams travel inside TLS; does a firewall block its UDP port?");
    else if (json_is_true(json_object_get(udp, "relayed")))
        show("UDP", "carried; by which way beyond the relay, only the relay knows");
    else if (json_is_false(json_object_get(udp, "relayed")))
        show("UDP", "NOT carried");
    else
        show("UDP", "not known: no datagram came back");
}

static void show_targets(json_t *targets)
{
    size_t i = 0;
    json_t *at = NULL;
    if (json_is_null(targets))
        return;
    printf("%-12s %s:", "targets",
           strcmp(text_of(targets, "kind"), "own") == 0 ? "on this machine, seen from the relay's far side"
                                                        : "reflector");
    json_t *addresses = json_object_get(targets, "addresses");
    json_array_foreach(addresses, i, at)
    {
        printf(" %s", json_string_value(at));
    }
    putchar('\n');
}

static void show_trips(json_t *trips)
{
    size_t i = 0;
    json_t *trip = NULL;
    json_array_foreach(trips, i, trip)
    {
        json_int_t sent = json_integer_value(json_object_get(trip, "sent"));
        json_int_t lost = json_integer_value(json_object_get(trip, "lost"));
        const char *over = text_of(trip, "over");
        printf("%-12s over %s: %lld of %lld datagrams of %lld bytes lost", i == 0 ? "round trip" : "",
               strcmp(over, "udp") == 0      ? "UDP"
               : strcmp(over, "stream") == 0 ? "the stream"
               : strcmp(over, "both") == 0   ? "UDP and the stream"
                                             : "the relay",
               (long long)lost, (long long)sent, (long long)json_integer_value(json_object_get(trip, "bytes")));
        if (lost < sent)
            printf("; median %.1f ms, least %.1f, most %.1f", json_real_value(json_object_get(trip, "median_ms")),
                   json_real_value(json_object_get(trip, "min_ms")), json_real_value(json_object_get(trip, "max_ms")));
        putchar('\n');
    }
}

static void show_size(json_t *size)
{
    json_t *largest = json_object_get(size, "largest"), *sealed = json_object_get(size, "sealed");
    if (json_is_integer(largest))
        show("size", "datagrams of up to %lld bytes come back", (long long)json_integer_value(largest));
    if (json_is_integer(sealed))
        show(json_is_integer(largest) ? "" : "size",
             "up to %lld bytes as one sealed record of %lld; longer ones go inside TLS",
             (long long)json_integer_value(sealed), (long long)json_integer_value(json_object_get(size, "record_max")));
}

static const char *mapping_means(const char *class)
{
    if (strcmp(class, "endpoint-independent") == 0)
        return "one outer address and port toward all; peers can be told of it";
    if (strcmp(class, "address-dependent") == 0)
        return "another outer address or port for each peer's address; direct calls and games may fail";
    return "another outer address or port for each peer's port (\"symmetric\"); direct calls and games fail";
}

static const char *filtering_means(const char *class)
{
    if (strcmp(class, "endpoint-independent") == 0)
        return "anyone may send in, once anything was sent out";
    if (strcmp(class, "address-dependent") == 0)
        return "only addresses that were sent to may answer, from any port";
    return "only the very address and port that was sent to may answer";
}

static void show_classes(json_t *report)
{
    const char *mapping = text_of(report, "mapping"), *filtering = text_of(report, "filtering");
    if (*mapping)
        show("mapping", "%s (first %s): %s", mapping, text_of(report, "outer"), mapping_means(mapping));
    if (*filtering)
        show("filtering", "%s: %s", filtering, filtering_means(filtering));
}

static void show_policy(json_t *policy)
{
    size_t i = 0;
    json_t *probe = NULL;
    json_array_foreach(policy, i, probe)
    {
        const char *verdict = text_of(probe, "verdict");
        json_t *reply = json_object_get(probe, "reply");
        printf("%-12s %-9s %-20s ", i == 0 ? "policy" : "", text_of(probe, "class"), text_of(probe, "target"));
        if (strcmp(verdict, "refused") == 0)
            puts("refused");
        else if (json_is_integer(reply))
            printf("%s (reply %02llx: %s)\n", strcmp(verdict, "tried") == 0 ? "NOT refused" : "not clear",
                   (unsigned long long)json_integer_value(reply), text_of(probe, "text"));
        else
            puts("not clear (no reply in time)");
    }
}

void sg_doctor_show(struct json_t *report)
{
    size_t i = 0;
    json_t *missing = NULL;
    show("relay", "%s%s", text_of(report, "relay"),
         json_is_true(json_object_get(report, "own_client")) ? ", a client started for this" : "");
    show_udp(json_object_get(report, "udp"));
    show_targets(json_object_get(report, "targets"));
    show_trips(json_object_get(report, "trips"));
    show_size(json_object_get(report, "size"));
    show_classes(report);
    show_policy(json_object_get(report, "policy"));
    json_t *all_missing = json_object_get(report, "not_examined");
    json_array_foreach(all_missing, i, missing)
    {
        show(i == 0 ? "not examined" : "", "%s: %s", text_of(missing, "what"), text_of(missing, "why"));
    }
}
