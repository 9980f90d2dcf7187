/* Files of the resolver: stamps by stat, which a sandbox does not forbid; the lines `options` of resolv.conf(5). */
#include "net/resolv_conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESOLV_CONF "/etc/resolv.conf"

enum {
    FILE_MAX = 65536,
    TIMEOUT_S = 2,
    TRIES = 3,
    /* as in the C library */
    TIMEOUT_MAX_S = 30,
    TRIES_MAX = 5,
};

static bool time_equal(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

void sg_resolv_stamp(struct sg_resolv_stamp *out)
{
    static const char *const names[SG_RESOLV_FILES] = {RESOLV_CONF, "/etc/hosts", "/etc/nsswitch.conf",
                                                       "/etc/host.conf"};
    for (size_t i = 0; i < SG_RESOLV_FILES; i++) {
        struct stat st;
        if (stat(names[i], &st) != 0)
            out->files[i] = (struct sg_resolv_file){.error = errno};
        else
            out->files[i] = (struct sg_resolv_file){.is_pipe = S_ISFIFO(st.st_mode),
                                                    .dev = st.st_dev,
                                                    .ino = st.st_ino,
                                                    .size = st.st_size,
                                                    .written = st.st_mtim,
                                                    .changed = st.st_ctim};
    }
}

bool sg_resolv_stamp_equal(const struct sg_resolv_stamp *a, const struct sg_resolv_stamp *b)
{
    for (size_t i = 0; i < SG_RESOLV_FILES; i++) {
        const struct sg_resolv_file *x = &a->files[i], *y = &b->files[i];
        if (x->error != y->error || x->dev != y->dev || x->ino != y->ino || x->size != y->size ||
            !time_equal(&x->written, &y->written) || !time_equal(&x->changed, &y->changed))
            return false;
    }
    return true;
}

/* --- options --- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The number after the name of an option, between 1 and most; the value before if it is another option or no number. */
static int number_of(const char *word, size_t len, const char *name, int most, int before)
{
    size_t name_len = strlen(name);
    long value = 0;
    if (len <= name_len || memcmp(word, name, name_len) != 0)
        return before;
    for (size_t i = name_len; i < len; i++) {
        if (word[i] < '0' || word[i] > '9')
            return before;
        value = value > most ? value : value * 10 + (word[i] - '0');
    }
    return value < 1 ? 1 : value > most ? most : (int)value;
}

static void take_option(const char *word, size_t len, struct sg_resolv_options *out)
{
    out->timeout_ms = number_of(word, len, "timeout:", TIMEOUT_MAX_S, out->timeout_ms / 1000) * 1000;
    out->tries = number_of(word, len, "attempts:", TRIES_MAX, out->tries);
    if (len == strlen("rotate") && memcmp(word, "rotate", len) == 0)
        out->rotates = true;
}

static void take_line(const char *line, const char *end, struct sg_resolv_options *out)
{
    static const char keyword[] = "options";
    size_t keyword_len = sizeof keyword - 1;
    if ((size_t)(end - line) <= keyword_len || memcmp(line, keyword, keyword_len) != 0 || !is_blank(line[keyword_len]))
        return;
    for (const char *at = line + keyword_len; at < end;) {
        const char *word = at;
        while (at < end && !is_blank(*at))
            at++;
        take_option(word, (size_t)(at - word), out);
        while (at < end && is_blank(*at))
            at++;
    }
}

void sg_resolv_options_parse(const char *text, size_t len, struct sg_resolv_options *out)
{
    const char *end = text + len;
    *out = (struct sg_resolv_options){.timeout_ms = TIMEOUT_S * 1000, .tries = TRIES};
    for (const char *line = text; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *line_end = newline ? newline : end;
        take_line(line, line_end, out);
        line = newline ? newline + 1 : end;
    }
}

enum sg_err sg_resolv_options_read(struct sg_resolv_options *out)
{
    sg_resolv_options_parse("", 0, out);
    int fd = open(RESOLV_CONF, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? SG_OK : SG_ERR_SYSTEM;
    char *text = malloc(FILE_MAX);
    size_t len = 0;
    ssize_t n = text ? 1 : 0;
    while (n > 0 && len < FILE_MAX) {
        n = read(fd, text + len, FILE_MAX - len);
        len += n > 0 ? (size_t)n : 0;
    }
    int error = errno;
    if (n >= 0 && text)
        sg_resolv_options_parse(text, len, out);
    free(text);
    close(fd);
    errno = error;
    return n < 0 ? SG_ERR_SYSTEM : SG_OK;
}
