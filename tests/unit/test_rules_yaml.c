/* What a list of rules may look like, and the whole message for each way to get it wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rules_text.h"

static void refuse(const char *text, const char *expected)
{
    char error[SG_YAML_ERROR_MAX] = "was taken", whole[SG_YAML_ERROR_MAX];
    struct sg_rules *rules = rules_of_text(text, error);
    snprintf(whole, sizeof whole, "FILE:%s", expected);
    if (rules || strcmp(error, whole) != 0)
        fail_msg("%s\n%s\nnot: %s", text, error, whole);
}

static void reads_every_key(void **state)
{
    char error[SG_YAML_ERROR_MAX];
    (void)state;
    struct sg_rules *rules = rules_of_text("rules:\n"
                                           "  # a comment\n"
                                           "  - name: all-of.it_1@x\n"
                                           "    user: [alice, b@example.org]\n"
                                           "    group: staff\n"
                                           "    from: [192.0.2.0/24, '::ffff:10.0.0.0/104']\n"
                                           "    command: [udp, connect]\n"
                                           "    protocol: tcp\n"
                                           "    to: 203.0.113.1\n"
                                           "    host: ['*.Example.org', EXAMPLE.org]\n"
                                           "    port: [53, '8000-8999', 1-65535]\n"
                                           "    action: deny\n"
                                           "    reply: 05\n"
                                           "    log: true\n"
                                           "  - action: allow\n"
                                           "    name: rest\n"
                                           "groups:\n"
                                           "  staff: [b, a, b]\n",
                                           error);
    if (!rules)
        fail_msg("%s", error);
    const struct sg_rule *rule = &rules->rules[0];
    assert_true(rules->given);
    assert_int_equal(rules->count, 2);
    assert_string_equal(rule->name, "all-of.it_1@x");
    assert_int_equal(rule->line, 3);
    assert_int_equal(rule->user_count, 2);
    assert_string_equal(rule->users[1], "b@example.org");
    assert_ptr_equal(rule->groups[0].group, sg_rules_group(rules, "staff"));
    assert_int_equal(rule->from_count, 2);
    assert_int_equal(rule->from[1].ip.family, 4);
    assert_int_equal(rule->from[1].bits, 8);
    assert_int_equal(rule->commands, SG_RULE_CONNECT);
    assert_int_equal(rule->to[0].bits, 32);
    assert_string_equal(rule->hosts[0], "*.example.org");
    assert_string_equal(rule->hosts[1], "example.org");
    assert_int_equal(rule->port_count, 3);
    assert_int_equal(rule->ports[0].last, 53);
    assert_int_equal(rule->ports[1].first, 8000);
    assert_int_equal(rule->reply, 5);
    assert_false(rule->allow);
    assert_true(rule->log);
    rule = &rules->rules[1];
    assert_int_equal(rule->line, 15);
    assert_int_equal(rule->commands, SG_RULE_UDP | SG_RULE_CONNECT | SG_RULE_BIND);
    assert_true(rule->allow);
    assert_false(rule->log);
    sg_rules_release(rules);
}

#define RULE "rules:\n- name: r\n  action: deny\n"

static void refuses_wrong_rules(void **state)
{
    (void)state;
    refuse("rules: 5\n", "1: rules: must be a list of rules");
    refuse("rules:\n", "1: rules: has no value");
    refuse("rules:\n- allow\n", "2: rules: must be a mapping of keys to values");
    refuse("rules:\n- action: allow\n", "2: rules: the rule has no name");
    refuse("rules:\n- name: r\n  port: 53\n", "2: rules: r has no action: allow or deny");
    refuse("rules:\n- {name: a b, action: deny}\n",
           "2: name: 'a b' is no name: 1 to 64 of letters, digits and . _ - @");
    refuse("rules:\n- {name: [], action: deny}\n",
           "2: name: 'the value' is no name: 1 to 64 of letters, digits and . _ - @");
    refuse(RULE "- name: s\n  action: deny\n- action: allow\n  name: r\n",
           "6: rules: r is also the name of the rule in line 2");
    refuse(RULE "  ports: 53\n", "4: ports: unknown key (did you mean port?)");
    refuse(RULE "  action: deny\n", "4: yaml: duplicate key");
    refuse("rules:\n- name: r\n  action: drop\n", "3: action: must be allow or deny");
    refuse(RULE "  reply: 0\n", "4: reply: must be a SOCKS reply code from 1 to 8");
    refuse(RULE "  reply: 9\n", "4: reply: must be a SOCKS reply code from 1 to 8");
    refuse(RULE "  reply: 2x\n", "4: reply: must be a SOCKS reply code from 1 to 8");
    refuse("rules:\n- name: r\n  reply: 5\n  action: allow\n", "3: reply: is only for action: deny");
    refuse(RULE "  log: yes\n", "4: log: must be true or false");
    refuse(RULE "  command: [udp, tcp]\n", "4: command: must be udp, connect or bind");
    refuse(RULE "  protocol: sctp\n", "4: protocol: must be tcp or udp");
    refuse(RULE "  protocol: udp\n  command: [bind]\n", "2: rules: r never matches: no such command has that protocol");
}

static void refuses_wrong_conditions(void **state)
{
    (void)state;
    refuse(RULE "  user: a b\n", "4: user: 'a b' is no user name: 1 to 64 of letters, digits and . _ - @");
    refuse(RULE "  user:\n  - a\n  - [b]\n",
           "6: user: 'the entry' is no user name: 1 to 64 of letters, digits and . _ - @");
    refuse(RULE "  user: []\n", "4: user: is empty: the rule would never match");
    refuse(RULE "  group: staff\n", "4: group: there is no 'staff' under groups");
    refuse("groups: {a: []}\n" RULE "  group:\n  - a\n  - b\n", "7: group: there is no 'b' under groups");
    refuse(RULE "  group: {}\n", "4: group: must be the name of a group");
    refuse(RULE "  from: 10.0.0.1/8\n", "4: from: '10.0.0.1/8' is not a network: ADDRESS/BITS without host bits");
    refuse(RULE "  to: [10.0.0.0/8, example.org]\n",
           "4: to: 'example.org' is not a network: ADDRESS/BITS without host bits");
    refuse(RULE "  to: [10.0.0.0/33]\n", "4: to: '10.0.0.0/33' is not a network: ADDRESS/BITS without host bits");
    static const char *const hosts[] = {"'*'", "'*.'", "a..b", ".a",       "a.",   "'*.*.a'",
                                        "a.*", "'*a'", "a b",  "10.0.0.1", "'::1'"};
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char text[128], shown[32] = "", expected[128];
        sscanf(hosts[i][0] == '\'' ? hosts[i] + 1 : hosts[i], "%31[^']", shown);
        snprintf(text, sizeof text, RULE "  host: %s\n", hosts[i]);
        snprintf(expected, sizeof expected, "4: host: '%s' is neither a name nor \"*.NAME\" (in quotes)", shown);
        refuse(text, expected);
    }
    static const char *const ports[] = {
        "0", "65536", "1-65536", "5-4", "a", "1-", "-1", "1-2-3", "1 - 2", "0-5", "99999999999999999999"};
    for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++) {
        char text[128], expected[128];
        snprintf(text, sizeof text, RULE "  port: [1, %s]\n", ports[i]);
        snprintf(expected, sizeof expected, "4: port: '%s' is neither a port nor FIRST-LAST, from 1 to 65535",
                 ports[i]);
        refuse(text, expected);
    }
}

static void refuses_wrong_groups(void **state)
{
    (void)state;
    refuse("groups: [a]\n", "1: groups: must be a mapping of groups to users");
    refuse("groups:\n  a: b\n", "2: groups: a: must be a list of users");
    refuse("groups:\n  a b: []\n", "2: groups: 'a b' is no name: 1 to 64 of letters, digits and . _ - @");
    refuse("groups:\n  a:\n  - b\n  - c d\n",
           "4: groups: a: 'c d' is no user name: 1 to 64 of letters, digits and . _ - @");
    refuse("groups:\n  a: []\n  a: []\n", "3: yaml: duplicate key");
}

static void refuses_too_many(void **state)
{
    static char text[32768];
    (void)state;
    strcpy(text, "rules:\n");
    for (unsigned i = 0; i <= SG_RULES_MAX; i++)
        sprintf(text + strlen(text), "- {name: r%u, action: deny}\n", i);
    refuse(text, "258: rules: more than 256 rules");
    strcpy(text, RULE "  port:\n");
    for (unsigned i = 0; i <= SG_RULE_LIST_MAX; i++)
        strcat(text, "  - 1\n");
    refuse(text, "261: port: more than 256 entries");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_key),          cmocka_unit_test(refuses_wrong_rules),
        cmocka_unit_test(refuses_wrong_conditions), cmocka_unit_test(refuses_wrong_groups),
        cmocka_unit_test(refuses_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
