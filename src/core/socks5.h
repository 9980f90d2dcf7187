/*
 * SOCKS5 (RFC 1928) with user and password (RFC 1929) and in-band TLS (methods 0x80 and 0x82): the
 * codec, and a state machine for each role. Bytes in, bytes out; whoever owns the connection buffers
 * the input and offers all of it again until it is consumed.
 */
#ifndef SG_CORE_SOCKS5_H
#define SG_CORE_SOCKS5_H

#include "core/addr.h"
#include "core/err.h"
#include "core/rbuf.h"
#include "core/reason.h"
#include "core/wbuf.h"

enum {
    SG_SOCKS5_VERSION = 0x05,
    SG_SOCKS5_LOGIN_VERSION = 0x01,
};

enum {
    SG_SOCKS5_CMD_CONNECT = 0x01,
    SG_SOCKS5_CMD_BIND = 0x02,
    SG_SOCKS5_CMD_UDP_ASSOCIATE = 0x03,
    SG_SOCKS5_CMD_CHANNEL = 0xE8, /* private: opens a Sealgram channel */
};

enum {
    SG_SOCKS5_METHOD_NONE = 0x00,
    SG_SOCKS5_METHOD_PASSWORD = 0x02,
    SG_SOCKS5_METHOD_TLS_NONE = 0x80,
    SG_SOCKS5_METHOD_TLS_PASSWORD = 0x82,
    SG_SOCKS5_METHOD_UNACCEPTABLE = 0xFF,
};

/* Sizes in bytes: the longest message of each kind, and the longest reply. */
enum {
    SG_SOCKS5_GREETING_MAX = 1 + 1 + 255,
    SG_SOCKS5_LOGIN_MAX = 1 + 1 + 255 + 1 + 255,
    SG_SOCKS5_REQUEST_MAX = 3 + SG_ADDR_MAX_BYTES,
    SG_SOCKS5_INPUT_MAX = SG_SOCKS5_LOGIN_MAX, /* no message is longer: enough to buffer */
    SG_SOCKS5_REPLY_MAX = 3 + SG_ADDR_IPV6_BYTES,
    SG_SOCKS5_FLIGHT_MAX = 3 + SG_SOCKS5_LOGIN_MAX + SG_SOCKS5_REQUEST_MAX,
    SG_SOCKS5_UDP_HEADER_MAX = 3 + SG_ADDR_MAX_BYTES,
};

/* Reply codes (RFC 1928 section 6), with what they mean here. */
#define SG_SOCKS5_REP_MAP(X)                                                                                           \
    X(SUCCEEDED, 0x00, "succeeded", "succeeded")                                                                       \
    X(GENERAL, 0x01, "general", "general failure")                                                                     \
    X(POLICY, 0x02, "policy", "not allowed by the rules")                                                              \
    X(NO_ROUTE, 0x03, "no_route", "no route to the network")                                                           \
    X(NO_HOST, 0x04, "no_host", "name does not resolve, or host unreachable")                                          \
    X(REFUSED, 0x05, "refused", "connection refused")                                                                  \
    X(TIMED_OUT, 0x06, "timed_out", "timed out")                                                                       \
    X(COMMAND, 0x07, "command", "command not supported")                                                               \
    X(ADDRESS_TYPE, 0x08, "address_type", "address type not supported")

enum sg_socks5_rep {
#define SG_SOCKS5_REP_ENUM(id, code, name, text) SG_SOCKS5_REP_##id = (code),
    SG_SOCKS5_REP_MAP(SG_SOCKS5_REP_ENUM)
#undef SG_SOCKS5_REP_ENUM
};

/* Name ("no_route") and text of a reply code; "unknown" for one that the RFC does not have. Static,
 * never NULL. */
const char *sg_socks5_rep_name(unsigned rep);
const char *sg_socks5_rep_text(unsigned rep);

/* The reply for a failed socket call's errno (0: succeeded), and for a reason. */
uint8_t sg_socks5_rep_of_errno(int error);
uint8_t sg_socks5_rep_of_reason(unsigned reason);

/* Appends a reply: rep and BND address (family 0, or NULL: 0.0.0.0:0). */
void sg_socks5_reply_encode(struct sg_wbuf *w, uint8_t rep, const struct sg_endpoint *bound);

/* --- server --- */

/* Methods that a server may select; the caller's policy for this connection. */
enum {
    SG_SOCKS5_MAY_NONE = 1,
    SG_SOCKS5_MAY_PASSWORD = 2,
    SG_SOCKS5_MAY_TLS_NONE = 4,
    SG_SOCKS5_MAY_TLS_PASSWORD = 8,
};

enum sg_socks5_event {
    SG_SOCKS5_NEED_MORE,   /* nothing to do until more bytes come, or the password's verdict */
    SG_SOCKS5_SEND_REPLY,  /* a reply was written: send it, then offer the rest of the input */
    SG_SOCKS5_UPGRADE_TLS, /* as SEND_REPLY; then TLS starts, then sg_socks5_server_tls_started */
    SG_SOCKS5_AUTH_NEEDED, /* check user and password, then sg_socks5_server_auth_result */
    SG_SOCKS5_REQUEST,     /* command and target are set: the machine is done */
    SG_SOCKS5_FAILED,      /* send what was written (perhaps nothing), then close; see reason */
};

enum sg_socks5_server_state {
    SG_SOCKS5_AT_GREETING,
    SG_SOCKS5_AT_TLS,
    SG_SOCKS5_AT_LOGIN,
    SG_SOCKS5_AT_VERDICT,
    SG_SOCKS5_AT_REQUEST,
    SG_SOCKS5_AT_END,
};

/*
 * No way leads to REQUEST but through a method that both the policy and the greeting have, and, with
 * a password method, through auth_result(true). The struct must not be moved once target is set
 * (target.name points into it). It holds no secret.
 */
struct sg_socks5_server {
    enum sg_socks5_server_state state;
    unsigned may;
    uint8_t method; /* selected; UNACCEPTABLE before */

    /* After AUTH_NEEDED, 1 to 255 bytes each: point into the input of that call, not terminated. */
    const uint8_t *user;
    const uint8_t *password;
    uint8_t user_len;
    uint8_t password_len;

    /* After REQUEST, and when a request failed behind it: the raw command byte (perhaps none that RFC 1928 has). After
     * REQUEST DST, too; an empty name stands only in a UDP ASSOCIATE, where it is no target. */
    uint8_t command;
    struct sg_target target;
    uint8_t name[255];

    /* After FAILED: PROTOCOL, NOT_OFFERED (no acceptable method) or UNAUTHORIZED. */
    enum sg_reason reason;
};

/*
 * What else the first bytes of a connection may be the beginning of, where SG_SOCKS5_AT_GREETING has FAILED: "SOCKS4",
 * "TLS", "HTTP", or "no SOCKS5". Static.
 */
const char *sg_socks5_other_protocol(const uint8_t *bytes, size_t len);

/* may: a set of SG_SOCKS5_MAY_*. Of those also offered, the first of 0x82, 0x80, 0x00, 0x02 is
 * selected. */
void sg_socks5_server_init(struct sg_socks5_server *server, unsigned may);

/*
 * Works on at most one message. *consumed says how many of the len bytes it took (a message whole, or
 * nothing); the caller drops those and, unless the event says otherwise, calls again with the rest.
 * reply needs room for SG_SOCKS5_REPLY_MAX bytes. NEED_MORE consumes nothing; while a verdict is
 * awaited it is the only answer. When TLS is selected, bytes after the greeting are a failure
 * (PROTOCOL): they would be clear text taken for TLS. After REQUEST, FAILED, or before TLS started:
 * FAILED (PROTOCOL), nothing written.
 */
SG_MUST_CHECK enum sg_socks5_event sg_socks5_server_input(struct sg_socks5_server *server, const uint8_t *bytes,
                                                          size_t len, size_t *consumed, struct sg_wbuf *reply);

/*
 * After UPGRADE_TLS, once the handshake is complete. user_known: the client's certificate names a
 * user. OK; DENIED when the method was 0x80 and no user is known, then the caller closes.
 */
SG_MUST_CHECK enum sg_err sg_socks5_server_tls_started(struct sg_socks5_server *server, bool user_known);

/* After AUTH_NEEDED, now or later: writes the status. SEND_REPLY, or FAILED (UNAUTHORIZED). */
SG_MUST_CHECK enum sg_socks5_event sg_socks5_server_auth_result(struct sg_socks5_server *server, bool ok,
                                                                struct sg_wbuf *reply);

/*
 * The port that a UDP ASSOCIATE promises to send from, or 0: it promises none. DST says where the client will send from
 * (RFC 1928 section 4), but many clients write their target there, and one behind a NAT an address that means nothing
 * here: the port counts only where the address is unspecified or the client's own, as its TCP connection has it.
 */
uint16_t sg_socks5_promised_port(const struct sg_target *dst, const struct sg_ip *client);

/* --- client --- */

enum sg_socks5_client_event {
    SG_SOCKS5_CLIENT_NEED_MORE,
    SG_SOCKS5_CLIENT_REPLY,            /* rep and bound are set; rep may be any code */
    SG_SOCKS5_CLIENT_METHOD_REFUSED,   /* the server answered FF: it wants another method */
    SG_SOCKS5_CLIENT_PASSWORD_REFUSED, /* the status was not 0 */
    SG_SOCKS5_CLIENT_MALFORMED,        /* not SOCKS5, or a method that was not offered */
};

enum sg_socks5_client_state {
    SG_SOCKS5_CLIENT_AT_METHOD,
    SG_SOCKS5_CLIENT_AT_STATUS,
    SG_SOCKS5_CLIENT_AT_REPLY,
    SG_SOCKS5_CLIENT_AT_END,
};

/* Must not be moved once bound is set (bound.name points into it). */
struct sg_socks5_client {
    enum sg_socks5_client_state state;
    uint8_t method; /* the one offered */
    uint8_t rep;
    struct sg_target bound; /* BND, an IP or a name */
    uint8_t name[255];
    enum sg_socks5_client_event end; /* what ended it, repeated to whoever asks again */
};

/*
 * Starts the client and appends greeting, credentials and request as one flight, at most
 * SG_SOCKS5_FLIGHT_MAX bytes. user and password: text of 1 to 255 bytes each, or both NULL for no
 * authentication. INVALID when they are not so; TOO_LONG when the flight does not fit.
 */
SG_MUST_CHECK enum sg_err sg_socks5_client_flight(struct sg_socks5_client *client, struct sg_wbuf *w, const char *user,
                                                  const char *password, uint8_t command,
                                                  const struct sg_target *target);

/*
 * Takes what came back, as many whole messages as are there up to the reply. *consumed bytes are to
 * be dropped, with NEED_MORE too; what follows the reply stays. Any event but NEED_MORE is final.
 */
SG_MUST_CHECK enum sg_socks5_client_event sg_socks5_client_input(struct sg_socks5_client *client, const uint8_t *bytes,
                                                                 size_t len, size_t *consumed);

/* Starts a client, this one again or another, that waits only for the second reply to a BIND: the
 * first one had rep 0. */
void sg_socks5_client_expect_second(struct sg_socks5_client *client);

/* One line of text for a final event that is a failure. Static, never NULL. */
const char *sg_socks5_client_text(enum sg_socks5_client_event event);

/* --- UDP (RFC 1928 section 7) --- */

struct sg_socks5_udp {
    uint8_t frag;
    struct sg_target target; /* a name points into the datagram */
    size_t data_offset;      /* where the payload starts, at most the datagram's length */
};

/* Reads the header of a datagram. UNSUPPORTED exactly for a fragment (FRAG is not 0); MALFORMED for
 * RSV other than 0, an unknown ATYP or a bad name; TRUNCATED. */
SG_MUST_CHECK enum sg_err sg_socks5_udp_decode(const uint8_t *bytes, size_t len, struct sg_socks5_udp *header);

/* Appends RSV, FRAG 0 and the address: at most SG_SOCKS5_UDP_HEADER_MAX bytes. */
void sg_socks5_udp_encode_header(struct sg_wbuf *w, const struct sg_target *target);

#endif
