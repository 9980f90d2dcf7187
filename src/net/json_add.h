/* The sum of status documents of several workers. */
#ifndef SG_NET_JSON_ADD_H
#define SG_NET_JSON_ADD_H

struct json_t;

/* Adds the whole numbers of part to those of total, objects within too; what only part has is copied. */
void sg_json_add(struct json_t *total, struct json_t *part);

#endif
