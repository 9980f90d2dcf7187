/*
 * Questions under way are in a list by number. The question is written by hand, so that no copy of a password stays
 * behind in a JSON library's memory; the answer is no secret.
 */
#include "server/authenticator.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <jansson.h>
#include <sodium.h>

#include "core/wbuf.h"
#include "net/log.h"
#include "server/helper.h"
#include "server/users.h"

struct asked {
    struct asked *next;
    uint64_t number;
    sg_authenticator_fn *fn;
    void *ctx;
    char user[65];
};

struct sg_authenticator {
    pthread_mutex_t lock;
    int fd; /* -1: the helper is gone */
    uint64_t next_number;
    struct asked *first;
    struct event *readable;
};

/* --- JSON --- */

/* The length of the UTF-8 sequence at the start of so many bytes (RFC 3629), or 0. */
static size_t utf8_length(const uint8_t *text, size_t len)
{
    static const struct {
        uint8_t first, last, second_first, second_last;
        size_t len;
    } forms[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (text[0] < forms[i].first || text[0] > forms[i].last || len < forms[i].len)
            continue;
        bool good = forms[i].len == 1 || (text[1] >= forms[i].second_first && text[1] <= forms[i].second_last);
        for (size_t k = 2; k < forms[i].len; k++)
            good = good && (text[k] & 0xc0) == 0x80;
        return good ? forms[i].len : 0;
    }
    return 0;
}

static void put(struct sg_wbuf *w, const char *text)
{
    sg_wbuf_bytes(w, (const uint8_t *)text, strlen(text));
}

/* False: it is no UTF-8, so no JSON can have it. */
static bool put_string(struct sg_wbuf *w, const uint8_t *text, size_t len)
{
    char escape[8];
    size_t step = 1;
    put(w, "\"");
    for (size_t i = 0; i < len; i += step) {
        step = utf8_length(text + i, len - i);
        if (step == 0)
            return false;
        if (text[i] >= 0x20 && text[i] != '"' && text[i] != '\\' && text[i] != 0x7f) {
            sg_wbuf_bytes(w, text + i, step);
            continue;
        }
        snprintf(escape, sizeof escape, "\\u%04x", text[i]);
        put(w, escape);
    }
    put(w, "\"");
    return true;
}

bool sg_authenticator_encode(const struct sg_authenticator_question *question, char *line, size_t size, size_t *len)
{
    char address[SG_IP_TEXT_MAX];
    struct sg_wbuf w = sg_wbuf_init((uint8_t *)line, size);
    sg_ip_format(&question->address, address);
    put(&w, "{\"user\":");
    bool good = put_string(&w, (const uint8_t *)question->user, strlen(question->user));
    put(&w, question->is_token ? ",\"token\":" : ",\"password\":");
    good = good && put_string(&w, question->secret, question->secret_len);
    put(&w, ",\"address\":\"");
    put(&w, address);
    put(&w, "\"}");
    *len = sg_wbuf_len(&w);
    return good && !w.failed;
}

static bool take_groups(json_t *groups, struct sg_group_names *out)
{
    size_t count = json_array_size(groups);
    if (groups && !json_is_array(groups))
        return false;
    if (count > SG_GROUP_NAMES_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(groups, i));
        if (!name || !sg_user_name_is_valid(name))
            return false;
        snprintf(out->names[out->count++], sizeof out->names[0], "%s", name);
    }
    return true;
}

bool sg_authenticator_decode(const char *line, size_t len, const char *asked, struct sg_authenticator_answer *out)
{
    json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *ok = json_object_get(root, "ok");
    const json_t *user = json_object_get(root, "user");
    const char *name = user ? json_string_value(user) : asked;
    *out = (struct sg_authenticator_answer){.ok = json_is_true(ok)};
    bool good = json_is_boolean(ok) && take_groups(json_object_get(root, "groups"), &out->groups) &&
                (!out->ok || (name && sg_user_name_is_valid(name)));
    if (good && out->ok)
        snprintf(out->user, sizeof out->user, "%s", name);
    json_decref(root);
    return good;
}

/* --- the helper --- */

static struct asked *take_out(struct sg_authenticator *authenticator, uint64_t number)
{
    struct asked **link = &authenticator->first;
    while (*link && (*link)->number != number)
        link = &(*link)->next;
    struct asked *found = *link;
    if (found)
        *link = found->next;
    return found;
}

static void tell(struct asked *asked, const struct sg_authenticator_answer *answer)
{
    asked->fn(asked->ctx, answer);
    free(asked);
}

/* All who wait hear that it failed. */
static void give_up(struct sg_authenticator *authenticator)
{
    static const struct sg_authenticator_answer failed = {.failed = true};
    pthread_mutex_lock(&authenticator->lock);
    struct asked *first = authenticator->first;
    authenticator->first = NULL;
    if (authenticator->fd >= 0)
        close(authenticator->fd);
    authenticator->fd = -1;
    pthread_mutex_unlock(&authenticator->lock);
    for (struct asked *next = NULL; first; first = next) {
        next = first->next;
        tell(first, &failed);
    }
}

static void on_answer(struct sg_authenticator *authenticator, const struct sg_helper_answer *message, size_t len)
{
    struct sg_authenticator_answer answer = {.failed = true};
    pthread_mutex_lock(&authenticator->lock);
    struct asked *asked = take_out(authenticator, message->number);
    pthread_mutex_unlock(&authenticator->lock);
    if (!asked)
        return;
    if (message->status == SG_HELPER_ANSWERED && !sg_authenticator_decode(message->line, len, asked->user, &answer)) {
        answer = (struct sg_authenticator_answer){.failed = true};
        sg_log_event(SG_LOG_ERROR, "authenticator", NULL,
                     "the authenticator's answer cannot be used: it is {\"ok\": true or false, \"user\": NAME, "
                     "\"groups\": [NAME, at most 8]}, the last two if it likes");
    }
    tell(asked, &answer);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct sg_authenticator *authenticator = ctx;
    struct sg_helper_answer message;
    (void)what;
    ssize_t n = recv(fd, &message, sizeof message, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n >= (ssize_t)SG_HELPER_ANSWER_HEAD) {
        on_answer(authenticator, &message, (size_t)n - SG_HELPER_ANSWER_HEAD);
        return;
    }
    event_del(authenticator->readable);
    sg_log_event(SG_LOG_ERROR, "authenticator", NULL,
                 "the authenticator's helper process is gone: nobody logs in by it until the server is started "
                 "again");
    give_up(authenticator);
}

struct sg_authenticator *sg_authenticator_new(struct event_base *base, int fd)
{
    struct sg_authenticator *authenticator = calloc(1, sizeof *authenticator);
    if (!authenticator) {
        close(fd);
        return NULL;
    }
    pthread_mutex_init(&authenticator->lock, NULL);
    authenticator->fd = fd;
    authenticator->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, authenticator);
    if (authenticator->readable && event_add(authenticator->readable, NULL) == 0)
        return authenticator;
    sg_authenticator_free(authenticator);
    return NULL;
}

void sg_authenticator_free(struct sg_authenticator *authenticator)
{
    if (!authenticator)
        return;
    if (authenticator->readable)
        event_free(authenticator->readable);
    give_up(authenticator);
    pthread_mutex_destroy(&authenticator->lock);
    free(authenticator);
}

/* False: the helper is gone, or takes no more at the moment. */
static bool send_question(struct sg_authenticator *authenticator, struct asked *asked,
                          struct sg_helper_question *message, size_t len)
{
    pthread_mutex_lock(&authenticator->lock);
    message->number = asked->number = authenticator->next_number++;
    bool sent = authenticator->fd >= 0 &&
                send(authenticator->fd, message, SG_HELPER_QUESTION_HEAD + len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
    if (sent) {
        asked->next = authenticator->first;
        authenticator->first = asked;
    }
    pthread_mutex_unlock(&authenticator->lock);
    return sent;
}

enum sg_authenticator_asked sg_authenticator_ask(struct sg_authenticator *authenticator,
                                                 const struct sg_authenticator_question *question,
                                                 sg_authenticator_fn *fn, void *ctx)
{
    struct sg_helper_question message;
    size_t len = 0;
    bool sent = false;
    struct asked *asked = calloc(1, sizeof *asked);
    bool is_text = sg_authenticator_encode(question, message.line, sizeof message.line - 1, &len);
    if (asked && is_text) {
        *asked = (struct asked){.fn = fn, .ctx = ctx};
        snprintf(asked->user, sizeof asked->user, "%s", question->user);
        sent = send_question(authenticator, asked, &message, len);
    }
    sodium_memzero(&message, sizeof message);
    if (!sent)
        free(asked);
    return sent ? SG_AUTHENTICATOR_ASKED : is_text ? SG_AUTHENTICATOR_BUSY : SG_AUTHENTICATOR_NO_TEXT;
}
