/* From a configuration to a policy: certificate, users and guard are loaded and checked, or the first fault is told. */
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>
#include <sodium.h>

#include "net/cert.h"
#include "net/log.h"
#include "net/own_routes.h"
#include "net/sockaddr.h"
#include "net/tls.h"
#include "net/tls_client_cert.h"
#include "server/policy.h"
#include "server/rules.h"
#include "server/users.h"

/* --- the guard --- */

struct listing {
    struct sg_guard *guard;
    bool full;
};

/* Single special ones are refused anyway: room is only needed for the others. */
static void add_own(void *ctx, const struct sg_cidr *net)
{
    struct listing *listing = ctx;
    bool is_single = net->bits == (net->ip.family == 4 ? 32 : 128);
    if (!(is_single && sg_guard_class(&net->ip) != NULL) && sg_guard_add_own(listing->guard, net) == SG_ERR_FULL)
        listing->full = true;
}

static void add_own_ip(struct listing *listing, const struct sg_ip *ip)
{
    const struct sg_cidr net = {.ip = *ip, .bits = ip->family == 4 ? 32 : 128};
    if (ip->family != 0)
        add_own(listing, &net);
}

/* Addresses of interfaces that are down are not in the routing tables, and may be up in a moment. */
static bool add_interfaces(struct listing *listing)
{
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0)
        return false;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        struct sockaddr_storage ss = {0};
        if (!i->ifa_addr || (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
            continue;
        memcpy(&ss, i->ifa_addr,
               i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        struct sg_ip ip = sg_sockaddr_endpoint(&ss).ip;
        add_own_ip(listing, &ip);
    }
    freeifaddrs(list);
    return true;
}

/*
 * The server's own addresses are no targets, unless --allow covers them; associations reach each other there all the
 * same (sg_permits_target). Where the system never tells them, those of the configuration are left
 * (sg_lacking_tell_netlink).
 */
static bool add_own_addresses(struct sg_guard *guard, const struct sg_config *config)
{
    struct listing listing = {.guard = guard};
    if (sg_own_routes_are_told() && (!add_interfaces(&listing) || !sg_own_routes_each(add_own, &listing)))
        return false;
    /* behind a NAT no interface has it, and what is sent there comes back to this machine */
    if (!sg_guard_is_here(guard, &config->advertise.ip))
        guard->outside = config->advertise.ip;
    add_own_ip(&listing, &config->advertise.ip);
    for (unsigned i = 0; i < config->listen_count; i++)
        add_own_ip(&listing, &config->listen[i].ip);
    if (listing.full)
        sg_log(SG_LOG_WARN,
               "more own addresses and networks than %d: what lies between the nearest of them is refused too",
               SG_GUARD_OWN_MAX);
    return true;
}

static bool add_nat64(struct sg_guard *guard, const struct sg_cidr *prefixes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        enum sg_err err = sg_guard_add_nat64(guard, &prefixes[i]);
        if (err != SG_OK && err != SG_ERR_EXISTS)
            return false;
    }
    return true;
}

bool sg_policy_make_guard(const struct sg_config *config, const struct sg_nat64 *nat64, struct sg_guard *guard)
{
    memset(guard, 0, sizeof *guard);
    for (unsigned i = 0; i < config->allow_count; i++)
        if (sg_guard_allow(guard, &config->allow[i]) != SG_OK)
            return false;
    if (!add_nat64(guard, config->nat64, config->nat64_count))
        return false;
    if (!add_nat64(guard, nat64->prefixes, nat64->count))
        sg_log(SG_LOG_WARN, "more prefixes of NAT64 than %d: the others are not undone", SG_GUARD_NAT64_MAX);
    return add_own_addresses(guard, config);
}

/* --- TLS --- */

/*
 * The certificates that clients are checked against, in the order of their file. Revocation lists are not among them:
 * they are asked when a client comes.
 */
static void digest_ca(SSL_CTX *tls, uint8_t out[static 32])
{
    const STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(tls));
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        uint8_t one[EVP_MAX_MD_SIZE];
        unsigned len = 0;
        const X509 *cert = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
        if (cert && X509_digest(cert, EVP_sha256(), one, &len) == 1)
            crypto_hash_sha256_update(&state, one, len);
    }
    crypto_hash_sha256_final(&state, out);
}

SSL_CTX *sg_policy_make_tls(const struct sg_config *config, char error[static SG_POLICY_ERROR_MAX])
{
    char cert_error[SG_CERT_ERROR_MAX], text[SG_TLS_TEXT_MAX];
    if (sg_cert_check(config->key, config->certificate, cert_error) != SG_OK) {
        snprintf(error, SG_POLICY_ERROR_MAX, "%s", cert_error);
        return NULL;
    }
    SSL_CTX *tls = sg_tls_server_ctx(config->certificate, config->key, config->client_ca, text);
    if (tls && (!config->client_crl || sg_tls_add_crl(tls, config->client_crl, text)))
        return tls;
    snprintf(error, SG_POLICY_ERROR_MAX, "%s", text);
    SSL_CTX_free(tls);
    return NULL;
}

/* --- users --- */

static bool load_users(struct sg_policy *policy, char error[static SG_POLICY_ERROR_MAX])
{
    const struct sg_config *config = policy->config;
    char users_error[SG_USERS_ERROR_MAX];
    if (sg_users_load(config->users, &policy->users, users_error) != SG_OK) {
        snprintf(error, SG_POLICY_ERROR_MAX, "%s", users_error);
        return false;
    }
    if (sg_users_count(policy->users) > 0 || config->allow_anyone || config->authenticator.command ||
        !sg_config_is_exposed(config))
        return true;
    snprintf(error, SG_POLICY_ERROR_MAX,
             "%s: there is no user, and the server would be reachable from other machines: `sealgram invite DIR USER` "
             "adds one (or, for a server open to everyone, allow_anyone_without_authentication: true)",
             config->users);
    return false;
}

/* Whether who was let in must be looked at again. */
static bool lets_in_the_same(const struct sg_policy *a, const struct sg_policy *b)
{
    return sg_users_equal(a->users, b->users) && a->config->allow_anyone == b->config->allow_anyone &&
           memcmp(a->ca_digest, b->ca_digest, sizeof a->ca_digest) == 0;
}

void sg_policy_follow(struct sg_policy *fresh, const struct sg_policy *before)
{
    fresh->generation = before->generation + !lets_in_the_same(before, fresh);
}

struct sg_policy *sg_policy_build(struct sg_config *config, const struct sg_policy *before,
                                  char error[static SG_POLICY_ERROR_MAX])
{
    struct sg_policy *policy = calloc(1, sizeof *policy);
    if (!policy) {
        snprintf(error, SG_POLICY_ERROR_MAX, "out of memory");
        return NULL;
    }
    atomic_init(&policy->refs, 1);
    policy->config = sg_config_share(config);
    policy->rules = sg_rules_ref(config->rules);
    policy->serial = sg_policy_next_serial();
    policy->tls = sg_policy_make_tls(config, error);
    if (!policy->tls)
        goto failed;
    digest_ca(policy->tls, policy->ca_digest);
    if (before)
        policy->nat64 = before->nat64;
    if (!sg_policy_make_guard(config, &policy->nat64, &policy->guard)) {
        snprintf(error, SG_POLICY_ERROR_MAX, "cannot list the own addresses: %s", strerror(errno));
        goto failed;
    }
    if (!load_users(policy, error))
        goto failed;
    return policy;
failed:
    sg_policy_release(policy);
    return NULL;
}
