/* The tables of the configuration's keys, and the readers of the values that only it has. */
#include "server/config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libfyaml.h>

#include "core/guard.h"
#include "net/done.h"
#include "net/dscp.h"
#include "net/invite.h"
#include "net/relay.h"
#include "server/rules.h"
#include "server/rules_yaml.h"
#include "server/yaml_read.h"

enum { COMMAND_MAX = 64 };

static bool read_host(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const struct sg_config *config = reader->base;
    if (!sg_yaml_read_text(reader, node, key))
        return false;
    if (sg_invite_host_is_valid(config->host))
        return true;
    return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "'%.255s' is neither a name nor an address",
                          config->host);
}

static bool read_filtering(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    static const char *const names[] = {
        [SG_FILTERING_ADDRESS] = "address-dependent",
        [SG_FILTERING_ADDRESS_AND_PORT] = "address-and-port-dependent",
        [SG_FILTERING_NONE] = "endpoint-independent",
    };
    const char *text = sg_yaml_scalar_of(node);
    for (unsigned i = 0; text && i < sizeof names / sizeof *names; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        *(enum sg_filtering *)sg_yaml_value_at(reader, key->offset) = (enum sg_filtering)i;
        return true;
    }
    return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name,
                          "must be endpoint-independent, address-dependent or address-and-port-dependent");
}

static bool read_on_off(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const char *text = sg_yaml_scalar_of(node);
    bool on = text && strcmp(text, "on") == 0;
    if (!on && (!text || strcmp(text, "off") != 0))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be on or off");
    *(bool *)sg_yaml_value_at(reader, key->offset) = on;
    return true;
}

/* FIRST-LAST, both included. */
static bool read_ports(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const char *text = sg_yaml_scalar_of(node);
    char *end = NULL;
    unsigned long first = text && text[0] >= '1' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    unsigned long last = end && end[0] == '-' && end[1] >= '1' && end[1] <= '9' ? strtoul(end + 1, &end, 10) : 0;
    if (last == 0 || *end != '\0' || first > last || last > 65535)
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name,
                              "must be FIRST-LAST, two ports from 1 to 65535");
    struct sg_config *config = reader->base;
    config->udp_ports.first = (uint16_t)first;
    config->udp_ports.last = (uint16_t)last;
    return true;
}

static bool read_dscp(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const char *text = sg_yaml_scalar_of(node);
    if (text && sg_dscp_parse(text, sg_yaml_value_at(reader, key->offset)))
        return true;
    return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name,
                          "must be a list of code points, as in ef,af41,cs5 or 46,34");
}

/* The port may be left out. */
static bool read_advertise(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct sg_config *config = reader->base;
    struct sg_endpoint *out = &config->advertise;
    const char *text = sg_yaml_scalar_of(node);
    *out = (struct sg_endpoint){0};
    if (text && sg_ip_parse(text, &out->ip) == SG_OK)
        return true;
    const char *problem = text ? sg_listen_parse(text, false, out) : "must be ADDRESS or ADDRESS:PORT";
    return !problem || sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "%s", problem);
}

static bool read_listen(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct sg_config *config = reader->base;
    void *at = NULL;
    struct fy_node *item = NULL;
    if (!fy_node_is_sequence(node))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a list of ADDRESS:PORT");
    config->listen_count = 0;
    while ((item = fy_node_sequence_iterate(node, &at))) {
        struct sg_endpoint ep;
        const char *text = sg_yaml_scalar_of(item);
        const char *problem = text ? sg_listen_parse(text, false, &ep) : "must be ADDRESS:PORT";
        if (problem)
            return sg_yaml_refuse(reader, sg_yaml_first_line(item), key->name, "%s", problem);
        for (unsigned i = 0; i < config->listen_count; i++)
            if (sg_endpoint_equal(&config->listen[i], &ep))
                return sg_yaml_refuse(reader, sg_yaml_line_of(item), key->name, "%s is there twice",
                                      sg_yaml_scalar_of(item));
        if (config->listen_count == SG_CONFIG_LISTEN_MAX)
            return sg_yaml_refuse(reader, sg_yaml_line_of(item), key->name, "more than %d entries",
                                  SG_CONFIG_LISTEN_MAX);
        config->listen[config->listen_count++] = ep;
    }
    return true;
}

/* A program by its absolute path, and its arguments. */
static bool read_command(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct sg_config *config = reader->base;
    int count = fy_node_is_sequence(node) ? fy_node_sequence_item_count(node) : 0;
    if (count < 1 || count > COMMAND_MAX || config->authenticator.command)
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a list of 1 to %d texts",
                              COMMAND_MAX);
    config->authenticator.command = calloc((size_t)count + 1, sizeof(char *));
    for (int i = 0; i < count && config->authenticator.command; i++) {
        const char *text = sg_yaml_scalar_of(fy_node_sequence_get_by_index(node, i));
        if (!text)
            return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a list of texts");
        config->authenticator.command[i] = strdup(text);
        if (!config->authenticator.command[i])
            return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "out of memory");
    }
    if (!config->authenticator.command)
        return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "out of memory");
    const char *program = config->authenticator.command[0];
    if (program[0] != '/')
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "'%.300s' is not an absolute path", program);
    if (access(program, X_OK) != 0)
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "%.300s: %s", program, strerror(errno));
    return true;
}

static bool read_nat64(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const struct sg_config *config = reader->base;
    struct sg_guard guard = {0};
    if (!sg_yaml_read_nets(reader, node, key))
        return false;
    for (unsigned i = 0; i < config->nat64_count; i++)
        if (sg_guard_add_nat64(&guard, &config->nat64[i]) != SG_OK)
            return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name,
                                  "must be at most %d different IPv6 prefixes of 32, 40, 48, 56, 64 or 96 bits",
                                  SG_GUARD_NAT64_MAX);
    return true;
}

#define AT(member) offsetof(struct sg_config, member)

static const struct sg_yaml_key plain_socks_keys[] = {
    {.name = "from", .read = sg_yaml_read_nets, .offset = AT(plain_socks), .count_offset = AT(plain_socks_count)},
    {.name = NULL},
};

static const struct sg_yaml_key plain_udp_keys[] = {
    {.name = "from", .read = sg_yaml_read_nets, .offset = AT(plain_udp), .count_offset = AT(plain_udp_count)},
    {.name = NULL},
};

#define NUMBER(key_name, member, low, high)                                                                            \
    {                                                                                                                  \
        .name = (key_name), .read = sg_yaml_read_number, .offset = AT(member), .min = (low), .max = (high)             \
    }

static const struct sg_yaml_key limit_keys[] = {
    NUMBER("sessions", limits.sessions, 1, 65536),
    NUMBER("sessions_per_user", limits.sessions_per_user, 1, 65536),
    NUMBER("associations", limits.associations, 1, 1000000),
    NUMBER("associations_per_user", limits.associations_per_user, 1, 1000000),
    NUMBER("connections", limits.connections, 1, 1000000),
    NUMBER("connections_per_user", limits.connections_per_user, 1, 1000000),
    NUMBER("unauthenticated", limits.unauthenticated, 1, 65536),
    NUMBER("unauthenticated_per_address", limits.unauthenticated_per_address, 1, 65536),
    NUMBER("handshake_seconds", limits.handshake_seconds, 1, 300),
    NUMBER("handshakes_per_second", limits.handshakes_per_second, 1, 100000),
    NUMBER("handshakes_per_second_per_address", limits.handshakes_per_second_per_address, 1, 100000),
    NUMBER("password_threads", limits.password_threads, 1, 16),
    NUMBER("password_queue", limits.password_queue, 1, 4096),
    {.name = NULL},
};

static const struct sg_yaml_key authenticator_keys[] = {
    {.name = "command", .read = read_command},
    NUMBER("timeout_seconds", authenticator.timeout_seconds, 1, 60),
    NUMBER("processes", authenticator.processes, 1, 64),
    {.name = NULL},
};

static const struct sg_yaml_key timeout_keys[] = {
    {.name = "association_seconds",
     .read = sg_yaml_read_seconds,
     .offset = AT(timeouts.association_ms),
     .min = 1,
     .max = 86400},
    {.name = "dns_seconds", .read = sg_yaml_read_seconds, .offset = AT(timeouts.dns_ms), .min = 1, .max = 86400},
    {.name = "renew_seconds", .read = sg_yaml_read_seconds, .offset = AT(timeouts.renew_ms), .min = 0, .max = 86400},
    {.name = "relay_idle_seconds",
     .read = sg_yaml_read_seconds,
     .offset = AT(timeouts.relay_idle_ms),
     .min = 60,
     .max = SG_RELAY_IDLE_MAX_S},
    {.name = "grace_seconds", .read = sg_yaml_read_seconds, .offset = AT(timeouts.grace_ms), .min = 0, .max = 86400},
    {.name = NULL},
};

static const struct sg_yaml_key top_keys[] = {
    {.name = "listen", .read = read_listen},
    {.name = "advertise", .read = read_advertise},
    {.name = "host", .read = read_host, .offset = AT(host)},
    {.name = "certificate", .read = sg_yaml_read_path, .offset = AT(certificate)},
    {.name = "key", .read = sg_yaml_read_secret, .offset = AT(key)},
    {.name = "users", .read = sg_yaml_read_secret, .offset = AT(users)},
    {.name = "devices", .read = sg_yaml_read_path, .offset = AT(devices)},
    {.name = "client_ca", .read = sg_yaml_read_file, .offset = AT(client_ca)},
    {.name = "client_crl", .read = sg_yaml_read_file, .offset = AT(client_crl)},
    {.name = "certificate_users", .read = sg_yaml_read_cert_users, .offset = AT(cert_users)},
    {.name = "status_socket", .read = sg_yaml_read_path, .offset = AT(status_socket)},
    {.name = "allow", .read = sg_yaml_read_nets, .offset = AT(allow), .count_offset = AT(allow_count)},
    {.name = "nat64", .read = read_nat64, .offset = AT(nat64), .count_offset = AT(nat64_count)},
    {.name = "groups", .read = sg_yaml_read_groups, .offset = AT(rules)},
    {.name = "rules", .read = sg_yaml_read_rules, .offset = AT(rules)},
    {.name = "plain_socks", .read = sg_yaml_read_mapping, .keys = plain_socks_keys},
    {.name = "plain_udp", .read = sg_yaml_read_mapping, .keys = plain_udp_keys},
    {.name = "udp_ports", .read = read_ports},
    {.name = "filtering", .read = read_filtering, .offset = AT(filtering)},
    {.name = "allow_anyone_without_authentication", .read = sg_yaml_read_bool, .offset = AT(allow_anyone)},
    {.name = "dscp", .read = read_dscp, .offset = AT(dscp)},
    {.name = "user", .read = sg_yaml_read_text, .offset = AT(user)},
    {.name = "sandbox", .read = read_on_off, .offset = AT(sandbox)},
    {.name = "require_sandbox", .read = sg_yaml_read_bool, .offset = AT(require_sandbox)},
    {.name = "require_locked_memory", .read = sg_yaml_read_bool, .offset = AT(require_locked_memory)},
    NUMBER("workers", workers, 1, 256),
    {.name = "limits", .read = sg_yaml_read_mapping, .keys = limit_keys},
    {.name = "user_limits", .read = sg_yaml_read_user_limits, .offset = AT(user_limits)},
    {.name = "group_limits", .read = sg_yaml_read_user_limits, .offset = AT(group_limits)},
    {.name = "authenticator", .read = sg_yaml_read_mapping, .keys = authenticator_keys},
    {.name = "timeouts", .read = sg_yaml_read_mapping, .keys = timeout_keys},
    {.name = "log", .read = sg_yaml_read_mapping, .keys = sg_config_log_keys},
    {.name = "metrics", .read = sg_config_read_metrics},
    {.name = NULL},
};

struct sg_config *sg_config_new(void)
{
    struct sg_config *config = calloc(1, sizeof *config);
    if (!config)
        return NULL;
    atomic_init(&config->refs, 1);
    config->sandbox = true;
    config->limits.sessions = 512;
    config->limits.sessions_per_user = 64;
    config->limits.associations = 16384;
    config->limits.associations_per_user = 2048; /* of each kind an eighth of all */
    config->limits.connections = 4096;
    config->limits.connections_per_user = 512;
    config->limits.unauthenticated = 512;
    config->limits.unauthenticated_per_address = 64;
    config->limits.handshake_seconds = 10;
    config->limits.handshakes_per_second = 500;
    config->limits.handshakes_per_second_per_address = 200;
    config->limits.password_threads = 2;
    config->limits.password_queue = 64;
    config->authenticator.timeout_seconds = 5;
    config->authenticator.processes = 2;
    config->timeouts.association_ms = 120000;
    config->timeouts.dns_ms = 17000;
    config->log = (struct sg_config_log){.level = SG_LOG_INFO, .format = SG_LOG_TEXT, .addresses = SG_LOG_MASKED};
    config->timeouts.renew_ms = 900000;
    config->timeouts.grace_ms = 60000;
    config->timeouts.relay_idle_ms = (uint64_t)SG_RELAY_IDLE_S * 1000;
    config->plain_udp_count = 2;
    config->rules = sg_rules_new();
    if (!config->rules || sg_cidr_parse("127.0.0.0/8", &config->plain_udp[0]) != SG_OK ||
        sg_cidr_parse("::1/128", &config->plain_udp[1]) != SG_OK) {
        sg_config_free(config);
        return NULL;
    }
    return config;
}

/* What must be there when all keys were read. */
static bool check_whole(const struct sg_config *config, const char *path, char error[static SG_CONFIG_ERROR_MAX])
{
    const char *missing = config->listen_count == 0 ? "listen"
                          : !config->certificate    ? "certificate"
                          : !config->key            ? "key"
                          : !config->users          ? "users"
                                                    : NULL;
    if (missing)
        snprintf(error, SG_CONFIG_ERROR_MAX, "%.200s:1: %s: is missing", path, missing);
    return !missing;
}

/* What follows from other keys, or does not fit them. */
static bool fill_in(struct sg_config *config, const char *path, char error[static SG_CONFIG_ERROR_MAX])
{
    for (const struct sg_user_limits_entry *entry = config->group_limits.first; entry; entry = entry->next) {
        if (sg_rules_group(config->rules, entry->name))
            continue;
        snprintf(error, SG_CONFIG_ERROR_MAX, "%.200s:%d: group_limits: there is no group %s", path, entry->line,
                 entry->name);
        return false;
    }
    if (!config->client_ca && (config->client_crl || config->cert_users.count > 0)) {
        snprintf(error, SG_CONFIG_ERROR_MAX, "%.200s:1: client_ca: is missing, which %s needs", path,
                 config->client_crl ? "client_crl" : "certificate_users");
        return false;
    }
    if (!config->devices && asprintf(&config->devices, "%s.devices", config->users) < 0) {
        config->devices = NULL;
        snprintf(error, SG_CONFIG_ERROR_MAX, "%.200s: out of memory", path);
    }
    return config->devices != NULL;
}

/* What the file says is in config; takes it over, and returns it if it is whole. */
static struct sg_config *complete(struct sg_config *config, bool good, const char *path, char *error)
{
    if (good && check_whole(config, path, error) && sg_rules_check(config->rules, path, error) &&
        fill_in(config, path, error))
        return config;
    sg_config_free(config);
    return NULL;
}

static struct sg_config *new_of(const char *path, char *error)
{
    struct sg_config *config = sg_config_new();
    if (config && (config->file = strdup(path)))
        return config;
    snprintf(error, SG_CONFIG_ERROR_MAX, "%s: out of memory", path);
    sg_config_free(config);
    return NULL;
}

struct sg_config *sg_config_parse(const char *path, const char *text, size_t len,
                                  char error[static SG_CONFIG_ERROR_MAX])
{
    struct sg_config *config = new_of(path, error);
    return config ? complete(config, sg_yaml_parse(path, text, len, top_keys, config, error), path, error) : NULL;
}

struct sg_config *sg_config_read(const char *path, char error[static SG_CONFIG_ERROR_MAX])
{
    struct sg_config *config = new_of(path, error);
    return config ? complete(config, sg_yaml_load(path, top_keys, config, error), path, error) : NULL;
}

/* --- with a deadline --- */

/* Of both threads until the reading one has ended, or for good if it never does. */
struct reading {
    struct sg_done done;
    char *path;
    char error[SG_CONFIG_ERROR_MAX];
    struct sg_config *config;
};

static void *read_aside(void *ctx)
{
    struct reading *reading = ctx;
    reading->config = sg_config_read(reading->path, reading->error);
    sg_done_tell(&reading->done);
    return NULL;
}

static struct reading *new_reading(const char *path)
{
    struct reading *reading = calloc(1, sizeof *reading);
    if (!reading)
        return NULL;
    if (sg_done_init(&reading->done))
        reading->path = strdup(path);
    return reading;
}

static void free_reading(struct reading *reading)
{
    if (!reading)
        return;
    sg_done_dispose(&reading->done);
    free(reading->path);
    free(reading);
}

struct sg_config *sg_config_load(const char *path, char error[static SG_CONFIG_ERROR_MAX])
{
    pthread_t thread;
    struct reading *reading = new_reading(path);
    if (!reading || !reading->path || (errno = pthread_create(&thread, NULL, read_aside, reading)) != 0) {
        snprintf(error, SG_CONFIG_ERROR_MAX, "%.300s: cannot start to read: %s", path, strerror(errno));
        free_reading(reading);
        return NULL;
    }
    if (!sg_done_wait(&reading->done, SG_CONFIG_SECONDS_MAX * 1000)) {
        pthread_detach(thread);
        snprintf(error, SG_CONFIG_ERROR_MAX, SG_CONFIG_TOO_LONG, path, SG_CONFIG_SECONDS_MAX);
        return NULL; /* the thread keeps what it works on */
    }
    pthread_join(thread, NULL);
    struct sg_config *config = reading->config;
    memcpy(error, reading->error, sizeof reading->error);
    free_reading(reading);
    return config;
}

struct sg_config *sg_config_share(struct sg_config *config)
{
    atomic_fetch_add(&config->refs, 1);
    return config;
}

void sg_config_free(struct sg_config *config)
{
    if (!config || atomic_fetch_sub(&config->refs, 1) > 1)
        return;
    free(config->file);
    free(config->host);
    free(config->certificate);
    free(config->key);
    free(config->users);
    for (char **word = config->authenticator.command; word && *word; word++)
        free(*word);
    free(config->authenticator.command);
    free(config->devices);
    free(config->client_ca);
    free(config->client_crl);
    sg_cert_users_dispose(&config->cert_users);
    free(config->status_socket);
    free(config->user);
    sg_user_limits_dispose(&config->user_limits);
    sg_user_limits_dispose(&config->group_limits);
    sg_rules_release(config->rules);
    free(config);
}

struct sg_endpoint sg_config_advertised(const struct sg_config *config, const struct sg_ip *local)
{
    if (config->advertise.ip.family == local->family)
        return config->advertise;
    return (struct sg_endpoint){.ip.family = local->family};
}

bool sg_config_is_exposed(const struct sg_config *config)
{
    struct sg_cidr v4, v6;
    if (sg_cidr_parse("127.0.0.0/8", &v4) != SG_OK || sg_cidr_parse("::1/128", &v6) != SG_OK)
        return true;
    for (unsigned i = 0; i < config->listen_count; i++)
        if (!sg_cidr_contains(&v4, &config->listen[i].ip) && !sg_cidr_contains(&v6, &config->listen[i].ip))
            return true;
    return false;
}
