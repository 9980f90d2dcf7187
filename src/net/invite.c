/* Reading and writing invites. What a user may have mistyped is named; what is secret is not repeated. */
#include "net/invite.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "core/addr.h"

static const char scheme[] = "sealgram://";
static const char pin_key[] = "pin=sha256:", addr_key[] = "addr=";

static bool problem_is(char problem[static SG_INVITE_TEXT_MAX], const char *text)
{
    snprintf(problem, SG_INVITE_TEXT_MAX, "%s", text);
    return false;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undoes percent-encoding (RFC 3986 section 2.1) into a terminated text. False: bad escape, NUL, or too long. */
static bool decode_part(const char *from, const char *end, char *out, size_t size)
{
    size_t len = 0;
    while (from < end) {
        int c = (unsigned char)*from++;
        if (c == '%') {
            int high = end - from >= 2 ? hex_digit(from[0]) : -1;
            int low = high >= 0 ? hex_digit(from[1]) : -1;
            if (low < 0)
                return false;
            c = high * 16 + low;
            from += 2;
        }
        if (c == 0 || len + 1 >= size)
            return false;
        out[len++] = (char)c;
    }
    out[len] = '\0';
    return true;
}

static bool parse_port(const char *text, const char *end, uint16_t *out)
{
    unsigned long value = 0;
    if (text == end || end - text > 5)
        return false;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (unsigned long)(*text - '0');
    }
    *out = (uint16_t)value;
    return value >= 1 && value <= 65535;
}

bool sg_invite_host_is_valid(const char *host)
{
    struct sg_ip ip;
    size_t len = strlen(host);
    if (sg_ip_parse(host, &ip) == SG_OK)
        return !sg_ip_is_unspecified(&ip);
    if (strchr(host, '.') && strspn(host, "0123456789.") == len)
        return false; /* half an address, or one digit too many */
    return len >= 1 && len <= 255 &&
           strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

/* HOST, HOST:PORT or [IPV6]:PORT. */
static bool parse_authority(const char *from, const char *end, struct sg_invite *out,
                            char problem[static SG_INVITE_TEXT_MAX])
{
    const char *host_end = NULL, *port = NULL;
    bool bracketed = from < end && *from == '[';
    if (bracketed) {
        host_end = memchr(from, ']', (size_t)(end - from));
        if (!host_end)
            return problem_is(problem, "the host's '[' has no ']'");
        from++;
        port = host_end + 1;
    } else {
        host_end = memchr(from, ':', (size_t)(end - from));
        if (!host_end)
            host_end = end;
        port = host_end;
    }
    size_t len = (size_t)(host_end - from);
    if (len == 0 || len >= sizeof out->host)
        return problem_is(problem, "there is no host, or it is too long");
    memcpy(out->host, from, len);
    out->host[len] = '\0';
    if (!sg_invite_host_is_valid(out->host))
        return problem_is(problem, "the host is neither a name nor an address (an IPv6 address stands in [])");
    if (bracketed != (strchr(out->host, ':') != NULL))
        return problem_is(problem, "in [] stands an IPv6 address, and nothing else");
    out->port = SG_DEFAULT_PORT;
    if (port == end)
        return true;
    if (*port != ':' || !parse_port(port + 1, end, &out->port))
        return problem_is(problem, "the port is not a number from 1 to 65535");
    return true;
}

static bool parse_pin(const char *from, const char *end, struct sg_invite *out, char problem[static SG_INVITE_TEXT_MAX])
{
    size_t len = 0;
    if (out->has_pin)
        return problem_is(problem, "there are two pins");
    if (sodium_base642bin(out->pin, sizeof out->pin, from, (size_t)(end - from), NULL, &len, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        len != sizeof out->pin)
        return problem_is(problem, "the pin is not complete: it has 43 characters after sha256:");
    out->has_pin = true;
    return true;
}

/* What follows '?': KEY=VALUE, with '&' between. */
static bool parse_query(const char *from, struct sg_invite *out, char problem[static SG_INVITE_TEXT_MAX])
{
    for (;;) {
        const char *end = from + strcspn(from, "&");
        if (strncmp(from, pin_key, strlen(pin_key)) == 0) {
            if (!parse_pin(from + strlen(pin_key), end, out, problem))
                return false;
        } else if (strncmp(from, addr_key, strlen(addr_key)) == 0) {
            from += strlen(addr_key);
            if (out->addresses.count > 0 || !sg_ip_list_parse(from, (size_t)(end - from), &out->addresses))
                return problem_is(problem, "after addr= stand 1 to 8 addresses, with commas between, once");
        } else {
            return problem_is(problem, "after '?' only pin=sha256:... and addr=... are known");
        }
        if (*end == '\0')
            return true;
        from = end + 1;
    }
}

static bool parse_whole(const char *text, struct sg_invite *out, char problem[static SG_INVITE_TEXT_MAX])
{
    if (strncmp(text, "\xff\xfe", 2) == 0 || strncmp(text, "\xfe\xff", 2) == 0)
        return problem_is(problem, "it is UTF-16, as programs of Windows write it: save it as UTF-8");
    for (const char *c = text; *c; c++)
        if (*c < ' ' || *c > '~')
            return problem_is(problem, "a character stands in it that no invite has, and that may not be visible");
    if (strncasecmp(text, scheme, strlen(scheme)) != 0)
        return problem_is(problem, "an invite begins with sealgram:// (@FILE reads one from a file)");
    const char *from = text + strlen(scheme);
    const char *end = from + strcspn(from, "/?");
    const char *at = memchr(from, '@', (size_t)(end - from));
    if (!at)
        return problem_is(problem, "it ends before the '@' that stands between USER:TOKEN and the server");
    const char *colon = memchr(from, ':', (size_t)(at - from));
    if (!decode_part(from, colon ? colon : at, out->user, sizeof out->user) || out->user[0] == '\0')
        return problem_is(problem, "the user name is empty, too long or badly encoded");
    if (colon && (!decode_part(colon + 1, at, out->password, sizeof out->password) || out->password[0] == '\0'))
        return problem_is(problem, "the token is empty, too long or badly encoded");
    if (!parse_authority(at + 1, end, out, problem))
        return false;
    if (*end == '/')
        end++;
    if (*end != '\0' && *end != '?')
        return problem_is(problem, "after the port comes /?pin=sha256:... or nothing");
    return *end == '\0' || parse_query(end + 1, out, problem);
}

const char *sg_invite_trim(const char *text, size_t *len)
{
    static const char mark[] = "\xef\xbb\xbf", blanks[] = " \t\r\n\v\f", opening[] = "\"'<", closing[] = "\"'>";
    if (strncmp(text, mark, strlen(mark)) == 0)
        text += strlen(mark);
    text += strspn(text, blanks);
    *len = strlen(text);
    while (*len > 0 && strchr(blanks, text[*len - 1]))
        --*len;
    const char *quote = *len >= 2 ? strchr(opening, text[0]) : NULL;
    if (quote && text[*len - 1] == closing[quote - opening]) {
        text++;
        *len -= 2;
    }
    return text;
}

bool sg_invite_has_token(const struct sg_invite *invite)
{
    return strncmp(invite->password, SG_TOKEN_PREFIX, strlen(SG_TOKEN_PREFIX)) == 0 ||
           strncmp(invite->password, SG_DEVICE_TOKEN_PREFIX, strlen(SG_DEVICE_TOKEN_PREFIX)) == 0;
}

bool sg_invite_parse(const char *text, struct sg_invite *out, char problem[static SG_INVITE_TEXT_MAX])
{
    char line[SG_INVITE_LINE_MAX];
    size_t len = 0;
    memset(out, 0, sizeof *out);
    problem[0] = '\0';
    text = sg_invite_trim(text, &len);
    if (len >= sizeof line)
        return problem_is(problem, "it is too long for an invite");
    memcpy(line, text, len);
    line[len] = '\0';
    bool good = parse_whole(line, out, problem);
    if (!good)
        sodium_memzero(out, sizeof *out);
    sodium_memzero(line, sizeof line);
    return good;
}

/* Percent-encodes what is not unreserved (RFC 3986 section 2.3). */
static void encode_part(const char *from, char *out, size_t size)
{
    static const char unreserved[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    size_t len = 0;
    for (; *from && len + 4 < size; from++) {
        if (strchr(unreserved, *from))
            out[len++] = *from;
        else
            len += (size_t)snprintf(out + len, size - len, "%%%02X", (unsigned char)*from);
    }
    out[len] = '\0';
}

void sg_invite_format(const struct sg_invite *invite, char out[static SG_INVITE_LINE_MAX])
{
    char user[65 * 3 + 4], password[256 * 3 + 4], pin[64], addresses[SG_IP_LIST_TEXT_MAX];
    bool v6 = strchr(invite->host, ':') != NULL, has_addresses = invite->addresses.count > 0;
    encode_part(invite->user, user, sizeof user);
    encode_part(invite->password, password, sizeof password);
    sodium_bin2base64(pin, sizeof pin, invite->pin, sizeof invite->pin, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sg_ip_list_format(&invite->addresses, addresses);
    int len = snprintf(out, SG_INVITE_LINE_MAX, "%s%s%s%s@%s%s%s:%u/", scheme, user, password[0] ? ":" : "", password,
                       v6 ? "[" : "", invite->host, v6 ? "]" : "", invite->port);
    if (invite->has_pin)
        len += snprintf(out + len, SG_INVITE_LINE_MAX - (size_t)len, "?%s%s", pin_key, pin);
    if (has_addresses)
        snprintf(out + len, SG_INVITE_LINE_MAX - (size_t)len, "%c%s%s", invite->has_pin ? '&' : '?', addr_key,
                 addresses);
    sodium_memzero(password, sizeof password);
}
