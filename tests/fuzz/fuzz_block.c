/*
 * Blocks of the CHANNEL command: the first byte says whether the rest is a request, a reply or a refusal. What
 * decodes has the form that docs/protocol.md section 5 asks for (found by a second, slower reader here), survives a
 * round trip, and none of its beginnings is a block.
 */
#include <string.h>

#include "check.h"
#include "core/block.h"
#include "core/datagram.h"

enum what { REQUEST, REPLY, REFUSAL, WHATS };

struct decoded {
    struct sg_open_request request;
    struct sg_open_reply reply;
};

static enum sg_err decode(struct sg_rbuf *r, enum what what, struct decoded *out)
{
    if (what != REQUEST)
        return sg_open_reply_decode(r, what == REFUSAL, &out->reply);
    enum sg_err err = sg_open_request_decode(r, &out->request);
    if (PLANTED_BUG && err == SG_OK && out->request.suite_count > 1 && out->request.agent[0])
        out->request.suite_count--;
    return err;
}

static void encode(struct sg_wbuf *w, enum what what, const struct decoded *in)
{
    if (what == REQUEST)
        sg_open_request_encode(w, &in->request);
    else if (what == REPLY)
        sg_open_reply_encode(w, &in->reply);
    else
        sg_open_refusal_encode(w, in->reply.reason);
}

/* Fields that fill the block exactly, each type once, none unknown and critical, known ones of their length. */
static bool is_well_formed(const uint8_t *bytes, size_t len)
{
    static const uint8_t fixed[] = {0, 1, 0, 16, 0, 8, 2, 2, 4, 4, 4, 4, 4, 2, 1}; /* lengths, by type */
    static uint8_t seen[0x8000];
    memset(seen, 0, sizeof seen);
    size_t at = 2;
    while (at + 4 <= len) {
        unsigned raw = (unsigned)bytes[at] << 8 | bytes[at + 1];
        unsigned type = raw & 0x7fff;
        size_t value_len = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        bool is_known = type >= 1 && type <= 14;
        if (seen[type]++ || ((raw & 0x8000) && !is_known))
            return false;
        if (is_known && type != 2 && type != 4 && value_len != fixed[type])
            return false;
        at += 4 + value_len;
    }
    return at == len && len == 2 + ((size_t)bytes[0] << 8 | bytes[1]) && len <= SG_BLOCK_MAX;
}

static void check_values(enum what what, const struct decoded *got)
{
    if (what == REQUEST) {
        CHECK(got->request.suite_count >= 1 && got->request.suite_count <= SG_SUITES_MAX);
        CHECK(got->request.has_handle == (got->request.verb == SG_VERB_RESUME));
        CHECK(strlen(got->request.agent) < sizeof got->request.agent);
    } else if (what == REPLY) {
        CHECK(got->reply.max_senders >= 1 && got->reply.max_senders <= SG_SENDERS_MAX);
        CHECK(got->reply.suite != 0);
        CHECK(got->reply.resumed <= SG_RESUMED_LOST);
    }
}

static void check_block(const uint8_t *bytes, size_t len, enum what what, const struct decoded *got)
{
    uint8_t first[SG_BLOCK_MAX], second[SG_BLOCK_MAX];
    struct decoded other;
    struct sg_wbuf w = sg_wbuf_init(first, sizeof first);
    CHECK(is_well_formed(bytes, len));
    check_values(what, got);
    encode(&w, what, got);
    size_t first_len = sg_wbuf_len(&w);
    CHECK(sg_wbuf_ok(&w));
    struct sg_rbuf r = sg_rbuf_init(first, first_len);
    CHECK(decode(&r, what, &other) == SG_OK);
    CHECK(sg_rbuf_left(&r) == 0);
    w = sg_wbuf_init(second, sizeof second);
    encode(&w, what, &other);
    CHECK(sg_wbuf_len(&w) == first_len);
    CHECK(memcmp(first, second, first_len) == 0);
    for (size_t cut = 0; cut < len; cut++) {
        r = sg_rbuf_init(bytes, cut);
        CHECK(decode(&r, what, &other) == SG_ERR_AGAIN);
        CHECK(r.pos == bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct decoded got;
    if (size == 0)
        return 0;
    enum what what = (enum what)(data[0] % WHATS);
    struct sg_rbuf r = sg_rbuf_init(data + 1, size - 1);
    enum sg_err err = decode(&r, what, &got);
    CHECK(err == SG_OK || err == SG_ERR_AGAIN || err == SG_ERR_MALFORMED);
    CHECK(r.pos >= data + 1 && r.pos <= data + size);
    if (err == SG_OK)
        check_block(data + 1, (size_t)(r.pos - data) - 1, what, &got);
    if (err == SG_ERR_AGAIN)
        CHECK(r.pos == data + 1);
    return 0;
}
