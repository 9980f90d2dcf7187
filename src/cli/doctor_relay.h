/*
 * A SOCKS5 relay as `sealgram doctor` looks at it, from outside: UDP associations through which questions go to a
 * reflector, and CONNECT requests that show what the relay's policy refuses. Calls wait until their time is over.
 */
#ifndef SG_CLI_DOCTOR_RELAY_H
#define SG_CLI_DOCTOR_RELAY_H

#include "cli/doctor_reflect.h"
#include "core/addr.h"

enum { SG_RELAY_TEXT_MAX = 160, SG_RELAY_ECHOES_MAX = 1000 };

/* One UDP ASSOCIATE. */
struct sg_relay {
    struct sg_endpoint at; /* where the relay takes datagrams */
    int tcp, udp;
    struct sg_reflector *own; /* a reflector in this process, which has to be served meanwhile; or NULL */
    uint64_t nonce;           /* of the next question */
};

enum sg_relay_result {
    SG_RELAY_OPEN,
    SG_RELAY_UNREACHABLE, /* nobody there, or it does not speak SOCKS5 without a login */
    SG_RELAY_NO_UDP,      /* it refused UDP ASSOCIATE */
};

/* A new association at a SOCKS5 server. Unless OPEN, problem has one line and nothing is to be closed. */
SG_MUST_CHECK enum sg_relay_result sg_relay_open(struct sg_relay *relay, const struct sg_endpoint *socks,
                                                 struct sg_reflector *own, char problem[static SG_RELAY_TEXT_MAX]);
void sg_relay_close(struct sg_relay *relay);

/* A question and the wait for its answer. */
struct sg_relay_question {
    struct sg_endpoint to;
    unsigned from;   /* where the answer shall come from: SG_FROM_* */
    size_t len;      /* at least SG_PROBE_MIN */
    unsigned tries;  /* questions sent before it is given up */
    unsigned try_ms; /* how long each waits */
};

/* True if an answer came; seen (may be NULL) is then the address that the reflector saw. */
bool sg_relay_ask(struct sg_relay *relay, const struct sg_relay_question *q, struct sg_endpoint *seen);

struct sg_relay_trips {
    unsigned sent, lost, doubled;
    double min_ms, median_ms, max_ms; /* of those that came back; 0 if none did */
};

/* count questions (at most SG_RELAY_ECHOES_MAX), one each spacing_ms; then waits up to a second for the last. */
void sg_relay_echo(struct sg_relay *relay, const struct sg_relay_question *q, unsigned count, unsigned spacing_ms,
                   struct sg_relay_trips *out);

/* What a CONNECT to a target that ought to be refused came to. */
enum sg_relay_verdict {
    SG_VERDICT_REFUSED, /* reply 02 */
    SG_VERDICT_TRIED,   /* no rule forbade it: the reply tells of the target or the network */
    SG_VERDICT_UNCLEAR, /* a reply that says neither, or none in time */
};

struct sg_relay_probe {
    const char *kind;
    const char *target;
    enum sg_relay_verdict verdict; /* set by sg_relay_probe */
    int reply;                     /* the code, -1: none */
};

/* All probes side by side. */
void sg_relay_probe(const struct sg_endpoint *socks, struct sg_relay_probe *probes, unsigned count);

#endif
