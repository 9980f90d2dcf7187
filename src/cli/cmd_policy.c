/* `sealgram policy test`: what a server of this configuration says to a request, and which rule decides. */
#include <argp.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "core/socks5.h"
#include "net/sockaddr.h"
#include "server/config.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/users.h"
#include "server/verdict.h"

enum { KEY_USER = 256, KEY_FROM, KEY_JSON, ADDRESSES_MAX = 16 };

struct arguments {
    const char *config, *user;
    struct sg_ip from; /* family 0: not said */
    bool json;
    bool is_test;
    unsigned command; /* 0: not said */
    const char *target_text;
    struct sg_target target;
};

static error_t parse_argument(struct arguments *args, const char *value, struct argp_state *state)
{
    if (!args->is_test) {
        args->is_test = strcmp(value, "test") == 0;
        if (!args->is_test)
            argp_error(state, "'%s': there is only `policy test`", value);
        return 0;
    }
    if (args->command == 0) {
        for (unsigned bit = SG_RULE_UDP; bit <= SG_RULE_BIND; bit <<= 1)
            if (strcmp(value, sg_rule_command_name((enum sg_rule_command)bit)) == 0)
                args->command = bit;
        if (args->command == 0)
            argp_error(state, "'%s': must be udp, connect or bind", value);
        return 0;
    }
    if (args->target_text)
        argp_error(state, "'%s': one target at a time", value);
    args->target_text = value;
    if (sg_target_parse(value, false, &args->target) != SG_OK)
        argp_error(state, "'%s' is not HOST:PORT", value);
    return 0;
}

static void check_whole(const struct arguments *args, struct argp_state *state)
{
    if (!args->target_text)
        argp_error(state, "what to test is missing: test udp|connect|bind HOST:PORT");
    else if (!args->config)
        argp_error(state, "-c FILE is missing: the server.yaml that `sealgram init` made");
    else if (!args->user)
        argp_error(state, "--user NAME is missing");
}

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *args = state->input;
    switch (key) {
    case 'c':
        args->config = value;
        return 0;
    case KEY_USER:
        args->user = value;
        if (!sg_user_name_is_valid(value))
            argp_error(state, "--user: '%s' is no user name", value);
        return 0;
    case KEY_FROM:
        if (sg_ip_parse(value, &args->from) != SG_OK)
            argp_error(state, "--from: '%s' is not an IP address", value);
        return 0;
    case KEY_JSON:
        args->json = true;
        return 0;
    case ARGP_KEY_ARG:
        return parse_argument(args, value, state);
    case ARGP_KEY_END:
        check_whole(args, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "the configuration, server.yaml", 0},
    {"user", KEY_USER, "NAME", 0, "who asks", 0},
    {"from", KEY_FROM, "ADDR", 0, "from where: needed if a rule looks at that", 0},
    {"json", KEY_JSON, NULL, 0, "print a JSON document", 0},
    {0},
};

static const struct argp argp = {
    .options = options,
    .parser = parse_option,
    .args_doc = "test udp|connect|bind HOST:PORT",
    .doc =
        "Tells whether a server of this configuration allows a request, and which rule decides. HOST of a bind is the "
        "peer that connects. A name is looked up, if its addresses matter.\v"
        "Exit code: 0 allowed, 1 denied, or the name does not resolve, 2 wrong command line, 3 unusable configuration.",
};

/* --- the verdicts --- */

/* One for the name alone, or one for each address. */
struct result {
    struct sg_verdict verdicts[ADDRESSES_MAX];
    struct sg_ip ips[ADDRESSES_MAX];
    unsigned count;
    bool by_address; /* of a name that was looked up */
};

static struct sg_verdict judge(const struct arguments *args, const struct sg_policy *policy, const struct sg_ip *ip)
{
    const struct sg_rule_asker asker = {
        .user = args->user, .from = sg_ip_unmap(&args->from), .command = (enum sg_rule_command)args->command};
    const struct sg_rule_target target = {
        .name = args->target.name, .name_len = args->target.name_len, .ip = sg_ip_unmap(ip), .port = args->target.port};
    return sg_verdict_of(policy, &asker, &target);
}

static void add_verdict(const struct arguments *args, const struct sg_policy *policy, const struct sg_ip *ip,
                        struct result *out)
{
    if (out->count == ADDRESSES_MAX)
        return;
    out->ips[out->count] = *ip;
    out->verdicts[out->count++] = judge(args, policy, ip);
}

/* False after saying why. */
static bool judge_addresses(const struct arguments *args, const struct sg_policy *policy, struct result *out)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char name[256];
    snprintf(name, sizeof name, "%.*s", (int)args->target.name_len, (const char *)args->target.name);
    sg_progress_step("policy", "waiting for a name server");
    int code = getaddrinfo(name, NULL, &hints, &list);
    sg_progress_stop();
    if (code != 0) {
        sg_cli_error("%s does not resolve: %s", name, code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));
        return false;
    }
    for (const struct addrinfo *i = list; i; i = i->ai_next) {
        struct sockaddr_storage ss = {0};
        memcpy(&ss, i->ai_addr, i->ai_addrlen < sizeof ss ? i->ai_addrlen : sizeof ss);
        struct sg_ip ip = sg_sockaddr_endpoint(&ss).ip;
        add_verdict(args, policy, &ip, out);
    }
    freeaddrinfo(list);
    out->by_address = true;
    return true;
}

static bool judge_target(const struct arguments *args, const struct sg_policy *policy, struct result *out)
{
    add_verdict(args, policy, &args->target.ip, out);
    if (args->target.atyp != SG_ATYP_NAME || out->verdicts[0].outcome == SG_RULES_DENY)
        return true;
    out->count = 0;
    return judge_addresses(args, policy, out);
}

static bool is_allowed(const struct result *result)
{
    for (unsigned i = 0; i < result->count; i++)
        if (result->verdicts[i].outcome == SG_RULES_ALLOW)
            return true;
    return false;
}

/* The first rule that looks at an address of the client which was not said, or NULL. */
static const struct sg_rule *find_open(const struct result *result)
{
    for (unsigned i = 0; i < result->count; i++)
        if (result->verdicts[i].needs_from)
            return result->verdicts[i].needs_from;
    return NULL;
}

/* --- output --- */

static void print_verdict(const struct sg_verdict *verdict, const char *file)
{
    if (verdict->outcome == SG_RULES_ALLOW)
        printf("allow: ");
    else
        printf("deny, reply %02x: ", sg_verdict_reply(verdict));
    if (verdict->special)
        printf("the built-in deny list: %s\n", verdict->special);
    else if (verdict->rule)
        printf("rule %s, %s:%d\n", verdict->rule->name, file, verdict->rule->line);
    else
        puts(verdict->outcome == SG_RULES_ALLOW ? "there are no rules" : "no rule matches");
}

static void print_text(const struct result *result, const char *file)
{
    for (unsigned i = 0; i < result->count; i++) {
        char text[SG_IP_TEXT_MAX];
        sg_ip_format(&result->ips[i], text);
        if (result->by_address)
            printf("%s: ", text);
        print_verdict(&result->verdicts[i], file);
    }
}

static json_t *make_json(const struct sg_verdict *verdict, const char *file)
{
    bool allowed = verdict->outcome == SG_RULES_ALLOW;
    json_t *json = json_pack("{s:s}", "decision", allowed ? "allow" : "deny");
    if (!allowed)
        json_object_set_new(json, "reply", json_integer(sg_verdict_reply(verdict)));
    json_object_set_new(json, "by", json_string(verdict->special ? "built-in" : verdict->rule ? "rule" : "default"));
    if (verdict->special)
        json_object_set_new(json, "class", json_string(verdict->special));
    if (!verdict->rule)
        return json;
    json_object_set_new(json, "rule", json_string(verdict->rule->name));
    json_object_set_new(json, "file", json_string(file));
    json_object_set_new(json, "line", json_integer(verdict->rule->line));
    return json;
}

static void print_json(const struct result *result, const char *file)
{
    json_t *json = result->by_address
                       ? json_pack("{s:s, s:[]}", "decision", is_allowed(result) ? "allow" : "deny", "addresses")
                       : make_json(&result->verdicts[0], file);
    for (unsigned i = 0; i < result->count && result->by_address; i++) {
        char text[SG_IP_TEXT_MAX];
        json_t *one = make_json(&result->verdicts[i], file);
        sg_ip_format(&result->ips[i], text);
        json_object_set_new(one, "address", json_string(text));
        json_array_append_new(json_object_get(json, "addresses"), one);
    }
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

static int test(const struct arguments *args, const struct sg_policy *policy, const char *file)
{
    struct result result = {.count = 0};
    if (!judge_target(args, policy, &result))
        return SG_EXIT_FAILED;
    const struct sg_rule *open = find_open(&result);
    if (open) {
        sg_cli_error("rule %s, %s:%d, looks at the client's address: --from ADDR", open->name, file, open->line);
        return SG_EXIT_USAGE;
    }
    if (args->json)
        print_json(&result, file);
    else
        print_text(&result, file);
    return is_allowed(&result) ? SG_EXIT_OK : SG_EXIT_FAILED;
}

/* A name that is mistyped gets the verdict on a user of no group: worth a word, where the users are known. */
static void tell_unknown_user(const struct arguments *args, const struct sg_config *config)
{
    char error[SG_USERS_ERROR_MAX];
    struct sg_users *users = NULL;
    if (config->authenticator.command || config->allow_anyone)
        return;
    if (sg_users_load(config->users, &users, error) != SG_OK)
        sg_cli_error("%s", error);
    else if (!sg_users_has(users, args->user))
        sg_cli_error("there is no user %s in %s, who could log in: this is what the rules would say", args->user,
                     config->users);
    sg_users_free(users);
}

int sg_cmd_policy(int argc, char **argv)
{
    struct arguments args = {.config = NULL};
    struct sg_policy policy = {.users = NULL};
    char error[SG_CONFIG_ERROR_MAX];
    if (argp_parse(&argp, argc, argv, 0, NULL, &args) != 0)
        return SG_EXIT_USAGE;
    struct sg_config *config = sg_config_load(args.config, error);
    if (!config) {
        sg_cli_error("%s", error);
        return SG_EXIT_CONFIG;
    }
    tell_unknown_user(&args, config);
    int code = SG_EXIT_FAILED;
    policy.rules = config->rules;
    if (sg_policy_make_guard(config, &policy.nat64, &policy.guard))
        code = test(&args, &policy, args.config);
    else
        sg_cli_error("cannot list the own addresses: %s", strerror(errno));
    sg_config_free(config);
    return code;
}
