/* Escaping and masking. */
#include "net/log_text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "net/log.h"
#include "net/utf8.h"

enum { V6_SHOWN_BYTES = 6 };

/* What a terminal or a reader of the log could take for more than a character. */
static bool is_plain(uint32_t code)
{
    bool control = code < 0x20 || (code >= 0x7f && code <= 0x9f);
    bool line_end = code == 0x2028 || code == 0x2029;
    bool direction = code == 0x61c || code == 0x200e || code == 0x200f || (code >= 0x202a && code <= 0x202e) ||
                     (code >= 0x2066 && code <= 0x2069);
    return !control && !line_end && !direction;
}

size_t sg_log_escape(char *out, size_t size, const char *in, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    size_t used = 0;
    for (size_t i = 0; i < len;) {
        const uint8_t *at = (const uint8_t *)in + i;
        char unit[16] = {0};
        uint32_t code = 0;
        size_t taken = sg_utf8_decode(at, len - i, &code);
        size_t made = 0;
        if (taken > 0 && is_plain(code)) {
            if (code == '\\')
                unit[made++] = '\\';
            memcpy(unit + made, at, taken);
            made += taken;
        } else {
            taken = taken > 0 ? taken : 1;
            for (size_t k = 0; k < taken; k++) {
                unit[made++] = '\\';
                unit[made++] = 'x';
                unit[made++] = digits[at[k] >> 4];
                unit[made++] = digits[at[k] & 15];
            }
        }
        if (made >= size - used)
            break;
        memcpy(out + used, unit, made);
        used += made;
        i += taken;
    }
    out[used] = '\0';
    return used;
}

struct sg_ip sg_log_mask_ip(const struct sg_ip *ip)
{
    struct sg_ip masked = sg_ip_unmap(ip);
    if (masked.family == 4)
        masked.bytes[3] = 0;
    else
        memset(masked.bytes + V6_SHOWN_BYTES, 0, sizeof masked.bytes - V6_SHOWN_BYTES);
    return masked;
}

void sg_log_endpoint(const struct sg_endpoint *ep, char out[static SG_ENDPOINT_TEXT_MAX])
{
    struct sg_endpoint shown = *ep;
    if (sg_log_masks_addresses())
        shown.ip = sg_log_mask_ip(&ep->ip);
    sg_endpoint_format(&shown, out);
}

void sg_log_target(const struct sg_target *target, char out[static SG_TARGET_TEXT_MAX])
{
    struct sg_target shown = *target;
    if (sg_log_masks_addresses() && target->atyp == SG_ATYP_NAME) {
        snprintf(out, SG_TARGET_TEXT_MAX, "*:%u", (unsigned)target->port);
        return;
    }
    if (sg_log_masks_addresses())
        shown.ip = sg_log_mask_ip(&target->ip);
    sg_target_format(&shown, out);
}
