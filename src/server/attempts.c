/*
 * A row of places for each value of the hash. What a place holds is one time, which each attempt moves on by the
 * interval: it lies ahead of now by as much as was tried of late.
 */
#include "server/attempts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

enum { ROWS = 512, ROW = 8 };

struct place {
    struct sg_attempts_key who;
    uint64_t due_ms;
};

struct sg_attempts {
    uint64_t interval_ms, most_ms;
    uint8_t key[crypto_shorthash_KEYBYTES];
    struct place rows[ROWS][ROW];
};

struct sg_attempts_key sg_attempts_of_host(const struct sg_ip *ip)
{
    struct sg_attempts_key key = {{ip->family}};
    memcpy(key.bytes + 1, ip->bytes, ip->family == 6 ? 8 : 4);
    return key;
}

struct sg_attempts_key sg_attempts_of_user(const char *user)
{
    struct sg_attempts_key key = {{UINT8_MAX}}; /* no family of addresses */
    static_assert(sizeof key.bytes - 1 == crypto_generichash_BYTES_MIN, "the rest of the key is a hash");
    crypto_generichash(key.bytes + 1, sizeof key.bytes - 1, (const uint8_t *)user, strlen(user), NULL, 0);
    return key;
}

struct sg_attempts *sg_attempts_new(unsigned most, unsigned interval_ms)
{
    struct sg_attempts *attempts = calloc(1, sizeof *attempts);
    if (!attempts)
        return NULL;
    attempts->interval_ms = interval_ms;
    attempts->most_ms = (uint64_t)most * interval_ms;
    randombytes_buf(attempts->key, sizeof attempts->key);
    return attempts;
}

void sg_attempts_free(struct sg_attempts *attempts)
{
    free(attempts);
}

static struct place *row_of(struct sg_attempts *attempts, const struct sg_attempts_key *who)
{
    uint8_t hash[crypto_shorthash_BYTES];
    crypto_shorthash(hash, who->bytes, sizeof who->bytes, attempts->key);
    return attempts->rows[(hash[0] | hash[1] << 8) % ROWS];
}

/* NULL: nothing is known of them. */
static struct place *find(struct sg_attempts *attempts, const struct sg_attempts_key *who)
{
    struct place *row = row_of(attempts, who);
    for (unsigned i = 0; i < ROW; i++)
        if (memcmp(&row[i].who, who, sizeof *who) == 0)
            return &row[i];
    return NULL;
}

static bool is_over(const struct sg_attempts *attempts, const struct place *place, uint64_t now_ms)
{
    /* one that is due even later was counted before the clock went back */
    return place && place->due_ms <= now_ms + attempts->most_ms &&
           place->due_ms + attempts->interval_ms > now_ms + attempts->most_ms;
}

bool sg_attempts_begin(struct sg_attempts *attempts, const struct sg_attempts_key *who, uint64_t now_ms)
{
    struct place *place = find(attempts, who);
    if (is_over(attempts, place, now_ms))
        return false;
    if (!place) {
        struct place *row = row_of(attempts, who);
        place = row;
        for (unsigned i = 1; i < ROW; i++)
            if (row[i].due_ms < place->due_ms)
                place = &row[i];
        *place = (struct place){.who = *who};
    }
    bool is_ahead = place->due_ms > now_ms && place->due_ms <= now_ms + attempts->most_ms;
    place->due_ms = (is_ahead ? place->due_ms : now_ms) + attempts->interval_ms;
    return true;
}

void sg_attempts_forgive(struct sg_attempts *attempts, const struct sg_attempts_key *who)
{
    struct place *place = find(attempts, who);
    if (place)
        place->due_ms = place->due_ms > attempts->interval_ms ? place->due_ms - attempts->interval_ms : 0;
}

bool sg_attempts_are_over(struct sg_attempts *attempts, const struct sg_attempts_key *who, uint64_t now_ms)
{
    return is_over(attempts, find(attempts, who), now_ms);
}
