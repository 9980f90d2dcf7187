/*
 * Session messages on UDP: the first byte says which side sent it, the rest is the plaintext. What decodes encodes to
 * its first bytes, the rest is padding that may be there or not, and only the types of docs/protocol.md section 6.1
 * decode.
 */
#include <string.h>

#include "check.h"
#include "core/control.h"
#include "core/plaintext.h"

static enum sg_err decode(const uint8_t *bytes, size_t len, enum sg_role from, struct sg_msg *msg)
{
    enum sg_err err = sg_session_message_decode(bytes, len, from, msg);
    if (PLANTED_BUG && err == SG_OK && msg->type == SG_MSG_PROBE_ANSWER && msg->path.size > 1264)
        msg->path.size--;
    return err;
}

static bool may_come(uint8_t type, enum sg_role from)
{
    static const uint8_t up[] = {SG_MSG_PATH, SG_MSG_PROBE, SG_MSG_PROBE_ANSWER, SG_MSG_RESPONSE, SG_MSG_KEEPALIVE};
    static const uint8_t down[] = {SG_MSG_PROBE, SG_MSG_PROBE_ANSWER, SG_MSG_CHALLENGE, SG_MSG_KEEPALIVE};
    return from == SG_ROLE_CLIENT ? memchr(up, type, sizeof up) != NULL : memchr(down, type, sizeof down) != NULL;
}

static void check_message(const uint8_t *bytes, size_t len, enum sg_role from, const struct sg_msg *msg)
{
    uint8_t again[SG_CONTROL_SMALL_MAX + 1] = {0};
    struct sg_msg other;
    struct sg_wbuf w = sg_wbuf_init(again, SG_CONTROL_SMALL_MAX);
    sg_session_message_encode(&w, msg);
    size_t real = sg_wbuf_len(&w);
    CHECK(sg_wbuf_ok(&w));
    CHECK(real <= len);
    CHECK(memcmp(again, bytes, real) == 0);
    CHECK(may_come(bytes[SG_ASSOC_BYTES], from));
    CHECK(sg_plaintext_association(bytes, len) == 0);
    CHECK(decode(again, real + 1, from, &other) == SG_OK);
    for (size_t cut = 0; cut < real; cut++)
        CHECK(decode(again, cut, from, &other) == SG_ERR_MALFORMED);
    if (msg->type == SG_MSG_PATH || msg->type == SG_MSG_PROBE || msg->type == SG_MSG_PROBE_ANSWER)
        CHECK(msg->path.choice == SG_PATH_UDP || msg->path.choice == SG_PATH_STREAM);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sg_msg msg;
    if (size == 0)
        return 0;
    enum sg_role from = data[0] & 1 ? SG_ROLE_SERVER : SG_ROLE_CLIENT;
    enum sg_err err = decode(data + 1, size - 1, from, &msg);
    CHECK(err == SG_OK || err == SG_ERR_MALFORMED);
    if (err == SG_OK)
        check_message(data + 1, size - 1, from, &msg);
    return 0;
}
