/* Lines on sessions. Addresses are shown as the operator wants them (net/log_text.h). */
#include "server/session_log.h"

#include <inttypes.h>

#include "core/datagram.h"
#include "net/clock.h"
#include "net/log.h"
#include "net/log_text.h"
#include "server/session.h"

/* Who needed no name has none. */
static const char *name_of(const struct sg_handover *who)
{
    return who->user[0] ? who->user : "-";
}

const char *sg_session_user(const struct sg_server_session *session)
{
    return name_of(&session->who);
}

void sg_session_log_start(const struct sg_server_session *session)
{
    char client[SG_ENDPOINT_TEXT_MAX];
    const char *user = name_of(&session->who);
    const char *suite = session->current->suite->name;
    sg_log_endpoint(&session->who.peer, client);
    sg_log_event(SG_LOG_INFO, "session_start",
                 SG_LOG_FIELDS(sg_log_word("user", user), sg_log_word("client", client), sg_log_word("suite", suite)),
                 "session of %s opened: %s, from %s", user, suite, client);
}

void sg_session_log_end(const struct sg_server_session *session, enum sg_reason reason)
{
    const struct sg_session_counts *counts = &session->counts;
    char client[SG_ENDPOINT_TEXT_MAX];
    const char *user = name_of(&session->who);
    const char *suite = session->current->suite->name;
    uint64_t duration_ms = sg_now_ms() - counts->since_ms;
    sg_log_endpoint(&session->who.peer, client);
    sg_log_event(
        SG_LOG_INFO, "session_end",
        SG_LOG_FIELDS(sg_log_word("user", user), sg_log_word("client", client), sg_log_word("suite", suite),
                      sg_log_number("duration_ms", duration_ms), sg_log_number("up_datagrams", counts->up),
                      sg_log_number("up_bytes", counts->up_bytes), sg_log_number("down_datagrams", counts->down),
                      sg_log_number("down_bytes", counts->down_bytes), sg_log_number("dropped", counts->dropped),
                      sg_log_word("reason", sg_reason_name(reason))),
        "session of %s ended: %s; from %s, %s, %" PRIu64 ".%03u s, up %" PRIu64 " datagrams %" PRIu64
        " bytes, down %" PRIu64 " datagrams %" PRIu64 " bytes, %" PRIu64 " dropped",
        user, sg_reason_text(reason), client, suite, duration_ms / 1000, (unsigned)(duration_ms % 1000), counts->up,
        counts->up_bytes, counts->down, counts->down_bytes, counts->dropped);
}

void sg_session_log_refused(const struct sg_handover *who, enum sg_reason reason)
{
    char client[SG_ENDPOINT_TEXT_MAX];
    const char *user = name_of(who);
    sg_log_endpoint(&who->peer, client);
    sg_log_event(SG_LOG_INFO, "session_refused",
                 SG_LOG_FIELDS(sg_log_word("user", user), sg_log_word("client", client),
                               sg_log_word("reason", sg_reason_name(reason))),
                 "session of %s refused: %s", user, sg_reason_text(reason));
}

void sg_session_log_path(const struct sg_server_session *session)
{
    char client[SG_ENDPOINT_TEXT_MAX];
    const char *user = name_of(&session->who);
    sg_log_endpoint(&session->core.server_path.current.remote, client);
    sg_log_event(SG_LOG_DEBUG, "path_change",
                 SG_LOG_FIELDS(sg_log_word("user", user), sg_log_word("path", "udp"), sg_log_word("client", client)),
                 "session of %s: path udp %s", user, client);
}

void sg_session_log_oversized(const struct sg_server_session *session, size_t plaintext_len)
{
    const char *user = name_of(&session->who);
    size_t fits = session->core.pmtu.record_max - SG_RECORD_OVERHEAD;
    sg_log_event(
        SG_LOG_INFO, "oversized",
        SG_LOG_FIELDS(sg_log_word("user", user), sg_log_number("bytes", plaintext_len), sg_log_number("fits", fits)),
        "session of %s: a target's datagrams are too long for one record and travel inside TLS over TCP: with "
        "their address they have %zu bytes, and %zu fit",
        user, plaintext_len, fits);
}

void sg_session_log_channel(const struct sg_server_session *session, bool renewed)
{
    char client[SG_ENDPOINT_TEXT_MAX];
    const char *user = name_of(&session->who);
    const char *suite = session->current->suite->name;
    sg_log_endpoint(&session->who.peer, client);
    sg_log_event(renewed ? SG_LOG_DEBUG : SG_LOG_INFO, renewed ? "session_renewed" : "session_resumed",
                 SG_LOG_FIELDS(sg_log_word("user", user), sg_log_word("client", client), sg_log_word("suite", suite)),
                 "session of %s %s: %s", user, renewed ? "renewed" : "resumed", suite);
}

void sg_session_log_waits(const struct sg_server_session *session, uint64_t grace_ms)
{
    char client[SG_ENDPOINT_TEXT_MAX];
    const char *user = name_of(&session->who);
    sg_log_endpoint(&session->who.peer, client);
    sg_log_event(
        SG_LOG_INFO, "session_waits",
        SG_LOG_FIELDS(sg_log_word("user", user), sg_log_word("client", client), sg_log_number("grace_ms", grace_ms)),
        "session of %s has lost its connection: kept for %u s", user, (unsigned)(grace_ms / 1000));
}
