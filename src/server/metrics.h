/* The endpoint that Prometheus asks, http://ADDRESS:PORT/metrics, if the configuration has one. */
#ifndef SG_SERVER_METRICS_H
#define SG_SERVER_METRICS_H

#include <stdbool.h>

struct event_base;
struct sg_config_metrics;
struct sg_metrics;
struct sg_server;

/* Of the server, on worker 0's loop; nobody can ask yet. NULL when memory or descriptors are short. */
struct sg_metrics *sg_metrics_new(struct sg_server *server, struct event_base *base);

/* Serves where the configuration says from now on, or nowhere. False after logging why: then as it was. */
bool sg_metrics_turn_to(struct sg_metrics *metrics, const struct sg_config_metrics *config);

/* Before the loops stop. Accepts NULL. */
void sg_metrics_free(struct sg_metrics *metrics);

#endif
