/* The configuration's sections `log` and `metrics`, for the table of config.c. */
#ifndef SG_SERVER_CONFIG_SEEING_H
#define SG_SERVER_CONFIG_SEEING_H

#include "core/addr.h"
#include "net/log.h"
#include "server/yaml_read.h"

struct sg_config_log {
    enum sg_log_level level;
    enum sg_log_format format;
    enum sg_log_addresses addresses;
    bool has_level, has_format, has_addresses; /* said on the command line, which goes before the file */
};

/* The log is written as this says, from now on. */
void sg_config_use_log(const struct sg_config_log *log);

/* What the command line said for one goes before what a file said for another. */
void sg_config_keep_log(const struct sg_config_log *said, struct sg_config_log *other);

struct sg_config_metrics {
    struct sg_endpoint listen; /* family 0: no metrics */
    bool allow_remote;         /* listen need not be a loopback address */
    bool per_user;
};

extern const struct sg_yaml_key sg_config_log_keys[];
/* Reads the section as a whole: a listen address that others reach is refused unless allow_remote is true. */
bool sg_config_read_metrics(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);

#endif
