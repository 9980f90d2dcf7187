/*
 * The session's own traffic. In short, from docs/protocol.md sections 7 and 8: the stream is pinged when nothing came
 * for 15 s and given up after three pings without a byte from the peer; the client probes until answered, then
 * chooses UDP by PATH, and the stream again when UDP has fallen silent; the server challenges a new address and moves
 * only to one that responded; each side looks for the longest record once the path stands.
 */
#include "core/session.h"

#include "core/datagram.h"
#include "core/plaintext.h"

/* A PROBE without padding: type, n, choice, id, size. */
enum { PROBE_RECORD_BYTES = SG_RECORD_OVERHEAD + SG_ASSOC_BYTES + 1 + 4 + 1 + 4 + 2 };

void sg_session_init(struct sg_session *session, enum sg_role role, const struct sg_session_ops *ops, void *ctx,
                     uint64_t now_ms)
{
    *session = (struct sg_session){
        .role = role,
        .ops = ops,
        .ctx = ctx,
        .has_stream = true,
        .stream_in_ms = now_ms,
        .doubt_ms = SG_NEVER,
        .choice = SG_PATH_STREAM,
        .udp_out_ms = now_ms,
    };
    sg_pmtu_init(&session->pmtu);
}

void sg_session_start_path(struct sg_session *session, uint64_t now_ms)
{
    uint8_t spread[2];
    sg_client_path_start(&session->client_path, now_ms);
    session->ops->random(session->ctx, spread, sizeof spread);
    unsigned draw = (unsigned)spread[0] << 8 | spread[1];
    session->keepalive_ms = SG_PATH_KEEPALIVE_MS - draw % (SG_PATH_KEEPALIVE_MS / 10);
}

static void send_stream(struct sg_session *session, const struct sg_msg *msg)
{
    session->ops->send_stream(session->ctx, msg);
}

static void send_udp(struct sg_session *session, const struct sg_path_addr *addr, const struct sg_msg *msg,
                     size_t record_bytes, uint64_t now_ms)
{
    session->udp_out_ms = now_ms;
    session->ops->send_udp(session->ctx, addr, msg, record_bytes);
}

void sg_session_stream_alive(struct sg_session *session, uint64_t now_ms)
{
    session->stream_in_ms = now_ms;
    session->doubt_ms = SG_NEVER;
    session->pings = 0;
}

void sg_session_stream_new(struct sg_session *session, uint64_t now_ms)
{
    session->has_stream = true;
    sg_session_stream_alive(session, now_ms);
}

void sg_session_stream_lost(struct sg_session *session, uint64_t now_ms)
{
    session->has_stream = false;
    session->doubt_ms = SG_NEVER;
    if (session->role == SG_ROLE_CLIENT)
        sg_client_path_moved(&session->client_path, now_ms);
}

bool sg_session_on_udp(const struct sg_session *session)
{
    if (session->choice != SG_PATH_UDP)
        return false;
    return session->role == SG_ROLE_CLIENT || session->server_path.validated;
}

enum sg_route sg_session_route(struct sg_session *session, size_t record_bytes, uint64_t now_ms)
{
    if (!sg_session_on_udp(session))
        return SG_ROUTE_STREAM;
    if (session->has_stream && sg_server_path_is_in_doubt(&session->server_path, now_ms))
        return SG_ROUTE_STREAM;
    sg_pmtu_sent(&session->pmtu, record_bytes, now_ms);
    if (record_bytes > session->pmtu.record_max)
        return SG_ROUTE_STREAM;
    session->udp_out_ms = now_ms;
    if (session->role == SG_ROLE_CLIENT)
        sg_client_path_traffic(&session->client_path, now_ms);
    return SG_ROUTE_UDP;
}

bool sg_session_is_oversized(const struct sg_session *session, size_t record_bytes)
{
    return sg_session_on_udp(session) && session->pmtu.settled && record_bytes > session->pmtu.record_max;
}

static void start_sizes(struct sg_session *session, const struct sg_path_addr *addr, uint64_t now_ms)
{
    sg_pmtu_start(&session->pmtu, session->ops->kernel_max(session->ctx, addr), session->next_id, now_ms);
}

/* The client's word on the path: only a higher n counts, so that a late PATH or PROBE changes nothing. */
static void take_choice(struct sg_session *session, uint32_t n, uint8_t choice, uint64_t now_ms)
{
    if (n <= session->n)
        return;
    session->n = n;
    session->choice = choice;
    if (choice == SG_PATH_UDP && session->server_path.validated)
        start_sizes(session, &session->server_path.current, now_ms);
    else
        sg_pmtu_stop(&session->pmtu);
    session->ops->on_route(session->ctx);
}

bool sg_session_on_stream(struct sg_session *session, const struct sg_msg *msg, uint64_t now_ms)
{
    switch (msg->type) {
    case SG_MSG_PING: {
        struct sg_msg pong = *msg;
        pong.type = SG_MSG_PONG;
        send_stream(session, &pong);
        return true;
    }
    case SG_MSG_PONG:
        return true;
    case SG_MSG_PATH:
        take_choice(session, msg->path.n, msg->path.choice, now_ms);
        return true;
    case SG_MSG_DATAGRAM:
    case SG_MSG_CLOSE:
    case SG_MSG_CLOSED:
    case SG_MSG_ALIVE:
    case SG_MSG_REFUSED:
    case SG_MSG_CONFIRM:
    case SG_MSG_RENEW:
    case SG_MSG_DRAIN:
    case SG_MSG_PROBE:
    case SG_MSG_PROBE_ANSWER:
    case SG_MSG_CHALLENGE:
    case SG_MSG_RESPONSE:
    case SG_MSG_KEEPALIVE:
        return false;
    }
    return false;
}

static void send_challenge(struct sg_session *session, const struct sg_path_addr *addr, const uint8_t *token,
                           uint64_t now_ms)
{
    struct sg_msg challenge = {.type = SG_MSG_CHALLENGE};
    memcpy(challenge.token, token, sizeof challenge.token);
    send_udp(session, addr, &challenge, 0, now_ms);
}

void sg_session_on_record(struct sg_session *session, const struct sg_arrival *arrival, uint64_t now_ms)
{
    uint8_t token[SG_CONTROL_TOKEN_BYTES];
    if (session->role == SG_ROLE_CLIENT) {
        if (arrival->datagram)
            sg_client_path_traffic(&session->client_path, now_ms);
        sg_client_path_heard(&session->client_path, now_ms);
        return;
    }
    if (!arrival->newest)
        return;
    if (sg_server_path_offer(&session->server_path, arrival->addr, now_ms, session->ops->random, session->ctx, token))
        send_challenge(session, arrival->addr, token, now_ms);
}

static void send_probe(struct sg_session *session, uint32_t id, size_t record_bytes, uint64_t now_ms)
{
    struct sg_msg probe = {.type = SG_MSG_PROBE};
    probe.path.n = session->n;
    probe.path.choice = session->choice;
    probe.path.id = id;
    probe.path.size = (uint16_t)record_bytes;
    const struct sg_path_addr *addr = session->role == SG_ROLE_SERVER ? &session->server_path.current : NULL;
    send_udp(session, addr, &probe, record_bytes, now_ms);
}

static bool from_validated(const struct sg_session *session, const struct sg_arrival *arrival)
{
    return session->role == SG_ROLE_CLIENT ||
           (session->server_path.validated && sg_path_addr_equal(&session->server_path.current, arrival->addr));
}

/* An address that is not validated gets only its challenge, which sg_session_on_record sends. */
static void answer_probe(struct sg_session *session, const struct sg_msg *probe, const struct sg_arrival *arrival,
                         uint64_t now_ms)
{
    if (session->role == SG_ROLE_SERVER)
        take_choice(session, probe->path.n, probe->path.choice, now_ms);
    if (!from_validated(session, arrival))
        return;
    struct sg_msg answer = {.type = SG_MSG_PROBE_ANSWER};
    answer.path.n = session->n;
    answer.path.choice = session->choice;
    answer.path.id = probe->path.id;
    answer.path.size = (uint16_t)arrival->record_bytes;
    send_udp(session, arrival->addr, &answer, 0, now_ms);
}

/* The client chose: it says so on both ways, whichever of them carries. */
static void announce_choice(struct sg_session *session, uint64_t now_ms)
{
    struct sg_msg path = {.type = SG_MSG_PATH};
    session->n = session->client_path.n;
    session->choice = (uint8_t)session->client_path.choice;
    path.path.n = session->n;
    path.path.choice = session->choice;
    send_stream(session, &path);
    send_udp(session, NULL, &path, 0, now_ms);
    if (session->choice == SG_PATH_UDP)
        start_sizes(session, NULL, now_ms);
    else
        sg_pmtu_stop(&session->pmtu);
    session->ops->on_route(session->ctx);
}

void sg_session_moved(struct sg_session *session, uint64_t now_ms)
{
    sg_client_path_moved(&session->client_path, now_ms);
}

static void on_challenge(struct sg_session *session, const struct sg_msg *challenge, uint64_t now_ms)
{
    struct sg_msg response = *challenge;
    response.type = SG_MSG_RESPONSE;
    send_udp(session, NULL, &response, 0, now_ms);
    send_probe(session, session->next_id++, PROBE_RECORD_BYTES, now_ms);
}

enum sg_reason sg_session_on_message(struct sg_session *session, const uint8_t *plaintext, size_t len,
                                     const struct sg_arrival *arrival, uint64_t now_ms)
{
    struct sg_msg msg;
    enum sg_role peer = session->role == SG_ROLE_SERVER ? SG_ROLE_CLIENT : SG_ROLE_SERVER;
    if (sg_session_message_decode(plaintext, len, peer, &msg) != SG_OK)
        return SG_REASON_MALFORMED;

    switch (msg.type) {
    case SG_MSG_PROBE:
        answer_probe(session, &msg, arrival, now_ms);
        return SG_REASON_NONE;
    case SG_MSG_PROBE_ANSWER:
        if (!from_validated(session, arrival))
            return SG_REASON_CHALLENGE;
        sg_pmtu_answered(&session->pmtu, msg.path.id, msg.path.size, now_ms);
        if (session->role == SG_ROLE_CLIENT && sg_client_path_answered(&session->client_path, msg.path.id, now_ms))
            announce_choice(session, now_ms);
        return SG_REASON_NONE;
    case SG_MSG_CHALLENGE:
        on_challenge(session, &msg, now_ms);
        return SG_REASON_NONE;
    case SG_MSG_RESPONSE:
        if (!sg_server_path_respond(&session->server_path, arrival->addr, msg.token, now_ms))
            return SG_REASON_CHALLENGE;
        if (session->choice == SG_PATH_UDP)
            start_sizes(session, arrival->addr, now_ms);
        session->ops->on_route(session->ctx);
        return SG_REASON_NONE;
    case SG_MSG_PATH:
        take_choice(session, msg.path.n, msg.path.choice, now_ms);
        return SG_REASON_NONE;
    case SG_MSG_KEEPALIVE:
        return SG_REASON_NONE;
    case SG_MSG_DATAGRAM:
    case SG_MSG_PING:
    case SG_MSG_PONG:
    case SG_MSG_CLOSE:
    case SG_MSG_CLOSED:
    case SG_MSG_ALIVE:
    case SG_MSG_REFUSED:
    case SG_MSG_CONFIRM:
    case SG_MSG_RENEW:
    case SG_MSG_DRAIN:
        return SG_REASON_MALFORMED;
    }
    return SG_REASON_MALFORMED;
}

/*
 * When the next PING is due: 15 s after the last byte that came; while pings are unanswered, 15 s after the last of
 * them.
 */
static uint64_t ping_due(const struct sg_session *session)
{
    if (!session->has_stream)
        return SG_NEVER;
    return (session->pings > 0 ? session->ping_ms : session->stream_in_ms) + SG_SESSION_PING_MS;
}

static void send_ping(struct sg_session *session, uint64_t now_ms)
{
    struct sg_msg ping = {.type = SG_MSG_PING};
    session->ops->random(session->ctx, ping.token, sizeof ping.token);
    session->pings++;
    session->ping_ms = now_ms;
    send_stream(session, &ping);
}

static enum sg_reason tick_stream(struct sg_session *session, uint64_t now_ms)
{
    if (now_ms >= session->doubt_ms) {
        session->doubt_ms = SG_NEVER;
        session->ops->on_doubt(session->ctx);
    }
    if (now_ms < ping_due(session))
        return SG_REASON_NONE;
    if (session->pings >= SG_SESSION_PINGS_MAX)
        return SG_REASON_TIMEOUT;
    send_ping(session, now_ms);
    return SG_REASON_NONE;
}

/* Whatever silenced UDP may have silenced the stream too, and would be noticed only by the third PING. */
static void doubt_stream(struct sg_session *session, uint64_t now_ms)
{
    if (!session->has_stream)
        return;
    session->doubt_ms = now_ms + SG_SESSION_DOUBT_MS;
    send_ping(session, now_ms);
}

static uint64_t keepalive_due(const struct sg_session *session)
{
    if (session->role != SG_ROLE_CLIENT || session->choice != SG_PATH_UDP || session->keepalive_ms == 0)
        return SG_NEVER;
    return session->udp_out_ms + session->keepalive_ms;
}

enum sg_reason sg_session_tick(struct sg_session *session, uint64_t now_ms)
{
    const struct sg_path_candidate *candidate = NULL;
    uint16_t size = 0;

    while ((candidate = sg_server_path_repeat(&session->server_path, now_ms)))
        send_challenge(session, &candidate->addr, candidate->token, now_ms);
    if (sg_client_path_lost(&session->client_path, now_ms)) {
        announce_choice(session, now_ms);
        doubt_stream(session, now_ms);
    }
    if (sg_client_path_probe_due(&session->client_path, session->next_id, now_ms))
        send_probe(session, session->next_id++, PROBE_RECORD_BYTES, now_ms);
    while ((size = sg_pmtu_due(&session->pmtu, now_ms)) > 0)
        send_probe(session, session->next_id++, size, now_ms);
    if (now_ms >= keepalive_due(session)) {
        struct sg_msg keepalive = {.type = SG_MSG_KEEPALIVE};
        send_udp(session, NULL, &keepalive, 0, now_ms);
    }
    return tick_stream(session, now_ms);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t sg_session_next_timeout(const struct sg_session *session)
{
    uint64_t next = earlier(ping_due(session), session->doubt_ms);
    next = earlier(next, sg_server_path_next_timeout(&session->server_path));
    next = earlier(next, sg_client_path_next_timeout(&session->client_path));
    next = earlier(next, sg_pmtu_next_timeout(&session->pmtu));
    return earlier(next, keepalive_due(session));
}

size_t sg_session_seal(struct sg_sender *sender, const struct sg_msg *msg, size_t record_bytes, uint8_t *room)
{
    uint8_t *plaintext = room + SG_RECORD_HEADER_BYTES;
    struct sg_wbuf w = sg_wbuf_init(plaintext, SG_CONTROL_SMALL_MAX);
    sg_session_message_encode(&w, msg);
    size_t len = sg_wbuf_len(&w);
    if (record_bytes > len + SG_RECORD_OVERHEAD && record_bytes <= SG_RECORD_MAX) {
        memset(plaintext + len, 0, record_bytes - SG_RECORD_OVERHEAD - len);
        len = record_bytes - SG_RECORD_OVERHEAD;
    }
    struct sg_record record = {.bytes = room, .len = len};
    return sg_seal_batch(sender, &record, 1) == 1 ? record.len : 0;
}
