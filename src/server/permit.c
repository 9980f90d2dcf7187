/*
 * Verdicts on datagrams. Only what the rules say is remembered, in places found by a hash of the endpoint: of two that
 * share one the newer stays, and the other is judged again when it comes. The guard is asked for each datagram.
 */
#include "server/permit.h"

#include <stdlib.h>
#include <string.h>

#include "core/guard.h"
#include "server/channel_conn.h"
#include "server/policy.h"
#include "server/ports.h"
#include "server/server.h"
#include "server/usage.h"
#include "server/verdict.h"
#include "server/worker.h"

enum { PLACE_BITS = 8, PLACES = 1 << PLACE_BITS };

struct place {
    struct sg_endpoint endpoint; /* family 0: free */
    uint16_t rule;               /* SG_RULE_NOT_FOUND: none matches */
    bool permitted;
    bool told; /* logged, if the rule wants that */
};

struct sg_permit_memory {
    uint64_t serial;   /* of the policy */
    struct sg_ip from; /* the client's address at the time */
    struct sg_rule_selection selection;
    struct place places[PLACES];
};

void sg_permits_init(struct sg_permits *permits, const struct sg_worker *worker, const struct sg_handover *who)
{
    *permits = (struct sg_permits){.worker = worker, .who = who};
}

void sg_permits_dispose(struct sg_permits *permits)
{
    if (permits->memory)
        sg_usage_give_memory(permits->who->usage, sizeof *permits->memory);
    free(permits->memory);
    permits->memory = NULL;
}

static const struct sg_rules *rules_of(const struct sg_permits *permits)
{
    return permits->worker->policy->rules;
}

static void select_rules(const struct sg_permits *permits, struct sg_rule_selection *out)
{
    const struct sg_rule_asker asker = {
        .user = permits->who->user, .from = permits->who->peer.ip, .command = SG_RULE_UDP};
    sg_rules_select(rules_of(permits), &asker, out);
}

static struct sg_permit_memory *new_memory(struct sg_usage *usage)
{
    struct sg_permit_memory *memory = NULL;
    if (!sg_usage_take_memory(usage, sizeof *memory))
        return NULL;
    memory = calloc(1, sizeof *memory);
    if (!memory)
        sg_usage_give_memory(usage, sizeof *memory);
    return memory;
}

/* What is remembered of the rules that are in force, for where the client is now; NULL: no memory to remember in. */
static struct sg_permit_memory *current_memory(struct sg_permits *permits)
{
    const struct sg_ip *from = &permits->who->peer.ip;
    struct sg_permit_memory *memory = permits->memory;
    if (!memory)
        memory = permits->memory = new_memory(permits->who->usage);
    if (!memory || (memory->serial == permits->worker->policy->serial && sg_ip_equal(&memory->from, from)))
        return memory;
    memset(memory, 0, sizeof *memory);
    memory->serial = permits->worker->policy->serial;
    memory->from = *from;
    select_rules(permits, &memory->selection);
    permits->epoch++;
    return memory;
}

static struct sg_rules_verdict judge(struct sg_permits *permits, const struct sg_rule_target *target)
{
    struct sg_rule_selection selection;
    const struct sg_permit_memory *memory = current_memory(permits);
    if (memory)
        return sg_rules_judge(rules_of(permits), &permits->worker->policy->guard, &memory->selection, target);
    select_rules(permits, &selection);
    return sg_rules_judge(rules_of(permits), &permits->worker->policy->guard, &selection, target);
}

static void tell(const struct sg_permits *permits, const struct sg_rule *rule, const struct sg_target *target)
{
    sg_verdict_tell(rule, permits->who->user, &permits->who->peer, SG_RULE_UDP, target);
}

/* --- by address --- */

static size_t hash_endpoint(const struct sg_endpoint *endpoint)
{
    uint64_t half[2];
    memcpy(half, endpoint->ip.bytes, sizeof half);
    uint64_t mixed = (half[0] ^ (half[1] << 1 | half[1] >> 63) ^ endpoint->port) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(mixed >> (64 - PLACE_BITS));
}

static struct place judge_endpoint(struct sg_permits *permits, const struct sg_endpoint *endpoint)
{
    const struct sg_rule_target target = {.ip = endpoint->ip, .port = endpoint->port};
    struct sg_rules_verdict verdict = judge(permits, &target);
    uint16_t rule = verdict.rule ? (uint16_t)(verdict.rule - rules_of(permits)->rules) : SG_RULE_NOT_FOUND;
    return (struct place){.endpoint = *endpoint, .rule = rule, .permitted = verdict.outcome == SG_RULES_ALLOW};
}

/* is_target: it is sent to, which may be worth a line in the log. */
static bool permits_endpoint(struct sg_permits *permits, const struct sg_endpoint *endpoint, bool is_target)
{
    struct place local = {0};
    struct sg_permit_memory *memory = current_memory(permits);
    struct place *place = memory ? &memory->places[hash_endpoint(endpoint)] : &local;
    if (!sg_endpoint_equal(&place->endpoint, endpoint))
        *place = judge_endpoint(permits, endpoint);
    if (is_target && !place->told) {
        struct sg_target target = sg_endpoint_target(endpoint);
        place->told = true;
        if (place->rule != SG_RULE_NOT_FOUND)
            tell(permits, &rules_of(permits)->rules[place->rule], &target);
    }
    return place->permitted;
}

/* --- by name --- */

static bool permits_named(struct sg_permits *permits, const struct sg_target *name, const struct sg_endpoint *at,
                          struct sg_permit_answer *answer, bool is_target)
{
    const struct sg_rule_target target = {
        .name = name->name, .name_len = name->name_len, .ip = at->ip, .port = at->port};
    bool remembers = current_memory(permits) != NULL && answer;
    if (remembers && answer->epoch == permits->epoch && answer->port == at->port)
        return answer->permitted;
    struct sg_rules_verdict verdict = judge(permits, &target);
    bool permitted = verdict.outcome == SG_RULES_ALLOW;
    if (remembers)
        *answer = (struct sg_permit_answer){.epoch = permits->epoch, .port = at->port, .permitted = permitted};
    if (is_target)
        tell(permits, verdict.rule, name);
    return permitted;
}

/* --- the questions --- */

static bool passes_guard(const struct sg_worker *worker, const struct sg_endpoint *target)
{
    const struct sg_guard *guard = &worker->policy->guard;
    if (sg_guard_check(guard, target, NULL) == SG_OK)
        return true;
    return sg_guard_is_here(guard, &target->ip) &&
           sg_ports_is_taken(&worker->server->ports, target->ip.family, target->port);
}

bool sg_permits_target(struct sg_permits *permits, const struct sg_target *name, const struct sg_endpoint *target,
                       struct sg_permit_answer *answer)
{
    if (!passes_guard(permits->worker, target))
        return false;
    if (!rules_of(permits)->given)
        return true;
    return name ? permits_named(permits, name, target, answer, answer != NULL)
                : permits_endpoint(permits, target, true);
}

bool sg_permits_lookup(struct sg_permits *permits, const struct sg_target *name)
{
    const struct sg_rule_target target = {.name = name->name, .name_len = name->name_len, .port = name->port};
    if (!rules_of(permits)->given)
        return true;
    struct sg_rules_verdict verdict = judge(permits, &target);
    if (verdict.outcome != SG_RULES_DENY)
        return true;
    tell(permits, verdict.rule, name);
    return false;
}

bool sg_permits_source(struct sg_permits *permits, const struct sg_endpoint *source)
{
    return !rules_of(permits)->given || permits_endpoint(permits, source, false);
}

bool sg_permits_source_named(struct sg_permits *permits, const uint8_t *name, size_t name_len,
                             const struct sg_endpoint *source, struct sg_permit_answer *answer)
{
    const struct sg_target target = {
        .atyp = SG_ATYP_NAME, .name_len = (uint8_t)name_len, .name = name, .port = source->port};
    return permits_named(permits, &target, source, answer, false);
}
