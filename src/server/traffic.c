/* A list: it is walked when a session ends, and for a scrape. */
#include "server/traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "net/json_add.h"

struct sg_traffic {
    struct sg_traffic *next;
    char user[65];
    struct sg_session_counts counts;
};

static struct sg_traffic *find_or_make(struct sg_traffic **list, const char *user)
{
    unsigned count = 0;
    struct sg_traffic *others = NULL;
    for (struct sg_traffic *t = *list; t; t = t->next, count++) {
        if (strcmp(t->user, user) == 0)
            return t;
        if (strcmp(t->user, SG_TRAFFIC_OTHERS) == 0)
            others = t;
    }
    if (others && count > SG_TRAFFIC_USERS_MAX)
        return others;
    struct sg_traffic *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return NULL;
    snprintf(fresh->user, sizeof fresh->user, "%s", count < SG_TRAFFIC_USERS_MAX ? user : SG_TRAFFIC_OTHERS);
    fresh->next = *list;
    *list = fresh;
    return fresh;
}

void sg_traffic_add(struct sg_traffic **list, const char *user, const struct sg_session_counts *counts)
{
    struct sg_traffic *t = find_or_make(list, user);
    if (!t)
        return;
    t->counts.up += counts->up;
    t->counts.up_bytes += counts->up_bytes;
    t->counts.down += counts->down;
    t->counts.down_bytes += counts->down_bytes;
    t->counts.dropped += counts->dropped;
}

void sg_traffic_free(struct sg_traffic *list)
{
    for (struct sg_traffic *next = NULL; list; list = next) {
        next = list->next;
        free(list);
    }
}

void sg_traffic_json_one(struct json_t *users, const char *user, const struct sg_session_counts *counts)
{
    json_t *part = json_pack("{s:{s:I, s:I, s:I, s:I, s:I}}", user, "up", (json_int_t)counts->up, "up_bytes",
                             (json_int_t)counts->up_bytes, "down", (json_int_t)counts->down, "down_bytes",
                             (json_int_t)counts->down_bytes, "dropped", (json_int_t)counts->dropped);
    if (part)
        sg_json_add(users, part);
    json_decref(part);
}

void sg_traffic_json(const struct sg_traffic *list, struct json_t *users)
{
    for (; list; list = list->next)
        sg_traffic_json_one(users, list->user, &list->counts);
}
