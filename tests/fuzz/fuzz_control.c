/*
 * The control stream: the first byte says which side sent it, the rest is what came. Each message that decodes
 * encodes to the bytes it came from, none of its beginnings is a message, and what does not decode consumes as much
 * as it says.
 */
#include <string.h>

#include "check.h"
#include "core/control.h"

static uint8_t again[SG_CONTROL_HEADER_BYTES + SG_CONTROL_BODY_MAX];

static enum sg_err decode(struct sg_rbuf *r, enum sg_role from, struct sg_msg *msg)
{
    enum sg_err err = sg_control_decode(r, from, msg);
    if (PLANTED_BUG && err == SG_OK && msg->type == SG_MSG_REFUSED && msg->refused.target.atyp == SG_ATYP_IPV6)
        msg->refused.target.port ^= 1;
    return err;
}

/* One message in memory of its own, so that a read behind its end is seen. */
static void check_message(const uint8_t *bytes, size_t len, enum sg_role from)
{
    uint8_t *copy = malloc(len);
    struct sg_msg msg;
    CHECK(copy);
    memcpy(copy, bytes, len);
    struct sg_rbuf r = sg_rbuf_init(copy, len);
    CHECK(decode(&r, from, &msg) == SG_OK);
    CHECK(sg_rbuf_left(&r) == 0);
    struct sg_wbuf w = sg_wbuf_init(again, sizeof again);
    sg_control_encode(&w, &msg);
    CHECK(sg_wbuf_ok(&w));
    CHECK(sg_wbuf_len(&w) == len);
    CHECK(memcmp(again, bytes, len) == 0);
    if (msg.type == SG_MSG_CLOSED || msg.type == SG_MSG_ALIVE) {
        CHECK(msg.numbers.count >= 1 && msg.numbers.count <= SG_CONTROL_NUMBERS_MAX);
        (void)sg_msg_number(&msg, msg.numbers.count - 1u);
    } else if (msg.type != SG_MSG_DATAGRAM) {
        CHECK(len <= SG_CONTROL_SMALL_MAX);
    }
    for (size_t cut = 0; cut < len && cut < 64; cut++) {
        r = sg_rbuf_init(copy, cut);
        CHECK(decode(&r, from, &msg) == SG_ERR_AGAIN);
        CHECK(sg_rbuf_left(&r) == cut);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    enum sg_role from = data[0] & 1 ? SG_ROLE_SERVER : SG_ROLE_CLIENT;
    struct sg_rbuf r = sg_rbuf_init(data + 1, size - 1);
    enum sg_err err = SG_OK;
    while (err == SG_OK || err == SG_ERR_UNSUPPORTED) {
        struct sg_msg msg;
        const uint8_t *before = r.pos;
        err = decode(&r, from, &msg);
        CHECK(r.pos >= before && r.pos <= data + size);
        CHECK((err == SG_ERR_AGAIN) <= (r.pos == before));
        if (err == SG_OK)
            check_message(before, (size_t)(r.pos - before), from);
        if (err == SG_ERR_UNSUPPORTED)
            CHECK(before[0] == 0 || before[0] > SG_MSG_REFUSED);
    }
    CHECK(err == SG_ERR_AGAIN || err == SG_ERR_MALFORMED);
    return 0;
}
