/* The log. A line is built in one buffer and written at once, so that lines of several threads do not mix. */
#include "net/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024 };

static enum sg_log_level max_level = SG_LOG_INFO;

void sg_log_set_level(enum sg_log_level level)
{
    max_level = level;
}

static const char *level_name(enum sg_log_level level)
{
    switch (level) {
    case SG_LOG_ERROR:
        return "error";
    case SG_LOG_WARN:
        return "warning";
    case SG_LOG_INFO:
        return "info";
    case SG_LOG_DEBUG:
        return "debug";
    }
    return "log";
}

/* Anything that a terminal or a log reader could take for more than text, a peer's words above all. */
static void escape_controls(char *line, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
}

void sg_log(enum sg_log_level level, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    int error = errno;
    va_list args;
    if (level > max_level)
        return;
    int head = snprintf(line, sizeof line - 1, "sealgram: %s: ", level_name(level));
    va_start(args, format);
    int body = vsnprintf(line + head, sizeof line - 1 - (size_t)head, format, args);
    va_end(args);
    size_t len = body < 0 ? (size_t)head : (size_t)head + (size_t)body;
    if (len > sizeof line - 2)
        len = sizeof line - 2;
    escape_controls(line, len);
    line[len] = '\n';
    if (write(STDERR_FILENO, line, len + 1) < 0) {
        /* nobody to tell */
    }
    errno = error;
}
