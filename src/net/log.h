/*
 * The log: one line per event on standard error, as text or as a JSON object, escaped (net/log_text.h). Never keys,
 * passwords or payloads.
 */
#ifndef SG_NET_LOG_H
#define SG_NET_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum sg_log_level { SG_LOG_ERROR, SG_LOG_WARN, SG_LOG_INFO, SG_LOG_DEBUG };
enum sg_log_format { SG_LOG_TEXT, SG_LOG_JSON };
enum sg_log_addresses { SG_LOG_FULL, SG_LOG_MASKED };

/* Lines above this level are not written; INFO, TEXT and FULL at first. Each may change at any time. */
void sg_log_set_level(enum sg_log_level level);
void sg_log_set_format(enum sg_log_format format);
void sg_log_set_addresses(enum sg_log_addresses addresses);
bool sg_log_masks_addresses(void);

/* The words of the command line and of server.yaml. False: none of them. */
bool sg_log_parse_level(const char *word, enum sg_log_level *out);
bool sg_log_parse_format(const char *word, enum sg_log_format *out);
bool sg_log_parse_addresses(const char *word, enum sg_log_addresses *out);

/*
 * Each place in the code that logs may write SG_LOG_BURST lines at once and SG_LOG_PER_SECOND for long, so that nobody
 * fills a disk by doing over and over what is worth a line. What is left out is counted, and told before the place's
 * next line. DEBUG has no such limit: who asks for it reads it.
 */
enum { SG_LOG_BURST = 100, SG_LOG_PER_SECOND = 5 };

struct sg_log_place {
    uint64_t since_ms; /* up to when lines were given back */
    unsigned used;
    uint64_t left_out;
};

/* What a JSON line has beside the message: a text, or a number where text is NULL. */
struct sg_log_field {
    const char *name;
    const char *text;
    uint64_t number;
};

static inline struct sg_log_field sg_log_word(const char *name, const char *text)
{
    return (struct sg_log_field){.name = name, .text = text ? text : ""};
}

static inline struct sg_log_field sg_log_number(const char *name, uint64_t number)
{
    return (struct sg_log_field){.name = name, .number = number};
}

#define SG_LOG_FIELDS(...) ((const struct sg_log_field[]){__VA_ARGS__, {.name = NULL}})

/*
 * sg_log_event(level, event, fields, format, ...) writes one line in one system call: `TIME sealgram: LEVEL: message`
 * as text, or `<N>sealgram: LEVEL: message` where the journal reads, {"ts", "level", "event", "message", fields} as
 * JSON. event is a name that stays: operators search for it. fields is SG_LOG_FIELDS(...) or NULL; addresses in it and
 * in the message went through net/log_text.h. Thread-safe; keeps errno. sg_log is for what only people read; its event
 * is "note".
 */
#define sg_log_event(level, event, fields, ...)                                                                        \
    do {                                                                                                               \
        static struct sg_log_place sg_log_place_;                                                                      \
        sg_log_from(&sg_log_place_, level, event, fields, __VA_ARGS__);                                                \
    } while (0)
#define sg_log(level, ...) sg_log_event(level, "note", NULL, __VA_ARGS__)
void sg_log_from(struct sg_log_place *place, enum sg_log_level level, const char *event,
                 const struct sg_log_field *fields, const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
