/*
 * What a policy says to one request: the guard's word first, then that of the rules. For requests over TCP and for
 * `sealgram policy test`; datagrams have a memory for it (permit.h).
 */
#ifndef SG_SERVER_VERDICT_H
#define SG_SERVER_VERDICT_H

#include "server/rules.h"

struct sg_policy;

/* What policy says to a request. */
struct sg_verdict {
    enum sg_rules_outcome outcome;
    const char *special; /* the class of the address, which the guard refuses (sg_guard_check); NULL: it does not */
    const struct sg_rule *rule, *needs_from; /* as in struct sg_rules_verdict */
};

/*
 * The guard's word on an address that is known (with BIND that of the peer, named or come), then that of the rules.
 * Pointers in the verdict live as long as the policy.
 */
struct sg_verdict sg_verdict_of(const struct sg_policy *policy, const struct sg_rule_asker *asker,
                                const struct sg_rule_target *target);

/* The SOCKS reply code of a verdict that is not ALLOW. */
uint8_t sg_verdict_reply(const struct sg_verdict *verdict);

/* Logs a decision of a rule that wants it; NULL is no rule. */
void sg_verdict_tell(const struct sg_rule *rule, const char *user, const struct sg_endpoint *client,
                     enum sg_rule_command command, const struct sg_target *target);

#endif
