/*
 * The examinations: targets that answer are looked for, then asked, in the spirit of RFC 5780; each answer goes into
 * the report.
 */
#include "cli/doctor.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/doctor_relay.h"
#include "cli/progress.h"
#include "core/datagram.h"
#include "core/socks5.h"
#include "net/clock.h"
#include "net/sockaddr.h"

enum {
    SETTLE_MS = 5000, /* the longest record is found within 3 s */
    SETTLE_STEP_MS = 250,
    SETTLE_SAME = 5, /* so many equal figures in a row */
    TRIES = 5,       /* on a path that loses 30 % all of them are lost in 3 % of the cases */
    SIZE_TRIES = 3,
    FIRST_TRY_MS = 700, /* while it is not known how far the target is */
    TRY_MIN_MS = 300,
    TRY_MAX_MS = 2000,
    ECHO_SPACING_MS = 40,
    ECHO_BYTES = 200,
    PAYLOAD_MAX = 65497, /* what fits a UDP datagram behind a SOCKS header with an IPv4 address */
    PAYLOAD_MAX_IPV6 = 65485,
    NUMBER_BYTES = 4, /* the association's, in a record */
};

static void set(struct sg_doctor *doctor, const char *key, json_t *value)
{
    json_object_set_new(doctor->report, key, value);
}

static void __attribute__((format(printf, 3, 4)))
not_examined(struct sg_doctor *doctor, const char *what, const char *format, ...)
{
    char why[256];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    json_array_append_new(json_object_get(doctor->report, "not_examined"),
                          json_pack("{s:s, s:s}", "what", what, "why", why));
}

/* The longest record, once it stays the same. */
static json_int_t settled_record_max(const struct sg_doctor *doctor)
{
    json_int_t last = -1;
    uint64_t end_ms = sg_now_ms() + SETTLE_MS;
    for (unsigned same = 0; same < SETTLE_SAME && sg_now_ms() < end_ms && !sg_doctor_interrupted; same++) {
        json_int_t now = sg_doctor_client_number(doctor, NULL, "record_max");
        if (now != last)
            same = 0;
        last = now;
        (void)poll(NULL, 0, SETTLE_STEP_MS);
    }
    return last;
}

/* --- where questions go --- */

static struct sg_relay_question question_to(const struct sg_doctor *doctor, unsigned target, unsigned from)
{
    return (struct sg_relay_question){
        .to = doctor->targets.at[target], .from = from, .len = SG_PROBE_MIN, .tries = TRIES, .try_ms = doctor->try_ms};
}

static bool target_answers(struct sg_doctor *doctor, struct sg_relay *relay, const struct sg_reflect_at *targets)
{
    doctor->targets = *targets;
    struct sg_relay_question q = question_to(doctor, 0, 0);
    if (sg_relay_ask(relay, &q, NULL))
        return true;
    doctor->targets.count = 0;
    return false;
}

static bool own_answers(struct sg_doctor *doctor, struct sg_relay *relay, const struct sg_reflect_at *where)
{
    if (!sg_reflector_open(&doctor->own, where, false))
        return false;
    relay->own = &doctor->own;
    if (target_answers(doctor, relay, &doctor->own.where))
        return true;
    relay->own = NULL;
    sg_reflector_close(&doctor->own);
    return false;
}

static struct sg_reflect_at loopback_targets(void)
{
    struct sg_reflect_at where = {.count = 4};
    for (unsigned i = 0; i < where.count; i++)
        where.at[i].ip = (struct sg_ip){4, {127, 0, 0, i & SG_FROM_OTHER_ADDRESS ? 2 : 1}};
    return where;
}

/* One or two IPv4 addresses that other machines may know this one by; count 0: it has none. */
static struct sg_reflect_at interface_targets(void)
{
    struct sg_reflect_at where = {.count = 0};
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0)
        return where;
    for (const struct ifaddrs *each = list; each && where.count < 4; each = each->ifa_next) {
        struct sockaddr_storage ss = {.ss_family = AF_UNSPEC};
        if (!each->ifa_addr || each->ifa_addr->sa_family != AF_INET || (each->ifa_flags & IFF_LOOPBACK))
            continue;
        memcpy(&ss, each->ifa_addr, sizeof(struct sockaddr_in));
        struct sg_ip ip = sg_sockaddr_endpoint(&ss).ip;
        for (unsigned i = where.count; i < SG_REFLECT_SOCKETS; i++)
            where.at[i].ip = ip;
        where.count += 2;
    }
    freeifaddrs(list);
    return where;
}

static void begin_step(const char *what)
{
    sg_progress_step("doctor", what);
}

static void find_targets(struct sg_doctor *doctor, struct sg_relay *relay)
{
    struct sg_reflect_at loopback = loopback_targets(), interfaces = interface_targets();
    const char *kind = doctor->reflector_text ? "reflector" : "own";
    doctor->try_ms = FIRST_TRY_MS;
    bool found = doctor->reflector_text ? target_answers(doctor, relay, &doctor->reflect)
                                        : own_answers(doctor, relay, &loopback) ||
                                              (interfaces.count > 0 && own_answers(doctor, relay, &interfaces));
    if (!found)
        return;
    json_t *addresses = json_array();
    for (unsigned i = 0; i < doctor->targets.count; i++) {
        char text[SG_ENDPOINT_TEXT_MAX];
        sg_endpoint_format(&doctor->targets.at[i], text);
        json_array_append_new(addresses, json_string(text));
    }
    set(doctor, "targets", json_pack("{s:s, s:o}", "kind", kind, "addresses", addresses));
}

/* --- the examinations --- */

static const char *over_which(json_int_t streamed, unsigned sent)
{
    if (streamed < 0)
        return "relay";
    if (streamed == 0)
        return "udp";
    return streamed >= (json_int_t)sent ? "stream" : "both";
}

/* Loss and round trip at one size. What the client says to have streamed tells by which way they went. */
static void examine_trips(struct sg_doctor *doctor, struct sg_relay *relay, size_t len)
{
    struct sg_relay_question q = question_to(doctor, 0, 0);
    struct sg_relay_trips trips;
    q.len = len;
    json_int_t before = sg_doctor_client_number(doctor, "up", "streamed");
    sg_relay_echo(relay, &q, doctor->echoes, ECHO_SPACING_MS, &trips);
    json_int_t after = sg_doctor_client_number(doctor, "up", "streamed");
    const char *over = over_which(before < 0 || after < 0 ? -1 : after - before, trips.sent);
    json_array_append_new(json_object_get(doctor->report, "trips"),
                          json_pack("{s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:f}", "over", over, "bytes", (int)len, "sent",
                                    (int)trips.sent, "lost", (int)trips.lost, "doubled", (int)trips.doubled, "min_ms",
                                    trips.min_ms, "median_ms", trips.median_ms, "max_ms", trips.max_ms));
    unsigned patience = (unsigned)(trips.max_ms * 2) + 1;
    if (trips.lost < trips.sent)
        doctor->try_ms = patience < TRY_MIN_MS ? TRY_MIN_MS : patience > TRY_MAX_MS ? TRY_MAX_MS : patience;
}

static size_t payload_max(const struct sg_doctor *doctor)
{
    return doctor->targets.at[0].ip.family == 6 ? PAYLOAD_MAX_IPV6 : PAYLOAD_MAX;
}

/* The longest datagram that comes back, by halving. */
static void examine_size(struct sg_doctor *doctor, struct sg_relay *relay)
{
    struct sg_relay_question q = question_to(doctor, 0, 0);
    size_t good = SG_PROBE_MIN, bad = payload_max(doctor) + 1;
    q.len = bad - 1;
    q.tries = SIZE_TRIES;
    while (bad - good > 1 && !sg_doctor_interrupted) {
        if (sg_relay_ask(relay, &q, NULL))
            good = q.len;
        else
            bad = q.len;
        q.len = good + (bad - good) / 2;
    }
    json_object_set_new(json_object_get(doctor->report, "size"), "largest", json_integer((json_int_t)good));
}

/* What fits a sealed record, and trips of what does not: those go by the stream. */
static void examine_records(struct sg_doctor *doctor, struct sg_relay *relay)
{
    json_t *size = json_object_get(doctor->report, "size");
    const char *path = json_string_value(json_object_get(json_object_get(doctor->report, "udp"), "path"));
    if (!doctor->invite || !path) {
        not_examined(doctor, "UDP and stream apart", "only a client that doctor starts tells: give it the INVITE");
        return;
    }
    if (strcmp(path, "udp") != 0) {
        not_examined(doctor, "round trip over UDP", "UDP is blocked");
        return;
    }
    json_int_t record_max = settled_record_max(doctor);
    json_int_t around = SG_RECORD_OVERHEAD + NUMBER_BYTES +
                        (doctor->targets.at[0].ip.family == 6 ? SG_ADDR_IPV6_BYTES : SG_ADDR_IPV4_BYTES);
    if (record_max <= around) {
        not_examined(doctor, "size of a record", "the client does not tell");
        return;
    }
    json_object_set_new(size, "record_max", json_integer(record_max));
    json_object_set_new(size, "sealed", json_integer(record_max - around));
    examine_trips(doctor, relay, (size_t)(record_max - around) + 1);
}

/* RFC 5780 section 4.4. An association of its own: nothing was sent to the other address before. */
static const char *find_filtering(struct sg_doctor *doctor, struct sg_relay *relay, const char **why)
{
    struct sg_relay_question open = question_to(doctor, 0, 0);
    struct sg_relay_question other = question_to(doctor, 0, SG_FROM_OTHER_ADDRESS | SG_FROM_OTHER_PORT);
    struct sg_relay_question port = question_to(doctor, 0, SG_FROM_OTHER_PORT);
    *why = "the target did not answer";
    if (!sg_relay_ask(relay, &open, NULL))
        return NULL;
    if (doctor->targets.count == 4 && sg_relay_ask(relay, &other, NULL))
        return "endpoint-independent";
    if (!sg_relay_ask(relay, &port, NULL))
        return "address-and-port-dependent";
    if (doctor->targets.count == 4)
        return "address-dependent";
    *why = "endpoint-independent or address-dependent: the target has one address only, two would tell";
    return NULL;
}

/* RFC 5780 section 4.3. */
static const char *find_mapping(struct sg_doctor *doctor, struct sg_relay *relay, const char **why)
{
    struct sg_endpoint seen[SG_REFLECT_SOCKETS] = {{.port = 0}};
    char text[SG_ENDPOINT_TEXT_MAX];
    *why = "a target did not answer";
    for (unsigned i = 0; i < doctor->targets.count; i++) {
        struct sg_relay_question q = question_to(doctor, i, 0);
        if (!sg_relay_ask(relay, &q, &seen[i]))
            return NULL;
    }
    sg_endpoint_format(&seen[0], text);
    set(doctor, "outer", json_string(text));
    if (!sg_endpoint_equal(&seen[0], &seen[1]))
        return "address-and-port-dependent";
    if (doctor->targets.count == 4)
        return sg_endpoint_equal(&seen[0], &seen[2]) ? "endpoint-independent" : "address-dependent";
    *why = "endpoint-independent or address-dependent: the target has one address only, two would tell";
    return NULL;
}

static void examine_class(struct sg_doctor *doctor, struct sg_reflector *own, const char *what,
                          const char *(*find)(struct sg_doctor *, struct sg_relay *, const char **))
{
    char problem[SG_RELAY_TEXT_MAX];
    struct sg_relay relay;
    const char *why = NULL;
    if (sg_relay_open(&relay, &doctor->socks, own, problem) != SG_RELAY_OPEN) {
        not_examined(doctor, what, "no further association: %s", problem);
        return;
    }
    const char *class = find(doctor, &relay, &why);
    sg_relay_close(&relay);
    if (class)
        set(doctor, what, json_string(class));
    else
        not_examined(doctor, what, "%s", why);
}

static void examine_policy(struct sg_doctor *doctor)
{
    static const char *const verdicts[] = {"refused", "tried", "unclear"};
    struct sg_relay_probe probes[] = {
        {.kind = "loopback", .target = "127.0.0.1:9"},  {.kind = "loopback", .target = "[::1]:9"},
        {.kind = "private", .target = "10.0.0.1:9"},    {.kind = "private", .target = "192.168.0.1:9"},
        {.kind = "private", .target = "[fd00::1]:9"},   {.kind = "metadata", .target = "169.254.169.254:80"},
        {.kind = "multicast", .target = "224.0.0.1:9"},
    };
    unsigned count = sizeof probes / sizeof probes[0];
    sg_relay_probe(&doctor->socks, probes, count);
    for (unsigned i = 0; i < count; i++) {
        json_t *reply = probes[i].reply < 0 ? json_null() : json_integer(probes[i].reply);
        const char *text = probes[i].reply < 0 ? "" : sg_socks5_rep_text((unsigned)probes[i].reply);
        json_array_append_new(json_object_get(doctor->report, "policy"),
                              json_pack("{s:s, s:s, s:s, s:o, s:s}", "class", probes[i].kind, "target",
                                        probes[i].target, "verdict", verdicts[probes[i].verdict], "reply", reply,
                                        "text", text));
    }
}

static void examine_datagrams(struct sg_doctor *doctor, struct sg_relay *relay)
{
    json_t *udp = json_object_get(doctor->report, "udp");
    begin_step("looking for a target that answers by way of the relay");
    find_targets(doctor, relay);
    if (doctor->targets.count == 0) {
        not_examined(doctor, "datagrams", "no answer came from %s%s",
                     doctor->reflector_text
                         ? "the reflector "
                         : "this machine's own addresses by way of the relay; run "
                           "`sealgram doctor --reflect` where the relay may send to, and give --reflector",
                     doctor->reflector_text ? doctor->reflector_text : "");
        return;
    }
    json_object_set_new(udp, "relayed", json_true());
    begin_step("measuring loss and round trip");
    examine_trips(doctor, relay, ECHO_BYTES); /* first: it tells how long to wait for an answer */
    begin_step("finding out who may answer, and by which address the relay is seen");
    examine_class(doctor, relay->own, "filtering", find_filtering);
    examine_class(doctor, relay->own, "mapping", find_mapping);
    begin_step("waiting for the client to know the longest record, and measuring what is longer");
    examine_records(doctor, relay);
    begin_step("looking for the longest datagram that comes back");
    examine_size(doctor, relay);
}

bool sg_doctor_examine(struct sg_doctor *doctor)
{
    char problem[SG_RELAY_TEXT_MAX], text[SG_ENDPOINT_TEXT_MAX];
    struct sg_relay relay;
    sg_endpoint_format(&doctor->socks, text);
    set(doctor, "relay", json_string(text));
    begin_step("waiting for the relay to open an association");
    enum sg_relay_result result = sg_relay_open(&relay, &doctor->socks, NULL, problem);
    if (result == SG_RELAY_UNREACHABLE) {
        sg_cli_error("doctor: %s: %s", text, problem);
        return false;
    }
    if (result == SG_RELAY_OPEN) {
        examine_datagrams(doctor, &relay);
        sg_relay_close(&relay);
        sg_reflector_close(&doctor->own);
    } else {
        json_object_set_new(json_object_get(doctor->report, "udp"), "relayed", json_false());
        not_examined(doctor, "datagrams", "%s", problem);
    }
    begin_step("asking for targets that policy should refuse");
    if (!sg_doctor_interrupted)
        examine_policy(doctor);
    return !sg_doctor_interrupted;
}
