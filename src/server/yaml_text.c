/* One walk over the bytes; lines are counted as libfyaml counts them, at LF, CR or both. */
#include "server/yaml_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/utf8.h"

enum { NEXT_LINE = 0x85, LINE_SEPARATOR = 0x2028, PARAGRAPH_SEPARATOR = 0x2029, BYTE_ORDER_MARK = 0xfeff };

/* Closes fd. One byte more than the most tells that there is more. */
static char *read_all(int fd, size_t *len)
{
    char *text = malloc(SG_YAML_TEXT_MAX + 1);
    ssize_t got = text ? 1 : -1;
    *len = 0;
    while (got > 0 && *len <= SG_YAML_TEXT_MAX) {
        got = read(fd, text + *len, SG_YAML_TEXT_MAX + 1 - *len);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            *len += (size_t)got;
    }
    int error = errno;
    close(fd);
    errno = got < 0 ? error : EFBIG;
    if (got == 0)
        return text;
    free(text);
    return NULL;
}

char *sg_yaml_text_read(const char *path, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? NULL : read_all(fd, len);
}

/* YAML 1.2, section 5.1, c-printable; the separators of lines that YAML 1.1 had are refused too. */
static const char *check_character(uint32_t code)
{
    if (code == 0)
        return "a NUL byte: the file must be a text in UTF-8";
    if ((code < 0x20 && code != '\t') || (code >= 0x7f && code <= 0x9f) || code == LINE_SEPARATOR ||
        code == PARAGRAPH_SEPARATOR || (code & 0xfffe) == 0xfffe)
        return "a control character: only tabs and line ends may be in the file";
    return NULL;
}

const char *sg_yaml_text_check(const char *text, size_t len, int *line)
{
    bool at_start = true; /* of a line */
    *line = 1;
    for (size_t i = 0; i < len;) {
        uint32_t code = 0;
        size_t taken = sg_utf8_decode((const uint8_t *)text + i, len - i, &code);
        if (taken == 0)
            return "a byte that is not UTF-8: save the file in that encoding";
        if (code == '%' && at_start)
            return "a line that begins with %: directives of YAML have no meaning here";
        bool ends_line = code == '\n' || code == '\r';
        const char *wrong = ends_line ? NULL : check_character(code);
        if (wrong)
            return wrong;
        *line += code == '\n' || (code == '\r' && (i + 1 == len || text[i + 1] != '\n'));
        at_start = ends_line || (at_start && code == BYTE_ORDER_MARK);
        i += taken;
    }
    return NULL;
}
