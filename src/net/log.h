/* The log: one line per event on standard error, control characters escaped. Never keys, passwords or payloads. */
#ifndef SG_NET_LOG_H
#define SG_NET_LOG_H

enum sg_log_level { SG_LOG_ERROR, SG_LOG_WARN, SG_LOG_INFO, SG_LOG_DEBUG };

/* Lines above this level are not written; INFO at first. Set before threads start. */
void sg_log_set_level(enum sg_log_level level);

/* Writes one line, `sealgram: LEVEL: text`, in one system call. Thread-safe; keeps errno. */
void sg_log(enum sg_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
