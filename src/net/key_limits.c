/* The limits that every installed program has. key_limits_test.c takes this file's place in test builds. */
#include "net/key_limits.h"

#include "core/record.h"

struct sg_limits sg_limits_in_force(void)
{
    return sg_limits_default;
}
