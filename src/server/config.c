/*
 * A table of keys, each with the reader of its type, is all that this file knows about the format; libfyaml parses
 * and tells the line of every node.
 */
#include "server/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libfyaml.h>

#include "net/invite.h"

struct reader {
    struct sg_config *config;
    const char *path;
    char *error; /* SG_CONFIG_ERROR_MAX; empty as long as all is well */
    int line;    /* of the key whose value is read: an empty list or mapping has no line of its own */
};

struct key {
    const char *name;
    bool (*read)(struct reader *reader, struct fy_node *node, const struct key *key);
    size_t offset;          /* of the value in struct sg_config */
    size_t count_offset;    /* lists: of the number of entries */
    uint32_t min, max;      /* numbers */
    const struct key *keys; /* mappings */
};

static int line_of(struct fy_node *node)
{
    struct fy_token *token = fy_node_get_scalar_token(node);
    const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
    return mark ? mark->line + 1 : 0;
}

/* Records the first fault; returns false, for `return refuse(...)`. */
static bool refuse(struct reader *reader, int line, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool refuse(struct reader *reader, int line, const char *key, const char *format, ...)
{
    va_list args;
    char reason[512];
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    if (reader->error[0] == '\0')
        snprintf(reader->error, SG_CONFIG_ERROR_MAX, "%.200s:%d: %.64s: %s", reader->path,
                 line > 0 ? line : reader->line, key, reason);
    return false;
}

static void *value_at(struct reader *reader, size_t offset)
{
    return (char *)reader->config + offset;
}

static const char *scalar_of(struct fy_node *node)
{
    return node && fy_node_is_scalar(node) && !fy_node_is_alias(node) ? fy_node_get_scalar0(node) : NULL;
}

/* The line of a node that may be a list or a mapping: that of its first scalar. */
static int first_line(struct fy_node *node)
{
    void *at = NULL;
    if (!node)
        return 0;
    if (fy_node_is_sequence(node))
        return first_line(fy_node_sequence_iterate(node, &at));
    if (fy_node_is_mapping(node)) {
        struct fy_node_pair *pair = fy_node_mapping_iterate(node, &at);
        return pair ? first_line(fy_node_pair_key(pair)) : 0;
    }
    return line_of(node);
}

static bool read_text(struct reader *reader, struct fy_node *node, const struct key *key)
{
    const char *text = scalar_of(node);
    char **out = value_at(reader, key->offset);
    if (!text || text[0] == '\0')
        return refuse(reader, first_line(node), key->name, "must be a text");
    free(*out);
    *out = strdup(text);
    return *out || refuse(reader, line_of(node), key->name, "out of memory");
}

/* A path; a relative one is taken from the directory of the configuration file. */
static bool read_path(struct reader *reader, struct fy_node *node, const struct key *key)
{
    char **out = value_at(reader, key->offset);
    char *joined = NULL;
    if (!read_text(reader, node, key))
        return false;
    const char *slash = strrchr(reader->path, '/');
    if ((*out)[0] == '/' || !slash)
        return true;
    if (asprintf(&joined, "%.*s/%s", (int)(slash - reader->path), reader->path, *out) < 0)
        return refuse(reader, line_of(node), key->name, "out of memory");
    free(*out);
    *out = joined;
    return true;
}

/* A file that must be there. */
static bool read_file(struct reader *reader, struct fy_node *node, const struct key *key)
{
    if (!read_path(reader, node, key))
        return false;
    const char *path = *(char **)value_at(reader, key->offset);
    if (access(path, R_OK) == 0)
        return true;
    return refuse(reader, line_of(node), key->name, "%.300s: %s", path, strerror(errno));
}

/* One that nobody but its owner may read, too. */
static bool read_secret(struct reader *reader, struct fy_node *node, const struct key *key)
{
    struct stat st;
    if (!read_file(reader, node, key))
        return false;
    const char *path = *(char **)value_at(reader, key->offset);
    if (stat(path, &st) != 0)
        return refuse(reader, line_of(node), key->name, "%.300s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return refuse(reader, line_of(node), key->name, "%.300s: not a file", path);
    if (st.st_mode & 077)
        return refuse(reader, line_of(node), key->name,
                      "%.200s: others may read or write it (mode %04o): chmod 600 %.200s", path,
                      (unsigned)st.st_mode & 07777, path);
    return true;
}

static bool read_host(struct reader *reader, struct fy_node *node, const struct key *key)
{
    if (!read_text(reader, node, key))
        return false;
    if (sg_invite_host_is_valid(reader->config->host))
        return true;
    return refuse(reader, line_of(node), key->name, "'%.255s' is neither a name nor an address", reader->config->host);
}

/* Text as it stands: what is quoted is no number and no truth value. */
static const char *plain_scalar_of(struct fy_node *node)
{
    return fy_node_get_style(node) == FYNS_PLAIN ? scalar_of(node) : NULL;
}

/* A whole number within the bounds of its key. */
static bool parse_number(struct reader *reader, struct fy_node *node, const struct key *key, uint32_t *out)
{
    const char *text = plain_scalar_of(node);
    char *end = NULL;
    errno = 0;
    unsigned long value = text && text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (!end || *end != '\0')
        return refuse(reader, first_line(node), key->name, "must be a whole number");
    if (errno != 0 || value < key->min || value > key->max)
        return refuse(reader, line_of(node), key->name, "must be from %u to %u", key->min, key->max);
    *out = (uint32_t)value;
    return true;
}

static bool read_number(struct reader *reader, struct fy_node *node, const struct key *key)
{
    return parse_number(reader, node, key, value_at(reader, key->offset));
}

static bool read_seconds(struct reader *reader, struct fy_node *node, const struct key *key)
{
    uint32_t seconds = 0;
    if (!parse_number(reader, node, key, &seconds))
        return false;
    *(uint64_t *)value_at(reader, key->offset) = (uint64_t)seconds * 1000;
    return true;
}

static bool read_bool(struct reader *reader, struct fy_node *node, const struct key *key)
{
    const char *text = plain_scalar_of(node);
    bool *out = value_at(reader, key->offset);
    if (text && strcmp(text, "true") == 0)
        *out = true;
    else if (text && strcmp(text, "false") == 0)
        *out = false;
    else
        return refuse(reader, first_line(node), key->name, "must be true or false");
    return true;
}

static bool read_filtering(struct reader *reader, struct fy_node *node, const struct key *key)
{
    static const char *const names[] = {
        [SG_FILTERING_ADDRESS] = "address-dependent",
        [SG_FILTERING_ADDRESS_AND_PORT] = "address-and-port-dependent",
        [SG_FILTERING_NONE] = "endpoint-independent",
    };
    const char *text = scalar_of(node);
    for (unsigned i = 0; text && i < sizeof names / sizeof *names; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        *(enum sg_filtering *)value_at(reader, key->offset) = (enum sg_filtering)i;
        return true;
    }
    return refuse(reader, first_line(node), key->name,
                  "must be endpoint-independent, address-dependent or address-and-port-dependent");
}

/* FIRST-LAST, both included. */
static bool read_ports(struct reader *reader, struct fy_node *node, const struct key *key)
{
    const char *text = scalar_of(node);
    char *end = NULL;
    unsigned long first = text && text[0] >= '1' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    unsigned long last = end && end[0] == '-' && end[1] >= '1' && end[1] <= '9' ? strtoul(end + 1, &end, 10) : 0;
    if (last == 0 || *end != '\0' || first > last || last > 65535)
        return refuse(reader, first_line(node), key->name, "must be FIRST-LAST, two ports from 1 to 65535");
    reader->config->udp_ports.first = (uint16_t)first;
    reader->config->udp_ports.last = (uint16_t)last;
    return true;
}

static bool parse_endpoint(const char *text, struct sg_endpoint *out)
{
    struct sg_target target;
    if (!text || sg_target_parse(text, false, &target) != SG_OK || target.atyp == SG_ATYP_NAME)
        return false;
    *out = sg_target_endpoint(&target);
    return true;
}

/* The port may be left out. */
static bool read_advertise(struct reader *reader, struct fy_node *node, const struct key *key)
{
    struct sg_endpoint *out = &reader->config->advertise;
    const char *text = scalar_of(node);
    *out = (struct sg_endpoint){0};
    if (text && (sg_ip_parse(text, &out->ip) == SG_OK || parse_endpoint(text, out)))
        return true;
    return refuse(reader, first_line(node), key->name, "must be ADDRESS or ADDRESS:PORT, with an IP address");
}

static bool read_listen(struct reader *reader, struct fy_node *node, const struct key *key)
{
    struct sg_config *config = reader->config;
    void *at = NULL;
    struct fy_node *item = NULL;
    if (!fy_node_is_sequence(node))
        return refuse(reader, first_line(node), key->name, "must be a list of ADDRESS:PORT");
    config->listen_count = 0;
    while ((item = fy_node_sequence_iterate(node, &at))) {
        struct sg_endpoint ep;
        if (!parse_endpoint(scalar_of(item), &ep))
            return refuse(reader, first_line(item), key->name, "must be ADDRESS:PORT, with an IP address");
        for (unsigned i = 0; i < config->listen_count; i++)
            if (sg_endpoint_equal(&config->listen[i], &ep))
                return refuse(reader, line_of(item), key->name, "%s is there twice", scalar_of(item));
        if (config->listen_count == SG_CONFIG_LISTEN_MAX)
            return refuse(reader, line_of(item), key->name, "more than %d entries", SG_CONFIG_LISTEN_MAX);
        config->listen[config->listen_count++] = ep;
    }
    return true;
}

static bool read_nets(struct reader *reader, struct fy_node *node, const struct key *key)
{
    struct sg_cidr *nets = value_at(reader, key->offset);
    unsigned *count = value_at(reader, key->count_offset);
    void *at = NULL;
    struct fy_node *item = NULL;
    if (!fy_node_is_sequence(node))
        return refuse(reader, first_line(node), key->name, "must be a list of networks (ADDRESS/BITS)");
    *count = 0;
    while ((item = fy_node_sequence_iterate(node, &at))) {
        const char *text = scalar_of(item);
        if (*count == SG_CONFIG_NETS_MAX)
            return refuse(reader, first_line(item), key->name, "more than %d entries", SG_CONFIG_NETS_MAX);
        if (!text || sg_cidr_parse(text, &nets[*count]) != SG_OK)
            return refuse(reader, first_line(item), key->name, "'%s' is not a network: ADDRESS/BITS without host bits",
                          text ? text : "the entry");
        ++*count;
    }
    return true;
}

static bool read_mapping(struct reader *reader, struct fy_node *node, const struct key *key);

#define AT(member) offsetof(struct sg_config, member)

static const struct key plain_socks_keys[] = {
    {.name = "from", .read = read_nets, .offset = AT(plain_socks), .count_offset = AT(plain_socks_count)},
    {.name = NULL},
};

static const struct key plain_udp_keys[] = {
    {.name = "from", .read = read_nets, .offset = AT(plain_udp), .count_offset = AT(plain_udp_count)},
    {.name = NULL},
};

#define NUMBER(key_name, member, low, high)                                                                            \
    {                                                                                                                  \
        .name = (key_name), .read = read_number, .offset = AT(member), .min = (low), .max = (high)                     \
    }

static const struct key limit_keys[] = {
    NUMBER("sessions", limits.sessions, 1, 65536),
    NUMBER("sessions_per_user", limits.sessions_per_user, 1, 65536),
    NUMBER("associations", limits.associations, 1, 1000000),
    NUMBER("associations_per_user", limits.associations_per_user, 1, 1000000),
    NUMBER("connections", limits.connections, 1, 1000000),
    NUMBER("connections_per_user", limits.connections_per_user, 1, 1000000),
    NUMBER("unauthenticated", limits.unauthenticated, 1, 65536),
    NUMBER("unauthenticated_per_address", limits.unauthenticated_per_address, 1, 65536),
    NUMBER("handshake_seconds", limits.handshake_seconds, 1, 300),
    NUMBER("password_threads", limits.password_threads, 1, 16),
    NUMBER("password_queue", limits.password_queue, 1, 4096),
    {.name = NULL},
};

static const struct key timeout_keys[] = {
    {.name = "association_seconds",
     .read = read_seconds,
     .offset = AT(timeouts.association_ms),
     .min = 1,
     .max = 86400},
    {.name = "dns_seconds", .read = read_seconds, .offset = AT(timeouts.dns_ms), .min = 1, .max = 86400},
    {.name = NULL},
};

static const struct key top_keys[] = {
    {.name = "listen", .read = read_listen},
    {.name = "advertise", .read = read_advertise},
    {.name = "host", .read = read_host, .offset = AT(host)},
    {.name = "certificate", .read = read_path, .offset = AT(certificate)},
    {.name = "key", .read = read_secret, .offset = AT(key)},
    {.name = "users", .read = read_secret, .offset = AT(users)},
    {.name = "client_ca", .read = read_file, .offset = AT(client_ca)},
    {.name = "status_socket", .read = read_path, .offset = AT(status_socket)},
    {.name = "allow", .read = read_nets, .offset = AT(allow), .count_offset = AT(allow_count)},
    {.name = "plain_socks", .read = read_mapping, .keys = plain_socks_keys},
    {.name = "plain_udp", .read = read_mapping, .keys = plain_udp_keys},
    {.name = "udp_ports", .read = read_ports},
    {.name = "filtering", .read = read_filtering, .offset = AT(filtering)},
    {.name = "allow_anyone_without_authentication", .read = read_bool, .offset = AT(allow_anyone)},
    NUMBER("workers", workers, 1, 256),
    {.name = "limits", .read = read_mapping, .keys = limit_keys},
    {.name = "timeouts", .read = read_mapping, .keys = timeout_keys},
    {.name = NULL},
};

static bool read_pair(struct reader *reader, struct fy_node_pair *pair, const struct key *keys)
{
    struct fy_node *key_node = fy_node_pair_key(pair);
    struct fy_node *value = fy_node_pair_value(pair);
    const char *name = scalar_of(key_node);
    if (first_line(key_node) > 0)
        reader->line = first_line(key_node);
    for (const struct key *key = keys; key->name; key++) {
        if (!name || strcmp(key->name, name) != 0)
            continue;
        if (!value || fy_node_is_null(value))
            return refuse(reader, line_of(key_node), key->name, "has no value");
        return key->read(reader, value, key);
    }
    return refuse(reader, first_line(key_node), name ? name : "?", "unknown key");
}

static bool read_mapping(struct reader *reader, struct fy_node *node, const struct key *key)
{
    void *at = NULL;
    struct fy_node_pair *pair = NULL;
    if (!fy_node_is_mapping(node))
        return refuse(reader, first_line(node), key->name, "must be a mapping of keys to values");
    while ((pair = fy_node_mapping_iterate(node, &at)))
        if (!read_pair(reader, pair, key->keys))
            return false;
    return true;
}

struct sg_config *sg_config_new(void)
{
    struct sg_config *config = calloc(1, sizeof *config);
    if (!config)
        return NULL;
    config->limits.sessions = 512;
    config->limits.sessions_per_user = 64;
    config->limits.associations = 16384;
    config->limits.associations_per_user = 4096;
    config->limits.connections = 4096;
    config->limits.connections_per_user = 1024;
    config->limits.unauthenticated = 512;
    config->limits.unauthenticated_per_address = 64;
    config->limits.handshake_seconds = 10;
    config->limits.password_threads = 2;
    config->limits.password_queue = 64;
    config->timeouts.association_ms = 120000;
    config->timeouts.dns_ms = 17000;
    config->plain_udp_count = 2;
    if (sg_cidr_parse("127.0.0.0/8", &config->plain_udp[0]) != SG_OK ||
        sg_cidr_parse("::1/128", &config->plain_udp[1]) != SG_OK) {
        free(config);
        return NULL;
    }
    return config;
}

/* What must be there when all keys were read. */
static bool check_whole(struct reader *reader)
{
    const struct sg_config *config = reader->config;
    const char *missing = config->listen_count == 0 ? "listen"
                          : !config->certificate    ? "certificate"
                          : !config->key            ? "key"
                          : !config->users          ? "users"
                                                    : NULL;
    if (missing)
        return refuse(reader, 1, missing, "is missing");
    return true;
}

/* libfyaml's own diagnosis of a file that is no YAML, as FILE:LINE: yaml: reason. */
static void note_syntax_error(struct reader *reader, struct fy_diag *diag)
{
    void *at = NULL;
    struct fy_diag_error *first = fy_diag_errors_iterate(diag, &at);
    if (first)
        (void)refuse(reader, first->line > 0 ? first->line : 1, "yaml", "%s", first->msg);
    else
        (void)refuse(reader, 1, "yaml", "the file holds no YAML document");
}

static bool read_root(struct reader *reader, struct fy_document *document)
{
    static const struct key top = {.name = "the file", .read = read_mapping, .keys = top_keys};
    struct fy_node *root = fy_document_root(document);
    reader->line = 1;
    return root ? read_mapping(reader, root, &top) && check_whole(reader)
                : refuse(reader, 1, "yaml", "the file is empty");
}

/* One document, and no second one: its keys would say nothing. */
static bool read_documents(struct reader *reader, struct fy_diag *diag, struct fy_parser *parser)
{
    struct fy_document *document = fy_parse_load_document(parser);
    bool good = document && read_root(reader, document);
    bool broken = !document;
    fy_parse_document_destroy(parser, document);
    struct fy_document *second = good ? fy_parse_load_document(parser) : NULL;
    if (second)
        good = refuse(reader, first_line(fy_document_root(second)), "yaml", "a second document begins");
    fy_parse_document_destroy(parser, second);
    if (broken || (good && fy_parser_get_stream_error(parser))) {
        note_syntax_error(reader, diag);
        good = false;
    }
    return good;
}

static bool read_yaml(struct reader *reader, struct fy_diag *diag)
{
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG, .diag = diag};
    struct fy_parser *parser = fy_parser_create(&cfg);
    bool good = false;
    if (parser && fy_parser_set_input_file(parser, reader->path) == 0)
        good = read_documents(reader, diag, parser);
    else
        (void)refuse(reader, 1, "yaml", "cannot be read");
    if (parser)
        fy_parser_destroy(parser);
    return good;
}

struct sg_config *sg_config_load(const char *path, char error[static SG_CONFIG_ERROR_MAX])
{
    struct reader reader = {.path = path, .error = error};
    struct fy_diag *diag = NULL;
    bool good = false;
    error[0] = '\0';
    if (access(path, R_OK) != 0) {
        snprintf(error, SG_CONFIG_ERROR_MAX, "%s: %s", path, strerror(errno));
        return NULL;
    }
    reader.config = sg_config_new();
    struct fy_diag_cfg diag_cfg;
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    diag = fy_diag_create(&diag_cfg);
    if (reader.config && diag) {
        fy_diag_set_collect_errors(diag, true);
        reader.config->file = strdup(path);
        good = reader.config->file && read_yaml(&reader, diag);
    }
    fy_diag_destroy(diag);
    if (!good && error[0] == '\0')
        snprintf(error, SG_CONFIG_ERROR_MAX, "%s: out of memory", path);
    if (good)
        return reader.config;
    sg_config_free(reader.config);
    return NULL;
}

void sg_config_free(struct sg_config *config)
{
    if (!config)
        return;
    free(config->file);
    free(config->host);
    free(config->certificate);
    free(config->key);
    free(config->users);
    free(config->client_ca);
    free(config->status_socket);
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
