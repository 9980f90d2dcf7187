/* What all workers count, in one document: each is asked on its own loop, and the answers are added up. */
#ifndef SG_SERVER_GATHER_H
#define SG_SERVER_GATHER_H

struct json_t;
struct sg_server;

/* On worker 0's loop, while the loops run. A new reference, or NULL when memory is short. */
struct json_t *sg_gather_status(struct sg_server *server);
/* The same with histograms and, with metrics.per_user, `user_traffic` and `user_usage` by name. */
struct json_t *sg_gather_metrics(struct sg_server *server);

#endif
