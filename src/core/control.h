/*
 * Messages: those of the control stream, both directions, and the session messages on UDP (docs/protocol.md sections
 * 6.1 and 7). One struct holds any of them; the codec knows which may travel where, and in which direction.
 */
#ifndef SG_CORE_CONTROL_H
#define SG_CORE_CONTROL_H

#include "core/addr.h"
#include "core/err.h"

enum sg_role { SG_ROLE_CLIENT, SG_ROLE_SERVER };

enum sg_msg_type {
    SG_MSG_DATAGRAM = 0x01,
    SG_MSG_PATH = 0x02,
    SG_MSG_PING = 0x03,
    SG_MSG_PONG = 0x04,
    SG_MSG_CLOSE = 0x05,
    SG_MSG_CLOSED = 0x06,
    SG_MSG_ALIVE = 0x07,
    SG_MSG_REFUSED = 0x08,
    SG_MSG_CONFIRM = 0x09,
    SG_MSG_RENEW = 0x0a,
    SG_MSG_DRAIN = 0x0b,
    SG_MSG_PROBE = 0x10,
    SG_MSG_PROBE_ANSWER = 0x11,
    SG_MSG_CHALLENGE = 0x12,
    SG_MSG_RESPONSE = 0x13,
    SG_MSG_KEEPALIVE = 0x14,
};

enum sg_path_choice { SG_PATH_UDP = 1, SG_PATH_STREAM = 2 };
enum sg_refused_scope { SG_REFUSED_TARGET = 0, SG_REFUSED_ASSOCIATION = 1 };

enum {
    SG_CONTROL_HEADER_BYTES = 4,
    SG_CONTROL_BODY_MAX = 66000,
    SG_CONTROL_NUMBERS_MAX = 1024,
    SG_CONTROL_TOKEN_BYTES = 8,
    /* every message but DATAGRAM and lists of numbers fits here */
    SG_CONTROL_SMALL_MAX = SG_CONTROL_HEADER_BYTES + 9 + SG_ADDR_MAX_BYTES,
};

struct sg_msg {
    enum sg_msg_type type;
    union {
        struct {
            const uint8_t *bytes;
            size_t len;
        } datagram; /* a plaintext (plaintext.h) */
        struct {
            uint32_t n;
            uint8_t choice;
            uint32_t id;                       /* probe and answer only */
            uint16_t size;                     /* probe and answer only: bytes of the record */
        } path;                                /* PATH, PROBE, PROBE_ANSWER */
        uint8_t token[SG_CONTROL_TOKEN_BYTES]; /* PING, PONG, CHALLENGE, RESPONSE */
        uint16_t reason;                       /* CLOSE */
        uint32_t seconds;                      /* DRAIN */
        struct {
            uint16_t reason; /* CLOSED only */
            uint16_t count;
            const uint8_t *bytes; /* count numbers of 4 bytes: sg_msg_number */
        } numbers;                /* CLOSED, ALIVE */
        struct {
            uint32_t association;
            uint8_t scope;
            uint16_t reason;
            uint16_t size;
            struct sg_target target;
        } refused;
    };
};

/* Number i of CLOSED or ALIVE. */
uint32_t sg_msg_number(const struct sg_msg *msg, unsigned i);

/*
 * Takes one whole message of the control stream from the cursor, sent by role from. OK: msg is filled and points into
 * the cursor's bytes. AGAIN: not whole yet, nothing consumed. UNSUPPORTED: an unknown type, consumed and to be
 * skipped. MALFORMED: the session must end (too long, or a body that does not parse exactly).
 */
SG_MUST_CHECK enum sg_err sg_control_decode(struct sg_rbuf *r, enum sg_role from, struct sg_msg *msg);

/* Appends a message of the control stream; the cursor's error sticks if it does not fit. */
void sg_control_encode(struct sg_wbuf *w, const struct sg_msg *msg);

/* The four bytes before a body of len bytes. */
void sg_control_header(uint8_t out[static SG_CONTROL_HEADER_BYTES], enum sg_msg_type type, size_t len);

/*
 * Session messages on UDP: a plaintext whose association is 0. Decode gives MALFORMED for unknown types and those
 * that may not come from that role or not on UDP; bytes after the fields are padding. Encode writes the association
 * too.
 */
SG_MUST_CHECK enum sg_err sg_session_message_decode(const uint8_t *bytes, size_t len, enum sg_role from,
                                                    struct sg_msg *msg);
void sg_session_message_encode(struct sg_wbuf *w, const struct sg_msg *msg);

#endif
