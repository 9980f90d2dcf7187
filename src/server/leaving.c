/* A peer that does not read its last answer keeps the socket for up to two seconds, and its user's slot with it. */
#include "server/leaving.h"

#include <stdlib.h>

#include <event2/bufferevent.h>

#include "net/finish.h"

struct leaving {
    struct sg_usage *usage;
    enum sg_usage_kind slot;
};

static void give_back(struct sg_usage *usage, enum sg_usage_kind slot)
{
    sg_usage_give(usage, slot);
    sg_usage_release(usage);
}

static void on_gone(void *ctx)
{
    struct leaving leaving = *(struct leaving *)ctx;
    free(ctx);
    give_back(leaving.usage, leaving.slot);
}

/* True if the slot is given back later. */
static bool finish_counted(struct bufferevent *bev, struct sg_usage *usage, enum sg_usage_kind slot)
{
    struct leaving *leaving = malloc(sizeof *leaving);
    if (!leaving) {
        bufferevent_free(bev);
        return false;
    }
    *leaving = (struct leaving){.usage = usage, .slot = slot};
    if (sg_finish_then(bev, on_gone, leaving))
        return true;
    free(leaving);
    return false;
}

void sg_leave(struct bufferevent *bev, struct sg_usage *usage, enum sg_usage_kind slot, enum sg_reason reason)
{
    const bool at_once = !bev || reason == SG_REASON_NONE || reason == SG_REASON_SHUTDOWN;
    if (at_once)
        sg_finish_for(bev, reason);
    if (at_once || !finish_counted(bev, usage, slot))
        give_back(usage, slot);
}
