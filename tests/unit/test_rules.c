/*
 * Which rule decides: each condition by itself in a table, then many random rules against an oracle that knows nothing
 * of selections, and what may be said while something is not known yet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rules_text.h"

static struct sg_rules *load(const char *text)
{
    char error[SG_YAML_ERROR_MAX];
    struct sg_rules *rules = rules_of_text(text, error);
    if (!rules)
        fail_msg("%s\n%s", text, error);
    return rules;
}

/* What a user asks for: everything as text; "" is what is not known, host "-" none. */
struct question {
    const char *user, *from;
    enum sg_rule_command command;
    const char *host, *ip;
    uint16_t port;
};

static struct sg_ip ip_of(const char *text)
{
    struct sg_ip ip = {0};
    if (text[0] != '\0')
        assert_int_equal(sg_ip_parse(text, &ip), SG_OK);
    return ip;
}

static struct sg_rules_verdict ask(const struct sg_rules *rules, const struct question *q)
{
    struct sg_rule_selection selection;
    const struct sg_rule_asker asker = {.user = q->user, .from = ip_of(q->from), .command = q->command};
    struct sg_rule_target target = {.ip = ip_of(q->ip), .port = q->port, .name_unknown = q->host[0] == '\0'};
    if (q->host[0] != '\0' && strcmp(q->host, "-") != 0) {
        target.name = (const uint8_t *)q->host;
        target.name_len = strlen(q->host);
    }
    sg_rules_select(rules, &asker, &selection);
    return sg_rules_judge(rules, NULL, &selection, &target);
}

/* "allow NAME", "deny NAME", "deny -" (none matches), "open NAME". */
static void expect(const struct sg_rules *rules, const struct question *q, const char *expected)
{
    static const char *const outcomes[] = {
        [SG_RULES_ALLOW] = "allow", [SG_RULES_DENY] = "deny", [SG_RULES_OPEN] = "open"};
    char got[128];
    struct sg_rules_verdict verdict = ask(rules, q);
    snprintf(got, sizeof got, "%s %s", outcomes[verdict.outcome], verdict.rule ? verdict.rule->name : "-");
    if (strcmp(got, expected) != 0)
        fail_msg("%s from %s %s %s %s:%u: %s, not %s", q->user, q->from, sg_rule_command_name(q->command), q->host,
                 q->ip, q->port, got, expected);
}

static void first_match_decides(void **state)
{
    static const char text[] = "groups: {staff: [carol, bob], empty: []}\n"
                               "rules:\n"
                               "- {name: alice-dns, user: alice, command: udp, port: 53, action: allow}\n"
                               "- {name: bad-host, host: [bad.example.org, '*.ads.example'], action: deny}\n"
                               "- {name: staff-net, group: [empty, staff], to: 10.0.0.0/8, action: allow}\n"
                               "- {name: nobody, group: empty, action: allow}\n"
                               "- {name: net, to: [10.0.0.0/8, '2001:db8::/32'], action: deny, reply: 5}\n"
                               "- {name: office, from: [192.0.2.0/24, '2001:db8:1::/48'], protocol: tcp, port: [80, "
                               "8000-8010], action: allow}\n"
                               "- {name: both, host: '*.Example.ORG', to: 198.51.100.0/24, action: allow}\n"
                               "- {name: alice-in-staff, user: alice, group: staff, action: allow}\n"
                               "- {name: ftp, user: dave, command: [connect, bind], port: 20-21, action: allow}\n";
    const struct {
        struct question q;
        const char *expected;
    } table[] = {
        {{"alice", "203.0.113.1", SG_RULE_UDP, "-", "9.9.9.9", 53}, "allow alice-dns"},
        {{"alice", "203.0.113.1", SG_RULE_UDP, "-", "9.9.9.9", 54}, "deny -"},
        {{"alice", "203.0.113.1", SG_RULE_CONNECT, "-", "9.9.9.9", 53}, "deny -"},
        {{"Alice", "203.0.113.1", SG_RULE_UDP, "-", "9.9.9.9", 53}, "deny -"},
        {{"", "203.0.113.1", SG_RULE_UDP, "-", "9.9.9.9", 53}, "deny -"},
        /* names */
        {{"bob", "203.0.113.1", SG_RULE_UDP, "bad.example.org", "10.1.1.1", 1}, "deny bad-host"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, "BAD.example.ORG.", "10.1.1.1", 1}, "deny bad-host"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, "a.b.ads.example", "10.1.1.1", 1}, "deny bad-host"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, "ads.example", "10.1.1.1", 1}, "allow staff-net"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, ".ads.example", "10.1.1.1", 1}, "allow staff-net"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, "bads.example", "10.1.1.1", 1}, "allow staff-net"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, "x.bad.example.org", "10.1.1.1", 1}, "allow staff-net"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, "bad.example.org.x", "10.1.1.1", 1}, "allow staff-net"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, "bad.example.or", "10.1.1.1", 1}, "allow staff-net"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, ".", "10.1.1.1", 1}, "allow staff-net"},
        /* groups, networks of both families, forms that hide an address */
        {{"carol", "203.0.113.1", SG_RULE_BIND, "-", "10.255.255.255", 1}, "allow staff-net"},
        {{"caro", "203.0.113.1", SG_RULE_BIND, "-", "10.255.255.255", 1}, "deny net"},
        {{"staff", "203.0.113.1", SG_RULE_BIND, "-", "10.255.255.255", 1}, "deny net"},
        {{"carol", "203.0.113.1", SG_RULE_BIND, "-", "::ffff:10.0.0.1", 1}, "allow staff-net"},
        {{"carol", "203.0.113.1", SG_RULE_UDP, "-", "64:ff9b::a00:1", 1}, "deny net"},
        {{"carol", "203.0.113.1", SG_RULE_UDP, "-", "2002:a00:1::", 1}, "deny net"},
        {{"carol", "203.0.113.1", SG_RULE_UDP, "-", "11.0.0.0", 1}, "deny -"},
        {{"dave", "192.0.2.1", SG_RULE_CONNECT, "-", "2001:db8::1", 80}, "deny net"},
        {{"dave", "192.0.2.1", SG_RULE_CONNECT, "-", "2001:db9::1", 80}, "allow office"},
        /* the client's address, protocols, ports */
        {{"dave", "::ffff:192.0.2.1", SG_RULE_CONNECT, "-", "9.9.9.9", 80}, "allow office"},
        {{"dave", "2001:db8:1::7", SG_RULE_BIND, "-", "9.9.9.9", 8000}, "allow office"},
        {{"dave", "2001:db8:2::7", SG_RULE_BIND, "-", "9.9.9.9", 8000}, "deny -"},
        {{"dave", "192.0.3.1", SG_RULE_CONNECT, "-", "9.9.9.9", 80}, "deny -"},
        {{"dave", "192.0.2.1", SG_RULE_UDP, "-", "9.9.9.9", 80}, "deny -"},
        {{"dave", "192.0.2.1", SG_RULE_CONNECT, "-", "9.9.9.9", 8010}, "allow office"},
        {{"dave", "192.0.2.1", SG_RULE_CONNECT, "-", "9.9.9.9", 8011}, "deny -"},
        {{"dave", "192.0.2.1", SG_RULE_CONNECT, "-", "9.9.9.9", 7999}, "deny -"},
        {{"dave", "192.0.3.1", SG_RULE_BIND, "-", "9.9.9.9", 20}, "allow ftp"},
        {{"dave", "192.0.3.1", SG_RULE_UDP, "-", "9.9.9.9", 20}, "deny -"},
        /* a rule with a name and a network needs both; user and group too */
        {{"eve", "203.0.113.1", SG_RULE_UDP, "www.example.org", "198.51.100.7", 1}, "allow both"},
        {{"eve", "203.0.113.1", SG_RULE_UDP, "www.example.org", "198.51.101.7", 1}, "deny -"},
        {{"eve", "203.0.113.1", SG_RULE_UDP, "example.org", "198.51.100.7", 1}, "deny -"},
        {{"eve", "203.0.113.1", SG_RULE_UDP, "-", "198.51.100.7", 1}, "deny -"},
        {{"alice", "203.0.113.1", SG_RULE_UDP, "-", "9.9.9.9", 1}, "deny -"},
        /* before a name is looked up */
        {{"eve", "203.0.113.1", SG_RULE_CONNECT, "bad.example.org", "", 1}, "deny bad-host"},
        {{"alice", "203.0.113.1", SG_RULE_UDP, "www.example.org", "", 53}, "allow alice-dns"},
        {{"eve", "203.0.113.1", SG_RULE_UDP, "www.example.org", "", 1}, "open net"},
        {{"eve", "203.0.113.1", SG_RULE_UDP, "www.example.com", "", 1}, "deny -"},
        {{"bob", "203.0.113.1", SG_RULE_UDP, "www.example.com", "", 1}, "open staff-net"},
        {{"dave", "192.0.2.1", SG_RULE_CONNECT, "www.example.com", "", 80}, "open net"},
        {{"dave", "", SG_RULE_CONNECT, "-", "9.9.9.9", 80}, "open office"},
        {{"dave", "", SG_RULE_CONNECT, "-", "10.0.0.1", 80}, "deny net"},
        /* the peer of a BIND, and an association whose targets nobody knows yet */
        {{"eve", "203.0.113.1", SG_RULE_BIND, "-", "", 0}, "deny -"},
        {{"dave", "203.0.113.1", SG_RULE_BIND, "-", "9.9.9.9", 0}, "open ftp"},
        {{"eve", "203.0.113.1", SG_RULE_UDP, "", "", 0}, "open bad-host"},
    };
    (void)state;
    struct sg_rules *rules = load(text);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        expect(rules, &table[i].q, table[i].expected);
    sg_rules_release(rules);
}

static void replies_are_as_chosen(void **state)
{
    (void)state;
    struct sg_rules *rules =
        load("rules:\n- {name: a, port: 1, action: deny}\n- {name: b, port: 2, action: deny, reply: 5}\n");
    static const uint8_t codes[] = {2, 2, 5, 2};
    for (uint16_t port = 1; port < 4; port++) {
        struct sg_rules_verdict verdict =
            ask(rules, &(struct question){"u", "1.1.1.1", SG_RULE_UDP, "-", "9.9.9.9", port});
        assert_int_equal(verdict.outcome, SG_RULES_DENY);
        assert_int_equal(sg_rules_reply(&verdict), codes[port]);
    }
    sg_rules_release(rules);
}

static void without_a_list_all_is_allowed_and_with_an_empty_one_nothing(void **state)
{
    (void)state;
    const struct question q = {"u", "1.1.1.1", SG_RULE_UDP, "-", "9.9.9.9", 53};
    struct sg_rules *none = load("groups: {g: [u]}\n"), *empty = load("rules: []\n");
    expect(none, &q, "allow -");
    expect(empty, &q, "deny -");
    assert_true(sg_group_has(sg_rules_group(none, "g"), "u"));
    assert_null(sg_rules_group(none, "h"));
    sg_rules_release(sg_rules_ref(none));
    expect(none, &q, "allow -");
    sg_rules_release(none);
    sg_rules_release(empty);
    sg_rules_release(NULL);
}

/* --- against an oracle --- */

static uint32_t seed = 1;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 16) % below;
}

/* A small world, so that conditions are often met. */
static const char *const users[] = {"a", "b", "c", ""};
static const char *const froms[] = {"10.0.0.1", "10.0.1.1", "fd00::1"};
static const char *const nets[] = {"10.0.0.0/24", "10.0.0.0/16", "fd00::/64", "10.0.1.1/32", "0.0.0.0/0"};
static const bool in_net[3][5] = {{true, true, false, false, true}, {false, true, false, true, true}, {[2] = true}};
static const char *const hosts[] = {"-", "x.test", "y.x.test"};
static const char *const patterns[] = {"x.test", "*.x.test", "*.test"};
static const bool is_host[3][3] = {{false}, {true, false, true}, {false, true, true}};
static const enum sg_rule_command commands[] = {SG_RULE_UDP, SG_RULE_CONNECT, SG_RULE_BIND};

/* A rule in numbers; -1: no such condition. */
struct plan {
    int user, group, from, command, to, host, first, last;
    bool allow;
};

static int some(uint32_t below)
{
    return draw(3) == 0 ? (int)draw(below) : -1;
}

static struct plan draw_plan(void)
{
    struct plan plan = {some(3), some(2), some(5), some(3), some(5), some(3), some(4), 0, draw(2) == 0};
    plan.last = plan.first < 0 ? -1 : plan.first + (int)draw(3);
    return plan;
}

static void write_plan(char *out, size_t size, const struct plan *p, unsigned number)
{
    char text[6][64] = {""};
    static const char *const groups[] = {"ab", "c"};
    if (p->user >= 0)
        snprintf(text[0], 64, "user: %s, ", users[p->user]);
    if (p->group >= 0)
        snprintf(text[1], 64, "group: %s, ", groups[p->group]);
    if (p->from >= 0)
        snprintf(text[2], 64, "from: '%s', ", nets[p->from]);
    if (p->command >= 0)
        snprintf(text[3], 64, "command: %s, ", sg_rule_command_name(commands[p->command]));
    if (p->to >= 0)
        snprintf(text[4], 64, "to: '%s', ", nets[p->to]);
    if (p->host >= 0)
        snprintf(text[5], 64, "host: '%s', ", patterns[p->host]);
    int len =
        snprintf(out, size, "- {name: r%u, %s%s%s%s%s%s", number, text[0], text[1], text[2], text[3], text[4], text[5]);
    if (p->first >= 0)
        len += snprintf(out + len, size - (size_t)len, "port: %d-%d, ", p->first + 1, p->last + 1);
    snprintf(out + len, size - (size_t)len, "action: %s}\n", p->allow ? "allow" : "deny");
}

/* Indices into the world. */
struct place {
    unsigned user, from, command, host, to, port;
};

static bool plan_matches(const struct plan *p, const struct place *at)
{
    static const bool in_group[4][2] = {{true, false}, {true, false}, {false, true}, {false, false}};
    return (p->user < 0 || p->user == (int)at->user) && (p->group < 0 || in_group[at->user][p->group]) &&
           (p->from < 0 || in_net[at->from][p->from]) && (p->command < 0 || p->command == (int)at->command) &&
           (p->to < 0 || in_net[at->to][p->to]) && (p->host < 0 || is_host[at->host][p->host]) &&
           (p->first < 0 || ((int)at->port >= p->first && (int)at->port <= p->last));
}

static void predict(const struct plan *plans, unsigned count, const struct place *at, char out[32])
{
    for (unsigned i = 0; i < count; i++) {
        if (!plan_matches(&plans[i], at))
            continue;
        snprintf(out, 32, "%s r%u", plans[i].allow ? "allow" : "deny", i);
        return;
    }
    snprintf(out, 32, "deny -");
}

/* What is said while something is not known holds, whatever it turns out to be. */
static void check_unknown(const struct sg_rules *rules, const struct question *q, enum sg_rules_outcome final)
{
    for (unsigned hidden = 1; hidden < 16; hidden++) {
        struct question part = *q;
        if (hidden & 1)
            part.from = "";
        if (hidden & 2)
            part.host = "";
        if (hidden & 4)
            part.ip = "";
        if (hidden & 8)
            part.port = 0;
        enum sg_rules_outcome early = ask(rules, &part).outcome;
        if (early != SG_RULES_OPEN)
            assert_int_equal(early, final);
    }
}

static void check_place(const struct sg_rules *rules, const struct plan *plans, unsigned count, const struct place *at)
{
    char expected[32];
    const struct question q = {users[at->user], froms[at->from], commands[at->command],
                               hosts[at->host], froms[at->to],   (uint16_t)(at->port + 1)};
    predict(plans, count, at, expected);
    expect(rules, &q, expected);
    check_unknown(rules, &q, ask(rules, &q).outcome);
}

static void random_rules_do_as_an_oracle_says(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        char text[8192] = "groups: {ab: [b, a], c: [c]}\nrules:\n";
        struct plan plans[70];
        unsigned count = round % 20 == 0 ? 70 : 1 + draw(8);
        for (unsigned i = 0; i < count; i++) {
            plans[i] = draw_plan();
            write_plan(text + strlen(text), sizeof text - strlen(text), &plans[i], i);
        }
        struct sg_rules *rules = load(text);
        for (unsigned i = 0; i < 300; i++) {
            const struct place at = {draw(4), draw(3), draw(3), draw(3), draw(3), draw(6)};
            check_place(rules, plans, count, &at);
        }
        sg_rules_release(rules);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_match_decides),
        cmocka_unit_test(replies_are_as_chosen),
        cmocka_unit_test(without_a_list_all_is_allowed_and_with_an_empty_one_nothing),
        cmocka_unit_test(random_rules_do_as_an_oracle_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
