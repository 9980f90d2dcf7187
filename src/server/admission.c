/* Hosts in an array: at most as many as there may be connections. One lock, taken when a connection begins or ends. */
#include "server/admission.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct host {
    struct sg_ip ip;
    uint32_t count;
};

struct sg_admission {
    pthread_mutex_t lock;
    uint32_t limit, host_limit;
    uint32_t count; /* connections */
    unsigned host_count, host_room;
    struct host *hosts;
};

struct sg_admission *sg_admission_new(uint32_t limit, uint32_t host_limit)
{
    struct sg_admission *admission = calloc(1, sizeof *admission);
    if (!admission)
        return NULL;
    pthread_mutex_init(&admission->lock, NULL);
    if (sg_admission_turn_to(admission, limit, host_limit))
        return admission;
    sg_admission_free(admission);
    return NULL;
}

bool sg_admission_turn_to(struct sg_admission *admission, uint32_t limit, uint32_t host_limit)
{
    pthread_mutex_lock(&admission->lock);
    struct host *grown = NULL;
    bool fits = limit <= admission->host_room;
    if (!fits && (grown = realloc(admission->hosts, limit * sizeof *grown))) {
        admission->hosts = grown;
        admission->host_room = limit;
        fits = true;
    }
    if (fits) {
        admission->limit = limit;
        admission->host_limit = host_limit;
    }
    pthread_mutex_unlock(&admission->lock);
    return fits;
}

void sg_admission_free(struct sg_admission *admission)
{
    if (!admission)
        return;
    pthread_mutex_destroy(&admission->lock);
    free(admission->hosts);
    free(admission);
}

static struct sg_ip host_of(const struct sg_ip *peer)
{
    struct sg_ip host = *peer;
    if (host.family == 6)
        memset(host.bytes + 8, 0, 8);
    return host;
}

static struct host *find_host(struct sg_admission *admission, const struct sg_ip *ip)
{
    for (unsigned i = 0; i < admission->host_count; i++)
        if (sg_ip_equal(&admission->hosts[i].ip, ip))
            return &admission->hosts[i];
    return NULL;
}

bool sg_admission_enter(struct sg_admission *admission, const struct sg_ip *peer)
{
    struct sg_ip ip = host_of(peer);
    pthread_mutex_lock(&admission->lock);
    struct host *host = find_host(admission, &ip);
    bool may = admission->count < admission->limit && (host ? host->count : 0) < admission->host_limit;
    if (may && !host) {
        host = &admission->hosts[admission->host_count++];
        *host = (struct host){.ip = ip};
    }
    if (may) {
        host->count++;
        admission->count++;
    }
    pthread_mutex_unlock(&admission->lock);
    return may;
}

void sg_admission_leave(struct sg_admission *admission, const struct sg_ip *peer)
{
    struct sg_ip ip = host_of(peer);
    pthread_mutex_lock(&admission->lock);
    struct host *host = find_host(admission, &ip);
    if (host) {
        admission->count--;
        if (--host->count == 0)
            *host = admission->hosts[--admission->host_count];
    }
    pthread_mutex_unlock(&admission->lock);
}
