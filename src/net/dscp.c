/* Names of code points. */
#include "net/dscp.h"

#include <string.h>

/* csN is 8 N; afXY is 8 X + 2 Y. */
static bool parse_one(const char *text, size_t len, uint8_t *out)
{
    static const struct {
        char name[3];
        uint8_t value;
    } singles[] = {{"ef", 46}, {"va", 44}, {"le", 1}};
    for (unsigned i = 0; i < sizeof singles / sizeof *singles; i++) {
        if (len != 2 || memcmp(text, singles[i].name, 2) != 0)
            continue;
        *out = singles[i].value;
        return true;
    }
    if (len == 3 && memcmp(text, "cs", 2) == 0 && text[2] >= '0' && text[2] <= '7') {
        *out = (uint8_t)(8 * (text[2] - '0'));
        return true;
    }
    if (len == 4 && memcmp(text, "af", 2) == 0 && text[2] >= '1' && text[2] <= '4' && text[3] >= '1' &&
        text[3] <= '3') {
        *out = (uint8_t)(8 * (text[2] - '0') + 2 * (text[3] - '0'));
        return true;
    }
    unsigned value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || len > 2)
            return false;
        value = 10 * value + (unsigned)(text[i] - '0');
    }
    *out = (uint8_t)value;
    return len > 0 && value < 64;
}

bool sg_dscp_parse(const char *text, uint64_t *set)
{
    uint64_t found = 0;
    for (;;) {
        size_t len = strcspn(text, ",");
        uint8_t dscp = 0;
        if (!parse_one(text, len, &dscp))
            return false;
        found |= UINT64_C(1) << dscp;
        if (text[len] == '\0')
            break;
        text += len + 1;
    }
    *set = found;
    return true;
}
