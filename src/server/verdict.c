/* The order of guard and rules, and the line that a rule may have in the log. */
#include "server/verdict.h"

#include "core/guard.h"
#include "net/log.h"
#include "net/log_text.h"
#include "server/policy.h"

struct sg_verdict sg_verdict_of(const struct sg_policy *policy, const struct sg_rule_asker *asker,
                                const struct sg_rule_target *target)
{
    struct sg_endpoint at = {.ip = target->ip, .port = target->port};
    struct sg_rule_selection selection;
    const char *special = NULL;
    if (asker->command == SG_RULE_BIND && at.port == 0)
        at.port = 1; /* the peer chooses: the address alone is looked at */
    if (at.ip.family != 0 && sg_guard_check(&policy->guard, &at, &special) != SG_OK)
        return (struct sg_verdict){.outcome = SG_RULES_DENY, .special = special};
    sg_rules_select(policy->rules, asker, &selection);
    struct sg_rules_verdict verdict = sg_rules_judge(policy->rules, &policy->guard, &selection, target);
    return (struct sg_verdict){.outcome = verdict.outcome, .rule = verdict.rule, .needs_from = verdict.needs_from};
}

uint8_t sg_verdict_reply(const struct sg_verdict *verdict)
{
    const struct sg_rules_verdict by_rules = {.outcome = verdict->outcome, .rule = verdict->rule};
    return sg_rules_reply(&by_rules);
}

void sg_verdict_tell(const struct sg_rule *rule, const char *user, const struct sg_endpoint *client,
                     enum sg_rule_command command, const struct sg_target *target)
{
    char from[SG_ENDPOINT_TEXT_MAX], to[SG_TARGET_TEXT_MAX];
    if (!rule || !rule->log)
        return;
    const char *name = user[0] != '\0' ? user : "-";
    const char *action = rule->allow ? "allow" : "deny";
    const char *what = sg_rule_command_name(command);
    sg_log_endpoint(client, from);
    sg_log_target(target, to);
    sg_log_event(SG_LOG_INFO, "rule",
                 SG_LOG_FIELDS(sg_log_word("rule", rule->name), sg_log_word("action", action),
                               sg_log_word("user", name), sg_log_word("client", from), sg_log_word("command", what),
                               sg_log_word("target", to)),
                 "rule %s: %s %s from %s: %s %s", rule->name, action, name, from, what, to);
}
