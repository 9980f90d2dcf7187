/* References are counted, of the policy and of each of its parts: the last worker that turns away frees. */
#include "server/policy.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "server/rules.h"
#include "server/users.h"

uint64_t sg_policy_next_serial(void)
{
    static _Atomic uint64_t serials;
    return atomic_fetch_add(&serials, 1) + 1;
}

/* Shares everything but users and tls, which are taken over. */
static struct sg_policy *copy_but(const struct sg_policy *before, struct sg_users *users, SSL_CTX *tls)
{
    struct sg_policy *policy = calloc(1, sizeof *policy);
    if (!policy) {
        sg_users_free(users);
        SSL_CTX_free(tls);
        return NULL;
    }
    atomic_init(&policy->refs, 1);
    policy->generation = before->generation;
    policy->config = sg_config_share(before->config);
    policy->tls = tls;
    memcpy(policy->ca_digest, before->ca_digest, sizeof policy->ca_digest);
    policy->users = users;
    policy->nat64 = before->nat64;
    policy->guard = before->guard;
    policy->rules = sg_rules_ref(before->rules);
    policy->serial = before->serial;
    return policy;
}

static SSL_CTX *share_tls(SSL_CTX *tls)
{
    return SSL_CTX_up_ref(tls) == 1 ? tls : NULL;
}

struct sg_policy *sg_policy_with_users(const struct sg_policy *before, struct sg_users *users)
{
    struct sg_policy *policy = copy_but(before, users, share_tls(before->tls));
    if (policy)
        policy->generation++;
    return policy;
}

struct sg_policy *sg_policy_with_tls(const struct sg_policy *before, SSL_CTX *tls)
{
    return copy_but(before, sg_users_share(before->users), tls);
}

struct sg_policy *sg_policy_with_guard(const struct sg_policy *before, const struct sg_guard *guard,
                                       const struct sg_nat64 *nat64)
{
    struct sg_policy *policy = copy_but(before, sg_users_share(before->users), share_tls(before->tls));
    if (policy) {
        policy->guard = *guard;
        policy->nat64 = *nat64;
        policy->serial = sg_policy_next_serial();
    }
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
    sg_config_free(policy->config);
    SSL_CTX_free(policy->tls);
    sg_users_free(policy->users);
    sg_rules_release(policy->rules);
    free(policy);
}

/* Not all 0, as that of a user without credentials; and no SHA-256 that anybody finds. */
const uint8_t sg_policy_external_digest[32] = {0xff};

void sg_policy_credential(const struct sg_policy *policy, const char *user, uint8_t out[static 32])
{
    crypto_hash_sha256_state state;
    sg_users_digest(policy->users, user, out);
    if (!sg_users_has_kind(policy->users, user, SG_USER_CERTIFICATE))
        return;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, out, 32);
    crypto_hash_sha256_update(&state, policy->ca_digest, sizeof policy->ca_digest);
    crypto_hash_sha256_final(&state, out);
}

bool sg_policy_user_valid(const struct sg_policy *policy, const char *user, const uint8_t digest[static 32])
{
    uint8_t now[32];
    if (user[0] == '\0')
        return policy->config->allow_anyone; /* nobody had to authenticate */
    if (memcmp(digest, sg_policy_external_digest, sizeof now) == 0)
        return true;
    sg_policy_credential(policy, user, now);
    return sg_users_has(policy->users, user) && sodium_memcmp(now, digest, sizeof now) == 0;
}
