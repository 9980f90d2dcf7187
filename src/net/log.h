/* The log: one line per event on standard error, control characters escaped. Never keys, passwords or payloads. */
#ifndef SG_NET_LOG_H
#define SG_NET_LOG_H

#include <stdint.h>

enum sg_log_level { SG_LOG_ERROR, SG_LOG_WARN, SG_LOG_INFO, SG_LOG_DEBUG };

/* Lines above this level are not written; INFO at first. Set before threads start. */
void sg_log_set_level(enum sg_log_level level);

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

/*
 * sg_log(level, format, ...) writes one line, `sealgram: LEVEL: text`, in one system call. Thread-safe; keeps errno.
 */
#define sg_log(level, ...)                                                                                             \
    do {                                                                                                               \
        static struct sg_log_place sg_log_place_;                                                                      \
        sg_log_from(&sg_log_place_, level, __VA_ARGS__);                                                               \
    } while (0)
void sg_log_from(struct sg_log_place *place, enum sg_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
