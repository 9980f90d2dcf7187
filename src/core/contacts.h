/*
 * Whom an association has sent to, and so who may send to it (RFC 4787 section 5). Asked for each datagram, also of
 * strangers, and filled as a client likes: so a look-up costs the same however many there are, nobody can choose
 * addresses that collide, and memory has a bound, for one association and for all that share a budget.
 */
#ifndef SG_CORE_CONTACTS_H
#define SG_CORE_CONTACTS_H

#include "core/addr.h"

/*
 * At least so many are remembered, those of the last datagrams, as long as there is memory; SPARSE of them in any case;
 * at most twice as many.
 */
enum { SG_CONTACTS_KEPT = 2048, SG_CONTACTS_SPARSE = 8 };

/* Where memory comes from that many associations share: take says no when there is none, give gives it back. */
struct sg_contacts_budget {
    bool (*take)(void *ctx, size_t bytes); /* NULL: there is always enough */
    void (*give)(void *ctx, size_t bytes);
    void *ctx;
};

/* Who may answer; the default is 0. */
enum sg_filtering {
    SG_FILTERING_ADDRESS,          /* any port of an address that was sent to */
    SG_FILTERING_ADDRESS_AND_PORT, /* only endpoints that were sent to */
    SG_FILTERING_NONE,             /* everyone: endpoint-independent; nothing is remembered */
};

struct sg_contacts_set {
    struct sg_endpoint *slots; /* family 0: free */
    size_t room;               /* 0 or a power of two */
    size_t count;
};

/* All 0 but filtering is empty. The owner disposes of it. */
struct sg_contacts {
    enum sg_filtering filtering;        /* never changed when something was added */
    uint8_t key[SG_ENDPOINT_KEY_BYTES]; /* random, once something was added */
    struct sg_contacts_budget budget;   /* the same */
    struct sg_endpoint last;            /* the one asked for most often: it needs no search */
    struct sg_contacts_set young, old;
};

/* True if a datagram from there may pass. */
bool sg_contacts_has(const struct sg_contacts *contacts, const struct sg_endpoint *from);

/* Remembers where a datagram goes to. NOMEM: nothing changed. */
SG_MUST_CHECK enum sg_err sg_contacts_add(struct sg_contacts *contacts, const struct sg_endpoint *to);

/* Frees all; it is empty afterwards, and filters as before, from the same budget. */
void sg_contacts_dispose(struct sg_contacts *contacts);

#endif
