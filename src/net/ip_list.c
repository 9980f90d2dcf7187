/* Lists of addresses, as text and back; none is in a list twice. */
#include "net/ip_list.h"

#include <stdio.h>
#include <string.h>

static bool parse_one(const char *text, size_t len, struct sg_ip *out)
{
    char copy[SG_IP_TEXT_MAX];
    bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (bracketed) {
        text++;
        len -= 2;
    }
    if (len >= sizeof copy || memchr(text, '\0', len))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return sg_ip_parse(copy, out) == SG_OK && (!bracketed || out->family == 6);
}

bool sg_ip_list_parse(const char *text, size_t len, struct sg_ip_list *out)
{
    const char *end = text + len;
    memset(out, 0, sizeof *out);
    for (;;) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *stop = comma ? comma : end;
        struct sg_ip ip = {0};
        if (out->count == SG_IP_LIST_MAX || !parse_one(text, (size_t)(stop - text), &ip) || sg_ip_is_unspecified(&ip)) {
            memset(out, 0, sizeof *out);
            return false;
        }
        sg_ip_list_add(out, &ip);
        if (!comma)
            return true;
        text = comma + 1;
    }
}

void sg_ip_list_format(const struct sg_ip_list *list, char out[static SG_IP_LIST_TEXT_MAX])
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < list->count; i++) {
        char text[SG_IP_TEXT_MAX];
        sg_ip_format(&list->ips[i], text);
        len += (size_t)snprintf(out + len, SG_IP_LIST_TEXT_MAX - len, i > 0 ? ",%s" : "%s", text);
    }
}

void sg_ip_list_add(struct sg_ip_list *list, const struct sg_ip *ip)
{
    for (size_t i = 0; i < list->count; i++)
        if (sg_ip_equal(&list->ips[i], ip))
            return;
    if (list->count < SG_IP_LIST_MAX)
        list->ips[list->count++] = *ip;
}

bool sg_ip_list_equal(const struct sg_ip_list *a, const struct sg_ip_list *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; i < a->count && equal; i++)
        equal = sg_ip_equal(&a->ips[i], &b->ips[i]);
    return equal;
}
