/* The endpoint that Prometheus asks, http://ADDRESS:PORT/metrics, if the configuration has one. */
#ifndef SG_SERVER_METRICS_H
#define SG_SERVER_METRICS_H

struct event_base;
struct sg_metrics;
struct sg_server;

/* Serves on worker 0's loop. NULL after logging why; server and its configuration are borrowed. */
struct sg_metrics *sg_metrics_new(struct sg_server *server, struct event_base *base);
/* Before the loops stop. Accepts NULL. */
void sg_metrics_free(struct sg_metrics *metrics);

#endif
