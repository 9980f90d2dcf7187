/*
 * What every fuzz target needs: a check that holds in any build, and the planted bug. Built with
 * -DSG_PLANT_BUG a target spoils one result of the parser on a deep path, and then must crash: that
 * shows that it gets there and that it would see a fault.
 */
#ifndef SG_TESTS_FUZZ_CHECK_H
#define SG_TESTS_FUZZ_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                              \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#ifdef SG_PLANT_BUG
enum { PLANTED_BUG = 1 };
#else
enum { PLANTED_BUG = 0 };
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
