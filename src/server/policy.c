/* References are counted: the last worker that turns away frees. */
#include "server/policy.h"

#include <stdlib.h>

#include <sodium.h>

#include "net/log.h"
#include "server/users.h"

struct sg_policy *sg_policy_new(struct sg_users *users, unsigned generation, const struct sg_guard *guard,
                                struct sg_rules *rules)
{
    struct sg_policy *policy = calloc(1, sizeof *policy);
    if (!policy) {
        sg_users_free(users);
        return NULL;
    }
    atomic_init(&policy->refs, 1);
    policy->generation = generation;
    policy->users = users;
    policy->guard = *guard;
    policy->rules = sg_rules_ref(rules);
    return policy;
}

struct sg_policy *sg_policy_ref(struct sg_policy *policy)
{
    atomic_fetch_add(&policy->refs, 1);
    return policy;
}

void sg_policy_release(struct sg_policy *policy)
{
    if (!policy || atomic_fetch_sub(&policy->refs, 1) > 1)
        return;
    sg_users_free(policy->users);
    sg_rules_release(policy->rules);
    free(policy);
}

bool sg_policy_user_valid(const struct sg_policy *policy, const char *user, const uint8_t digest[static 32])
{
    uint8_t now[32];
    if (user[0] == '\0')
        return true; /* nobody had to authenticate */
    sg_users_digest(policy->users, user, now);
    return sg_users_has(policy->users, user) && sodium_memcmp(now, digest, sizeof now) == 0;
}

struct sg_verdict sg_policy_judge(const struct sg_policy *policy, const struct sg_rule_asker *asker,
                                  const struct sg_rule_target *target)
{
    const struct sg_endpoint at = {.ip = target->ip, .port = target->port};
    struct sg_rule_selection selection;
    const char *special = NULL;
    if (asker->command != SG_RULE_BIND && at.ip.family != 0 && sg_guard_check(&policy->guard, &at, &special) != SG_OK)
        return (struct sg_verdict){.outcome = SG_RULES_DENY, .special = special};
    sg_rules_select(policy->rules, asker, &selection);
    struct sg_rules_verdict verdict = sg_rules_judge(policy->rules, &selection, target);
    return (struct sg_verdict){.outcome = verdict.outcome, .rule = verdict.rule, .needs_from = verdict.needs_from};
}

uint8_t sg_verdict_reply(const struct sg_verdict *verdict)
{
    const struct sg_rules_verdict by_rules = {.outcome = verdict->outcome, .rule = verdict->rule};
    return sg_rules_reply(&by_rules);
}

void sg_policy_tell(const struct sg_rule *rule, const char *user, const struct sg_endpoint *client,
                    enum sg_rule_command command, const struct sg_target *target)
{
    char from[SG_ENDPOINT_TEXT_MAX], to[SG_TARGET_TEXT_MAX];
    if (!rule || !rule->log)
        return;
    sg_endpoint_format(client, from);
    sg_target_format(target, to);
    sg_log(SG_LOG_INFO, "rule %s: %s %s from %s: %s %s", rule->name, rule->allow ? "allow" : "deny",
           user[0] != '\0' ? user : "-", from, sg_rule_command_name(command), to);
}
