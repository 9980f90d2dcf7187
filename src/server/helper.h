/*
 * The helper process of an external authenticator. It is forked before the server has threads, keys or a sandbox, and
 * may do what the server no longer can: start the operator's command, several of them, and start them again when they
 * die. It gives up privileges as the server does, so that the command has none either. Server and helper talk over a
 * socket pair of messages; helper and command one line of JSON at a time.
 */
#ifndef SG_SERVER_HELPER_H
#define SG_SERVER_HELPER_H

#include <stddef.h>
#include <stdint.h>

enum { SG_HELPER_LINE_MAX = 4096 };

struct sg_helper_options {
    char *const *command; /* and its arguments; NULL ends them */
    const char *user;     /* to become, or NULL */
    unsigned processes;
    uint32_t timeout_ms; /* for a question, from its arrival */
};

/* Question: number, then the line without its end. */
struct sg_helper_question {
    uint64_t number;
    char line[SG_HELPER_LINE_MAX];
};

/* FAILED: the command died, was too slow or said what is no line; the line is empty then. */
enum sg_helper_status { SG_HELPER_ANSWERED, SG_HELPER_FAILED };

struct sg_helper_answer {
    uint64_t number;
    uint64_t status;
    char line[SG_HELPER_LINE_MAX];
};

/* A message has so many bytes, and those of its line. */
#define SG_HELPER_QUESTION_HEAD offsetof(struct sg_helper_question, line)
#define SG_HELPER_ANSWER_HEAD offsetof(struct sg_helper_answer, line)

/* Starts it. The server's end of the socket pair, non-blocking; closing it ends the helper. -1 with errno. */
int sg_helper_start(const struct sg_helper_options *options);

#endif
