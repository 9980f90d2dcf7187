/* The two mappings: reading them, and what a user gets from them. They are short lists; a user is looked up once. */
#include "server/user_limits.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfyaml.h>

#include "server/config.h"
#include "server/rules.h"
#include "server/users.h"

static const struct {
    const char *name;
    uint64_t min, max;
} settings[SG_USER_LIMIT_COUNT] = {
    [SG_USER_LIMIT_SESSIONS] = {"sessions", 1, 65536},
    [SG_USER_LIMIT_ASSOCIATIONS] = {"associations", 1, 1000000},
    [SG_USER_LIMIT_CONNECTIONS] = {"connections", 1, 1000000},
    [SG_USER_LIMIT_UP_BITS] = {"up_bits_per_second", 8000, 1000000000000},
    [SG_USER_LIMIT_DOWN_BITS] = {"down_bits_per_second", 8000, 1000000000000},
    [SG_USER_LIMIT_DATAGRAMS] = {"datagrams_per_second", 1, 1000000000},
    [SG_USER_LIMIT_DAY_BYTES] = {"bytes_per_day", 1, 100000000000000},
};

/* A whole number, perhaps with a decimal unit: 10M. False: it is none, or too large for any. */
static bool parse_amount(const char *text, uint64_t *out)
{
    static const struct {
        const char *unit;
        uint64_t factor;
    } units[] = {{"", 1}, {"k", 1000}, {"M", 1000000}, {"G", 1000000000}, {"T", 1000000000000}};
    char *end = NULL;
    errno = 0;
    uint64_t value = text && text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    if (!end || errno != 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        *out = value * units[i].factor;
        return value <= UINT64_MAX / units[i].factor;
    }
    return false;
}

static bool read_setting(struct sg_yaml_reader *reader, struct fy_node_pair *pair, struct sg_user_limits_entry *entry)
{
    struct fy_node *key_node = fy_node_pair_key(pair), *node = fy_node_pair_value(pair);
    const char *name = sg_yaml_scalar_of(key_node);
    unsigned i = 0;
    uint64_t value = 0;
    while (name && i < SG_USER_LIMIT_COUNT && strcmp(name, settings[i].name) != 0)
        i++;
    if (!name || i == SG_USER_LIMIT_COUNT)
        return sg_yaml_refuse(reader, sg_yaml_first_line(key_node), name ? name : "?", "unknown key");
    if (!node || !parse_amount(sg_yaml_scalar_of(node), &value))
        return sg_yaml_refuse(reader, sg_yaml_first_line(key_node), name,
                              "must be a whole number, which may end in k, M, G or T");
    if (value < settings[i].min || value > settings[i].max)
        return sg_yaml_refuse(reader, sg_yaml_first_line(key_node), name, "must be from %" PRIu64 " to %" PRIu64,
                              settings[i].min, settings[i].max);
    entry->values[i] = value;
    return true;
}

static bool read_entry(struct sg_yaml_reader *reader, struct fy_node_pair *pair, const struct sg_yaml_key *key)
{
    struct sg_user_limits *limits = sg_yaml_value_at(reader, key->offset);
    struct fy_node *key_node = fy_node_pair_key(pair), *node = fy_node_pair_value(pair);
    const char *name = sg_yaml_scalar_of(key_node);
    struct fy_node_pair *inner = NULL;
    void *at = NULL;
    if (!name || !sg_user_name_is_valid(name))
        return sg_yaml_refuse(reader, sg_yaml_first_line(key_node), key->name,
                              "'%.100s' is no name: 1 to 64 of letters, digits and . _ - @", name ? name : "?");
    if (!node || !fy_node_is_mapping(node))
        return sg_yaml_refuse(reader, sg_yaml_line_of(key_node), key->name, "%s: must be a mapping of keys to values",
                              name);
    struct sg_user_limits_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return sg_yaml_refuse(reader, sg_yaml_line_of(key_node), key->name, "out of memory");
    snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->line = sg_yaml_line_of(key_node);
    entry->next = limits->first;
    limits->first = entry;
    while ((inner = fy_node_mapping_iterate(node, &at)))
        if (!read_setting(reader, inner, entry))
            return false;
    return true;
}

bool sg_yaml_read_user_limits(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct fy_node_pair *pair = NULL;
    void *at = NULL;
    if (!fy_node_is_mapping(node))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a mapping of names to limits");
    while ((pair = fy_node_mapping_iterate(node, &at)))
        if (!read_entry(reader, pair, key))
            return false;
    return true;
}

void sg_user_limits_dispose(struct sg_user_limits *limits)
{
    for (struct sg_user_limits_entry *entry = limits->first, *next = NULL; entry; entry = next) {
        next = entry->next;
        free(entry);
    }
    limits->first = NULL;
}

static void collect(const struct sg_user_limits *users, const struct sg_user_limits *groups, const char *user,
                    sg_is_member_fn *is_member, void *ctx, uint64_t values[static SG_USER_LIMIT_COUNT])
{
    for (const struct sg_user_limits_entry *entry = groups->first; entry; entry = entry->next) {
        if (!is_member(ctx, entry->name))
            continue;
        for (unsigned i = 0; i < SG_USER_LIMIT_COUNT; i++)
            if (entry->values[i] > values[i])
                values[i] = entry->values[i];
    }
    for (const struct sg_user_limits_entry *entry = users->first; entry; entry = entry->next) {
        if (strcmp(entry->name, user) != 0)
            continue;
        for (unsigned i = 0; i < SG_USER_LIMIT_COUNT; i++)
            if (entry->values[i] != 0)
                values[i] = entry->values[i];
    }
}

void sg_user_limits_apply(const struct sg_user_limits *users, const struct sg_user_limits *groups, const char *user,
                          sg_is_member_fn *is_member, void *ctx, struct sg_usage_limits *out)
{
    static const struct {
        enum sg_usage_kind kind;
        enum sg_user_limit setting;
    } kinds[] = {
        {SG_USAGE_SESSION, SG_USER_LIMIT_SESSIONS},
        {SG_USAGE_ASSOCIATION, SG_USER_LIMIT_ASSOCIATIONS},
        {SG_USAGE_CONNECTION, SG_USER_LIMIT_CONNECTIONS},
    };
    uint64_t values[SG_USER_LIMIT_COUNT] = {0};
    collect(users, groups, user, is_member, ctx, values);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (values[kinds[i].setting] != 0)
            out->most[kinds[i].kind] = (uint32_t)values[kinds[i].setting];
    out->rates = (struct sg_quota_limits){
        .bits_per_second = {values[SG_USER_LIMIT_UP_BITS], values[SG_USER_LIMIT_DOWN_BITS]},
        .datagrams_per_second = values[SG_USER_LIMIT_DATAGRAMS],
        .bytes_per_day = values[SG_USER_LIMIT_DAY_BYTES],
    };
}

struct membership {
    const struct sg_rules *rules;
    const char *user;
    const struct sg_group_names *groups;
};

static bool is_member(void *ctx, const char *group)
{
    const struct membership *membership = ctx;
    const struct sg_group *found = sg_rules_group(membership->rules, group);
    for (unsigned i = 0; i < membership->groups->count; i++)
        if (strcmp(membership->groups->names[i], group) == 0)
            return true;
    return found && sg_group_has(found, membership->user);
}

void sg_user_limits_find(const struct sg_config *config, const char *user, const struct sg_group_names *groups,
                         struct sg_usage_limits *out)
{
    struct membership membership = {.rules = config->rules, .user = user, .groups = groups};
    *out = (struct sg_usage_limits){.most = {
                                        [SG_USAGE_SESSION] = config->limits.sessions_per_user,
                                        [SG_USAGE_ASSOCIATION] = config->limits.associations_per_user,
                                        [SG_USAGE_CONNECTION] = config->limits.connections_per_user,
                                    }};
    sg_user_limits_apply(&config->user_limits, &config->group_limits, user, is_member, &membership, out);
}
