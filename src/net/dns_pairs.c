/* The questions under way are in buckets by their names; one whose end was not seen goes when its time is over. */
#include "net/dns_pairs.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/event.h>
#include <sodium.h>

#include "net/clock.h"

enum {
    BUCKETS = 256,
    HEADER = 12,
    QUESTION_TAIL = 4, /* type and class, after the name */
    QUESTION_MAX = 255 + QUESTION_TAIL,
    TYPE_A = 1,
    TYPE_AAAA = 28,
    FLAGS_ANSWER = 0x8180, /* and no error */
    PATIENCE_MS = 1000,
    PATIENCE_LOST_MS = 50, /* with a kind that was not answered for some questions in a row */
    LOST = 3,
    OLD_MS = 5 * 60 * 1000, /* c-ares has given up long ago */
};

struct question {
    struct question *next;
    ares_socket_t fd;
    uint64_t sent_ms, due_ms; /* due 0: its twin is not answered */
    uint16_t id;
    size_t len;
    uint8_t text[QUESTION_MAX];
};

struct sg_dns_pairs {
    struct event_base *base;
    struct event *timer;
    sg_dns_pairs_fn *fn;
    void *ctx;
    uint8_t key[crypto_shorthash_KEYBYTES];
    struct question *buckets[BUCKETS];
    struct question *given_up, *current; /* current: the answer to it is what its socket reads next */
    unsigned lost[2];                    /* questions in a row without an answer: A, AAAA */
};

/* --- messages (RFC 1035 section 4) --- */

static uint16_t read_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

/* Where the name that begins at an offset ends; 0: not within len. */
static size_t skip_name(const uint8_t *message, size_t len, size_t at)
{
    while (at < len && message[at] != 0) {
        if (message[at] >= 0xc0)
            return at + 2 <= len ? at + 2 : 0;
        at += 1U + message[at];
    }
    return at < len ? at + 1 : 0;
}

/* The length of the only question of a message, which asks for A or AAAA records; 0: it has no such one. */
static size_t question_len(const uint8_t *message, size_t len)
{
    size_t end = len > HEADER && read_u16(message + 4) == 1 ? skip_name(message, len, HEADER) : 0;
    if (end == 0 || end + QUESTION_TAIL > len || end + QUESTION_TAIL - HEADER > QUESTION_MAX)
        return 0;
    uint16_t type = read_u16(message + end);
    return type == TYPE_A || type == TYPE_AAAA ? end + QUESTION_TAIL - HEADER : 0;
}

static uint16_t type_of(const uint8_t *question, size_t len)
{
    return read_u16(question + len - QUESTION_TAIL);
}

/* Whether a whole answer has an address of the kind that was asked for. */
static bool has_address(const uint8_t *message, size_t len, size_t question)
{
    enum { FIXED = 10, TRUNCATED_OR_ERROR = 0x020f };
    uint16_t type = type_of(message + HEADER, question);
    size_t at = HEADER + question;
    if (read_u16(message + 2) & TRUNCATED_OR_ERROR)
        return false;
    for (unsigned left = read_u16(message + 6); left > 0; left--) {
        at = skip_name(message, len, at);
        if (at == 0 || at + FIXED > len)
            return false;
        if (read_u16(message + at) == type)
            return true;
        at += FIXED + read_u16(message + at + 8);
    }
    return false;
}

/* --- the questions under way --- */

static struct question **bucket_of(struct sg_dns_pairs *pairs, const uint8_t *question, size_t len)
{
    uint64_t hash = 0;
    crypto_shorthash((uint8_t *)&hash, question, len - QUESTION_TAIL, pairs->key);
    return &pairs->buckets[hash % BUCKETS];
}

static void drop(struct question **link)
{
    struct question *question = *link;
    *link = question->next;
    free(question);
}

static void drop_old(struct question **link, uint64_t now_ms)
{
    while (*link) {
        if (now_ms - (*link)->sent_ms > OLD_MS)
            drop(link);
        else
            link = &(*link)->next;
    }
}

static struct question **find(struct question **link, uint16_t id, const uint8_t *text, size_t len)
{
    while (*link && ((*link)->id != id || (*link)->len != len || memcmp((*link)->text, text, len) != 0))
        link = &(*link)->next;
    return link;
}

/* A question that is sent again, maybe to another server, is one. */
static void note_sent(struct sg_dns_pairs *pairs, ares_socket_t fd, const uint8_t *message, size_t len)
{
    size_t text_len = question_len(message, len);
    if (text_len == 0)
        return;
    const uint8_t *text = message + HEADER;
    struct question **bucket = bucket_of(pairs, text, text_len), *question;
    uint64_t now_ms = sg_now_ms();
    drop_old(bucket, now_ms);
    question = *find(bucket, read_u16(message), text, text_len);
    if (!question) {
        question = calloc(1, sizeof *question);
        if (!question)
            return;
        question->id = read_u16(message);
        question->len = text_len;
        memcpy(question->text, text, text_len);
        question->next = *bucket;
        *bucket = question;
    }
    question->fd = fd;
    question->sent_ms = now_ms;
}

static void set_timer(struct sg_dns_pairs *pairs, uint64_t ms)
{
    const struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    if (!evtimer_pending(pairs->timer, NULL))
        evtimer_add(pairs->timer, &tv);
}

/* The other kind of the same name is not waited for much longer. */
static void hurry_twins(struct sg_dns_pairs *pairs, struct question *first, const uint8_t *text, size_t len)
{
    unsigned other = type_of(text, len) == TYPE_A;
    uint64_t patience_ms = pairs->lost[other] >= LOST ? PATIENCE_LOST_MS : PATIENCE_MS;
    for (struct question *q = first; q; q = q->next) {
        if (q->due_ms != 0 || q->len != len || memcmp(q->text, text, len - QUESTION_TAIL) != 0)
            continue;
        if (type_of(q->text, q->len) == type_of(text, len))
            continue;
        q->due_ms = sg_now_ms() + patience_ms;
        set_timer(pairs, PATIENCE_LOST_MS);
    }
}

static void note_received(struct sg_dns_pairs *pairs, const uint8_t *message, size_t len)
{
    size_t text_len = question_len(message, len);
    if (text_len == 0)
        return;
    const uint8_t *text = message + HEADER;
    struct question **bucket = bucket_of(pairs, text, text_len);
    struct question **found = find(bucket, read_u16(message), text, text_len);
    pairs->lost[type_of(text, text_len) == TYPE_AAAA] = 0;
    if (!*found)
        return;
    drop(found);
    if (has_address(message, len, text_len))
        hurry_twins(pairs, *bucket, text, text_len);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_dns_pairs *pairs = ctx;
    uint64_t now_ms = sg_now_ms();
    bool more = false;
    (void)fd;
    (void)what;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct question **link = &pairs->buckets[i]; *link;) {
            struct question *question = *link;
            bool is_due = question->due_ms != 0 && now_ms >= question->due_ms;
            more = more || (question->due_ms != 0 && !is_due);
            if (!is_due) {
                link = &question->next;
                continue;
            }
            *link = question->next;
            question->next = pairs->given_up;
            pairs->given_up = question;
            pairs->lost[type_of(question->text, question->len) == TYPE_AAAA]++;
        }
    }
    if (more)
        set_timer(pairs, PATIENCE_LOST_MS);
    if (pairs->given_up)
        pairs->fn(pairs->ctx);
}

ares_socket_t sg_dns_pairs_next(struct sg_dns_pairs *pairs)
{
    free(pairs->current); /* its socket is closed, if it was not read */
    pairs->current = pairs->given_up;
    if (!pairs->current)
        return ARES_SOCKET_BAD;
    pairs->given_up = pairs->current->next;
    return pairs->current->fd;
}

/* --- for c-ares --- */

static ares_socket_t open_socket(int domain, int type, int protocol, void *ctx)
{
    (void)ctx;
    return socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

static int close_socket(ares_socket_t fd, void *ctx)
{
    (void)ctx;
    return close(fd);
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *to, ares_socklen_t len, void *ctx)
{
    (void)ctx;
    return connect(fd, to, len);
}

/* That there is no such address, from the server that was asked; -1: there is no room. */
static ares_ssize_t answer_current(struct sg_dns_pairs *pairs, uint8_t *out, size_t size, struct sockaddr *from,
                                   ares_socklen_t *from_len)
{
    struct question *question = pairs->current;
    const uint8_t header[HEADER] = {
        (uint8_t)(question->id >> 8), (uint8_t)question->id, FLAGS_ANSWER >> 8, FLAGS_ANSWER & 0xff, 0, 1};
    size_t len = HEADER + question->len;
    pairs->current = NULL;
    bool good = len <= size && (!from || getpeername(question->fd, from, from_len) == 0);
    if (good) {
        memcpy(out, header, HEADER);
        memcpy(out + HEADER, question->text, question->len);
    }
    free(question);
    return good ? (ares_ssize_t)len : -1;
}

static ares_ssize_t receive(ares_socket_t fd, void *out, size_t size, int flags, struct sockaddr *from,
                            ares_socklen_t *from_len, void *ctx)
{
    struct sg_dns_pairs *pairs = ctx;
    if (pairs->current && pairs->current->fd == fd)
        return answer_current(pairs, out, size, from, from_len);
    ares_ssize_t len = recvfrom(fd, out, size, flags, from, from_len);
    if (len > 0)
        note_received(pairs, out, (size_t)len);
    return len;
}

static ares_ssize_t send_parts(ares_socket_t fd, const struct iovec *parts, int count, void *ctx)
{
    int type = 0;
    socklen_t size = sizeof type;
    if (count == 1 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM)
        note_sent(ctx, fd, parts[0].iov_base, parts[0].iov_len);
    return writev(fd, parts, count);
}

const struct ares_socket_functions sg_dns_pairs_functions = {.asocket = open_socket,
                                                             .aclose = close_socket,
                                                             .aconnect = connect_socket,
                                                             .arecvfrom = receive,
                                                             .asendv = send_parts};

struct sg_dns_pairs *sg_dns_pairs_new(struct event_base *base, sg_dns_pairs_fn *fn, void *ctx)
{
    struct sg_dns_pairs *pairs = calloc(1, sizeof *pairs);
    if (!pairs)
        return NULL;
    pairs->base = base;
    pairs->fn = fn;
    pairs->ctx = ctx;
    crypto_shorthash_keygen(pairs->key);
    pairs->timer = evtimer_new(base, on_timer, pairs);
    if (pairs->timer)
        return pairs;
    free(pairs);
    return NULL;
}

void sg_dns_pairs_free(struct sg_dns_pairs *pairs)
{
    if (!pairs)
        return;
    event_free(pairs->timer);
    for (size_t i = 0; i < BUCKETS; i++)
        while (pairs->buckets[i])
            drop(&pairs->buckets[i]);
    while (pairs->given_up)
        drop(&pairs->given_up);
    free(pairs->current);
    free(pairs);
}
