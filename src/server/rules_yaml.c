/*
 * The two keys, groups and rules. A condition is one value or a list of them, each of which is parsed into a list of
 * the rule that grows; what would make a rule that means something else than it seems to is refused.
 */
#include "server/rules_yaml.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfyaml.h>

#include "core/socks5.h"
#include "server/rules.h"
#include "server/users.h"

#define NAME_RULE "1 to 64 of letters, digits and . _ - @"

/* --- lists that grow --- */

/* Room for one more entry at the end of *items, zeroed, counted; NULL: out of memory, and all is as it was. */
static void *append(void *items, unsigned *count, size_t size)
{
    void *old = NULL;
    memcpy(&old, items, sizeof old); /* items points to a pointer to any type */
    void *grown = reallocarray(old, *count + 1U, size);
    if (!grown)
        return NULL;
    memcpy(items, &grown, sizeof grown);
    return memset((char *)grown + size * (*count)++, 0, size);
}

typedef bool read_value_fn(struct sg_yaml_reader *reader, struct fy_node *node, const char *key);

static bool refuse_memory(struct sg_yaml_reader *reader, const char *key)
{
    return sg_yaml_refuse(reader, 0, key, "out of memory");
}

/* Gives each value of a condition to fn: one, or a list of 1 to SG_RULE_LIST_MAX. */
static bool read_values(struct sg_yaml_reader *reader, struct fy_node *node, const char *key, read_value_fn *fn)
{
    void *at = NULL;
    struct fy_node *item = NULL;
    unsigned count = 0;
    if (!fy_node_is_sequence(node))
        return fn(reader, node, key);
    while ((item = fy_node_sequence_iterate(node, &at))) {
        if (++count > SG_RULE_LIST_MAX)
            return sg_yaml_refuse(reader, sg_yaml_first_line(item), key, "more than %d entries", SG_RULE_LIST_MAX);
        if (!fn(reader, item, key))
            return false;
    }
    return count > 0 || sg_yaml_refuse(reader, 0, key, "is empty: the rule would never match");
}

/* --- the values of a rule; base is the rule --- */

static bool append_text(struct sg_yaml_reader *reader, const char *text, const char *key, char ***texts,
                        unsigned *count)
{
    char *copy = strdup(text);
    char **place = copy ? append(texts, count, sizeof *place) : NULL;
    if (!place) {
        free(copy);
        return refuse_memory(reader, key);
    }
    *place = copy;
    return true;
}

static bool read_user(struct sg_yaml_reader *reader, struct fy_node *node, const char *key)
{
    struct sg_rule *rule = reader->base;
    const char *text = sg_yaml_scalar_of(node);
    if (!text || !sg_user_name_is_valid(text))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key, "'%.100s' is no user name: " NAME_RULE,
                              text ? text : "the entry");
    return append_text(reader, text, key, &rule->users, &rule->user_count);
}

static bool read_group_name(struct sg_yaml_reader *reader, struct fy_node *node, const char *key)
{
    struct sg_rule *rule = reader->base;
    const char *text = sg_yaml_scalar_of(node);
    if (!text)
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key, "must be the name of a group");
    struct sg_rule_group *group = append(&rule->groups, &rule->group_count, sizeof *group);
    if (!group || !(group->name = strdup(text)))
        return refuse_memory(reader, key);
    group->line = sg_yaml_line_of(node);
    return true;
}

/* ::ffff:10.0.0.0/104 is 10.0.0.0/8: addresses are compared unmapped. */
static struct sg_cidr unmap(const struct sg_cidr *net)
{
    struct sg_ip ip = sg_ip_unmap(&net->ip);
    if (ip.family == net->ip.family || net->bits < 96)
        return *net;
    return (struct sg_cidr){.ip = ip, .bits = (uint8_t)(net->bits - 96)};
}

static bool append_net(struct sg_yaml_reader *reader, struct fy_node *node, const char *key, struct sg_cidr **nets,
                       unsigned *count)
{
    struct sg_cidr net;
    const char *text = sg_yaml_scalar_of(node);
    if (!text || sg_cidr_parse(text, &net) != SG_OK)
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key,
                              "'%.100s' is not a network: ADDRESS/BITS without host bits", text ? text : "the entry");
    struct sg_cidr *place = append(nets, count, sizeof *place);
    if (!place)
        return refuse_memory(reader, key);
    *place = unmap(&net);
    return true;
}

static bool read_from(struct sg_yaml_reader *reader, struct fy_node *node, const char *key)
{
    struct sg_rule *rule = reader->base;
    return append_net(reader, node, key, &rule->from, &rule->from_count);
}

static bool read_to(struct sg_yaml_reader *reader, struct fy_node *node, const char *key)
{
    struct sg_rule *rule = reader->base;
    return append_net(reader, node, key, &rule->to, &rule->to_count);
}

static bool read_host(struct sg_yaml_reader *reader, struct fy_node *node, const char *key)
{
    struct sg_rule *rule = reader->base;
    const char *text = sg_yaml_scalar_of(node);
    if (text && !append_text(reader, text, key, &rule->hosts, &rule->host_count))
        return false;
    char *host = text ? rule->hosts[rule->host_count - 1] : NULL;
    for (char *c = host; c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    if (host && sg_rule_host_is_valid(host))
        return true;
    return sg_yaml_refuse(reader, sg_yaml_first_line(node), key,
                          "'%.100s' is neither a name nor \"*.NAME\" (in quotes)", text ? text : "the entry");
}

/* N, or FIRST-LAST. */
static bool parse_range(const char *text, struct sg_rule_port_range *out)
{
    char *end = NULL;
    if (!text || text[0] < '1' || text[0] > '9')
        return false;
    unsigned long first = strtoul(text, &end, 10), last = first;
    if (end[0] == '-') {
        if (end[1] < '1' || end[1] > '9')
            return false;
        last = strtoul(end + 1, &end, 10);
    }
    *out = (struct sg_rule_port_range){(uint16_t)first, (uint16_t)last};
    return *end == '\0' && first <= last && last <= 65535;
}

static bool read_port(struct sg_yaml_reader *reader, struct fy_node *node, const char *key)
{
    struct sg_rule *rule = reader->base;
    const char *text = sg_yaml_scalar_of(node);
    struct sg_rule_port_range range;
    if (!parse_range(text, &range))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key,
                              "'%.100s' is neither a port nor FIRST-LAST, from 1 to 65535", text ? text : "the entry");
    struct sg_rule_port_range *place = append(&rule->ports, &rule->port_count, sizeof *place);
    if (!place)
        return refuse_memory(reader, key);
    *place = range;
    return true;
}

/* --- the keys of a rule --- */

/* What a rule says until all its keys were read. */
struct draft {
    struct sg_rule rule; /* first: readers of values see it alone */
    bool has_action;
    unsigned commands, protocol; /* bits; 0: not said */
    int reply_line;
};

#define LIST_READER(key_name, fn)                                                                                      \
    static bool key_name(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)           \
    {                                                                                                                  \
        return read_values(reader, node, key->name, fn);                                                               \
    }

LIST_READER(read_users, read_user)
LIST_READER(read_groups, read_group_name)
LIST_READER(read_froms, read_from)
LIST_READER(read_tos, read_to)
LIST_READER(read_hosts, read_host)
LIST_READER(read_ports, read_port)

static bool read_command(struct sg_yaml_reader *reader, struct fy_node *node, const char *key)
{
    struct draft *draft = reader->base;
    const char *text = sg_yaml_scalar_of(node);
    for (unsigned bit = SG_RULE_UDP; bit <= SG_RULE_BIND; bit <<= 1) {
        if (!text || strcmp(text, sg_rule_command_name((enum sg_rule_command)bit)) != 0)
            continue;
        draft->commands |= bit;
        return true;
    }
    return sg_yaml_refuse(reader, sg_yaml_first_line(node), key, "must be udp, connect or bind");
}

LIST_READER(read_commands, read_command)

static bool read_protocol(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct draft *draft = reader->base;
    const char *text = sg_yaml_scalar_of(node);
    if (text && strcmp(text, "udp") == 0)
        draft->protocol = SG_RULE_UDP;
    else if (text && strcmp(text, "tcp") == 0)
        draft->protocol = SG_RULE_CONNECT | SG_RULE_BIND;
    return draft->protocol != 0 || sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be tcp or udp");
}

static bool read_name(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct sg_rule *rule = reader->base;
    const char *text = sg_yaml_scalar_of(node);
    if (!text || !sg_user_name_is_valid(text))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "'%.100s' is no name: " NAME_RULE,
                              text ? text : "the value");
    snprintf(rule->name, sizeof rule->name, "%s", text);
    return true;
}

static bool read_action(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct draft *draft = reader->base;
    const char *text = sg_yaml_scalar_of(node);
    if (text && strcmp(text, "allow") == 0)
        draft->rule.allow = true;
    else if (!text || strcmp(text, "deny") != 0)
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be allow or deny");
    draft->has_action = true;
    return true;
}

static bool read_reply(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct draft *draft = reader->base;
    const char *text = sg_yaml_scalar_of(node);
    char *end = NULL;
    unsigned long code = text && text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (!end || *end != '\0' || code < SG_SOCKS5_REP_GENERAL || code > SG_SOCKS5_REP_ADDRESS_TYPE)
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a SOCKS reply code from 1 to 8");
    draft->rule.reply = (uint8_t)code;
    draft->reply_line = sg_yaml_line_of(node);
    return true;
}

static const struct sg_yaml_key rule_keys[] = {
    {.name = "name", .read = read_name},
    {.name = "user", .read = read_users},
    {.name = "group", .read = read_groups},
    {.name = "from", .read = read_froms},
    {.name = "command", .read = read_commands},
    {.name = "protocol", .read = read_protocol},
    {.name = "to", .read = read_tos},
    {.name = "host", .read = read_hosts},
    {.name = "port", .read = read_ports},
    {.name = "action", .read = read_action},
    {.name = "reply", .read = read_reply},
    {.name = "log", .read = sg_yaml_read_bool, .offset = offsetof(struct draft, rule.log)},
    {.name = NULL},
};

/* --- rules --- */

/* What can only be said when all keys of the rule were read. */
static bool finish_rule(struct sg_yaml_reader *reader, struct draft *draft)
{
    static const unsigned all = SG_RULE_UDP | SG_RULE_CONNECT | SG_RULE_BIND;
    struct sg_rule *rule = &draft->rule;
    if (rule->name[0] == '\0')
        return sg_yaml_refuse(reader, rule->line, "rules", "the rule has no name");
    if (!draft->has_action)
        return sg_yaml_refuse(reader, rule->line, "rules", "%s has no action: allow or deny", rule->name);
    if (draft->reply_line != 0 && rule->allow)
        return sg_yaml_refuse(reader, draft->reply_line, "reply", "is only for action: deny");
    rule->commands = (draft->commands ? draft->commands : all) & (draft->protocol ? draft->protocol : all);
    if (rule->commands == 0)
        return sg_yaml_refuse(reader, rule->line, "rules", "%s never matches: no such command has that protocol",
                              rule->name);
    if (rule->reply == 0)
        rule->reply = SG_SOCKS5_REP_POLICY;
    return true;
}

/* The rule joins the list in any case, so that whoever frees the list frees what was read of it. */
static bool read_rule(struct sg_yaml_reader *reader, struct fy_node *node, struct sg_rules *rules)
{
    const struct sg_yaml_key keys = {.name = "rules", .keys = rule_keys};
    struct draft draft = {.rule.line = sg_yaml_first_line(node)};
    struct sg_yaml_reader inner = *reader;
    if (rules->count == SG_RULES_MAX)
        return sg_yaml_refuse(reader, draft.rule.line, "rules", "more than %d rules", SG_RULES_MAX);
    struct sg_rule *rule = append(&rules->rules, &rules->count, sizeof *rule);
    if (!rule)
        return refuse_memory(reader, "rules");
    inner.base = &draft;
    bool good = sg_yaml_read_mapping(&inner, node, &keys) && finish_rule(&inner, &draft);
    *rule = draft.rule;
    for (unsigned i = 0; good && i + 1 < rules->count; i++)
        if (strcmp(rules->rules[i].name, rule->name) == 0)
            good = sg_yaml_refuse(reader, rule->line, "rules", "%s is also the name of the rule in line %d", rule->name,
                                  rules->rules[i].line);
    return good;
}

bool sg_yaml_read_rules(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct sg_rules *rules = *(struct sg_rules **)sg_yaml_value_at(reader, key->offset);
    void *at = NULL;
    struct fy_node *item = NULL;
    if (!fy_node_is_sequence(node))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a list of rules");
    rules->given = true;
    while ((item = fy_node_sequence_iterate(node, &at)))
        if (!read_rule(reader, item, rules))
            return false;
    return true;
}

/* --- groups --- */

static bool read_member(struct sg_yaml_reader *reader, struct fy_node *node, struct sg_group *group)
{
    const char *text = sg_yaml_scalar_of(node);
    if (!text || !sg_user_name_is_valid(text))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), "groups", "%s: '%.100s' is no user name: " NAME_RULE,
                              group->name, text ? text : "the entry");
    return append_text(reader, text, "groups", &group->users, &group->count);
}

static int compare_users(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool read_group(struct sg_yaml_reader *reader, struct fy_node_pair *pair, struct sg_rules *rules)
{
    struct fy_node *key_node = fy_node_pair_key(pair), *node = fy_node_pair_value(pair), *item = NULL;
    const char *name = sg_yaml_scalar_of(key_node);
    void *at = NULL;
    if (!name || !sg_user_name_is_valid(name))
        return sg_yaml_refuse(reader, sg_yaml_first_line(key_node), "groups", "'%.100s' is no name: " NAME_RULE,
                              name ? name : "the key");
    if (!node || !fy_node_is_sequence(node))
        return sg_yaml_refuse(reader, sg_yaml_line_of(key_node), "groups", "%s: must be a list of users", name);
    struct sg_group *group = append(&rules->groups, &rules->group_count, sizeof *group);
    if (!group)
        return refuse_memory(reader, "groups");
    snprintf(group->name, sizeof group->name, "%s", name);
    while ((item = fy_node_sequence_iterate(node, &at)))
        if (!read_member(reader, item, group))
            return false;
    if (group->count > 1)
        qsort(group->users, group->count, sizeof *group->users, compare_users);
    return true;
}

bool sg_yaml_read_groups(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct sg_rules *rules = *(struct sg_rules **)sg_yaml_value_at(reader, key->offset);
    struct fy_node_pair *pair = NULL;
    void *at = NULL;
    if (!fy_node_is_mapping(node))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a mapping of groups to users");
    while ((pair = fy_node_mapping_iterate(node, &at)))
        if (!read_group(reader, pair, rules))
            return false;
    return true;
}

bool sg_rules_check(struct sg_rules *rules, const char *path, char error[static SG_YAML_ERROR_MAX])
{
    const struct sg_rule_group *unknown = sg_rules_find_groups(rules);
    if (unknown)
        snprintf(error, SG_YAML_ERROR_MAX, "%.200s:%d: group: there is no '%.64s' under groups", path, unknown->line,
                 unknown->name);
    return !unknown;
}
