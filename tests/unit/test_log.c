/* The log: one line for each call, whatever is in it, and not more of them than somebody can read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <jansson.h>

#include "net/log.h"
#include "net/log_text.h"

static char captured[1 << 20];
static int real_stderr = -1;
static FILE *capture;

/* From here on what is written to standard error is kept. */
static void begin_capture(void)
{
    capture = tmpfile();
    assert_non_null(capture);
    real_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fileno(capture), STDERR_FILENO) >= 0);
}

/* The text that was written since; the number of its lines. */
static size_t end_capture(void)
{
    size_t lines = 0;
    assert_true(dup2(real_stderr, STDERR_FILENO) >= 0);
    close(real_stderr);
    rewind(capture);
    size_t len = fread(captured, 1, sizeof captured - 1, capture);
    captured[len] = '\0';
    fclose(capture);
    for (size_t i = 0; i < len; i++)
        lines += captured[i] == '\n';
    return lines;
}

static void a_line_stays_one_line(void **state)
{
    char long_text[3000];
    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    begin_capture();
    sg_log(SG_LOG_WARN, "a %s b", "one\ntwo\r\033[31m");
    sg_log(SG_LOG_INFO, "%s", long_text);
    sg_log(SG_LOG_DEBUG, "not at this level");
    assert_int_equal(end_capture(), 2);
    assert_non_null(strstr(captured, "sealgram: warning: a one\\x0atwo\\x0d\\x1b[31m b\n"));
}

static void expect_escaped(const char *in, size_t len, const char *expected)
{
    char out[256];
    assert_int_equal(sg_log_escape(out, sizeof out, in, len), strlen(expected));
    assert_string_equal(out, expected);
}

static void what_is_no_plain_text_is_escaped(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain 'text' \"quoted\"", "plain 'text' \"quoted\""},
        {"\t\n\r\033\177", "\\x09\\x0a\\x0d\\x1b\\x7f"},
        {"a\\x0ab", "a\\\\x0ab"},                                               /* nobody can write an escape */
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac"}, /* two bytes, three */
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},                               /* four */
        {"\xc2\x85", "\\xc2\\x85"},                                             /* C1: a terminal's NEL */
        {"\xe2\x80\xae", "\\xe2\\x80\\xae"},                                    /* turns the direction */
        {"\xe2\x80\xa8", "\\xe2\\x80\\xa8"},                                    /* ends a line */
        {"\xff\x80", "\\xff\\x80"},                                             /* no UTF-8 */
        {"\xc0\xaf", "\\xc0\\xaf"},                                             /* overlong */
        {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},                                    /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},                                    /* a surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},                           /* beyond Unicode */
        {"\xe2\x82", "\\xe2\\x82"},                                             /* cut off */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_escaped(cases[i].in, strlen(cases[i].in), cases[i].out);
    expect_escaped("a\0b", 3, "a\\x00b");
}

static void escapes_are_cut_off_whole(void **state)
{
    char out[8];
    (void)state;
    assert_int_equal(sg_log_escape(out, sizeof out, "abc\n\n", 5), 7);
    assert_string_equal(out, "abc\\x0a");
    assert_int_equal(sg_log_escape(out, sizeof out, "abcd\n", 5), 4);
    assert_string_equal(out, "abcd");
    assert_int_equal(sg_log_escape(out, 2, "\xc3\xbc", 2), 0);
    assert_string_equal(out, "");
}

static void expect_masked(const char *in, const char *expected)
{
    struct sg_target target;
    char out[SG_TARGET_TEXT_MAX];
    assert_int_equal(sg_target_parse(in, false, &target), SG_OK);
    sg_log_target(&target, out);
    assert_string_equal(out, expected);
    if (target.atyp != SG_ATYP_NAME) {
        struct sg_endpoint ep = sg_target_endpoint(&target);
        char text[SG_ENDPOINT_TEXT_MAX];
        sg_log_endpoint(&ep, text);
        assert_string_equal(text, expected);
    }
}

static void addresses_are_masked_when_asked(void **state)
{
    (void)state;
    expect_masked("203.0.113.77:4321", "203.0.113.77:4321");
    expect_masked("example.org:53", "example.org:53");
    sg_log_set_addresses(SG_LOG_MASKED);
    expect_masked("203.0.113.77:4321", "203.0.113.0:4321");
    expect_masked("[2001:db8:1:2:3:4:5:6]:53", "[2001:db8:1::]:53");
    expect_masked("[::1]:53", "[::]:53");
    expect_masked("[::ffff:203.0.113.77]:53", "203.0.113.0:53");
    expect_masked("example.org:53", "*:53");
    sg_log_set_addresses(SG_LOG_FULL);
    expect_masked("[2001:db8:1:2:3:4:5:6]:53", "[2001:db8:1:2:3:4:5:6]:53");
}

static void expect_member(const json_t *line, const char *name, const char *expected)
{
    assert_string_equal(json_string_value(json_object_get(line, name)), expected);
}

static void a_json_line_is_one_object(void **state)
{
    (void)state;
    sg_log_set_format(SG_LOG_JSON);
    begin_capture();
    sg_log_event(SG_LOG_WARN, "some_event", SG_LOG_FIELDS(sg_log_word("who", "a\"b\n\xff"), sg_log_number("count", 7)),
                 "message of \"%s\"", "x\ny");
    sg_log(SG_LOG_INFO, "note");
    sg_log_set_format(SG_LOG_TEXT);
    assert_int_equal(end_capture(), 2);
    char *end = strchr(captured, '\n');
    json_t *line = json_loadb(captured, (size_t)(end - captured), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(line);
    assert_int_equal(json_object_size(line), 6);
    const char *ts = json_string_value(json_object_get(line, "ts"));
    int year = 0, parts[5] = {0}, ms = 0, used = 0;
    assert_int_equal(sscanf(ts, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &parts[0], &parts[1], &parts[2], &parts[3],
                            &parts[4], &ms, &used),
                     7);
    assert_int_equal(used, 24);
    assert_int_equal(strlen(ts), 24);
    expect_member(line, "level", "warning");
    expect_member(line, "event", "some_event");
    expect_member(line, "message", "message of \"x\\x0ay\"");
    expect_member(line, "who", "a\"b\\x0a\\xff");
    assert_int_equal(json_integer_value(json_object_get(line, "count")), 7);
    assert_ptr_equal(strstr(captured, "{\"ts\":\""), captured);
    json_decref(line);
    assert_non_null(strstr(end, ",\"level\":\"info\",\"event\":\"note\",\"message\":\"note\"}\n"));
}

static void log_flood(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        sg_log(SG_LOG_WARN, "flood");
}

static void a_flood_from_one_place_is_cut_and_counted(void **state)
{
    (void)state;
    begin_capture();
    log_flood(10000);
    sg_log(SG_LOG_WARN, "from elsewhere");
    usleep(2 * 1000000 / SG_LOG_PER_SECOND);
    log_flood(1);
    size_t lines = end_capture();
    assert_in_range(lines, SG_LOG_BURST + 3, SG_LOG_BURST + 20); /* some more if the machine is slow */
    assert_non_null(strstr(captured, "sealgram: warning: from elsewhere\n"));
    char *told = strstr(captured, " lines like the next were left out\n");
    assert_non_null(told);
    const char *next = strstr(told, "sealgram: ");
    assert_non_null(next);
    assert_string_equal(next, "sealgram: warning: flood\n");
    while (told[-1] != ' ')
        told--;
    assert_in_range(strtoul(told, NULL, 10), 9800, 10000 - SG_LOG_BURST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_stays_one_line),     cmocka_unit_test(what_is_no_plain_text_is_escaped),
        cmocka_unit_test(escapes_are_cut_off_whole), cmocka_unit_test(addresses_are_masked_when_asked),
        cmocka_unit_test(a_json_line_is_one_object), cmocka_unit_test(a_flood_from_one_place_is_cut_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
