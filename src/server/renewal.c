/*
 * How a session comes by another channel, and what it does without a stream (docs/protocol.md section 5.2). A RESUME
 * brings a channel that is pending until the client confirms it; then what we send goes by it, and the one before opens
 * for ten seconds more what is still under way. So nothing is lost when keys change.
 */
#include <string.h>

#include <sodium.h>

#include "net/log.h"
#include "server/channel.h"
#include "server/config.h"
#include "server/datapath.h"
#include "server/server.h"
#include "server/session.h"
#include "server/worker.h"

enum {
    OLD_MS = 10000,     /* an old channel still opens */
    PENDING_MS = 10000, /* a client has to confirm */
    RESUME_SPACING_MS = 1000,
};

bool sg_server_session_is(const struct sg_server_session *session, const uint8_t handle[static SG_HANDLE_BYTES],
                          const struct sg_handover *who)
{
    return sodium_memcmp(session->handle, handle, SG_HANDLE_BYTES) == 0 && strcmp(session->who.user, who->user) == 0 &&
           sodium_memcmp(session->who.credential_digest, who->credential_digest, sizeof who->credential_digest) == 0;
}

void sg_server_renewal_end_other(struct sg_server_session *session)
{
    if (!session->pending && !session->old)
        return;
    sg_server_channel_free(session->pending, SG_REASON_NONE);
    sg_server_channel_free(session->old, SG_REASON_NORMAL);
    session->pending = NULL;
    session->old = NULL;
    session->renewal.other_ends_ms = SG_NEVER;
    sg_receiver_limit_senders(&session->current->receiver, session->current->receiver.limits.max_senders);
}

/*
 * While a session has two channels they share the sender ids of one, and one id more: so the memory for keys that each
 * session has (SLOTS_OF_TWO_CHANNELS in server.c) is enough. The older one keeps the ids that it has seen, and may get
 * one more: the client seals by it until the reply to RESUME has arrived, and may begin another id meanwhile. The newer
 * one may be left with one id until the older ends: 2^28 records, more than ten seconds bring.
 */
static void share_senders(struct sg_server_session *session)
{
    struct sg_receiver *older = &session->current->receiver, *newer = &session->pending->receiver;
    uint32_t most = newer->limits.max_senders, seen = sg_receiver_senders_seen(older);
    uint32_t kept = seen < most ? seen + 1 : most;
    sg_receiver_limit_senders(older, kept);
    sg_receiver_limit_senders(newer, most + 1 - kept);
}

enum sg_reason sg_server_session_resume(struct sg_server_session *session, const struct sg_handover *who,
                                        uint16_t suite, struct sg_server_channel **out, uint64_t now_ms)
{
    struct sg_renewal *renewal = &session->renewal;
    *out = NULL;
    if (renewal->resumed_ms != 0 && now_ms < renewal->resumed_ms + RESUME_SPACING_MS)
        return SG_REASON_BUSY;
    sg_server_renewal_end_other(session);
    session->pending = sg_server_channel_new(session, who->bev, suite, now_ms);
    if (!session->pending)
        return SG_REASON_BUSY;
    share_senders(session);
    renewal->resumed_ms = now_ms;
    renewal->other_ends_ms = now_ms + PENDING_MS;
    session->who.peer = who->peer;
    session->who.local = who->local;
    *out = session->pending;
    return SG_REASON_NONE;
}

void sg_server_session_confirm(struct sg_server_session *session, struct sg_server_channel *channel, uint64_t now_ms)
{
    if (channel != session->pending)
        return;
    bool had_stream = session->current->bev != NULL;
    session->old = session->current;
    sg_sender_dispose(&session->old->sender);
    session->current = channel;
    session->pending = NULL;
    session->renewal.other_ends_ms = now_ms + OLD_MS;
    session->renewal.grace_ends_ms = SG_NEVER;
    session->renewal.asked = false;
    session->datapath->sessions_resumed++;
    sg_session_log_channel(session, had_stream);
    sg_session_stream_new(&session->core, now_ms);
    sg_server_session_pump(session, now_ms);
}

bool sg_server_session_stream_ended(struct sg_server_session *session, struct sg_server_channel *channel,
                                    enum sg_reason reason, uint64_t now_ms)
{
    uint64_t grace_ms = session->current->told.grace_ms;
    if (channel == session->pending) {
        sg_server_renewal_end_other(session);
    } else if (channel == session->old) {
        sg_server_channel_end_stream(channel, reason);
    } else if (reason != SG_REASON_NONE || grace_ms == 0) {
        sg_server_session_close(session, reason);
        return true;
    } else {
        sg_server_channel_end_stream(channel, reason);
        sg_session_stream_lost(&session->core, now_ms);
        session->renewal.grace_ends_ms = now_ms + grace_ms;
        sg_session_log_waits(session, grace_ms);
    }
    sg_server_session_arm(session, now_ms);
    return false;
}

/* The client renews by itself, a little early. One that has not is asked, and then not waited for for ever. */
static uint64_t ask_due(const struct sg_server_session *session)
{
    const struct sg_server_channel *current = session->current;
    uint64_t interval_ms = session->current->told.renew_ms;
    if (session->renewal.asked || !current->bev || interval_ms == 0)
        return SG_NEVER;
    if (sg_sender_wants_renewal(&current->sender) || sg_receiver_wants_renewal(&current->receiver))
        return 0;
    return current->opened_ms + interval_ms + interval_ms / 4;
}

static uint64_t end_due(const struct sg_server_session *session)
{
    uint64_t interval_ms = session->current->told.renew_ms;
    return interval_ms == 0 ? SG_NEVER : session->current->opened_ms + 2 * interval_ms;
}

enum sg_reason sg_server_renewal_tick(struct sg_server_session *session, uint64_t now_ms)
{
    struct sg_renewal *renewal = &session->renewal;
    if (now_ms >= renewal->grace_ends_ms)
        return SG_REASON_TIMEOUT;
    if (now_ms >= end_due(session))
        return SG_REASON_RENEWAL;
    if (now_ms >= renewal->other_ends_ms)
        sg_server_renewal_end_other(session);
    if (now_ms >= ask_due(session)) {
        struct sg_msg renew = {.type = SG_MSG_RENEW};
        renewal->asked = true;
        sg_server_channel_write(session->current, &renew);
    }
    return SG_REASON_NONE;
}

uint64_t sg_server_renewal_next_timeout(const struct sg_server_session *session)
{
    const uint64_t times[] = {session->renewal.grace_ends_ms, session->renewal.other_ends_ms, ask_due(session),
                              end_due(session)};
    uint64_t next = SG_NEVER;
    for (unsigned i = 0; i < sizeof times / sizeof *times; i++)
        if (times[i] < next)
            next = times[i];
    return next;
}
