/* How the core gets random bytes: as a callback, so that tests can fix them. */
#ifndef SG_CORE_RANDOM_H
#define SG_CORE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Fills out with len bytes from a cryptographic source; cannot fail. ctx is the caller's. */
typedef void sg_random_fn(void *ctx, uint8_t *out, size_t len);

#endif
