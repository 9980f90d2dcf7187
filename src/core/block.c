/*
 * Type-length-value blocks. One scan checks the form and finds the fields by type; then each message reads the fields
 * that it knows.
 */
#include "core/block.h"

#include "core/datagram.h"

enum field {
    FIELD_VERB = 1,
    FIELD_SUITES = 2,
    FIELD_HANDLE = 3,
    FIELD_AGENT = 4,
    FIELD_CHANNEL = 5,
    FIELD_SUITE = 6,
    FIELD_MAX_SENDERS = 7,
    FIELD_MAX_ASSOCIATIONS = 8,
    FIELD_ASSOC_IDLE = 9,
    FIELD_DNS_IDLE = 10,
    FIELD_RENEW = 11,
    FIELD_GRACE = 12,
    FIELD_REASON = 13,
    FIELD_RESUMED = 14,
    FIELD_COUNT = 15,
};

enum { CRITICAL = 0x8000, MAX_BYTES = SG_BLOCK_MAX - 2, MAX_FIELDS = MAX_BYTES / 4 };

/* A known field of another length is refused in whichever block it stands. */
static const struct {
    uint16_t min, max;
} lengths[FIELD_COUNT] = {
    [FIELD_VERB] = {1, 1},
    [FIELD_SUITES] = {2, 2 * SG_SUITES_MAX},
    [FIELD_HANDLE] = {SG_HANDLE_BYTES, SG_HANDLE_BYTES},
    [FIELD_AGENT] = {0, SG_AGENT_MAX},
    [FIELD_CHANNEL] = {SG_CHANNEL_ID_BYTES, SG_CHANNEL_ID_BYTES},
    [FIELD_SUITE] = {2, 2},
    [FIELD_MAX_SENDERS] = {2, 2},
    [FIELD_MAX_ASSOCIATIONS] = {4, 4},
    [FIELD_ASSOC_IDLE] = {4, 4},
    [FIELD_DNS_IDLE] = {4, 4},
    [FIELD_RENEW] = {4, 4},
    [FIELD_GRACE] = {4, 4},
    [FIELD_REASON] = {2, 2},
    [FIELD_RESUMED] = {1, 1},
};

/* The known fields of a block; a field that is absent has no bytes (present is false). */
struct fields {
    struct {
        bool present;
        struct sg_rbuf value;
    } at[FIELD_COUNT];
};

/*
 * Duplicates are refused among unknown types too: a parser that sees the first and one that sees the last must not
 * differ.
 */
static bool seen_before(uint16_t *seen, unsigned *count, uint16_t type)
{
    for (unsigned i = 0; i < *count; i++)
        if (seen[i] == type)
            return true;
    seen[(*count)++] = type;
    return false;
}

static enum sg_err scan_block(struct sg_rbuf *r, struct fields *out)
{
    uint16_t seen[MAX_FIELDS]; /* each field takes 4 bytes at least, so that no block has more */
    unsigned count = 0;
    struct sg_rbuf head = *r;
    uint16_t len = sg_rbuf_u16(&head);
    if (!sg_rbuf_ok(&head))
        return SG_ERR_AGAIN;
    if (len > MAX_BYTES)
        return SG_ERR_MALFORMED;
    const uint8_t *bytes = sg_rbuf_bytes(&head, len);
    if (!bytes)
        return SG_ERR_AGAIN;
    *r = head;
    *out = (struct fields){0};

    struct sg_rbuf block = sg_rbuf_init(bytes, len);
    while (sg_rbuf_left(&block) > 0) {
        uint16_t raw = sg_rbuf_u16(&block);
        uint16_t type = raw & (uint16_t)~CRITICAL;
        uint16_t value_len = sg_rbuf_u16(&block);
        const uint8_t *value = sg_rbuf_bytes(&block, value_len);
        if (!value || seen_before(seen, &count, type))
            return SG_ERR_MALFORMED;
        if (type > 0 && type < FIELD_COUNT) {
            if (value_len < lengths[type].min || value_len > lengths[type].max)
                return SG_ERR_MALFORMED;
            out->at[type].present = true;
            out->at[type].value = sg_rbuf_init(value, value_len);
        } else if (raw & CRITICAL) {
            return SG_ERR_MALFORMED;
        }
    }
    return SG_OK;
}

/* An integer field; absent gives 0. */
static uint32_t uint_field(struct fields *fields, enum field type)
{
    struct sg_rbuf *r = &fields->at[type].value;
    return fields->at[type].present ? (uint32_t)sg_rbuf_uint(r, sg_rbuf_left(r)) : 0;
}

/* A field of bytes, copied; out has as many as lengths says. False if absent. */
static bool bytes_field(struct fields *fields, enum field type, uint8_t *out)
{
    struct sg_rbuf *r = &fields->at[type].value;
    if (!fields->at[type].present)
        return false;
    memcpy(out, r->pos, sg_rbuf_left(r));
    return true;
}

static void read_suites(struct fields *fields, struct sg_open_request *out, bool *ok)
{
    struct sg_rbuf *r = &fields->at[FIELD_SUITES].value;
    size_t len = fields->at[FIELD_SUITES].present ? sg_rbuf_left(r) : 0;
    if (len == 0 || len % 2 != 0) {
        *ok = false;
        return;
    }
    out->suite_count = (uint8_t)(len / 2);
    for (unsigned i = 0; i < out->suite_count; i++)
        out->suites[i] = sg_rbuf_u16(r);
}

static void read_agent(struct fields *fields, struct sg_open_request *out, bool *ok)
{
    if (!fields->at[FIELD_AGENT].present)
        return;
    size_t len = sg_rbuf_left(&fields->at[FIELD_AGENT].value);
    memcpy(out->agent, fields->at[FIELD_AGENT].value.pos, len);
    for (size_t i = 0; i < len; i++)
        if (out->agent[i] < 0x20 || out->agent[i] > 0x7e)
            *ok = false;
}

enum sg_err sg_open_request_decode(struct sg_rbuf *r, struct sg_open_request *out)
{
    struct fields fields;
    bool ok = true;
    enum sg_err err = scan_block(r, &fields);
    if (err != SG_OK)
        return err;
    *out = (struct sg_open_request){0};
    out->verb = (uint8_t)uint_field(&fields, FIELD_VERB);
    read_suites(&fields, out, &ok);
    read_agent(&fields, out, &ok);
    out->has_handle = bytes_field(&fields, FIELD_HANDLE, out->handle);
    if (!ok || (out->verb != SG_VERB_OPEN && out->verb != SG_VERB_RESUME) ||
        out->has_handle != (out->verb == SG_VERB_RESUME))
        return SG_ERR_MALFORMED;
    return SG_OK;
}

enum sg_err sg_open_reply_decode(struct sg_rbuf *r, bool refused, struct sg_open_reply *out)
{
    struct fields fields;
    enum sg_err err = scan_block(r, &fields);
    if (err != SG_OK)
        return err;
    *out = (struct sg_open_reply){0};
    out->reason = (uint16_t)uint_field(&fields, FIELD_REASON);
    if (refused)
        return SG_OK;
    bool channel = bytes_field(&fields, FIELD_CHANNEL, out->channel_id);
    bool handle = bytes_field(&fields, FIELD_HANDLE, out->handle);
    out->suite = (uint16_t)uint_field(&fields, FIELD_SUITE);
    out->max_senders = (uint16_t)uint_field(&fields, FIELD_MAX_SENDERS);
    out->max_associations = uint_field(&fields, FIELD_MAX_ASSOCIATIONS);
    out->assoc_idle_s = uint_field(&fields, FIELD_ASSOC_IDLE);
    out->dns_idle_s = uint_field(&fields, FIELD_DNS_IDLE);
    out->renew_s = uint_field(&fields, FIELD_RENEW);
    out->grace_s = uint_field(&fields, FIELD_GRACE);
    out->resumed = (uint8_t)uint_field(&fields, FIELD_RESUMED);
    if (!channel || !handle || out->suite == 0 || out->max_senders == 0 || out->max_senders > SG_SENDERS_MAX ||
        out->resumed > SG_RESUMED_LOST)
        return SG_ERR_MALFORMED;
    return SG_OK;
}

static void write_uint(struct sg_wbuf *w, unsigned type, uint32_t value, size_t width)
{
    sg_wbuf_u16(w, (uint16_t)type);
    sg_wbuf_u16(w, (uint16_t)width);
    sg_wbuf_uint(w, value, width);
}

static void write_bytes(struct sg_wbuf *w, unsigned type, const void *bytes, size_t len)
{
    sg_wbuf_u16(w, (uint16_t)type);
    sg_wbuf_u16(w, (uint16_t)len);
    sg_wbuf_bytes(w, bytes, len);
}

/* Leaves room for the length of the block; finish_block fills it in. */
static uint8_t *start_block(struct sg_wbuf *w)
{
    return sg_wbuf_room(w, 2);
}

static void finish_block(struct sg_wbuf *w, uint8_t *start)
{
    if (!start || !sg_wbuf_ok(w))
        return;
    struct sg_wbuf length = sg_wbuf_init(start, 2);
    sg_wbuf_u16(&length, (uint16_t)(w->pos - start - 2));
}

void sg_open_request_encode(struct sg_wbuf *w, const struct sg_open_request *request)
{
    uint8_t *start = start_block(w);
    write_uint(w, CRITICAL | FIELD_VERB, request->verb, 1);
    sg_wbuf_u16(w, CRITICAL | FIELD_SUITES);
    sg_wbuf_u16(w, (uint16_t)(2 * request->suite_count));
    for (unsigned i = 0; i < request->suite_count; i++)
        sg_wbuf_u16(w, request->suites[i]);
    if (request->has_handle)
        write_bytes(w, CRITICAL | FIELD_HANDLE, request->handle, sizeof request->handle);
    if (request->agent[0] != '\0')
        write_bytes(w, FIELD_AGENT, request->agent, strlen(request->agent));
    finish_block(w, start);
}

void sg_open_reply_encode(struct sg_wbuf *w, const struct sg_open_reply *reply)
{
    uint8_t *start = start_block(w);
    write_bytes(w, CRITICAL | FIELD_CHANNEL, reply->channel_id, sizeof reply->channel_id);
    write_bytes(w, CRITICAL | FIELD_HANDLE, reply->handle, sizeof reply->handle);
    write_uint(w, CRITICAL | FIELD_SUITE, reply->suite, 2);
    write_uint(w, CRITICAL | FIELD_MAX_SENDERS, reply->max_senders, 2);
    write_uint(w, FIELD_MAX_ASSOCIATIONS, reply->max_associations, 4);
    write_uint(w, FIELD_ASSOC_IDLE, reply->assoc_idle_s, 4);
    write_uint(w, FIELD_DNS_IDLE, reply->dns_idle_s, 4);
    write_uint(w, FIELD_RENEW, reply->renew_s, 4);
    write_uint(w, FIELD_GRACE, reply->grace_s, 4);
    if (reply->resumed != 0)
        write_uint(w, CRITICAL | FIELD_RESUMED, reply->resumed, 1);
    finish_block(w, start);
}

void sg_open_refusal_encode(struct sg_wbuf *w, uint16_t reason)
{
    uint8_t *start = start_block(w);
    write_uint(w, FIELD_REASON, reason, 2);
    finish_block(w, start);
}
