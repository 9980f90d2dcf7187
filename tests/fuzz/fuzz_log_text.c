/*
 * Text for the log, from anybody: what comes out is UTF-8 (by jansson, which looks for itself) without a control
 * character, fits its room whatever that is, and says exactly what went in: undone, the escapes give the bytes again.
 */
#include <string.h>

#include <jansson.h>

#include "check.h"
#include "net/log_text.h"

static unsigned digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

/* Undoes the escapes; returns how many bytes of data that were, all of them the same. */
static size_t undo(const char *out, size_t len, const uint8_t *data, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < len; at++) {
        uint8_t byte = (uint8_t)out[i];
        CHECK(byte >= 0x20 && byte != 0x7f);
        if (byte != '\\') {
            i++;
        } else if (i + 1 < len && out[i + 1] == '\\') {
            i += 2;
        } else {
            CHECK(i + 3 < len && out[i + 1] == 'x');
            byte = (uint8_t)(digit(out[i + 2]) << 4 | digit(out[i + 3]));
            i += 4;
        }
        CHECK(at < size && data[at] == byte);
    }
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t room = 1 + data[0] * (size_t)8; /* from none at all to plenty */
    char *out = malloc(room);
    CHECK(out);
    size_t len = sg_log_escape(out, room, (const char *)data + 1, size - 1);
    if (PLANTED_BUG && len > 8 && out[4] == '\\' && out[5] == 'x')
        out[6] = 'g';
    CHECK(len < room && out[len] == '\0' && strlen(out) == len);
    size_t taken = undo(out, len, data + 1, size - 1);
    if (room > 4 * size)
        CHECK(taken == size - 1);
    json_t *text = json_stringn(out, len);
    CHECK(text);
    json_decref(text);
    free(out);
    return 0;
}
