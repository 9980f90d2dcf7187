/* What the tests of the record layer share: hex, a seeded generator, and the list of suites on their back ends. */
#ifndef SG_TESTS_RECORD_UTIL_H
#define SG_TESTS_RECORD_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/aead.h"

/* splitmix64: repeatable, and good enough to choose test cases by. */
static inline uint64_t next_random(uint64_t *seed)
{
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline void fill_random(uint64_t *seed, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)next_random(seed);
}

static inline unsigned hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *found = strchr(digits, c);
    assert_true(c != 0 && found != NULL);
    return (unsigned)(found - digits);
}

/* Decodes as many bytes as text has, which must be whole and fit; returns how many. */
static inline size_t read_hex(const char *text, uint8_t *out, size_t size)
{
    size_t len = strlen(text);
    assert_int_equal(len % 2, 0);
    assert_true(len / 2 <= size);
    for (size_t i = 0; i < len / 2; i++)
        out[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
    return len / 2;
}

enum { COMBINATIONS_MAX = 4 };

/* Every suite on every back end that this build and CPU have; returns how many. */
static inline size_t list_suites(const struct sg_aead *out[static COMBINATIONS_MAX])
{
    size_t count = 0;
    for (uint16_t id = SG_SUITE_XAES_256_GCM; id <= SG_SUITE_XCHACHA20_POLY1305; id++)
        for (enum sg_backend backend = SG_BACKEND_OPENSSL; backend <= SG_BACKEND_SODIUM; backend++) {
            const struct sg_aead *aead = sg_aead_find(id, backend);
            if (aead)
                out[count++] = aead;
        }
    return count;
}

#endif
