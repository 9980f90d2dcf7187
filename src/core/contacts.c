/*
 * Two hash sets, young and old. What is sent to goes to the young one; when that is full, or may not grow, it becomes
 * the old one, and what was old is forgotten. So the last ones stay, without a list of their order. Small sets are not
 * taken out of the budget: they are what an association has in any case.
 */
#include "core/contacts.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

enum { FIRST_ROOM = 4, FREE_ROOM = 2 * SG_CONTACTS_SPARSE };

/* What is remembered of an endpoint. */
static struct sg_endpoint key_of(const struct sg_contacts *contacts, const struct sg_endpoint *ep)
{
    bool with_port = contacts->filtering == SG_FILTERING_ADDRESS_AND_PORT;
    return (struct sg_endpoint){.ip = ep->ip, .port = with_port ? ep->port : 0};
}

/* The key's slot, or the free one where it belongs: there is always a free one. */
static struct sg_endpoint *find_slot(const struct sg_contacts_set *set, const struct sg_endpoint *key, uint64_t hash)
{
    size_t i = (size_t)hash & (set->room - 1);
    while (set->slots[i].ip.family != 0 && !sg_endpoint_equal(&set->slots[i], key))
        i = (i + 1) & (set->room - 1);
    return &set->slots[i];
}

static bool is_in(const struct sg_contacts_set *set, const struct sg_endpoint *key, uint64_t hash)
{
    return set->room > 0 && find_slot(set, key, hash)->ip.family != 0;
}

bool sg_contacts_has(const struct sg_contacts *contacts, const struct sg_endpoint *from)
{
    if (contacts->filtering == SG_FILTERING_NONE)
        return true;
    struct sg_endpoint key = key_of(contacts, from);
    if (sg_endpoint_equal(&contacts->last, &key))
        return key.ip.family != 0;
    uint64_t hash = sg_endpoint_hash(&key, contacts->key);
    return is_in(&contacts->young, &key, hash) || is_in(&contacts->old, &key, hash);
}

static bool take_room(const struct sg_contacts *contacts, size_t room)
{
    const struct sg_contacts_budget *budget = &contacts->budget;
    return room <= FREE_ROOM || !budget->take || budget->take(budget->ctx, room * sizeof(struct sg_endpoint));
}

static void give_room(const struct sg_contacts *contacts, size_t room)
{
    const struct sg_contacts_budget *budget = &contacts->budget;
    if (room > FREE_ROOM && budget->take)
        budget->give(budget->ctx, room * sizeof(struct sg_endpoint));
}

static void free_set(const struct sg_contacts *contacts, struct sg_contacts_set *set)
{
    give_room(contacts, set->room);
    free(set->slots);
    *set = (struct sg_contacts_set){0};
}

/* Room for one more, at most half of it used. FULL: the budget has no more. */
static enum sg_err make_room(const struct sg_contacts *contacts, struct sg_contacts_set *set)
{
    if (2 * (set->count + 1) <= set->room)
        return SG_OK;
    struct sg_contacts_set grown = {.room = set->room > 0 ? 2 * set->room : FIRST_ROOM, .count = set->count};
    if (!take_room(contacts, grown.room))
        return SG_ERR_FULL;
    grown.slots = calloc(grown.room, sizeof *grown.slots);
    if (!grown.slots) {
        give_room(contacts, grown.room);
        return SG_ERR_NOMEM;
    }
    for (size_t i = 0; i < set->room; i++) {
        const struct sg_endpoint *key = &set->slots[i];
        if (key->ip.family != 0)
            *find_slot(&grown, key, sg_endpoint_hash(key, contacts->key)) = *key;
    }
    free_set(contacts, set);
    *set = grown;
    return SG_OK;
}

/* What is young becomes old. */
static void age(struct sg_contacts *contacts)
{
    free_set(contacts, &contacts->old);
    contacts->old = contacts->young;
    contacts->young = (struct sg_contacts_set){0};
}

enum sg_err sg_contacts_add(struct sg_contacts *contacts, const struct sg_endpoint *to)
{
    struct sg_contacts_set *young = &contacts->young;
    struct sg_endpoint key = key_of(contacts, to);
    if (contacts->filtering == SG_FILTERING_NONE || sg_endpoint_equal(&contacts->last, &key))
        return SG_OK;
    if (young->room == 0 && contacts->old.room == 0)
        crypto_shorthash_keygen(contacts->key);
    uint64_t hash = sg_endpoint_hash(&key, contacts->key);
    if (!is_in(young, &key, hash)) {
        enum sg_err err = young->count < SG_CONTACTS_KEPT ? make_room(contacts, young) : SG_ERR_FULL;
        if (err == SG_ERR_FULL) {
            age(contacts);
            err = make_room(contacts, young); /* a small set is always given */
        }
        if (err != SG_OK)
            return SG_ERR_NOMEM;
        *find_slot(young, &key, hash) = key;
        young->count++;
    }
    contacts->last = key;
    return SG_OK;
}

void sg_contacts_dispose(struct sg_contacts *contacts)
{
    free_set(contacts, &contacts->young);
    free_set(contacts, &contacts->old);
    *contacts = (struct sg_contacts){.filtering = contacts->filtering, .budget = contacts->budget};
}
