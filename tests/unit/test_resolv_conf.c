/* The lines `options` of resolv.conf(5), and when files count as others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/resolv_conf.h"

static void expect(const char *text, int timeout_ms, int tries, bool rotates)
{
    struct sg_resolv_options options;
    sg_resolv_options_parse(text, strlen(text), &options);
    assert_int_equal(options.timeout_ms, timeout_ms);
    assert_int_equal(options.tries, tries);
    assert_int_equal(options.rotates, rotates);
}

static void test_options(void **state)
{
    (void)state;
    expect("", 2000, 3, false);
    expect("nameserver 192.0.2.1\noptions timeout:1 attempts:5 rotate\n", 1000, 5, true);
    expect("options timeout:7", 7000, 3, false);
    expect("options\ttimeout:7\tattempts:1\r\n", 7000, 1, false);
    expect("options timeout:7\noptions attempts:1\noptions timeout:4\n", 4000, 1, false);
}

static void test_what_is_no_option(void **state)
{
    (void)state;
    expect("# options timeout:7\n; options timeout:7\n options timeout:7\n", 2000, 3, false);
    expect("optionstimeout:7\noptions\noptions \n", 2000, 3, false);
    expect("options timeout: timeout:x timeout:-1 timeout:1s attempts:+2 rotated rotate:1 xtimeout:9\n", 2000, 3,
           false);
    expect("search options timeout:7\n", 2000, 3, false);
}

static void test_bounds(void **state)
{
    (void)state;
    expect("options timeout:0 attempts:0\n", 1000, 1, false);
    expect("options timeout:31 attempts:6\n", 30000, 5, false);
    expect("options timeout:99999999999999999999999999 attempts:99999999999999999999999999\n", 30000, 5, false);
}

static void test_stamps(void **state)
{
    (void)state;
    struct sg_resolv_stamp one, other;
    sg_resolv_stamp(&one);
    sg_resolv_stamp(&other);
    assert_true(sg_resolv_stamp_equal(&one, &other));
    other.files[SG_RESOLV_FILES - 1].written.tv_nsec++;
    assert_false(sg_resolv_stamp_equal(&one, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_what_is_no_option),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_stamps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
