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

#include "net/log.h"

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
    char *told = strstr(captured, " lines like the next were left out\nsealgram: warning: flood\n");
    assert_non_null(told);
    while (told[-1] != ' ')
        told--;
    assert_in_range(strtoul(told, NULL, 10), 9800, 10000 - SG_LOG_BURST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_stays_one_line),
        cmocka_unit_test(a_flood_from_one_place_is_cut_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
