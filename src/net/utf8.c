/* One character at a time: who reads decides what a wrong byte means. */
#include "net/utf8.h"

size_t sg_utf8_decode(const uint8_t *in, size_t len, uint32_t *out)
{
    size_t need = in[0] < 0x80 ? 1 : in[0] < 0xc2 ? 0 : in[0] < 0xe0 ? 2 : in[0] < 0xf0 ? 3 : in[0] < 0xf5 ? 4 : 0;
    if (need == 0 || need > len)
        return 0;
    uint32_t code = need == 1 ? in[0] : in[0] & (0x7fu >> need);
    for (size_t i = 1; i < need; i++) {
        if ((in[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (in[i] & 0x3f);
    }
    if ((need == 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) ||
        (need == 4 && (code < 0x10000 || code > 0x10ffff)))
        return 0;
    *out = code;
    return need;
}
