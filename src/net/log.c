/* The log. A line is built in one buffer and written at once, so that lines of several threads do not mix. */
#include "net/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "net/clock.h"
#include "net/log_text.h"

enum { LINE_MAX_BYTES = 1024, JSON_MAX_BYTES = 8192, TIME_BYTES = 40 };

static _Atomic enum sg_log_level max_level = SG_LOG_INFO;
static _Atomic enum sg_log_format line_format = SG_LOG_TEXT;
static _Atomic enum sg_log_addresses shown_addresses = SG_LOG_FULL;
static pthread_mutex_t places_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *const level_names[] = {
    [SG_LOG_ERROR] = "error", [SG_LOG_WARN] = "warning", [SG_LOG_INFO] = "info", [SG_LOG_DEBUG] = "debug"};
static const char *const format_names[] = {[SG_LOG_TEXT] = "text", [SG_LOG_JSON] = "json"};
static const char *const addresses_names[] = {[SG_LOG_FULL] = "full", [SG_LOG_MASKED] = "masked"};

/* --- settings --- */

void sg_log_set_level(enum sg_log_level level)
{
    max_level = level;
}

void sg_log_set_format(enum sg_log_format format)
{
    line_format = format;
}

void sg_log_set_addresses(enum sg_log_addresses addresses)
{
    shown_addresses = addresses;
}

bool sg_log_masks_addresses(void)
{
    return shown_addresses == SG_LOG_MASKED;
}

static int find_word(const char *const *words, int count, const char *word)
{
    for (int i = 0; i < count; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    return -1;
}

bool sg_log_parse_level(const char *word, enum sg_log_level *out)
{
    int found = find_word(level_names, sizeof level_names / sizeof *level_names, word);
    if (found >= 0)
        *out = (enum sg_log_level)found;
    return found >= 0;
}

bool sg_log_parse_format(const char *word, enum sg_log_format *out)
{
    int found = find_word(format_names, sizeof format_names / sizeof *format_names, word);
    if (found >= 0)
        *out = (enum sg_log_format)found;
    return found >= 0;
}

bool sg_log_parse_addresses(const char *word, enum sg_log_addresses *out)
{
    int found = find_word(addresses_names, sizeof addresses_names / sizeof *addresses_names, word);
    if (found >= 0)
        *out = (enum sg_log_addresses)found;
    return found >= 0;
}

/* --- lines --- */

/* Takes len bytes and the line feed after them. */
static void write_all(char *line, size_t len)
{
    line[len] = '\n';
    if (write(STDERR_FILENO, line, len + 1) < 0) {
        /* nobody to tell */
    }
}

/* RFC 3339, UTC, milliseconds. */
static void write_time(char out[static TIME_BYTES])
{
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t len = strftime(out, TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out + len, TIME_BYTES - len, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

/* --- who reads --- */

static pthread_once_t reader_known = PTHREAD_ONCE_INIT;
static bool is_journal; /* set once */

/* The journal puts the time before each line itself, and takes the level from <N> (systemd.exec(5), sd-daemon(3)). */
static void find_reader(void)
{
    const char *stream = secure_getenv("JOURNAL_STREAM");
    char own[64];
    struct stat st;
    if (!stream || fstat(STDERR_FILENO, &st) != 0)
        return;
    snprintf(own, sizeof own, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    is_journal = strcmp(stream, own) == 0;
}

static int write_head(char *out, size_t size, enum sg_log_level level)
{
    static const int priorities[] = {
        [SG_LOG_ERROR] = LOG_ERR, [SG_LOG_WARN] = LOG_WARNING, [SG_LOG_INFO] = LOG_INFO, [SG_LOG_DEBUG] = LOG_DEBUG};
    char time[TIME_BYTES];
    pthread_once(&reader_known, find_reader);
    if (is_journal)
        return snprintf(out, size, "<%d>sealgram: %s: ", priorities[level], level_names[level]);
    write_time(time);
    return snprintf(out, size, "%s sealgram: %s: ", time, level_names[level]);
}

/* What does not fit is cut off. */
static void write_text(enum sg_log_level level, const char *message)
{
    char line[LINE_MAX_BYTES + 1];
    int head = write_head(line, LINE_MAX_BYTES, level);
    size_t len = (size_t)head + sg_log_escape(line + head, LINE_MAX_BYTES - (size_t)head, message, strlen(message));
    write_all(line, len);
}

static json_t *make_string(const char *text)
{
    char escaped[LINE_MAX_BYTES];
    return json_stringn(escaped, sg_log_escape(escaped, sizeof escaped, text, strlen(text)));
}

/* False when memory is short or the line too long: it is written as text then. */
static bool write_json(enum sg_log_level level, const char *event, const struct sg_log_field *fields,
                       const char *message)
{
    char line[JSON_MAX_BYTES];
    char time[TIME_BYTES];
    write_time(time);
    json_t *object = json_pack("{s:s, s:s, s:s, s:o}", "ts", time, "level", level_names[level], "event", event,
                               "message", make_string(message));
    bool good = object != NULL;
    for (; good && fields && fields->name; fields++) {
        json_t *value = fields->text ? make_string(fields->text) : json_integer((json_int_t)fields->number);
        good = json_object_set_new(object, fields->name, value) == 0;
    }
    size_t len = good ? json_dumpb(object, line, sizeof line - 1, JSON_COMPACT) : 0;
    json_decref(object);
    good = len > 0 && len < sizeof line;
    if (good)
        write_all(line, len);
    return good;
}

static void write_line(enum sg_log_level level, const char *event, const struct sg_log_field *fields,
                       const char *message)
{
    if (line_format == SG_LOG_TEXT || !write_json(level, event, fields, message))
        write_text(level, message);
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

static void tell_left_out(enum sg_log_level level, const char *event, uint64_t count)
{
    char message[64];
    snprintf(message, sizeof message, "%" PRIu64 " lines like the next were left out", count);
    write_line(level, "left_out", SG_LOG_FIELDS(sg_log_word("of", event), sg_log_number("count", count)), message);
}

void sg_log_from(struct sg_log_place *place, enum sg_log_level level, const char *event,
                 const struct sg_log_field *fields, const char *format, ...)
{
    char message[LINE_MAX_BYTES];
    int error = errno;
    uint64_t left_out = 0;
    va_list args;
    if (level > max_level || (level != SG_LOG_DEBUG && !take_line(place, &left_out)))
        return;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (left_out > 0)
        tell_left_out(level, event, left_out);
    write_line(level, event, fields, message);
    errno = error;
}
