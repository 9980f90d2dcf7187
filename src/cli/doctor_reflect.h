/*
 * The far end of `sealgram doctor`: answers a question with the address that it came from, from where the question
 * wants the answer to come. An answer goes to the asker only and is as long as its question, so that nobody gains by
 * forging a question's source; and answers have a rate.
 *
 *     question: "SGDOCQ1" from(1) nonce(8) zeros, at least SG_PROBE_MIN bytes in all
 *     answer:   "SGDOCA1" from(1) nonce(8) ATYP address port, zeros up to the question's length
 */
#ifndef SG_CLI_DOCTOR_REFLECT_H
#define SG_CLI_DOCTOR_REFLECT_H

#include <poll.h>
#include <stdbool.h>

#include "core/addr.h"

enum {
    SG_PROBE_MIN = 7 + 1 + 8 + SG_ADDR_IPV6_BYTES,
    SG_PROBE_MAX = 65507,
    SG_REFLECT_SOCKETS = 4,
};

/* From where an answer shall come; bits, 0 is the address and port that were asked. */
enum { SG_FROM_OTHER_PORT = 1, SG_FROM_OTHER_ADDRESS = 2 };

/* Addresses by number: bit 0 is the port, bit 1 the address. count is 2 (one address) or 4. */
struct sg_reflect_at {
    unsigned count;
    struct sg_endpoint at[SG_REFLECT_SOCKETS];
};

/* ADDR:PORT (the other port is PORT + 1) or ADDR:PORT,ADDR2:PORT2. False if it is neither. */
SG_MUST_CHECK bool sg_reflect_parse(const char *text, struct sg_reflect_at *out);

struct sg_reflector {
    struct sg_reflect_at where; /* the true ports, once open */
    int fd[SG_REFLECT_SOCKETS];
    bool limited;
    uint64_t allowance; /* bytes that may be answered now */
    uint64_t filled_ms;
};

/* Opens all sockets, or none: false with errno. limited: answers have a rate, as they need where strangers ask. */
SG_MUST_CHECK bool sg_reflector_open(struct sg_reflector *reflector, const struct sg_reflect_at *where, bool limited);
void sg_reflector_close(struct sg_reflector *reflector);

/* What to poll for, and what to do then. */
unsigned sg_reflector_poll(const struct sg_reflector *reflector, struct pollfd out[static SG_REFLECT_SOCKETS]);
void sg_reflector_work(struct sg_reflector *reflector);

/* Writes a question of len bytes, at least SG_PROBE_MIN. */
void sg_probe_write(uint8_t *out, size_t len, unsigned from, uint64_t nonce);

/* An answer: its nonce, and the address that the question came from. False for anything else. */
bool sg_probe_read(const uint8_t *bytes, size_t len, uint64_t *nonce, struct sg_endpoint *seen);

#endif
