/* References are counted: the last worker that turns away frees. */
#include "server/policy.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "server/rules.h"
#include "server/users.h"

struct sg_policy *sg_policy_new(struct sg_users *users, unsigned generation, const struct sg_guard *guard,
                                struct sg_rules *rules, SSL_CTX *tls)
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
    policy->tls = SSL_CTX_up_ref(tls) == 1 ? tls : NULL;
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
    SSL_CTX_free(policy->tls);
    sg_rules_release(policy->rules);
    free(policy);
}

/* Not all 0, as that of a user without credentials; and no SHA-256 that anybody finds. */
const uint8_t sg_policy_external_digest[32] = {0xff};

bool sg_policy_user_valid(const struct sg_policy *policy, const char *user, const uint8_t digest[static 32])
{
    uint8_t now[32];
    if (user[0] == '\0')
        return true; /* nobody had to authenticate */
    if (memcmp(digest, sg_policy_external_digest, sizeof now) == 0)
        return true;
    sg_users_digest(policy->users, user, now);
    return sg_users_has(policy->users, user) && sodium_memcmp(now, digest, sizeof now) == 0;
}
