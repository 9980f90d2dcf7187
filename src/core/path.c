/*
 * The path rules. The server's side bounds what a raced or spoofed copy of a record can cause: a challenge of at most
 * 64 bytes, twice a candidate, one new candidate per 100 ms, four kept. Data follows only a response from the
 * challenged address.
 */
#include "core/path.h"

#include <openssl/crypto.h>

#include "core/datagram.h"

bool sg_path_addr_equal(const struct sg_path_addr *a, const struct sg_path_addr *b)
{
    return a->port_index == b->port_index && sg_endpoint_equal(&a->remote, &b->remote) &&
           sg_ip_equal(&a->local, &b->local);
}

static bool candidate_live(const struct sg_path_candidate *c, uint64_t now_ms)
{
    return c->sends > 0 && now_ms - c->first_ms < SG_PATH_RESPONSE_MS;
}

bool sg_server_path_offer(struct sg_server_path *path, const struct sg_path_addr *addr, uint64_t now_ms,
                          sg_random_fn *random, void *random_ctx, uint8_t token[static SG_CONTROL_TOKEN_BYTES])
{
    if (path->validated && sg_path_addr_equal(&path->current, addr))
        return false;
    for (unsigned i = 0; i < SG_PATH_CANDIDATES; i++) {
        const struct sg_path_candidate *c = &path->candidates[i];
        if (candidate_live(c, now_ms) && c->sends < 2 && sg_path_addr_equal(&c->addr, addr))
            return false; /* its repeat is still to come */
    }
    if (now_ms < path->next_offer_ms)
        return false;

    /* the oldest of four makes room: a response to an earlier challenge of the same address still counts */
    struct sg_path_candidate *slot = &path->candidates[path->next_slot];
    path->next_slot = (path->next_slot + 1) % SG_PATH_CANDIDATES;
    *slot = (struct sg_path_candidate){.addr = *addr, .first_ms = now_ms, .last_ms = now_ms, .sends = 1};
    random(random_ctx, slot->token, sizeof slot->token);
    memcpy(token, slot->token, sizeof slot->token);
    path->next_offer_ms = now_ms + SG_PATH_CANDIDATE_SPACING_MS;
    return true;
}

/* One response is enough: a further challenge to that address is neither repeated nor still open. */
static void forget_address(struct sg_server_path *path, const struct sg_path_addr *addr)
{
    for (unsigned i = 0; i < SG_PATH_CANDIDATES; i++)
        if (sg_path_addr_equal(&path->candidates[i].addr, addr))
            path->candidates[i].sends = 0;
}

bool sg_server_path_respond(struct sg_server_path *path, const struct sg_path_addr *addr,
                            const uint8_t token[static SG_CONTROL_TOKEN_BYTES], uint64_t now_ms)
{
    for (unsigned i = 0; i < SG_PATH_CANDIDATES; i++) {
        const struct sg_path_candidate *c = &path->candidates[i];
        if (!candidate_live(c, now_ms) || !sg_path_addr_equal(&c->addr, addr) ||
            CRYPTO_memcmp(c->token, token, sizeof c->token) != 0)
            continue;
        forget_address(path, addr);
        path->current = *addr;
        path->validated = true;
        return true;
    }
    return false;
}

static bool repeat_due(const struct sg_path_candidate *c, uint64_t now_ms)
{
    return c->sends == 1 && now_ms - c->last_ms >= SG_PATH_CHALLENGE_REPEAT_MS;
}

const struct sg_path_candidate *sg_server_path_repeat(struct sg_server_path *path, uint64_t now_ms)
{
    for (unsigned i = 0; i < SG_PATH_CANDIDATES; i++) {
        struct sg_path_candidate *c = &path->candidates[i];
        if (!repeat_due(c, now_ms))
            continue;
        if (!candidate_live(c, now_ms)) { /* we were late: nobody could answer in time */
            c->sends = 0;
            continue;
        }
        c->sends = 2;
        c->last_ms = now_ms;
        return c;
    }
    return NULL;
}

uint64_t sg_server_path_next_timeout(const struct sg_server_path *path)
{
    uint64_t next = SG_NEVER;
    for (unsigned i = 0; i < SG_PATH_CANDIDATES; i++) {
        const struct sg_path_candidate *c = &path->candidates[i];
        if (c->sends == 1 && c->last_ms + SG_PATH_CHALLENGE_REPEAT_MS < next)
            next = c->last_ms + SG_PATH_CHALLENGE_REPEAT_MS;
    }
    return next;
}

void sg_client_path_start(struct sg_client_path *path, uint64_t now_ms)
{
    *path = (struct sg_client_path){.choice = SG_PATH_STREAM, .wants_probe = true, .next_probe_ms = now_ms};
}

/* Probes at 0, 250, 500, 1000 ms, then after 1, 2, 4 ... 60 s. */
static uint64_t probe_interval_ms(unsigned probes)
{
    if (probes <= 2)
        return 250;
    if (probes == 3)
        return 500;
    unsigned doublings = probes - 4 < 6 ? probes - 4 : 6;
    uint64_t interval = UINT64_C(1000) << doublings;
    return interval < SG_PATH_PROBE_MAX_INTERVAL_MS ? interval : SG_PATH_PROBE_MAX_INTERVAL_MS;
}

bool sg_client_path_probe_due(struct sg_client_path *path, uint64_t now_ms)
{
    if (!path->wants_probe || now_ms < path->next_probe_ms)
        return false;
    path->probes++;
    path->next_probe_ms = now_ms + probe_interval_ms(path->probes);
    return true;
}

bool sg_client_path_answered(struct sg_client_path *path)
{
    if (path->choice == SG_PATH_UDP)
        return false;
    path->choice = SG_PATH_UDP;
    path->n++;
    path->wants_probe = false;
    return true;
}

uint64_t sg_client_path_next_timeout(const struct sg_client_path *path)
{
    return path->wants_probe ? path->next_probe_ms : SG_NEVER;
}

void sg_pmtu_init(struct sg_pmtu *pmtu)
{
    *pmtu = (struct sg_pmtu){.record_max = SG_PLPMTU_BASE};
}

void sg_pmtu_start(struct sg_pmtu *pmtu, size_t kernel_max, uint32_t id, uint64_t now_ms)
{
    sg_pmtu_init(pmtu);
    pmtu->tries[0] = (struct sg_pmtu_try){.size = SG_PLPMTU_FIRST_PROBE, .id = id, .next_ms = now_ms};
    if (kernel_max > SG_RECORD_MAX)
        kernel_max = SG_RECORD_MAX;
    if (kernel_max > SG_PLPMTU_FIRST_PROBE)
        pmtu->tries[1] = (struct sg_pmtu_try){.size = (uint16_t)kernel_max, .id = id + 1, .next_ms = now_ms};
}

static bool try_pending(const struct sg_pmtu_try *t)
{
    return t->size > 0 && !t->answered && t->sends < 2;
}

const struct sg_pmtu_try *sg_pmtu_due(struct sg_pmtu *pmtu, uint64_t now_ms)
{
    for (unsigned i = 0; i < 2; i++) {
        struct sg_pmtu_try *t = &pmtu->tries[i];
        if (!try_pending(t) || now_ms < t->next_ms)
            continue;
        t->sends++;
        t->next_ms = now_ms + SG_PATH_CHALLENGE_REPEAT_MS;
        return t;
    }
    return NULL;
}

void sg_pmtu_answered(struct sg_pmtu *pmtu, uint32_t id, uint16_t size)
{
    for (unsigned i = 0; i < 2; i++) {
        struct sg_pmtu_try *t = &pmtu->tries[i];
        if (t->sends == 0 || t->id != id || t->size != size)
            continue;
        t->answered = true;
        if (size > pmtu->record_max)
            pmtu->record_max = size;
    }
}

uint64_t sg_pmtu_next_timeout(const struct sg_pmtu *pmtu)
{
    uint64_t next = SG_NEVER;
    for (unsigned i = 0; i < 2; i++)
        if (try_pending(&pmtu->tries[i]) && pmtu->tries[i].next_ms < next)
            next = pmtu->tries[i].next_ms;
    return next;
}
