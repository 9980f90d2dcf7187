/* Limits that a test lowers; never part of an installed program. */
#include "net/key_limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/record.h"

struct sg_limits sg_limits_in_force(void)
{
    struct sg_limits limits = sg_limits_default;
    const char *text = getenv("SEALGRAM_TEST_LIMITS");
    char *end = NULL;
    if (!text)
        return limits;
    limits.records_per_sender = strtoull(text, &end, 10);
    limits.blocks_per_sender = strtoull(end, &end, 10);
    limits.failed_hard = strtoull(end, &end, 10);
    limits.failed_soft = limits.failed_hard / 2;
    limits.max_senders = (uint32_t)strtoul(end, &end, 10);
    return limits;
}
