/*
 * The addresses that an association has sent to: only they may answer (address-dependent filtering, RFC 4787 section
 * 5). Asked for each datagram, also of strangers, and filled as a client likes: so a look-up costs the same however
 * many there are, nobody can choose addresses that collide, and memory has a bound.
 */
#ifndef SG_CORE_CONTACTS_H
#define SG_CORE_CONTACTS_H

#include "core/addr.h"

/* At least so many are remembered, those of the last datagrams; at most twice as many. */
enum { SG_CONTACTS_KEPT = 2048 };

struct sg_contacts_set {
    struct sg_ip *slots; /* family 0: free */
    size_t room;         /* 0 or a power of two */
    size_t count;
};

/* All 0 is empty. The owner disposes of it. */
struct sg_contacts {
    uint8_t key[16];
    struct sg_ip last; /* the one asked for most often: it needs no search */
    struct sg_contacts_set young, old;
};

bool sg_contacts_has(const struct sg_contacts *contacts, const struct sg_ip *ip);

/* Remembers an address that a datagram goes to. NOMEM: nothing changed. */
SG_MUST_CHECK enum sg_err sg_contacts_add(struct sg_contacts *contacts, const struct sg_ip *ip);

/* Frees all; it is empty afterwards. */
void sg_contacts_dispose(struct sg_contacts *contacts);

#endif
