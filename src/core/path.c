/*
 * The path rules. The server's side bounds what a raced or spoofed copy of a record can cause: a challenge of at most
 * 64 bytes, twice a candidate, one new candidate per 100 ms, four kept. Data follows only a response from the
 * challenged address.
 */
#include "core/path.h"

#include <openssl/crypto.h>

#include "core/datagram.h"

/* So many probes into the schedule a client begins again that had a path before: the next after 1, 2, 4 ... s. */
enum { SEEK_AGAIN = 4 };

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
    if (path->validated && sg_path_addr_equal(&path->current, addr)) {
        path->divert_ms = 0;
        return false;
    }
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
    path->divert_ms = now_ms + SG_PATH_DIVERT_MS;
    return true;
}

bool sg_server_path_is_in_doubt(const struct sg_server_path *path, uint64_t now_ms)
{
    return now_ms < path->divert_ms;
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
        path->divert_ms = 0;
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

/* --- the client --- */

/* Probes at 0, 250, 500, 1000 ms, then after 1, 2, 4 ... 60 s. */
static uint64_t seek_interval_ms(unsigned probes)
{
    if (probes <= 2)
        return 250;
    if (probes == 3)
        return 500;
    unsigned doublings = probes - 4 < 6 ? probes - 4 : 6;
    uint64_t interval = UINT64_C(1000) << doublings;
    return interval < SG_PATH_PROBE_MAX_INTERVAL_MS ? interval : SG_PATH_PROBE_MAX_INTERVAL_MS;
}

static const struct sg_path_probe *newest(const struct sg_client_path *path)
{
    return &path->last[(path->sent - 1) % SG_PATH_PROBES_KEPT];
}

static uint64_t patience_ms(const struct sg_client_path *path)
{
    if (2 * path->rtt_ms < SG_PATH_PATIENCE_MS)
        return SG_PATH_PATIENCE_MS;
    return 2 * path->rtt_ms < SG_PATH_PATIENCE_MAX_MS ? 2 * path->rtt_ms : SG_PATH_PATIENCE_MAX_MS;
}

void sg_client_path_start(struct sg_client_path *path, uint64_t now_ms)
{
    *path = (struct sg_client_path){.choice = SG_PATH_STREAM, .state = SG_PATH_SEEKS, .next_probe_ms = now_ms};
}

static void choose(struct sg_client_path *path, enum sg_path_choice choice)
{
    path->choice = choice;
    path->n++;
}

/* Probes that get rarer: counted from the first second on, since the answer that was missed is not the first. */
static void seek_again(struct sg_client_path *path, unsigned probes, uint64_t now_ms)
{
    path->state = SG_PATH_SEEKS;
    path->probes = probes;
    path->next_probe_ms = now_ms + seek_interval_ms(probes);
}

static bool is_busy(const struct sg_client_path *path, uint64_t now_ms)
{
    return path->had_traffic && now_ms - path->traffic_ms <= SG_PATH_TRAFFIC_MS;
}

void sg_client_path_traffic(struct sg_client_path *path, uint64_t now_ms)
{
    if (!is_busy(path, now_ms)) { /* the silence before does not count */
        path->quiet_ms = now_ms;
        path->unanswered = 0;
    }
    path->had_traffic = true;
    path->traffic_ms = now_ms;
}

void sg_client_path_heard(struct sg_client_path *path, uint64_t now_ms)
{
    path->quiet_ms = now_ms;
    path->unanswered = 0;
}

void sg_client_path_moved(struct sg_client_path *path, uint64_t now_ms)
{
    switch (path->state) {
    case SG_PATH_OFF:
        return;
    case SG_PATH_SEEKS:
        path->probes = path->fell_back ? SEEK_AGAIN : 0;
        path->next_probe_ms = now_ms;
        return;
    case SG_PATH_CONFIRMS:
        return;
    case SG_PATH_USES: /* a probe tells the server where we are now, and tells us whether that works */
        path->had_traffic = true;
        path->traffic_ms = now_ms;
        path->quiet_ms = now_ms - patience_ms(path);
        path->unanswered = 0;
        return;
    }
}

/* When the silence has lasted too long; each probe of it gets as much time. */
static uint64_t silence_due(const struct sg_client_path *path)
{
    if (!path->had_traffic)
        return SG_NEVER;
    uint64_t since = path->unanswered == 0 ? path->quiet_ms : newest(path)->sent_ms;
    uint64_t due = since + patience_ms(path);
    return due <= path->traffic_ms + SG_PATH_TRAFFIC_MS ? due : SG_NEVER;
}

uint64_t sg_client_path_next_timeout(const struct sg_client_path *path)
{
    switch (path->state) {
    case SG_PATH_OFF:
        return SG_NEVER;
    case SG_PATH_SEEKS:
        return path->next_probe_ms;
    case SG_PATH_CONFIRMS:
        return path->awaits ? newest(path)->sent_ms + patience_ms(path) : path->next_probe_ms;
    case SG_PATH_USES:
        return silence_due(path);
    }
    return SG_NEVER;
}

bool sg_client_path_probe_due(struct sg_client_path *path, uint32_t id, uint64_t now_ms)
{
    if (now_ms < sg_client_path_next_timeout(path))
        return false;
    switch (path->state) {
    case SG_PATH_OFF:
        return false;
    case SG_PATH_SEEKS:
        path->probes++;
        path->next_probe_ms = now_ms + seek_interval_ms(path->probes);
        break;
    case SG_PATH_CONFIRMS:
        if (path->awaits) { /* one that is not answered spoils the row */
            path->awaits = false;
            seek_again(path, SEEK_AGAIN, now_ms);
            return false;
        }
        break;
    case SG_PATH_USES:
        if (path->unanswered == SG_PATH_UNANSWERED_MAX)
            return false; /* sg_client_path_lost tells */
        path->unanswered++;
        break;
    }
    path->awaits = true;
    path->last[path->sent++ % SG_PATH_PROBES_KEPT] = (struct sg_path_probe){.id = id, .sent_ms = now_ms};
    return true;
}

bool sg_client_path_lost(struct sg_client_path *path, uint64_t now_ms)
{
    if (path->state != SG_PATH_USES || path->unanswered < SG_PATH_UNANSWERED_MAX || now_ms < silence_due(path))
        return false;
    choose(path, SG_PATH_STREAM);
    path->fell_back = true;
    path->awaits = false;
    seek_again(path, SEEK_AGAIN, now_ms);
    return true;
}

static void measure(struct sg_client_path *path, uint32_t id, uint64_t now_ms)
{
    for (unsigned i = 0; i < SG_PATH_PROBES_KEPT && i < path->sent; i++) {
        const struct sg_path_probe *probe = &path->last[(path->sent - 1 - i) % SG_PATH_PROBES_KEPT];
        if (probe->id == id) {
            uint64_t sample = now_ms - probe->sent_ms;
            path->rtt_ms = path->rtt_ms == 0 ? sample : (7 * path->rtt_ms + sample) / 8;
            return;
        }
    }
}

bool sg_client_path_answered(struct sg_client_path *path, uint32_t id, uint64_t now_ms)
{
    bool is_last = path->awaits && id == newest(path)->id;
    measure(path, id, now_ms);
    switch (path->state) {
    case SG_PATH_OFF:
    case SG_PATH_USES:
        return false;
    case SG_PATH_SEEKS:
        path->answered = 0;
        if (path->fell_back) {
            path->state = SG_PATH_CONFIRMS;
            break;
        }
        path->answered = SG_PATH_ANSWERED_MIN - 1;
        break;
    case SG_PATH_CONFIRMS:
        if (!is_last)
            return false;
        break;
    }
    path->awaits = false;
    path->next_probe_ms = now_ms + SG_PATH_CONFIRM_SPACING_MS;
    if (++path->answered < SG_PATH_ANSWERED_MIN)
        return false;
    choose(path, SG_PATH_UDP);
    path->state = SG_PATH_USES;
    path->quiet_ms = now_ms;
    path->unanswered = 0;
    return true;
}
