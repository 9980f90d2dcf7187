/* UTF-8 by the rules of RFC 3629 section 4: no overlong form, no surrogate. */
#ifndef SG_NET_UTF8_H
#define SG_NET_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The character that len > 0 bytes begin with: returns its length in bytes, or 0 if they are not UTF-8. */
size_t sg_utf8_decode(const uint8_t *in, size_t len, uint32_t *out);

#endif
