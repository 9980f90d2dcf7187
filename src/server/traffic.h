/*
 * What the sessions of each user carried, for metrics.per_user: those that ended are added up here, on each worker for
 * itself, so that a scrape never sees a session twice or not at all.
 */
#ifndef SG_SERVER_TRAFFIC_H
#define SG_SERVER_TRAFFIC_H

#include "server/session_log.h"

struct json_t;
struct sg_traffic;

/* Names with a sum of their own on a worker; what others carry is added up under SG_TRAFFIC_OTHERS. */
enum { SG_TRAFFIC_USERS_MAX = 4096 };
#define SG_TRAFFIC_OTHERS "(others)"

/* Adds a session that ends. When memory is short its counts are lost. */
void sg_traffic_add(struct sg_traffic **list, const char *user, const struct sg_session_counts *counts);
void sg_traffic_free(struct sg_traffic *list);

/* Adds all of the list, or a session that is open, to an object of one object for each user. */
void sg_traffic_json(const struct sg_traffic *list, struct json_t *users);
void sg_traffic_json_one(struct json_t *users, const char *user, const struct sg_session_counts *counts);

#endif
