/* Reading `groups:` and `rules:` of server.yaml (yaml_read.h) into struct sg_rules. */
#ifndef SG_SERVER_RULES_YAML_H
#define SG_SERVER_RULES_YAML_H

#include "server/yaml_read.h"

struct sg_rules;

/* Readers: struct sg_rules * that is there, of which nobody else has a reference. */
bool sg_yaml_read_groups(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
bool sg_yaml_read_rules(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);

/* When the whole file was read, in whatever order. False: error has the line to show. */
bool sg_rules_check(struct sg_rules *rules, const char *path, char error[static SG_YAML_ERROR_MAX]);

#endif
