/* Invites: what is read, what is written, and what is said of each that is wrong; never the token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "net/invite.h"

#define PIN "8S9CCN1uVj7gSjGJ2CT0FmXogq7vxw-TIgl2GE6TN7g"
#define TOKEN "sgt1_p1KvVMdFnecd6OOihkjFbGzbht8b72WPyt7XbLFyWpQ"

static void reads_every_form(void **state)
{
    (void)state;
    static const struct {
        const char *text, *user, *password, *host;
        uint16_t port;
        bool has_pin;
    } cases[] = {
        {"sealgram://alice:" TOKEN "@vpn.example.org:1443/?pin=sha256:" PIN, "alice", TOKEN, "vpn.example.org", 1443,
         true},
        {"sealgram://alice:" TOKEN "@192.0.2.1:7/?pin=sha256:" PIN, "alice", TOKEN, "192.0.2.1", 7, true},
        {"sealgram://alice:" TOKEN "@[2001:db8::1]:65535/?pin=sha256:" PIN, "alice", TOKEN, "2001:db8::1", 65535, true},
        {"sealgram://alice:" TOKEN "@[2001:db8::1]/?pin=sha256:" PIN, "alice", TOKEN, "2001:db8::1", 1443, true},
        {"sealgram://bob@h:1/?pin=sha256:" PIN, "bob", "", "h", 1, true},
        {"sealgram://bob@h:1?pin=sha256:" PIN, "bob", "", "h", 1, true},
        {"sealgram://a%40b:p%3aw%25@h/", "a@b", "p:w%", "h", 1443, false},
        {"sealgram://bob@h", "bob", "", "h", 1443, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sg_invite invite;
        char problem[SG_INVITE_TEXT_MAX];
        if (!sg_invite_parse(cases[i].text, &invite, problem))
            fail_msg("%s: %s", cases[i].text, problem);
        assert_string_equal(invite.user, cases[i].user);
        assert_string_equal(invite.password, cases[i].password);
        assert_string_equal(invite.host, cases[i].host);
        assert_int_equal(invite.port, cases[i].port);
        assert_int_equal(invite.has_pin, cases[i].has_pin);
        assert_string_equal(problem, "");
    }
}

/* What mail, chat and editors leave around an invite is not part of it; what is inside it, is. */
static void takes_what_surrounds(void **state)
{
    (void)state;
#define ONE "SealGram://alice:" TOKEN "@192.0.2.1:7/?pin=sha256:" PIN
    static const char *const texts[] = {
        "  " ONE,      ONE "  \t\n",  ONE "\r\n",      "\t" ONE " \r\n", "\xef\xbb\xbf" ONE "\r\n",
        "\"" ONE "\"", "'" ONE "'\n", "<" ONE ">\r\n", " <" ONE "> ",    "\xef\xbb\xbf \"" ONE "\" \n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *text = texts[i];
        struct sg_invite invite;
        char problem[SG_INVITE_TEXT_MAX];
        if (!sg_invite_parse(text, &invite, problem))
            fail_msg("%s: %s", text, problem);
        assert_string_equal(invite.user, "alice");
        assert_true(invite.has_pin);
    }
#undef ONE
}

#define ALICE "sealgram://alice:" TOKEN "@"

static void names_what_is_wrong(void **state)
{
    (void)state;
    static const char no_scheme[] = "an invite begins with sealgram:// (@FILE reads one from a file)";
    static const char no_at[] = "it ends before the '@' that stands between USER:TOKEN and the server";
    static const char no_host[] = "there is no host, or it is too long";
    static const char bad_host[] = "the host is neither a name nor an address (an IPv6 address stands in [])";
    static const char bad_port[] = "the port is not a number from 1 to 65535";
    static const char bad_user[] = "the user name is empty, too long or badly encoded";
    static const char bad_token[] = "the token is empty, too long or badly encoded";
    static const char bad_query[] = "after '?' only pin=sha256:... and addr=... are known";
    static const char bad_addr[] = "after addr= stand 1 to 8 addresses, with commas between, once";
    static const char bad_pin[] = "the pin is not complete: it has 43 characters after sha256:";
    static const struct {
        const char *text, *problem;
    } cases[] = {
        {"", no_scheme},
        {"\"", no_scheme},
        {"<>", no_scheme},
        {"<sealgram://bob@h\"", no_scheme},
        {"sealgram://bob@h>", bad_host},
        {"https://alice@h", no_scheme},
        {"sealgram://", no_at},
        {"sealgram://h:1443/?pin=sha256:" PIN, no_at},
        {"sealgram://@h", bad_user},
        {"sealgram://a%4@h", bad_user},
        {"sealgram://a%00@h", bad_user},
        {"sealgram://:" TOKEN "@h", bad_user},
        {"sealgram://alice:@h", bad_token},
        {"sealgram://alice:%zz@h", bad_token},
        {ALICE, no_host},
        {ALICE ":1443", no_host},
        {ALICE "[2001:db8::1", "the host's '[' has no ']'"},
        {ALICE "[h]:1443", "in [] stands an IPv6 address, and nothing else"},
        {ALICE "[192.0.2.1]:1443", "in [] stands an IPv6 address, and nothing else"},
        {ALICE "[fe80::1%eth0]:1443", bad_host},
        {ALICE "a@b:1443", bad_host},
        {ALICE "a b:1443", bad_host},
        {ALICE "0.0.0.0:1443", bad_host},
        {ALICE "[::]:1443", bad_host},
        {ALICE "1.2.3:1443", bad_host},
        {ALICE "192.0.2.256", bad_host},
        {ALICE "2001:db8::1", bad_port},
        {"sealgram://alice:\xe2\x80\x8b" TOKEN "@h",
         "a character stands in it that no invite has, and that may not be visible"},
        {ALICE "h:", bad_port},
        {ALICE "h:0", bad_port},
        {ALICE "h:65536", bad_port},
        {ALICE "h:1443x", bad_port},
        {ALICE "[2001:db8::1]1443", bad_port},
        {ALICE "h:1443/x", "after the port comes /?pin=sha256:... or nothing"},
        {ALICE "h:1443/?", bad_query},
        {ALICE "h:1443/?key=1", bad_query},
        {ALICE "h:1443/?pin=md5:" PIN, bad_query},
        {ALICE "h:1443/?pin=sha256:", bad_pin},
        {ALICE "h:1443/?pin=sha256:" PIN "A", bad_pin},
        {ALICE "h:1443/?pin=sha256:" PIN "&x=1", bad_query},
        {ALICE "h:1443/?pin=sha256:" PIN "&", bad_query},
        {ALICE "h:1443/?pin=sha256:" PIN "&pin=sha256:" PIN, "there are two pins"},
        {ALICE "h:1443/?addr=", bad_addr},
        {ALICE "h:1443/?addr=name", bad_addr},
        {ALICE "h:1443/?addr=192.0.2.1,", bad_addr},
        {ALICE "h:1443/?addr=192.0.2.1&addr=192.0.2.2", bad_addr},
        {ALICE "h:1443/?addr=1.0.0.1,1.0.0.2,1.0.0.3,1.0.0.4,1.0.0.5,1.0.0.6,1.0.0.7,1.0.0.8,1.0.0.9", bad_addr},
        {ALICE "h:1443/?pin=sha256:8S9CCN1uVj7gSjGJ2CT0FmXogq7vxw-TIgl2GE6TN7", bad_pin},
        {ALICE "h:1443/?pin=sha256:8S9CCN1uVj7gSjGJ2CT0FmXogq7vxw-TIgl2GE6TN7h",
         bad_pin}, /* bits beyond the last byte */
        {ALICE "h:1443/?pin=sha256:8S9CCN1uVj7gSjGJ2CT0FmXogq7vxw+TIgl2GE6TN7g", bad_pin}, /* the other alphabet */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sg_invite invite;
        char problem[SG_INVITE_TEXT_MAX];
        memset(&invite, 0xaa, sizeof invite);
        if (sg_invite_parse(cases[i].text, &invite, problem))
            fail_msg("was taken: %s", cases[i].text);
        if (strcmp(problem, cases[i].problem) != 0)
            fail_msg("%s: \"%s\", not \"%s\"", cases[i].text, problem, cases[i].problem);
        static const struct sg_invite empty;
        assert_memory_equal(&invite, &empty, sizeof invite);
    }
}

/* Cut anywhere, an invite is refused or is one without what was cut: never another user, host or pin. */
static void bears_being_cut(void **state)
{
    (void)state;
    static const char whole[] = ALICE "vpn.example.org:1443/?pin=sha256:" PIN;
    for (size_t len = 0; len < sizeof whole - 1; len++) {
        char text[sizeof whole];
        char problem[SG_INVITE_TEXT_MAX];
        struct sg_invite invite;
        memcpy(text, whole, len);
        text[len] = '\0';
        if (!sg_invite_parse(text, &invite, problem)) {
            assert_null(strstr(problem, "sgt1_"));
            continue;
        }
        assert_string_equal(invite.user, "alice");
        assert_false(invite.has_pin);
    }
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    static const char *const lines[] = {
        ALICE "vpn.example.org:1443/?pin=sha256:" PIN,
        ALICE "[2001:db8::1]:65535/?pin=sha256:" PIN,
        ALICE "vpn.example.org:1443/?pin=sha256:" PIN "&addr=192.0.2.1,2001:db8::1",
        ALICE "vpn.example.org:1443/?addr=192.0.2.1",
        "sealgram://a%40b@192.0.2.1:1443/",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct sg_invite invite;
        char problem[SG_INVITE_TEXT_MAX], line[SG_INVITE_LINE_MAX];
        assert_true(sg_invite_parse(lines[i], &invite, problem));
        sg_invite_format(&invite, line);
        assert_string_equal(line, lines[i]);
    }
}

/* The longest of everything, each byte escaped, fits. */
static void writes_the_longest(void **state)
{
    (void)state;
    struct sg_invite invite = {.port = 65535, .has_pin = true}, again;
    char problem[SG_INVITE_TEXT_MAX], line[SG_INVITE_LINE_MAX];
    memset(invite.user, '%', sizeof invite.user - 1);
    memset(invite.password, 0xff, sizeof invite.password - 1);
    memset(invite.host, 'h', sizeof invite.host - 1);
    for (uint8_t i = 0; i < SG_IP_LIST_MAX; i++) {
        struct sg_ip ip = {.family = 6};
        memset(ip.bytes, 0x11, sizeof ip.bytes);
        ip.bytes[15] = (uint8_t)(0x10 + i);
        sg_ip_list_add(&invite.addresses, &ip);
    }
    sg_invite_format(&invite, line);
    assert_true(sg_invite_parse(line, &again, problem));
    assert_memory_equal(&invite, &again, sizeof invite);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_form),     cmocka_unit_test(takes_what_surrounds),
        cmocka_unit_test(names_what_is_wrong),  cmocka_unit_test(bears_being_cut),
        cmocka_unit_test(writes_what_it_reads), cmocka_unit_test(writes_the_longest),
    };
    return cmocka_run_group_tests_name("invite", tests, NULL, NULL);
}
