/* Questions and answers of the doctor, and the reflector: two or four sockets that answer for each other. */
#include "cli/doctor_reflect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/rbuf.h"
#include "net/clock.h"
#include "net/sockaddr.h"
#include "net/udp.h"

enum {
    MAGIC_BYTES = 7,
    PER_MS = 1000,           /* bytes answered, for long */
    BURST = 8 * 1024 * 1024, /* bytes answered at once: one whole examination */
    EACH = 500,              /* what an answer costs beyond its length */
    ROUND = 64,              /* datagrams of one socket before the next one's turn */
};

static const char question[MAGIC_BYTES + 1] = "SGDOCQ1";
static const char answer[MAGIC_BYTES + 1] = "SGDOCA1";

static bool parse_one(const char *text, size_t len, struct sg_endpoint *out)
{
    char copy[SG_ENDPOINT_TEXT_MAX];
    struct sg_target target;
    if (len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (sg_target_parse(copy, false, &target) != SG_OK || target.atyp == SG_ATYP_NAME)
        return false;
    *out = sg_target_endpoint(&target);
    return true;
}

bool sg_reflect_parse(const char *text, struct sg_reflect_at *out)
{
    const char *comma = strchr(text, ',');
    struct sg_endpoint first, second;
    if (!parse_one(text, comma ? (size_t)(comma - text) : strlen(text), &first))
        return false;
    second = first;
    second.port = (uint16_t)(first.port + 1);
    if (comma && !parse_one(comma + 1, strlen(comma + 1), &second))
        return false;
    if (second.port == first.port || second.port == 0 || second.ip.family != first.ip.family)
        return false;
    out->count = sg_ip_equal(&first.ip, &second.ip) ? 2 : 4;
    for (unsigned i = 0; i < SG_REFLECT_SOCKETS; i++) {
        out->at[i].ip = i & SG_FROM_OTHER_ADDRESS ? second.ip : first.ip;
        out->at[i].port = i & SG_FROM_OTHER_PORT ? second.port : first.port;
    }
    return true;
}

bool sg_reflector_open(struct sg_reflector *reflector, const struct sg_reflect_at *where, bool limited)
{
    *reflector = (struct sg_reflector){
        .where = *where, .fd = {-1, -1, -1, -1}, .limited = limited, .allowance = BURST, .filled_ms = sg_now_ms()};
    for (unsigned i = 0; i < where->count; i++) {
        reflector->fd[i] = sg_udp_open(&where->at[i], SG_UDP_ROOMY);
        if (reflector->fd[i] < 0) {
            int error = errno;
            sg_reflector_close(reflector);
            errno = error;
            return false;
        }
        reflector->where.at[i] = sg_socket_local(reflector->fd[i]);
    }
    return true;
}

void sg_reflector_close(struct sg_reflector *reflector)
{
    for (unsigned i = 0; i < reflector->where.count; i++)
        if (reflector->fd[i] >= 0)
            close(reflector->fd[i]);
    reflector->where.count = 0;
}

unsigned sg_reflector_poll(const struct sg_reflector *reflector, struct pollfd out[static SG_REFLECT_SOCKETS])
{
    for (unsigned i = 0; i < reflector->where.count; i++)
        out[i] = (struct pollfd){.fd = reflector->fd[i], .events = POLLIN};
    return reflector->where.count;
}

static bool may_answer(struct sg_reflector *reflector, size_t len)
{
    uint64_t now_ms = sg_now_ms();
    if (!reflector->limited)
        return true;
    reflector->allowance += (now_ms - reflector->filled_ms) * PER_MS;
    reflector->filled_ms = now_ms;
    if (reflector->allowance > BURST)
        reflector->allowance = BURST;
    if (reflector->allowance < len + EACH)
        return false;
    reflector->allowance -= len + EACH;
    return true;
}

/* Turns a question into its answer, in place. False for what is no question, and for one that cannot be served. */
static bool turn(const struct sg_reflector *reflector, uint8_t *bytes, size_t len, const struct sg_endpoint *source)
{
    if (len < SG_PROBE_MIN || memcmp(bytes, question, MAGIC_BYTES) != 0 || bytes[MAGIC_BYTES] >= reflector->where.count)
        return false;
    memcpy(bytes, answer, MAGIC_BYTES);
    struct sg_wbuf w = sg_wbuf_init(bytes + MAGIC_BYTES + 1 + 8, SG_ADDR_IPV6_BYTES);
    sg_endpoint_encode(&w, source);
    return true;
}

static void work_socket(struct sg_reflector *reflector, unsigned number, uint8_t *bytes)
{
    struct sockaddr_storage ss;
    for (unsigned i = 0; i < ROUND; i++) {
        socklen_t ss_len = sizeof ss;
        ssize_t got =
            recvfrom(reflector->fd[number], bytes, SG_PROBE_MAX, MSG_DONTWAIT, (struct sockaddr *)&ss, &ss_len);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got < 0)
            continue; /* an ICMP error of an earlier answer: taken off by this */
        struct sg_endpoint source = sg_sockaddr_endpoint(&ss);
        if (turn(reflector, bytes, (size_t)got, &source) && may_answer(reflector, (size_t)got))
            (void)sendto(reflector->fd[number ^ bytes[MAGIC_BYTES]], bytes, (size_t)got, MSG_DONTWAIT,
                         (const struct sockaddr *)&ss, ss_len);
    }
}

void sg_reflector_work(struct sg_reflector *reflector)
{
    static uint8_t bytes[SG_PROBE_MAX];
    for (unsigned i = 0; i < reflector->where.count; i++)
        work_socket(reflector, i, bytes);
}

void sg_probe_write(uint8_t *out, size_t len, unsigned from, uint64_t nonce)
{
    struct sg_wbuf w = sg_wbuf_init(out, len);
    memset(out, 0, len);
    sg_wbuf_bytes(&w, question, MAGIC_BYTES);
    sg_wbuf_u8(&w, (uint8_t)from);
    sg_wbuf_u64(&w, nonce);
}

bool sg_probe_read(const uint8_t *bytes, size_t len, uint64_t *nonce, struct sg_endpoint *seen)
{
    struct sg_rbuf r = sg_rbuf_init(bytes, len);
    struct sg_target target;
    const uint8_t *magic = sg_rbuf_bytes(&r, MAGIC_BYTES);
    (void)sg_rbuf_u8(&r);
    *nonce = sg_rbuf_u64(&r);
    if (!magic || memcmp(magic, answer, MAGIC_BYTES) != 0 || sg_target_decode(&r, &target) != SG_OK ||
        target.atyp == SG_ATYP_NAME)
        return false;
    *seen = sg_target_endpoint(&target);
    return true;
}
