/* Nothing here is on the way of a datagram that fits. */
#include "client/oversize.h"

#include <stdio.h>

#include "client/uplink_state.h"
#include "core/datagram.h"
#include "net/log.h"
#include "net/log_text.h"

/* Classes of sizes: what Ethernet carries in one frame, what jumbo frames do, and all else. */
enum { ETHERNET_BYTES = 1472, JUMBO_BYTES = 8972, CLASSES = 3 };

static unsigned class_of(size_t data_len)
{
    return data_len <= ETHERNET_BYTES ? 0 : data_len <= JUMBO_BYTES ? 1 : 2;
}

static void log_oversized(enum sg_oversize what, const struct sg_target *target, size_t data_len, size_t fits)
{
    static const char *const does[] = {
        [SG_OVERSIZE_UP] = "go inside TLS over TCP, where one that is lost holds up those behind it",
        [SG_OVERSIZE_DROPPED] = "are dropped, since the forward is udp-only",
        [SG_OVERSIZE_DOWN] = "come inside TLS over TCP, where one that is lost holds up those behind it",
    };
    static const char *const advice[] = {
        [SG_OVERSIZE_UP] =
            "set that in the application (mtu, mssfix), or forward with udp-only:, which drops longer ones",
        [SG_OVERSIZE_DROPPED] =
            ("set that in the application (mtu, mssfix), or forward with udp:, which sends longer ones "
             "inside TCP"),
        [SG_OVERSIZE_DOWN] = "set that in the application at the other end, too (mtu, mssfix)",
    };
    char text[SG_TARGET_TEXT_MAX];
    sg_log_target(target, text);
    sg_log_event(SG_LOG_WARN, "oversized",
                 SG_LOG_FIELDS(sg_log_word("target", text),
                               sg_log_word("direction", what == SG_OVERSIZE_DOWN ? "down" : "up"),
                               sg_log_number("bytes", data_len), sg_log_number("fits", fits)),
                 "datagrams of %zu bytes %s %s are too long for one record: they %s. Up to %zu bytes fit: %s", data_len,
                 what == SG_OVERSIZE_DOWN ? "from" : "to", text, does[what], fits, advice[what]);
}

void sg_oversize_note(struct sg_uplink *uplink, enum sg_oversize what, const uint8_t *plaintext, size_t len)
{
    struct sg_rbuf r = sg_rbuf_init(plaintext, len);
    struct sg_target target;
    if (!sg_session_is_oversized(&uplink->session, len + SG_RECORD_OVERHEAD))
        return;
    uint32_t number = sg_rbuf_u32(&r);
    if (sg_target_decode(&r, &target) != SG_OK)
        return;
    (what == SG_OVERSIZE_DOWN ? &uplink->down : &uplink->up)->oversized++;
    struct sg_flow *flow = (struct sg_flow *)sg_assoc_find(&uplink->assocs, number);
    size_t header_len = (size_t)(r.pos - plaintext), data_len = len - header_len;
    unsigned bit = 1U << (class_of(data_len) + (what == SG_OVERSIZE_DOWN ? CLASSES : 0));
    if (!flow || (flow->oversize_told & bit))
        return;
    flow->oversize_told |= (uint8_t)bit;
    log_oversized(what, &target, data_len, uplink->session.pmtu.record_max - SG_RECORD_OVERHEAD - header_len);
}
