/* What each session carried, and what the log says of it: a line when it begins, one with the counts at its end. */
#ifndef SG_SERVER_SESSION_LOG_H
#define SG_SERVER_SESSION_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/reason.h"

struct sg_handover;
struct sg_server_session;

/*
 * What a session carried, in datagrams and bytes of their data. Up: from the client, opened. Down: from targets, past
 * the filter. Dropped: those of them that were not handed to the kernel or to the stream, and records of the session
 * that did not open. What the kernel then refuses is in the ledger only.
 */
struct sg_session_counts {
    uint64_t since_ms;
    uint64_t up, up_bytes;
    uint64_t down, down_bytes;
    uint64_t dropped;
};

/* The user's name, "-" for who needed none. */
const char *sg_session_user(const struct sg_server_session *session);

void sg_session_log_start(const struct sg_server_session *session);
void sg_session_log_end(const struct sg_server_session *session, enum sg_reason reason);
/* It has a channel anew: renewed beside the old connection, or resumed after the loss of it. */
void sg_session_log_channel(const struct sg_server_session *session, bool renewed);
/* Its connection is lost: it may be resumed for so long. */
void sg_session_log_waits(const struct sg_server_session *session, uint64_t grace_ms);
/* A connection that asked for a session and got none. */
void sg_session_log_refused(const struct sg_handover *who, enum sg_reason reason);
/* Its records come from another address now. */
void sg_session_log_path(const struct sg_server_session *session);
/* A plaintext of so many bytes, to its client, is too long for one record. Once for each association. */
void sg_session_log_oversized(const struct sg_server_session *session, size_t plaintext_len);

#endif
