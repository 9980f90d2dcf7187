/*
 * Walks every transition of the state machines in docs/protocol.md section 8.1. The table there and the one here must
 * be the same, row by row: neither can change alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/path.h"
#include "core/pmtu.h"

enum { T = 5000, NO_SUCH_SIZE = 0 };

/* --- the client's choice --- */

struct choice {
    struct sg_client_path path;
    uint32_t id;
    uint64_t now_ms;
};

static const char *choice_state(const struct choice *c)
{
    static const char *const names[] = {
        [SG_PATH_OFF] = "off", [SG_PATH_SEEKS] = "seeks", [SG_PATH_CONFIRMS] = "confirms", [SG_PATH_USES] = "uses"};
    return names[c->path.state];
}

/* Waits for the next probe and sends it. */
static void probe(struct choice *c)
{
    c->now_ms = sg_client_path_next_timeout(&c->path);
    assert_true(c->now_ms != SG_NEVER);
    assert_true(sg_client_path_probe_due(&c->path, ++c->id, c->now_ms));
}

static void answer(struct choice *c)
{
    (void)sg_client_path_answered(&c->path, c->id, ++c->now_ms);
}

static void seek(struct choice *c)
{
    sg_client_path_start(&c->path, c->now_ms = T);
}

static void use(struct choice *c)
{
    seek(c);
    probe(c);
    answer(c);
}

static void fall_back(struct choice *c)
{
    sg_client_path_traffic(&c->path, c->now_ms);
    for (unsigned i = 0; i < SG_PATH_UNANSWERED_MAX; i++)
        probe(c);
    c->now_ms = sg_client_path_next_timeout(&c->path);
    assert_true(sg_client_path_lost(&c->path, c->now_ms));
}

static void confirm(struct choice *c)
{
    use(c);
    fall_back(c);
    probe(c);
    answer(c);
}

static void choice_first_answer(struct choice *c)
{
    probe(c);
    answer(c);
}

static void choice_no_answer(struct choice *c)
{
    for (unsigned i = 0; i < 10; i++)
        probe(c);
}

static void choice_answer_after_all(struct choice *c)
{
    use(c);
    fall_back(c);
    assert_string_equal(choice_state(c), "seeks");
    probe(c);
    answer(c);
}

static void choice_three_answers(struct choice *c)
{
    for (unsigned i = 1; i < SG_PATH_ANSWERED_MIN; i++) {
        assert_string_equal(choice_state(c), "confirms");
        probe(c);
        answer(c);
    }
}

static void choice_row_spoiled(struct choice *c)
{
    probe(c);
    c->now_ms = sg_client_path_next_timeout(&c->path);
    assert_false(sg_client_path_probe_due(&c->path, ++c->id, c->now_ms));
}

static void choice_record(struct choice *c)
{
    sg_client_path_traffic(&c->path, c->now_ms);
    probe(c);
    probe(c);
    sg_client_path_heard(&c->path, ++c->now_ms);
    assert_int_equal(c->path.unanswered, 0);
}

/* --- the server's path --- */

struct path {
    struct sg_server_path path;
    uint8_t token[SG_CONTROL_TOKEN_BYTES];
    uint64_t now_ms;
};

static void same_bytes(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 7, len);
}

static struct sg_path_addr addr_of(uint16_t port)
{
    return (struct sg_path_addr){.remote = {.ip = {.family = 4, .bytes = {192, 0, 2, 1}}, .port = port}};
}

static bool has_candidate(const struct path *p)
{
    bool has = false;
    for (unsigned i = 0; i < SG_PATH_CANDIDATES; i++)
        has = has ||
              (p->path.candidates[i].sends > 0 && p->now_ms - p->path.candidates[i].first_ms < SG_PATH_RESPONSE_MS);
    return has;
}

static const char *path_state(const struct path *p)
{
    if (!p->path.validated)
        return has_candidate(p) ? "candidate" : "none";
    return sg_server_path_is_in_doubt(&p->path, p->now_ms) ? "challenged" : "validated";
}

static bool record_from(struct path *p, uint16_t port)
{
    struct sg_path_addr addr = addr_of(port);
    return sg_server_path_offer(&p->path, &addr, p->now_ms, same_bytes, NULL, p->token);
}

static bool response_from(struct path *p, uint16_t port)
{
    struct sg_path_addr addr = addr_of(port);
    return sg_server_path_respond(&p->path, &addr, p->token, p->now_ms);
}

static void no_path(struct path *p)
{
    *p = (struct path){.now_ms = T};
}

static void candidate(struct path *p)
{
    no_path(p);
    assert_true(record_from(p, 1));
}

static void validated(struct path *p)
{
    candidate(p);
    assert_true(response_from(p, 1));
    p->now_ms += 1000;
}

static void challenged(struct path *p)
{
    validated(p);
    assert_true(record_from(p, 2));
}

static void path_record(struct path *p)
{
    assert_true(record_from(p, 1));
}

static void path_other_record(struct path *p)
{
    assert_true(record_from(p, 2));
}

static void path_response(struct path *p)
{
    p->now_ms += SG_PATH_RESPONSE_MS - 1;
    assert_true(response_from(p, 1));
}

static void path_other_response(struct path *p)
{
    p->now_ms += SG_PATH_RESPONSE_MS - 1;
    assert_true(response_from(p, 2));
    assert_int_equal(p->path.current.remote.port, 2);
}

static void path_old_again(struct path *p)
{
    assert_false(record_from(p, 1));
    assert_int_equal(p->path.current.remote.port, 1);
}

static void path_no_response(struct path *p)
{
    p->now_ms += SG_PATH_RESPONSE_MS;
    assert_false(response_from(p, 1));
    assert_false(response_from(p, 2));
}

/* --- the longest record --- */

struct size {
    struct sg_pmtu pmtu;
    uint64_t now_ms;
};

static const char *size_state(const struct size *s)
{
    if (!s->pmtu.running)
        return "idle";
    if (s->pmtu.tries < SG_PMTU_TRIES && s->pmtu.record_max < s->pmtu.ceiling)
        return "searches";
    return s->pmtu.record_max > SG_PLPMTU_MIN ? "found" : "least";
}

/* All probes that are due; the path carries records of up to most bytes. */
static void probe_sizes(struct size *s, unsigned most)
{
    uint16_t sent[32];
    unsigned count = 0;
    while (count < 32 && (sent[count] = sg_pmtu_due(&s->pmtu, s->now_ms)) > 0)
        count++;
    for (unsigned i = 0; i < count; i++)
        if (sent[i] <= most)
            sg_pmtu_answered(&s->pmtu, s->pmtu.first_id + i, sent[i], s->now_ms);
}

static void idle(struct size *s)
{
    s->now_ms = T;
    sg_pmtu_init(&s->pmtu);
}

static void size_chosen(struct size *s)
{
    sg_pmtu_start(&s->pmtu, 1472, 1, s->now_ms);
}

static void searches(struct size *s)
{
    idle(s);
    size_chosen(s);
}

static void size_answered(struct size *s)
{
    probe_sizes(s, 1472);
    assert_int_equal(s->pmtu.record_max, 1472);
}

static void found(struct size *s)
{
    searches(s);
    size_answered(s);
}

static void size_unanswered(struct size *s)
{
    for (unsigned i = 0; i < SG_PMTU_TRIES; i++, s->now_ms += SG_PMTU_REPEAT_MS)
        probe_sizes(s, NO_SUCH_SIZE);
}

static void size_black_hole(struct size *s)
{
    s->now_ms += 10000;
    sg_pmtu_sent(&s->pmtu, 1472, s->now_ms);
    for (unsigned i = 0; i < SG_PMTU_CONFIRM_TRIES; i++, s->now_ms += SG_PMTU_REPEAT_MS) {
        assert_int_equal(s->pmtu.record_max, 1472);
        assert_int_equal(sg_pmtu_due(&s->pmtu, s->now_ms), 1472);
        assert_int_equal(sg_pmtu_due(&s->pmtu, s->now_ms), 0);
    }
    assert_true(sg_pmtu_due(&s->pmtu, s->now_ms) > 0);
    assert_int_equal(s->pmtu.record_max, SG_PLPMTU_MIN);
}

static void size_a_minute(struct size *s)
{
    sg_pmtu_start(&s->pmtu, 9000, 1, s->now_ms += 1000); /* the kernel's figure, which this path does not carry */
    probe_sizes(s, 1472);
    for (unsigned i = 0; i < SG_PMTU_TRIES; i++, s->now_ms += SG_PMTU_REPEAT_MS)
        probe_sizes(s, 1472);
    assert_string_equal(size_state(s), "found");
    sg_pmtu_sent(&s->pmtu, 100, s->now_ms);
    s->now_ms += SG_PMTU_RAISE_MS;
    assert_true(sg_pmtu_due(&s->pmtu, s->now_ms) > 1472);
    assert_int_equal(s->pmtu.record_max, 1472);
}

static void size_other_path(struct size *s)
{
    size_chosen(s);
    assert_int_equal(s->pmtu.record_max, SG_PLPMTU_MIN);
}

static void size_stopped(struct size *s)
{
    sg_pmtu_stop(&s->pmtu);
}

/* --- the table --- */

#define CHOICE(from_fn, from_name, event_text, walk_fn, to_name)                                                       \
    {                                                                                                                  \
        .row = "choice | " from_name " | " event_text " | " to_name, .from = (from_name), .to = (to_name),             \
        .choice_from = (from_fn), .choice_walk = (walk_fn)                                                             \
    }
#define PATH(from_fn, from_name, event_text, walk_fn, to_name)                                                         \
    {                                                                                                                  \
        .row = "path | " from_name " | " event_text " | " to_name, .from = (from_name), .to = (to_name),               \
        .path_from = (from_fn), .path_walk = (walk_fn)                                                                 \
    }
#define SIZE(from_fn, from_name, event_text, walk_fn, to_name)                                                         \
    {                                                                                                                  \
        .row = "size | " from_name " | " event_text " | " to_name, .from = (from_name), .to = (to_name),               \
        .size_from = (from_fn), .size_walk = (walk_fn)                                                                 \
    }

static const struct transition {
    const char *row, *from, *to;
    void (*choice_from)(struct choice *c), (*choice_walk)(struct choice *c);
    void (*path_from)(struct path *p), (*path_walk)(struct path *p);
    void (*size_from)(struct size *s), (*size_walk)(struct size *s);
} transitions[] = {
    CHOICE(seek, "seeks", "the first answer of the session", choice_first_answer, "uses"),
    CHOICE(seek, "seeks", "no answer", choice_no_answer, "seeks"),
    CHOICE(seek, "seeks", "an answer, UDP was given up before", choice_answer_after_all, "confirms"),
    CHOICE(confirm, "confirms", "three answers in a row", choice_three_answers, "uses"),
    CHOICE(confirm, "confirms", "a probe without an answer", choice_row_spoiled, "seeks"),
    CHOICE(use, "uses", "a record opens", choice_record, "uses"),
    CHOICE(use, "uses", "three probes without an answer, under traffic", fall_back, "seeks"),
    PATH(no_path, "none", "a newest record from elsewhere", path_record, "candidate"),
    PATH(candidate, "candidate", "its RESPONSE within 3 s", path_response, "validated"),
    PATH(candidate, "candidate", "no RESPONSE", path_no_response, "none"),
    PATH(validated, "validated", "a newest record from another address", path_other_record, "challenged"),
    PATH(challenged, "challenged", "the RESPONSE of the other within 3 s", path_other_response, "validated"),
    PATH(challenged, "challenged", "a newer record from the validated address", path_old_again, "validated"),
    PATH(challenged, "challenged", "no RESPONSE", path_no_response, "validated"),
    SIZE(idle, "idle", "UDP chosen", size_chosen, "searches"),
    SIZE(searches, "searches", "largest answered", size_answered, "found"),
    SIZE(searches, "searches", "none answered", size_unanswered, "least"),
    SIZE(found, "found", "five confirmations unanswered", size_black_hole, "searches"),
    SIZE(found, "found", "60 s, and something was sent", size_a_minute, "searches"),
    SIZE(found, "found", "another path", size_other_path, "searches"),
    SIZE(found, "found", "the stream chosen", size_stopped, "idle"),
};

enum { COUNT = sizeof transitions / sizeof transitions[0] };

static void each_transition_leads_where_it_should(void **state)
{
    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        const struct transition *t = &transitions[i];
        if (t->choice_from) {
            struct choice c = {.id = 0};
            t->choice_from(&c);
            assert_string_equal(choice_state(&c), t->from);
            t->choice_walk(&c);
            assert_string_equal(choice_state(&c), t->to);
        } else if (t->path_from) {
            struct path p;
            t->path_from(&p);
            assert_string_equal(path_state(&p), t->from);
            t->path_walk(&p);
            assert_string_equal(path_state(&p), t->to);
        } else {
            struct size s = {.now_ms = 0};
            t->size_from(&s);
            assert_string_equal(size_state(&s), t->from);
            t->size_walk(&s);
            assert_string_equal(size_state(&s), t->to);
        }
    }
}

static void the_specification_has_the_same_table(void **state)
{
    (void)state;
    char line[512], expected[512];
    unsigned found_rows = 0;
    FILE *file = fopen(SG_SOURCE_ROOT "/docs/protocol.md", "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "| choice |", 10) != 0 && strncmp(line, "| path |", 8) != 0 &&
            strncmp(line, "| size |", 8) != 0)
            continue;
        assert_true(found_rows < COUNT);
        snprintf(expected, sizeof expected, "| %s |\n", transitions[found_rows++].row);
        assert_string_equal(line, expected);
    }
    fclose(file);
    assert_int_equal(found_rows, COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_transition_leads_where_it_should),
        cmocka_unit_test(the_specification_has_the_same_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
