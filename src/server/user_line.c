/*
 * Parsing and writing of one line. Fields are separated by spaces or tabs; those after the fourth are key=value. Dates
 * go beyond 2038 on 32-bit machines, too: times have 64 bits in this file, elsewhere the width that libevent was built
 * with.
 */
#define _TIME_BITS 64
#include "server/user_line.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

const char *sg_user_kind_name(enum sg_user_kind kind)
{
    switch (kind) {
    case SG_USER_TOKEN:
        return "token";
    case SG_USER_PASSWORD:
        return "password";
    case SG_USER_CERTIFICATE:
        return "certificate";
    }
    return "unknown";
}

bool sg_user_name_is_valid(const char *name)
{
    size_t len = strlen(name);
    return len >= 1 && len <= SG_USER_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@") == len;
}

static bool parse_kind(const char *text, enum sg_user_kind *out)
{
    for (enum sg_user_kind kind = SG_USER_TOKEN; kind <= SG_USER_CERTIFICATE; kind++) {
        *out = kind;
        if (strcmp(text, sg_user_kind_name(kind)) == 0)
            return true;
    }
    return false;
}

static bool is_hex(const char *text, size_t len)
{
    return strlen(text) == len && strspn(text, "0123456789abcdef") == len;
}

/* needs_rehash decodes the string: 1 (other costs than asked for) is as good as 0, -1 is malformed. */
static bool is_argon2id(const char *text)
{
    return strncmp(text, crypto_pwhash_argon2id_STRPREFIX, strlen(crypto_pwhash_argon2id_STRPREFIX)) == 0 &&
           crypto_pwhash_str_needs_rehash(text, crypto_pwhash_OPSLIMIT_INTERACTIVE,
                                          crypto_pwhash_MEMLIMIT_INTERACTIVE) >= 0;
}

const char *sg_user_line_check(const struct sg_user_line *line)
{
    if (line->terms.uses > 0 && line->kind != SG_USER_TOKEN)
        return "only a token counts its uses";
    switch (line->kind) {
    case SG_USER_TOKEN:
        return is_hex(line->value, 64) ? NULL : "a token's value is its SHA-256, 64 hexadecimal digits";
    case SG_USER_PASSWORD:
        return is_argon2id(line->value) ? NULL : "a password's value is an Argon2id string, $argon2id$...";
    case SG_USER_CERTIFICATE:
        return strcmp(line->value, "-") == 0 ? NULL : "a certificate's value is '-': its subject CN is the user name";
    }
    return "unknown kind";
}

void sg_user_date_write(int64_t when, char out[static SG_USER_DATE_MAX])
{
    const time_t seconds = when;
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(out, SG_USER_DATE_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

bool sg_user_date_parse(const char *text, int64_t *out)
{
    char again[SG_USER_DATE_MAX];
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (!end || *end != '\0')
        return false;
    *out = timegm(&tm);
    sg_user_date_write(*out, again);
    return *out > 0 && strcmp(again, text) == 0; /* strptime takes a 30th of February */
}

static const char *parse_term(const char *text, struct sg_user_terms *out)
{
    if (strncmp(text, "expires=", 8) == 0 && out->expires == 0)
        return sg_user_date_parse(text + 8, &out->expires) ? NULL : "expires= takes a date, as in 2026-11-23T08:40:47Z";
    if (strncmp(text, "uses=", 5) == 0 && out->uses == 0) {
        char *end = NULL;
        unsigned long value = text[5] >= '1' && text[5] <= '9' ? strtoul(text + 5, &end, 10) : 0;
        if (!end || *end != '\0' || value > SG_USER_USES_MAX)
            return "uses= takes a number from 1 to 10000";
        out->uses = (uint32_t)value;
        return NULL;
    }
    return "after the fourth field only expires=DATE and uses=N are known, each once";
}

const char *sg_user_line_parse(char *text, struct sg_user_line *out)
{
    char *rest = NULL;
    const char *fields[4] = {NULL};
    unsigned count = 0;
    for (char *field = strtok_r(text, " \t", &rest); field; field = strtok_r(NULL, " \t", &rest)) {
        const char *wrong = NULL;
        if (count < 4)
            fields[count++] = field;
        else if ((wrong = parse_term(field, &out->terms)))
            return wrong;
    }
    if (count != 4)
        return "four fields are needed: NAME KIND VALUE CREATED";
    if (!sg_user_name_is_valid(fields[0]))
        return "not a user name (1 to 64 of letters, digits and . _ - @)";
    if (!parse_kind(fields[1], &out->kind))
        return "unknown kind (token, password or certificate)";
    if (strlen(fields[2]) >= sizeof out->value || strlen(fields[3]) >= sizeof out->created)
        return "a field is too long";
    snprintf(out->name, sizeof out->name, "%s", fields[0]);
    snprintf(out->value, sizeof out->value, "%s", fields[2]);
    snprintf(out->created, sizeof out->created, "%s", fields[3]);
    return sg_user_line_check(out);
}

bool sg_user_line_write(FILE *file, const struct sg_user_line *line)
{
    char date[SG_USER_DATE_MAX];
    if (fprintf(file, "%s %s %s %s", line->name, sg_user_kind_name(line->kind), line->value, line->created) < 0)
        return false;
    sg_user_date_write(line->terms.expires, date);
    return (line->terms.expires == 0 || fprintf(file, " expires=%s", date) > 0) &&
           (line->terms.uses == 0 || fprintf(file, " uses=%u", (unsigned)line->terms.uses) > 0) &&
           fputc('\n', file) != EOF;
}
