/*
 * Two hash sets, young and old. What is sent to goes to the young one; when that is full it becomes the old one, and
 * what was old is forgotten. So the last ones stay, without a list of their order.
 */
#include "core/contacts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

enum { FIRST_ROOM = 4 };

static_assert(sizeof((struct sg_contacts *)0)->key == crypto_shorthash_KEYBYTES, "the key is that of SipHash");

static size_t hash_ip(const struct sg_contacts *contacts, const struct sg_ip *ip)
{
    uint64_t hash = 0;
    uint8_t bytes[17] = {ip->family};
    memcpy(bytes + 1, ip->bytes, ip->family == 4 ? 4 : 16);
    crypto_shorthash((uint8_t *)&hash, bytes, sizeof bytes, contacts->key);
    return (size_t)hash;
}

/* The address's slot, or the free one where it belongs: there is always a free one. */
static struct sg_ip *find_slot(const struct sg_contacts_set *set, const struct sg_ip *ip, size_t hash)
{
    size_t i = hash & (set->room - 1);
    while (set->slots[i].family != 0 && !sg_ip_equal(&set->slots[i], ip))
        i = (i + 1) & (set->room - 1);
    return &set->slots[i];
}

static bool is_in(const struct sg_contacts_set *set, const struct sg_ip *ip, size_t hash)
{
    return set->room > 0 && find_slot(set, ip, hash)->family != 0;
}

bool sg_contacts_has(const struct sg_contacts *contacts, const struct sg_ip *ip)
{
    if (sg_ip_equal(&contacts->last, ip))
        return ip->family != 0;
    size_t hash = hash_ip(contacts, ip);
    return is_in(&contacts->young, ip, hash) || is_in(&contacts->old, ip, hash);
}

/* Room for one more, at most half of it used. */
static enum sg_err make_room(const struct sg_contacts *contacts, struct sg_contacts_set *set)
{
    if (2 * (set->count + 1) <= set->room)
        return SG_OK;
    struct sg_contacts_set grown = {.room = set->room > 0 ? 2 * set->room : FIRST_ROOM, .count = set->count};
    grown.slots = calloc(grown.room, sizeof *grown.slots);
    if (!grown.slots)
        return SG_ERR_NOMEM;
    for (size_t i = 0; i < set->room; i++) {
        const struct sg_ip *ip = &set->slots[i];
        if (ip->family != 0)
            *find_slot(&grown, ip, hash_ip(contacts, ip)) = *ip;
    }
    free(set->slots);
    *set = grown;
    return SG_OK;
}

enum sg_err sg_contacts_add(struct sg_contacts *contacts, const struct sg_ip *ip)
{
    struct sg_contacts_set *young = &contacts->young;
    if (sg_ip_equal(&contacts->last, ip))
        return SG_OK;
    if (young->room == 0 && contacts->old.room == 0)
        crypto_shorthash_keygen(contacts->key);
    size_t hash = hash_ip(contacts, ip);
    if (!is_in(young, ip, hash)) {
        if (young->count == SG_CONTACTS_KEPT) {
            free(contacts->old.slots);
            contacts->old = *young;
            *young = (struct sg_contacts_set){0};
        }
        if (make_room(contacts, young) != SG_OK)
            return SG_ERR_NOMEM;
        *find_slot(young, ip, hash) = *ip;
        young->count++;
    }
    contacts->last = *ip;
    return SG_OK;
}

void sg_contacts_dispose(struct sg_contacts *contacts)
{
    free(contacts->young.slots);
    free(contacts->old.slots);
    *contacts = (struct sg_contacts){0};
}
