/*
 * The blocks of the CHANNEL command: what OPEN asks, and what the server answers (docs/protocol.md section 5). A
 * block is a length of 2 bytes and type-length-value fields.
 */
#ifndef SG_CORE_BLOCK_H
#define SG_CORE_BLOCK_H

#include "core/err.h"
#include "core/rbuf.h"
#include "core/wbuf.h"

enum { SG_BLOCK_MAX = 2 + 4096, SG_HANDLE_BYTES = 16, SG_CHANNEL_ID_BYTES = 8, SG_SUITES_MAX = 16, SG_AGENT_MAX = 64 };
enum sg_verb { SG_VERB_OPEN = 1, SG_VERB_RESUME = 2 };
/* What RESUME found: the session with all its associations, or none, and this one is new. */
enum sg_resumed { SG_RESUMED_KEPT = 1, SG_RESUMED_LOST = 2 };

struct sg_open_request {
    uint8_t verb;
    uint8_t suite_count;
    uint16_t suites[SG_SUITES_MAX]; /* best first */
    bool has_handle;
    uint8_t handle[SG_HANDLE_BYTES];
    char agent[SG_AGENT_MAX + 1];
};

struct sg_open_reply {
    uint8_t channel_id[SG_CHANNEL_ID_BYTES];
    uint8_t handle[SG_HANDLE_BYTES];
    uint16_t suite;
    uint16_t max_senders;
    uint32_t max_associations;
    uint32_t assoc_idle_s;
    uint32_t dns_idle_s;
    uint32_t renew_s;
    uint32_t grace_s;
    uint8_t resumed; /* enum sg_resumed; 0 in the answer to OPEN */
    uint16_t reason; /* of a refusal: the only field then */
};

/*
 * Decoders take a whole block from the cursor. AGAIN: not whole yet, nothing consumed. MALFORMED: to be refused (too
 * long, a duplicate, a wrong length, an unknown critical field, a field missing). A reply is decoded as an acceptance
 * or, with refused, as a block that need hold nothing but the reason.
 */
SG_MUST_CHECK enum sg_err sg_open_request_decode(struct sg_rbuf *r, struct sg_open_request *out);
SG_MUST_CHECK enum sg_err sg_open_reply_decode(struct sg_rbuf *r, bool refused, struct sg_open_reply *out);

void sg_open_request_encode(struct sg_wbuf *w, const struct sg_open_request *request);
void sg_open_reply_encode(struct sg_wbuf *w, const struct sg_open_reply *reply);
void sg_open_refusal_encode(struct sg_wbuf *w, uint16_t reason);

#endif
