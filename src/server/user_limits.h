/*
 * What single users and groups may have, as user_limits and group_limits of server.yaml say. The user's own setting
 * comes first, then the largest of the user's groups, then the default of all.
 */
#ifndef SG_SERVER_USER_LIMITS_H
#define SG_SERVER_USER_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/usage.h"
#include "server/yaml_read.h"

/* What a name in one of the two mappings sets; the order is that of the table in user_limits.c. */
enum sg_user_limit {
    SG_USER_LIMIT_SESSIONS,
    SG_USER_LIMIT_ASSOCIATIONS,
    SG_USER_LIMIT_CONNECTIONS,
    SG_USER_LIMIT_UP_BITS,
    SG_USER_LIMIT_DOWN_BITS,
    SG_USER_LIMIT_DATAGRAMS,
    SG_USER_LIMIT_DAY_BYTES,
    SG_USER_LIMIT_COUNT,
};

struct sg_config;

struct sg_user_limits_entry {
    struct sg_user_limits_entry *next;
    uint64_t values[SG_USER_LIMIT_COUNT]; /* 0: says nothing */
    int line;                             /* in the file */
    char name[65];
};

/* A mapping of names to settings: zeroed before it is read. */
struct sg_user_limits {
    struct sg_user_limits_entry *first;
};

/* Reader of such a mapping, struct sg_user_limits; amounts may end in k, M, G or T. */
bool sg_yaml_read_user_limits(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
void sg_user_limits_dispose(struct sg_user_limits *limits);

/* Puts what they say of a user in the place of the defaults in out. is_member tells whether the user is of a group. */
typedef bool sg_is_member_fn(void *ctx, const char *group);
void sg_user_limits_apply(const struct sg_user_limits *users, const struct sg_user_limits *groups, const char *user,
                          sg_is_member_fn *is_member, void *ctx, struct sg_usage_limits *out);

/* All that a configuration says of what a user may have, who is in these groups too; where it says nothing out is 0. */
void sg_user_limits_find(const struct sg_config *config, const char *user, const struct sg_group_names *groups,
                         struct sg_usage_limits *out);

#endif
