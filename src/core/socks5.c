/*
 * SOCKS5: replies, the UDP header, and the two state machines. Each message is parsed whole or not
 * at all, so no machine keeps half of one; a byte that is wrong is refused as soon as it is there.
 */
#include "core/socks5.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

const char *sg_socks5_rep_name(unsigned rep)
{
    switch (rep) {
#define REP_NAME(id, code, name, text)                                                                                 \
    case (code):                                                                                                       \
        return name;
        SG_SOCKS5_REP_MAP(REP_NAME)
#undef REP_NAME
    default: /* any byte can come from the network */
        return "unknown";
    }
}

const char *sg_socks5_rep_text(unsigned rep)
{
    switch (rep) {
#define REP_TEXT(id, code, name, text)                                                                                 \
    case (code):                                                                                                       \
        return text;
        SG_SOCKS5_REP_MAP(REP_TEXT)
#undef REP_TEXT
    default: /* any byte can come from the network */
        return "unknown reply code";
    }
}

uint8_t sg_socks5_rep_of_errno(int error)
{
    switch (error) {
    case 0:
        return SG_SOCKS5_REP_SUCCEEDED;
    case EACCES: /* a packet filter's verdict, or a broadcast address */
    case EPERM:
        return SG_SOCKS5_REP_POLICY;
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL: /* no source address: the family is switched off here */
        return SG_SOCKS5_REP_NO_ROUTE;
    case EHOSTUNREACH:
    case EHOSTDOWN:
        return SG_SOCKS5_REP_NO_HOST;
    case ECONNREFUSED:
        return SG_SOCKS5_REP_REFUSED;
    case ETIMEDOUT:
        return SG_SOCKS5_REP_TIMED_OUT;
    case EAFNOSUPPORT:
        return SG_SOCKS5_REP_ADDRESS_TYPE;
    default:
        return SG_SOCKS5_REP_GENERAL;
    }
}

uint8_t sg_socks5_rep_of_reason(unsigned reason)
{
    switch (reason) {
    case SG_REASON_POLICY:
    case SG_REASON_QUOTA:
        return SG_SOCKS5_REP_POLICY;
    case SG_REASON_RESOLVE_FAILED:
        return SG_SOCKS5_REP_NO_HOST;
    case SG_REASON_UNREACHABLE:
        return SG_SOCKS5_REP_NO_ROUTE;
    case SG_REASON_REFUSED:
        return SG_SOCKS5_REP_REFUSED;
    case SG_REASON_TIMEOUT:
        return SG_SOCKS5_REP_TIMED_OUT;
    case SG_REASON_NOT_OFFERED:
        return SG_SOCKS5_REP_COMMAND;
    default: /* codes come from the peer; most have no counterpart */
        return SG_SOCKS5_REP_GENERAL;
    }
}

void sg_socks5_reply_encode(struct sg_wbuf *w, uint8_t rep, const struct sg_endpoint *bound)
{
    static const struct sg_endpoint none;
    sg_wbuf_u8(w, SG_SOCKS5_VERSION);
    sg_wbuf_u8(w, rep);
    sg_wbuf_u8(w, 0);
    sg_endpoint_encode(w, bound ? bound : &none);
}

/* --- server --- */

/* A parser's answer: the message is there, is not there yet, or never will be. */
enum parse { PARSED, PARTIAL, BROKEN };

void sg_socks5_server_init(struct sg_socks5_server *server, unsigned may)
{
    *server =
        (struct sg_socks5_server){.state = SG_SOCKS5_AT_GREETING, .may = may, .method = SG_SOCKS5_METHOD_UNACCEPTABLE};
}

static enum sg_socks5_event fail(struct sg_socks5_server *server, enum sg_reason reason)
{
    server->state = SG_SOCKS5_AT_END;
    server->reason = reason;
    return SG_SOCKS5_FAILED;
}

static enum sg_socks5_event fail_login(struct sg_socks5_server *server, enum sg_reason reason, struct sg_wbuf *reply)
{
    sg_wbuf_u8(reply, SG_SOCKS5_LOGIN_VERSION);
    sg_wbuf_u8(reply, 1);
    return fail(server, reason);
}

/*
 * TLS before clear text; with TLS the password first, since 0x80 fails later for a client whose
 * certificate names nobody. Without TLS, a method that asks for nothing is only permitted where
 * nothing is needed.
 */
static const struct method {
    unsigned may;
    uint8_t code;
    enum sg_socks5_server_state next;
} methods[] = {
    {SG_SOCKS5_MAY_TLS_PASSWORD, SG_SOCKS5_METHOD_TLS_PASSWORD, SG_SOCKS5_AT_TLS},
    {SG_SOCKS5_MAY_TLS_NONE, SG_SOCKS5_METHOD_TLS_NONE, SG_SOCKS5_AT_TLS},
    {SG_SOCKS5_MAY_NONE, SG_SOCKS5_METHOD_NONE, SG_SOCKS5_AT_REQUEST},
    {SG_SOCKS5_MAY_PASSWORD, SG_SOCKS5_METHOD_PASSWORD, SG_SOCKS5_AT_LOGIN},
};

/* The best method that both sides have, or NULL. */
static const struct method *choose_method(unsigned may, const uint8_t *offered, size_t count)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if ((may & methods[i].may) != 0 && count > 0 && memchr(offered, methods[i].code, count))
            return &methods[i];
    return NULL;
}

/* VER, NMETHODS, METHODS (RFC 1928 section 3). */
static enum sg_socks5_event take_greeting(struct sg_socks5_server *server, struct sg_rbuf *r, struct sg_wbuf *reply)
{
    uint8_t version = sg_rbuf_u8(r);
    if (sg_rbuf_ok(r) && version != SG_SOCKS5_VERSION)
        return fail(server, SG_REASON_PROTOCOL);
    uint8_t count = sg_rbuf_u8(r);
    const uint8_t *offered = sg_rbuf_bytes(r, count);
    if (!sg_rbuf_ok(r))
        return SG_SOCKS5_NEED_MORE;
    const struct method *method = choose_method(server->may, offered, count);
    if (!method) {
        sg_wbuf_u8(reply, SG_SOCKS5_VERSION);
        sg_wbuf_u8(reply, SG_SOCKS5_METHOD_UNACCEPTABLE);
        return fail(server, SG_REASON_NOT_OFFERED);
    }
    /* Clear text in front of the handshake would be taken for something said inside TLS (the flaw of
     * STARTTLS, CVE-2011-0411). */
    if (method->next == SG_SOCKS5_AT_TLS && sg_rbuf_left(r) > 0)
        return fail(server, SG_REASON_PROTOCOL);
    sg_wbuf_u8(reply, SG_SOCKS5_VERSION);
    sg_wbuf_u8(reply, method->code);
    server->method = method->code;
    server->state = method->next;
    return method->next == SG_SOCKS5_AT_TLS ? SG_SOCKS5_UPGRADE_TLS : SG_SOCKS5_SEND_REPLY;
}

const char *sg_socks5_other_protocol(const uint8_t *bytes, size_t len)
{
    static const char *const verbs[] = {"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PRI ", "CONNECT "};
    if (len > 0 && bytes[0] == 4)
        return "SOCKS4";
    if (len > 1 && bytes[0] == 22 && bytes[1] == 3) /* a handshake record (RFC 8446 section 5.1) */
        return "TLS";
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (len >= strlen(verbs[i]) && memcmp(bytes, verbs[i], strlen(verbs[i])) == 0)
            return "HTTP";
    return "no SOCKS5";
}

/* One length byte and as many bytes, at least one. */
static enum parse parse_counted(struct sg_rbuf *r, const uint8_t **bytes, uint8_t *len)
{
    *len = sg_rbuf_u8(r);
    if (sg_rbuf_ok(r) && *len == 0)
        return BROKEN;
    *bytes = sg_rbuf_bytes(r, *len);
    return sg_rbuf_ok(r) ? PARSED : PARTIAL;
}

/* VER, ULEN, UNAME, PLEN, PASSWD (RFC 1929 section 2). */
static enum sg_socks5_event take_login(struct sg_socks5_server *server, struct sg_rbuf *r, struct sg_wbuf *reply)
{
    const uint8_t *user = NULL;
    const uint8_t *password = NULL;
    uint8_t user_len = 0;
    uint8_t password_len = 0;
    uint8_t version = sg_rbuf_u8(r);
    if (sg_rbuf_ok(r) && version != SG_SOCKS5_LOGIN_VERSION)
        return fail_login(server, SG_REASON_PROTOCOL, reply);
    enum parse parse = parse_counted(r, &user, &user_len);
    if (parse == PARSED)
        parse = parse_counted(r, &password, &password_len);
    if (parse == BROKEN)
        return fail_login(server, SG_REASON_PROTOCOL, reply);
    if (parse == PARTIAL)
        return SG_SOCKS5_NEED_MORE;
    server->user = user;
    server->user_len = user_len;
    server->password = password;
    server->password_len = password_len;
    server->state = SG_SOCKS5_AT_VERDICT;
    return SG_SOCKS5_AUTH_NEEDED;
}

static enum sg_socks5_event fail_request(struct sg_socks5_server *server, uint8_t rep, struct sg_wbuf *reply)
{
    sg_socks5_reply_encode(reply, rep, NULL);
    return fail(server, SG_REASON_PROTOCOL);
}

/* DST. In a UDP ASSOCIATE it is no target, and some libraries write an empty name there if they have nothing to say. */
static enum sg_err decode_dst(struct sg_rbuf *r, uint8_t command, struct sg_target *out)
{
    static const uint8_t empty_name[2] = {SG_ATYP_NAME, 0};
    if (command != SG_SOCKS5_CMD_UDP_ASSOCIATE || sg_rbuf_left(r) < sizeof empty_name ||
        memcmp(r->pos, empty_name, sizeof empty_name) != 0)
        return sg_target_decode(r, out);
    (void)sg_rbuf_bytes(r, sizeof empty_name);
    *out = (struct sg_target){.atyp = SG_ATYP_NAME, .port = sg_rbuf_u16(r)};
    return sg_rbuf_ok(r) ? SG_OK : SG_ERR_TRUNCATED;
}

/* VER, CMD, RSV, DST (RFC 1928 section 4). */
static enum sg_socks5_event take_request(struct sg_socks5_server *server, struct sg_rbuf *r, struct sg_wbuf *reply)
{
    uint8_t version = sg_rbuf_u8(r);
    if (sg_rbuf_ok(r) && version != SG_SOCKS5_VERSION)
        return fail_request(server, SG_SOCKS5_REP_GENERAL, reply);
    uint8_t command = sg_rbuf_u8(r);
    uint8_t reserved = sg_rbuf_u8(r);
    if (sg_rbuf_ok(r))
        server->command = command;
    if (sg_rbuf_ok(r) && reserved != 0)
        return fail_request(server, SG_SOCKS5_REP_GENERAL, reply);
    enum sg_err err = sg_rbuf_ok(r) ? decode_dst(r, command, &server->target) : SG_ERR_TRUNCATED;
    if (err == SG_ERR_TRUNCATED)
        return SG_SOCKS5_NEED_MORE;
    if (err == SG_ERR_UNSUPPORTED)
        return fail_request(server, SG_SOCKS5_REP_ADDRESS_TYPE, reply);
    if (err != SG_OK)
        return fail_request(server, SG_SOCKS5_REP_GENERAL, reply);
    if (server->target.name_len > 0) {
        memcpy(server->name, server->target.name, server->target.name_len);
        server->target.name = server->name;
    }
    server->state = SG_SOCKS5_AT_END;
    return SG_SOCKS5_REQUEST;
}

enum sg_socks5_event sg_socks5_server_input(struct sg_socks5_server *server, const uint8_t *bytes, size_t len,
                                            size_t *consumed, struct sg_wbuf *reply)
{
    struct sg_rbuf r = sg_rbuf_init(bytes, len);
    enum sg_socks5_event event = SG_SOCKS5_NEED_MORE;
    switch (server->state) {
    case SG_SOCKS5_AT_GREETING:
        event = take_greeting(server, &r, reply);
        break;
    case SG_SOCKS5_AT_LOGIN:
        event = take_login(server, &r, reply);
        break;
    case SG_SOCKS5_AT_VERDICT:
        break;
    case SG_SOCKS5_AT_REQUEST:
        event = take_request(server, &r, reply);
        break;
    case SG_SOCKS5_AT_TLS:
    case SG_SOCKS5_AT_END:
        event = fail(server, SG_REASON_PROTOCOL);
        break;
    }
    bool took = event != SG_SOCKS5_NEED_MORE && event != SG_SOCKS5_FAILED;
    *consumed = took ? (size_t)(r.pos - bytes) : 0;
    return event;
}

enum sg_err sg_socks5_server_tls_started(struct sg_socks5_server *server, bool user_known)
{
    assert(server->state == SG_SOCKS5_AT_TLS); /* only UPGRADE_TLS leads to TLS */
    if (server->method == SG_SOCKS5_METHOD_TLS_PASSWORD) {
        server->state = SG_SOCKS5_AT_LOGIN;
        return SG_OK;
    }
    if (!user_known) {
        fail(server, SG_REASON_UNAUTHORIZED);
        return SG_ERR_DENIED;
    }
    server->state = SG_SOCKS5_AT_REQUEST;
    return SG_OK;
}

enum sg_socks5_event sg_socks5_server_auth_result(struct sg_socks5_server *server, bool ok, struct sg_wbuf *reply)
{
    assert(server->state == SG_SOCKS5_AT_VERDICT); /* one verdict for each AUTH_NEEDED */
    server->user = NULL;
    server->password = NULL;
    if (!ok)
        return fail_login(server, SG_REASON_UNAUTHORIZED, reply);
    sg_wbuf_u8(reply, SG_SOCKS5_LOGIN_VERSION);
    sg_wbuf_u8(reply, 0);
    server->state = SG_SOCKS5_AT_REQUEST;
    return SG_SOCKS5_SEND_REPLY;
}

uint16_t sg_socks5_promised_port(const struct sg_target *dst, const struct sg_ip *client)
{
    struct sg_ip ip = sg_ip_unmap(&dst->ip), own = sg_ip_unmap(client);
    bool names_itself = dst->atyp != SG_ATYP_NAME && (sg_ip_is_unspecified(&ip) || sg_ip_equal(&ip, &own));
    return names_itself ? dst->port : 0;
}

/* --- client --- */

static void write_login(struct sg_wbuf *w, const char *user, const char *password)
{
    sg_wbuf_u8(w, SG_SOCKS5_LOGIN_VERSION);
    sg_wbuf_u8(w, (uint8_t)strlen(user));
    sg_wbuf_bytes(w, user, strlen(user));
    sg_wbuf_u8(w, (uint8_t)strlen(password));
    sg_wbuf_bytes(w, password, strlen(password));
}

static bool is_login_text(const char *text)
{
    return text[0] != '\0' && strlen(text) <= 255;
}

enum sg_err sg_socks5_client_flight(struct sg_socks5_client *client, struct sg_wbuf *w, const char *user,
                                    const char *password, uint8_t command, const struct sg_target *target)
{
    if ((user == NULL) != (password == NULL))
        return SG_ERR_INVALID;
    if (user && (!is_login_text(user) || !is_login_text(password)))
        return SG_ERR_INVALID;
    *client = (struct sg_socks5_client){
        .state = SG_SOCKS5_CLIENT_AT_METHOD,
        .method = user ? SG_SOCKS5_METHOD_PASSWORD : SG_SOCKS5_METHOD_NONE,
    };
    sg_wbuf_u8(w, SG_SOCKS5_VERSION);
    sg_wbuf_u8(w, 1);
    sg_wbuf_u8(w, client->method);
    if (user)
        write_login(w, user, password);
    sg_wbuf_u8(w, SG_SOCKS5_VERSION);
    sg_wbuf_u8(w, command);
    sg_wbuf_u8(w, 0);
    sg_target_encode(w, target);
    return sg_wbuf_ok(w) ? SG_OK : SG_ERR_TOO_LONG;
}

static enum sg_socks5_client_event end_client(struct sg_socks5_client *client, enum sg_socks5_client_event event)
{
    client->state = SG_SOCKS5_CLIENT_AT_END;
    client->end = event;
    return event;
}

/* VER, METHOD. NEED_MORE also when the message was taken: the state tells. */
static enum sg_socks5_client_event take_method(struct sg_socks5_client *client, struct sg_rbuf *r)
{
    uint8_t version = sg_rbuf_u8(r);
    if (sg_rbuf_ok(r) && version != SG_SOCKS5_VERSION)
        return end_client(client, SG_SOCKS5_CLIENT_MALFORMED);
    uint8_t method = sg_rbuf_u8(r);
    if (!sg_rbuf_ok(r))
        return SG_SOCKS5_CLIENT_NEED_MORE;
    if (method == SG_SOCKS5_METHOD_UNACCEPTABLE)
        return end_client(client, SG_SOCKS5_CLIENT_METHOD_REFUSED);
    if (method != client->method)
        return end_client(client, SG_SOCKS5_CLIENT_MALFORMED);
    client->state = method == SG_SOCKS5_METHOD_PASSWORD ? SG_SOCKS5_CLIENT_AT_STATUS : SG_SOCKS5_CLIENT_AT_REPLY;
    return SG_SOCKS5_CLIENT_NEED_MORE;
}

/* VER, STATUS (RFC 1929 section 2). */
static enum sg_socks5_client_event take_status(struct sg_socks5_client *client, struct sg_rbuf *r)
{
    uint8_t version = sg_rbuf_u8(r);
    if (sg_rbuf_ok(r) && version != SG_SOCKS5_LOGIN_VERSION)
        return end_client(client, SG_SOCKS5_CLIENT_MALFORMED);
    uint8_t status = sg_rbuf_u8(r);
    if (!sg_rbuf_ok(r))
        return SG_SOCKS5_CLIENT_NEED_MORE;
    if (status != 0)
        return end_client(client, SG_SOCKS5_CLIENT_PASSWORD_REFUSED);
    client->state = SG_SOCKS5_CLIENT_AT_REPLY;
    return SG_SOCKS5_CLIENT_NEED_MORE;
}

/* VER, REP, RSV, BND (RFC 1928 section 6). */
static enum sg_socks5_client_event take_reply(struct sg_socks5_client *client, struct sg_rbuf *r)
{
    uint8_t version = sg_rbuf_u8(r);
    if (sg_rbuf_ok(r) && version != SG_SOCKS5_VERSION)
        return end_client(client, SG_SOCKS5_CLIENT_MALFORMED);
    uint8_t rep = sg_rbuf_u8(r);
    uint8_t reserved = sg_rbuf_u8(r);
    if (sg_rbuf_ok(r) && reserved != 0)
        return end_client(client, SG_SOCKS5_CLIENT_MALFORMED);
    enum sg_err err = sg_rbuf_ok(r) ? sg_target_decode(r, &client->bound) : SG_ERR_TRUNCATED;
    if (err == SG_ERR_TRUNCATED)
        return SG_SOCKS5_CLIENT_NEED_MORE;
    if (err != SG_OK)
        return end_client(client, SG_SOCKS5_CLIENT_MALFORMED);
    if (client->bound.atyp == SG_ATYP_NAME) {
        memcpy(client->name, client->bound.name, client->bound.name_len);
        client->bound.name = client->name;
    }
    client->rep = rep;
    return end_client(client, SG_SOCKS5_CLIENT_REPLY);
}

static enum sg_socks5_client_event take_one(struct sg_socks5_client *client, struct sg_rbuf *r)
{
    switch (client->state) {
    case SG_SOCKS5_CLIENT_AT_METHOD:
        return take_method(client, r);
    case SG_SOCKS5_CLIENT_AT_STATUS:
        return take_status(client, r);
    case SG_SOCKS5_CLIENT_AT_REPLY:
        return take_reply(client, r);
    case SG_SOCKS5_CLIENT_AT_END:
        break;
    }
    return client->end;
}

enum sg_socks5_client_event sg_socks5_client_input(struct sg_socks5_client *client, const uint8_t *bytes, size_t len,
                                                   size_t *consumed)
{
    enum sg_socks5_client_event event = SG_SOCKS5_CLIENT_NEED_MORE;
    struct sg_rbuf whole = sg_rbuf_init(bytes, len);
    *consumed = 0;
    if (client->state == SG_SOCKS5_CLIENT_AT_END)
        return client->end;
    while (event == SG_SOCKS5_CLIENT_NEED_MORE) {
        struct sg_rbuf r = whole;
        event = take_one(client, &r);
        if (!sg_rbuf_ok(&r))
            break;
        whole = r;
    }
    *consumed = (size_t)(whole.pos - bytes);
    return event;
}

void sg_socks5_client_expect_second(struct sg_socks5_client *client)
{
    *client = (struct sg_socks5_client){.state = SG_SOCKS5_CLIENT_AT_REPLY};
}

const char *sg_socks5_client_text(enum sg_socks5_client_event event)
{
    switch (event) {
    case SG_SOCKS5_CLIENT_NEED_MORE:
        return "the answer is not complete";
    case SG_SOCKS5_CLIENT_REPLY:
        return "answered";
    case SG_SOCKS5_CLIENT_METHOD_REFUSED:
        return "no authentication method in common";
    case SG_SOCKS5_CLIENT_PASSWORD_REFUSED:
        return "user or password refused";
    case SG_SOCKS5_CLIENT_MALFORMED:
        return "the answer is not SOCKS5";
    }
    return "unknown";
}

/* --- UDP --- */

enum sg_err sg_socks5_udp_decode(const uint8_t *bytes, size_t len, struct sg_socks5_udp *header)
{
    struct sg_rbuf r = sg_rbuf_init(bytes, len);
    *header = (struct sg_socks5_udp){0};
    uint16_t reserved = sg_rbuf_u16(&r);
    uint8_t frag = sg_rbuf_u8(&r);
    if (!sg_rbuf_ok(&r))
        return SG_ERR_TRUNCATED;
    if (reserved != 0)
        return SG_ERR_MALFORMED;
    header->frag = frag;
    if (frag != 0)
        return SG_ERR_UNSUPPORTED;
    enum sg_err err = sg_target_decode(&r, &header->target);
    if (err != SG_OK)
        return err == SG_ERR_TRUNCATED ? err : SG_ERR_MALFORMED;
    header->data_offset = (size_t)(r.pos - bytes);
    return SG_OK;
}

void sg_socks5_udp_encode_header(struct sg_wbuf *w, const struct sg_target *target)
{
    sg_wbuf_u16(w, 0);
    sg_wbuf_u8(w, 0);
    sg_target_encode(w, target);
}
