/* The log. A line is built in one buffer and written at once, so that lines of several threads do not mix. */
#include "net/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net/clock.h"

enum { LINE_MAX_BYTES = 1024 };

static enum sg_log_level max_level = SG_LOG_INFO;
static pthread_mutex_t places_lock = PTHREAD_MUTEX_INITIALIZER;

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

/* One line with its head; what does not fit is cut off. */
__attribute__((format(printf, 2, 3))) static void write_line(enum sg_log_level level, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list args;
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
}

/* True if the place may write now; *left_out is then how many lines it could not write before. */
static bool take_line(struct sg_log_place *place, uint64_t *left_out)
{
    static const uint64_t each_ms = 1000 / SG_LOG_PER_SECOND;
    uint64_t now_ms = sg_now_ms();
    pthread_mutex_lock(&places_lock);
    uint64_t returned = (now_ms - place->since_ms) / each_ms;
    place->since_ms += returned * each_ms;
    place->used = returned < place->used ? place->used - (unsigned)returned : 0;
    bool may_write = place->used < SG_LOG_BURST;
    if (may_write) {
        *left_out = place->left_out;
        place->left_out = 0;
        place->used++;
    } else {
        place->left_out++;
    }
    pthread_mutex_unlock(&places_lock);
    return may_write;
}

void sg_log_from(struct sg_log_place *place, enum sg_log_level level, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    int error = errno;
    uint64_t left_out = 0;
    va_list args;
    if (level > max_level || (level != SG_LOG_DEBUG && !take_line(place, &left_out)))
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (left_out > 0)
        write_line(level, "%" PRIu64 " lines like the next were left out", left_out);
    write_line(level, "%s", text);
    errno = error;
}
