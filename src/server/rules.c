/*
 * Matching. A condition is met, not met, or may be met when what it asks for is not known yet (a name that was not
 * looked up, the peer of a BIND). Conditions on user, client and command are looked at once per asker, since they stay
 * the same; what is left for a datagram are compares of addresses, names and ports.
 */
#include "server/rules.h"

#include <stdlib.h>
#include <string.h>

#include "core/guard.h"
#include "core/socks5.h"

struct sg_rules *sg_rules_new(void)
{
    struct sg_rules *rules = calloc(1, sizeof *rules);
    if (!rules)
        return NULL;
    atomic_init(&rules->refs, 1);
    return rules;
}

struct sg_rules *sg_rules_ref(struct sg_rules *rules)
{
    atomic_fetch_add(&rules->refs, 1);
    return rules;
}

static void free_texts(char **texts, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
}

static void free_rule(struct sg_rule *rule)
{
    for (unsigned i = 0; i < rule->group_count; i++)
        free(rule->groups[i].name);
    free(rule->groups);
    free_texts(rule->users, rule->user_count);
    free_texts(rule->hosts, rule->host_count);
    free(rule->from);
    free(rule->to);
    free(rule->ports);
}

void sg_rules_release(struct sg_rules *rules)
{
    if (!rules || atomic_fetch_sub(&rules->refs, 1) > 1)
        return;
    for (unsigned i = 0; i < rules->count; i++)
        free_rule(&rules->rules[i]);
    for (unsigned i = 0; i < rules->group_count; i++)
        free_texts(rules->groups[i].users, rules->groups[i].count);
    free(rules->rules);
    free(rules->groups);
    free(rules);
}

/* --- groups --- */

const struct sg_group *sg_rules_group(const struct sg_rules *rules, const char *name)
{
    for (unsigned i = 0; i < rules->group_count; i++)
        if (strcmp(rules->groups[i].name, name) == 0)
            return &rules->groups[i];
    return NULL;
}

static int compare_user(const void *name, const void *entry)
{
    return strcmp(name, *(char *const *)entry);
}

bool sg_group_has(const struct sg_group *group, const char *user)
{
    return group->count > 0 && bsearch(user, group->users, group->count, sizeof *group->users, compare_user) != NULL;
}

const struct sg_rule_group *sg_rules_find_groups(struct sg_rules *rules)
{
    for (unsigned i = 0; i < rules->count; i++) {
        struct sg_rule *rule = &rules->rules[i];
        for (unsigned k = 0; k < rule->group_count; k++) {
            rule->groups[k].group = sg_rules_group(rules, rule->groups[k].name);
            if (!rule->groups[k].group)
                return &rule->groups[k];
        }
    }
    return NULL;
}

/* --- names --- */

bool sg_rule_host_is_valid(const char *pattern)
{
    struct sg_ip ip;
    const char *name = strncmp(pattern, "*.", 2) == 0 ? pattern + 2 : pattern;
    size_t len = strlen(name);
    if (len < 1 || len > 253 || name[0] == '.' || name[len - 1] == '.' || strstr(name, ".."))
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == len && sg_ip_parse(name, &ip) != SG_OK;
}

/* Without regard to case, in ASCII: pattern is in lower case. */
static bool same_name(const char *pattern, const uint8_t *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t c = name[i] >= 'A' && name[i] <= 'Z' ? (uint8_t)(name[i] + ('a' - 'A')) : name[i];
        if (c != (uint8_t)pattern[i]) /* also ends at the pattern's end: no name has a NUL */
            return false;
    }
    return pattern[len] == '\0';
}

/* "*.example.org" is every name below example.org, but not example.org. */
static bool host_matches(const char *pattern, const uint8_t *name, size_t len)
{
    if (len > 0 && name[len - 1] == '.') /* the root, which a name may end in */
        len--;
    if (pattern[0] != '*')
        return same_name(pattern, name, len);
    size_t tail = strlen(pattern + 1);
    return len > tail && same_name(pattern + 1, name + len - tail, tail);
}

/* --- conditions --- */

enum match { NO, MAYBE, YES };

static enum match either(bool met)
{
    return met ? YES : NO;
}

static enum match worse(enum match a, enum match b)
{
    return a < b ? a : b;
}

static bool covers(const struct sg_cidr *nets, unsigned count, const struct sg_ip *ip)
{
    for (unsigned i = 0; i < count; i++)
        if (sg_cidr_contains(&nets[i], ip))
            return true;
    return false;
}

static enum match match_user(const struct sg_rule *rule, const char *user)
{
    for (unsigned i = 0; i < rule->user_count; i++)
        if (strcmp(rule->users[i], user) == 0)
            return YES;
    return either(rule->user_count == 0);
}

static enum match match_group(const struct sg_rule *rule, const char *user)
{
    for (unsigned i = 0; i < rule->group_count; i++)
        if (rule->groups[i].group && sg_group_has(rule->groups[i].group, user))
            return YES;
    return either(rule->group_count == 0);
}

static enum match match_from(const struct sg_rule *rule, const struct sg_ip *from)
{
    if (rule->from_count == 0)
        return YES;
    if (from->family == 0)
        return MAYBE;
    struct sg_ip ip = sg_ip_unmap(from);
    return either(covers(rule->from, rule->from_count, &ip));
}

static enum match match_host(const struct sg_rule *rule, const struct sg_rule_target *target)
{
    if (rule->host_count == 0)
        return YES;
    if (!target->name)
        return target->name_unknown ? MAYBE : NO;
    for (unsigned i = 0; i < rule->host_count; i++)
        if (host_matches(rule->hosts[i], target->name, target->name_len))
            return YES;
    return NO;
}

static enum match match_to(const struct sg_rule *rule, const struct sg_guard *guard,
                           const struct sg_rule_target *target)
{
    struct sg_ip carried[SG_GUARD_CARRIED_MAX];
    if (rule->to_count == 0)
        return YES;
    if (target->ip.family == 0)
        return MAYBE;
    struct sg_ip ip = sg_ip_unmap(&target->ip);
    if (covers(rule->to, rule->to_count, &ip))
        return YES;
    unsigned count = rule->allow ? 0 : sg_guard_carried(guard, &ip, carried);
    for (unsigned i = 0; i < count; i++)
        if (covers(rule->to, rule->to_count, &carried[i]))
            return YES;
    return NO;
}

static enum match match_port(const struct sg_rule *rule, uint16_t port)
{
    if (rule->port_count == 0)
        return YES;
    if (port == 0)
        return MAYBE;
    for (unsigned i = 0; i < rule->port_count; i++)
        if (port >= rule->ports[i].first && port <= rule->ports[i].last)
            return YES;
    return NO;
}

/* --- verdicts --- */

static uint64_t bit_of(unsigned i)
{
    return UINT64_C(1) << (i % 64);
}

void sg_rules_select(const struct sg_rules *rules, const struct sg_rule_asker *asker, struct sg_rule_selection *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < rules->count; i++) {
        const struct sg_rule *rule = &rules->rules[i];
        if (!(rule->commands & asker->command) || match_user(rule, asker->user) == NO ||
            match_group(rule, asker->user) == NO)
            continue;
        enum match from = match_from(rule, &asker->from);
        if (from != NO)
            out->selected[i / 64] |= bit_of(i);
        if (from == MAYBE)
            out->unsure[i / 64] |= bit_of(i);
    }
}

static enum match match_target(const struct sg_rule *rule, const struct sg_guard *guard,
                               const struct sg_rule_target *target)
{
    enum match port = match_port(rule, target->port);
    enum match host = port == NO ? NO : match_host(rule, target);
    return host == NO ? NO : worse(worse(port, host), match_to(rule, guard, target));
}

/* What was seen before the rule that matches for certain: the first that may match, and what it could mean. */
struct possible {
    const struct sg_rule *first, *needs_from;
    bool allow, deny;
};

/* A rule that matches decides, if nothing before it that may match says otherwise. */
static struct sg_rules_verdict settle(const struct possible *possible, const struct sg_rule *rule)
{
    bool allow = rule && rule->allow;
    if (allow ? possible->deny : possible->allow)
        return (struct sg_rules_verdict){SG_RULES_OPEN, possible->first, possible->needs_from};
    return (struct sg_rules_verdict){allow ? SG_RULES_ALLOW : SG_RULES_DENY, rule, possible->needs_from};
}

struct sg_rules_verdict sg_rules_judge(const struct sg_rules *rules, const struct sg_guard *guard,
                                       const struct sg_rule_selection *selection, const struct sg_rule_target *target)
{
    struct possible possible = {0};
    if (!rules->given)
        return (struct sg_rules_verdict){.outcome = SG_RULES_ALLOW};
    for (unsigned word = 0; word < SG_RULES_MAX / 64; word++) {
        for (uint64_t left = selection->selected[word]; left != 0; left &= left - 1) {
            unsigned i = word * 64 + (unsigned)__builtin_ctzll(left);
            const struct sg_rule *rule = &rules->rules[i];
            enum match match = match_target(rule, guard, target);
            bool unsure = (selection->unsure[word] & bit_of(i)) != 0;
            if (match == YES && !unsure)
                return settle(&possible, rule);
            if (match == NO)
                continue;
            possible.first = possible.first ? possible.first : rule;
            possible.needs_from = possible.needs_from || !unsure ? possible.needs_from : rule;
            possible.allow |= rule->allow;
            possible.deny |= !rule->allow;
        }
    }
    return settle(&possible, NULL);
}

uint8_t sg_rules_reply(const struct sg_rules_verdict *verdict)
{
    return verdict->rule ? verdict->rule->reply : SG_SOCKS5_REP_POLICY;
}

const char *sg_rule_command_name(enum sg_rule_command command)
{
    switch (command) {
    case SG_RULE_UDP:
        return "udp";
    case SG_RULE_CONNECT:
        return "connect";
    case SG_RULE_BIND:
        return "bind";
    }
    return "?";
}
