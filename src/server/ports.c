/*
 * Ports are marked only after their socket was bound to them, and unmarked before it is closed: so what is marked is an
 * association's and nobody else's. Two workers may draw the same port; the kernel then gives it to one.
 */
#include "server/ports.h"

#include <errno.h>

#include <sodium.h>

#include "net/udp.h"

enum { TRIES = 64 };

int sg_ports_open(const struct sg_ports *ports, const struct sg_ip *ip, unsigned flags)
{
    struct sg_endpoint at = {.ip = *ip};
    if (ports->first == 0)
        return sg_udp_open(&at, flags);
    uint32_t count = (uint32_t)ports->last - ports->first + 1;
    uint32_t start = randombytes_uniform(count);
    unsigned tries = 0;
    for (uint32_t i = 0; i < count && tries < TRIES; i++) {
        at.port = (uint16_t)(ports->first + (start + i) % count);
        if (sg_ports_is_taken(ports, ip->family, at.port))
            continue;
        int fd = sg_udp_open(&at, flags);
        if (fd >= 0 || (errno != EADDRINUSE && errno != EACCES))
            return fd;
        tries++;
    }
    errno = EADDRINUSE;
    return -1;
}

static uint64_t bit_of(uint16_t port)
{
    return UINT64_C(1) << port % 64;
}

void sg_ports_take(struct sg_ports *ports, uint8_t family, uint16_t port)
{
    atomic_fetch_or(&ports->taken[family == 6][port / 64], bit_of(port));
}

void sg_ports_give(struct sg_ports *ports, uint8_t family, uint16_t port)
{
    atomic_fetch_and(&ports->taken[family == 6][port / 64], ~bit_of(port));
}

bool sg_ports_is_taken(const struct sg_ports *ports, uint8_t family, uint16_t port)
{
    return (atomic_load_explicit(&ports->taken[family == 6][port / 64], memory_order_relaxed) & bit_of(port)) != 0;
}
