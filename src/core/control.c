/*
 * The codec of messages. Both directions of one message stand side by side, so that a change of one cannot forget the
 * other; a table says where each type may travel.
 */
#include "core/control.h"

#include "core/plaintext.h"

enum { ON_STREAM = 1, ON_UDP = 2, UP = 4, DOWN = 8 };

static unsigned travel_of(uint8_t type)
{
    switch (type) {
    case SG_MSG_DATAGRAM:
    case SG_MSG_PING:
    case SG_MSG_PONG:
    case SG_MSG_CLOSE:
    case SG_MSG_CLOSED:
        return ON_STREAM | UP | DOWN;
    case SG_MSG_PATH:
        return ON_STREAM | ON_UDP | UP;
    case SG_MSG_ALIVE:
    case SG_MSG_CONFIRM:
        return ON_STREAM | UP;
    case SG_MSG_REFUSED:
    case SG_MSG_RENEW:
    case SG_MSG_DRAIN:
        return ON_STREAM | DOWN;
    case SG_MSG_PROBE:
    case SG_MSG_PROBE_ANSWER:
    case SG_MSG_KEEPALIVE:
        return ON_UDP | UP | DOWN;
    case SG_MSG_CHALLENGE:
        return ON_UDP | DOWN;
    case SG_MSG_RESPONSE:
        return ON_UDP | UP;
    default: /* any byte can come from the network */
        return 0;
    }
}

static bool may_travel(uint8_t type, unsigned where, enum sg_role from)
{
    unsigned need = where | (from == SG_ROLE_CLIENT ? (unsigned)UP : (unsigned)DOWN);
    return (travel_of(type) & need) == need;
}

uint32_t sg_msg_number(const struct sg_msg *msg, unsigned i)
{
    struct sg_rbuf r = sg_rbuf_init(msg->numbers.bytes + (size_t)4 * i, 4);
    return sg_rbuf_u32(&r);
}

static void read_numbers(struct sg_rbuf *r, struct sg_msg *msg)
{
    size_t bytes = sg_rbuf_left(r);
    size_t count = bytes / 4;
    if (bytes % 4 != 0 || count == 0 || count > SG_CONTROL_NUMBERS_MAX) {
        r->failed = true;
        return;
    }
    msg->numbers.count = (uint16_t)count;
    msg->numbers.bytes = sg_rbuf_bytes(r, bytes);
}

static void read_path(struct sg_rbuf *r, struct sg_msg *msg)
{
    msg->path.n = sg_rbuf_u32(r);
    msg->path.choice = sg_rbuf_u8(r);
    if (msg->path.choice != SG_PATH_UDP && msg->path.choice != SG_PATH_STREAM)
        r->failed = true;
}

static void read_refused(struct sg_rbuf *r, struct sg_msg *msg)
{
    msg->refused.association = sg_rbuf_u32(r);
    msg->refused.scope = sg_rbuf_u8(r);
    msg->refused.reason = sg_rbuf_u16(r);
    msg->refused.size = sg_rbuf_u16(r);
    if (sg_target_decode(r, &msg->refused.target) != SG_OK || msg->refused.scope > SG_REFUSED_ASSOCIATION)
        r->failed = true;
}

/* Reads the fields of msg->type; what they leave is the caller's business. */
static void read_fields(struct sg_rbuf *r, struct sg_msg *msg)
{
    const uint8_t *token = NULL;

    switch (msg->type) {
    case SG_MSG_DATAGRAM:
        msg->datagram.len = sg_rbuf_left(r);
        msg->datagram.bytes = sg_rbuf_bytes(r, msg->datagram.len);
        return;
    case SG_MSG_PATH:
        read_path(r, msg);
        return;
    case SG_MSG_PROBE:
    case SG_MSG_PROBE_ANSWER:
        read_path(r, msg);
        msg->path.id = sg_rbuf_u32(r);
        msg->path.size = sg_rbuf_u16(r);
        return;
    case SG_MSG_PING:
    case SG_MSG_PONG:
    case SG_MSG_CHALLENGE:
    case SG_MSG_RESPONSE:
        token = sg_rbuf_bytes(r, SG_CONTROL_TOKEN_BYTES);
        if (token)
            memcpy(msg->token, token, SG_CONTROL_TOKEN_BYTES);
        return;
    case SG_MSG_CLOSE:
        msg->reason = sg_rbuf_u16(r);
        return;
    case SG_MSG_DRAIN:
        msg->seconds = sg_rbuf_u32(r);
        return;
    case SG_MSG_CLOSED:
        msg->numbers.reason = sg_rbuf_u16(r);
        read_numbers(r, msg);
        return;
    case SG_MSG_ALIVE:
        msg->numbers.reason = 0;
        read_numbers(r, msg);
        return;
    case SG_MSG_REFUSED:
        read_refused(r, msg);
        return;
    case SG_MSG_CONFIRM:
    case SG_MSG_RENEW:
    case SG_MSG_KEEPALIVE:
        return;
    }
}

static void write_fields(struct sg_wbuf *w, const struct sg_msg *msg)
{
    switch (msg->type) {
    case SG_MSG_DATAGRAM:
        sg_wbuf_bytes(w, msg->datagram.bytes, msg->datagram.len);
        return;
    case SG_MSG_PATH:
    case SG_MSG_PROBE:
    case SG_MSG_PROBE_ANSWER:
        sg_wbuf_u32(w, msg->path.n);
        sg_wbuf_u8(w, msg->path.choice);
        if (msg->type == SG_MSG_PATH)
            return;
        sg_wbuf_u32(w, msg->path.id);
        sg_wbuf_u16(w, msg->path.size);
        return;
    case SG_MSG_PING:
    case SG_MSG_PONG:
    case SG_MSG_CHALLENGE:
    case SG_MSG_RESPONSE:
        sg_wbuf_bytes(w, msg->token, sizeof msg->token);
        return;
    case SG_MSG_CLOSE:
        sg_wbuf_u16(w, msg->reason);
        return;
    case SG_MSG_DRAIN:
        sg_wbuf_u32(w, msg->seconds);
        return;
    case SG_MSG_CLOSED:
        sg_wbuf_u16(w, msg->numbers.reason);
        sg_wbuf_bytes(w, msg->numbers.bytes, (size_t)4 * msg->numbers.count);
        return;
    case SG_MSG_ALIVE:
        sg_wbuf_bytes(w, msg->numbers.bytes, (size_t)4 * msg->numbers.count);
        return;
    case SG_MSG_REFUSED:
        sg_wbuf_u32(w, msg->refused.association);
        sg_wbuf_u8(w, msg->refused.scope);
        sg_wbuf_u16(w, msg->refused.reason);
        sg_wbuf_u16(w, msg->refused.size);
        sg_target_encode(w, &msg->refused.target);
        return;
    case SG_MSG_CONFIRM:
    case SG_MSG_RENEW:
    case SG_MSG_KEEPALIVE:
        return;
    }
}

enum sg_err sg_control_decode(struct sg_rbuf *r, enum sg_role from, struct sg_msg *msg)
{
    struct sg_rbuf head = *r;
    uint8_t type = sg_rbuf_u8(&head);
    uint32_t len = sg_rbuf_u24(&head);
    if (!sg_rbuf_ok(&head))
        return SG_ERR_AGAIN;
    if (len > SG_CONTROL_BODY_MAX)
        return SG_ERR_MALFORMED;
    const uint8_t *bytes = sg_rbuf_bytes(&head, len);
    if (!bytes)
        return SG_ERR_AGAIN;
    *r = head;

    unsigned travel = travel_of(type);
    if (!(travel & ON_STREAM))
        return SG_ERR_UNSUPPORTED;
    if (!may_travel(type, ON_STREAM, from))
        return SG_ERR_MALFORMED;
    struct sg_rbuf body = sg_rbuf_init(bytes, len);
    msg->type = (enum sg_msg_type)type;
    read_fields(&body, msg);
    return sg_rbuf_done(&body) ? SG_OK : SG_ERR_MALFORMED;
}

void sg_control_header(uint8_t out[static SG_CONTROL_HEADER_BYTES], enum sg_msg_type type, size_t len)
{
    struct sg_wbuf w = sg_wbuf_init(out, SG_CONTROL_HEADER_BYTES);
    sg_wbuf_u8(&w, (uint8_t)type);
    sg_wbuf_u24(&w, (uint32_t)len);
}

void sg_control_encode(struct sg_wbuf *w, const struct sg_msg *msg)
{
    uint8_t *header = sg_wbuf_room(w, SG_CONTROL_HEADER_BYTES);
    size_t before = sg_wbuf_len(w);
    write_fields(w, msg);
    if (header)
        sg_control_header(header, msg->type, sg_wbuf_len(w) - before);
}

enum sg_err sg_session_message_decode(const uint8_t *bytes, size_t len, enum sg_role from, struct sg_msg *msg)
{
    struct sg_rbuf r = sg_rbuf_init(bytes, len);
    uint32_t association = sg_rbuf_u32(&r);
    uint8_t type = sg_rbuf_u8(&r);
    if (!sg_rbuf_ok(&r) || association != 0 || !may_travel(type, ON_UDP, from))
        return SG_ERR_MALFORMED;
    msg->type = (enum sg_msg_type)type;
    read_fields(&r, msg);
    return sg_rbuf_ok(&r) ? SG_OK : SG_ERR_MALFORMED;
}

void sg_session_message_encode(struct sg_wbuf *w, const struct sg_msg *msg)
{
    sg_wbuf_u32(w, 0);
    sg_wbuf_u8(w, (uint8_t)msg->type);
    write_fields(w, msg);
}
