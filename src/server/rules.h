/*
 * Rules of policy: who may send where, in the order of the file. The first rule that matches decides, and what none
 * matches is refused. Pure: no I/O, no clock. rules_yaml.c reads them; read, they do not change, so threads share them.
 */
#ifndef SG_SERVER_RULES_H
#define SG_SERVER_RULES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

struct sg_guard;

enum { SG_RULES_MAX = 256, SG_RULE_LIST_MAX = 256, SG_RULE_NAME_MAX = 64, SG_RULE_NOT_FOUND = 0xffff };

/* Bits, so that a rule holds a set of them. */
enum sg_rule_command { SG_RULE_UDP = 1, SG_RULE_CONNECT = 2, SG_RULE_BIND = 4 };

/* Users, sorted. */
struct sg_group {
    char name[SG_RULE_NAME_MAX + 1];
    char **users;
    unsigned count;
};

struct sg_rule_port_range {
    uint16_t first, last;
};

/* The name of a group, and that group: NULL until sg_rules_find_groups. */
struct sg_rule_group {
    char *name;
    int line;
    const struct sg_group *group;
};

/* One rule. An empty list is a condition that the rule does not have; all that it has must be met. */
struct sg_rule {
    char name[SG_RULE_NAME_MAX + 1];
    int line;
    unsigned commands; /* bits */
    char **users;
    struct sg_rule_group *groups;
    struct sg_cidr *from, *to; /* the client; the target */
    char **hosts;              /* lower case: a name, or "*." and a name */
    struct sg_rule_port_range *ports;
    unsigned user_count, group_count, from_count, to_count, host_count, port_count;
    bool allow;
    uint8_t reply; /* SOCKS code of a deny */
    bool log;
};

struct sg_rules {
    _Atomic unsigned refs;
    bool given; /* there is a list of rules, be it empty; otherwise everything is allowed */
    struct sg_group *groups;
    unsigned group_count;
    struct sg_rule *rules;
    unsigned count;
};

/* Rules and groups without any: everything is allowed. One reference is the caller's. NULL: out of memory. */
struct sg_rules *sg_rules_new(void);
struct sg_rules *sg_rules_ref(struct sg_rules *rules);
void sg_rules_release(struct sg_rules *rules); /* accepts NULL */

const struct sg_group *sg_rules_group(const struct sg_rules *rules, const char *name); /* or NULL */
bool sg_group_has(const struct sg_group *group, const char *user);

/* Puts each rule's groups in place. The first that does not exist, and the rule's line of it, or NULL. */
const struct sg_rule_group *sg_rules_find_groups(struct sg_rules *rules);

/* True for what a host condition may be, in lower case: a name, or "*." and a name, and no address. */
bool sg_rule_host_is_valid(const char *pattern);

/* Who asks: what does not change from datagram to datagram. */
struct sg_rule_asker {
    const char *user;  /* "": nobody logged in, whom no user and no group stands for */
    struct sg_ip from; /* the client's address; family 0: not known */
    enum sg_rule_command command;
};

/* The rules that may match what an asker asks. */
struct sg_rule_selection {
    uint64_t selected[SG_RULES_MAX / 64];
    uint64_t unsure[SG_RULES_MAX / 64]; /* of these, those that depend on an address from which is not known */
};

/* What is asked for. */
struct sg_rule_target {
    const uint8_t *name; /* that the client gave; NULL: an address */
    size_t name_len;
    bool name_unknown; /* there may be a name: NULL says nothing */
    struct sg_ip ip;   /* family 0: not known */
    uint16_t port;     /* 0: not known */
};

/* OPEN: what is not known decides. */
enum sg_rules_outcome { SG_RULES_ALLOW, SG_RULES_DENY, SG_RULES_OPEN };

struct sg_rules_verdict {
    enum sg_rules_outcome outcome;
    const struct sg_rule *rule; /* that decides; OPEN: the first that may. NULL: no rule matches, or none are given */
    const struct sg_rule *needs_from; /* would come before it, if from were such; NULL: it does not matter */
};

void sg_rules_select(const struct sg_rules *rules, const struct sg_rule_asker *asker, struct sg_rule_selection *out);

/*
 * The verdict on a target for the asker of a selection. IPv4-mapped forms count as the IPv4 address, on both sides; and
 * a deny for an IPv4 network also concerns the IPv6 addresses that carry an address of it (NAT64, 6to4, Teredo and the
 * like; guard, which may be NULL, knows the network's own prefixes), an allow does not.
 */
struct sg_rules_verdict sg_rules_judge(const struct sg_rules *rules, const struct sg_guard *guard,
                                       const struct sg_rule_selection *selection, const struct sg_rule_target *target);

/* The SOCKS reply code of a verdict that is DENY. */
uint8_t sg_rules_reply(const struct sg_rules_verdict *verdict);

/* "udp", "connect" or "bind". Static. */
const char *sg_rule_command_name(enum sg_rule_command command);

#endif
