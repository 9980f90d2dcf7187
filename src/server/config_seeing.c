/* The configuration's sections on what operators see: `log` and `metrics`. */
#include "server/config_seeing.h"

#include <string.h>

#include "server/config.h"

/* --- log --- */

static bool read_level(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const char *text = sg_yaml_scalar_of(node);
    return (text && sg_log_parse_level(text, sg_yaml_value_at(reader, key->offset))) ||
           sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be error, warning, info or debug");
}

static bool read_format(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const char *text = sg_yaml_scalar_of(node);
    return (text && sg_log_parse_format(text, sg_yaml_value_at(reader, key->offset))) ||
           sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be text or json");
}

static bool read_addresses(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const char *text = sg_yaml_scalar_of(node);
    return (text && sg_log_parse_addresses(text, sg_yaml_value_at(reader, key->offset))) ||
           sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be masked or full");
}

#define AT(member) offsetof(struct sg_config, member)

const struct sg_yaml_key sg_config_log_keys[] = {
    {.name = "level", .read = read_level, .offset = AT(log.level)},
    {.name = "format", .read = read_format, .offset = AT(log.format)},
    {.name = "addresses", .read = read_addresses, .offset = AT(log.addresses)},
    {.name = NULL},
};

void sg_config_use_log(const struct sg_config_log *log)
{
    sg_log_set_level(log->level);
    sg_log_set_format(log->format);
    sg_log_set_addresses(log->addresses);
}

void sg_config_keep_log(const struct sg_config_log *said, struct sg_config_log *other)
{
    if (said->has_level)
        other->level = said->level;
    if (said->has_format)
        other->format = said->format;
    if (said->has_addresses)
        other->addresses = said->addresses;
    other->has_level = said->has_level;
    other->has_format = said->has_format;
    other->has_addresses = said->has_addresses;
}

/* --- metrics --- */

static bool read_endpoint(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct sg_endpoint *out = sg_yaml_value_at(reader, key->offset);
    const char *text = sg_yaml_scalar_of(node);
    const char *problem = text ? sg_listen_parse(text, false, out) : "must be ADDRESS:PORT";
    return !problem || sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "%s", problem);
}

static const struct sg_yaml_key metrics_keys[] = {
    {.name = "listen", .read = read_endpoint, .offset = AT(metrics.listen)},
    {.name = "allow_remote", .read = sg_yaml_read_bool, .offset = AT(metrics.allow_remote)},
    {.name = "per_user", .read = sg_yaml_read_bool, .offset = AT(metrics.per_user)},
    {.name = NULL},
};

static bool is_loopback(const struct sg_ip *ip)
{
    const struct sg_ip plain = sg_ip_unmap(ip);
    static const uint8_t v6[16] = {[15] = 1};
    return plain.family == 4 ? plain.bytes[0] == 127 : memcmp(plain.bytes, v6, sizeof v6) == 0;
}

bool sg_config_read_metrics(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const struct sg_yaml_key mapping = {.name = key->name, .keys = metrics_keys};
    const struct sg_config *config = reader->base;
    if (!sg_yaml_read_mapping(reader, node, &mapping))
        return false;
    if (config->metrics.listen.ip.family == 0)
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), "metrics", "listen is missing");
    if (is_loopback(&config->metrics.listen.ip) || config->metrics.allow_remote)
        return true;
    return sg_yaml_refuse(reader, sg_yaml_first_line(node), "metrics",
                          "listen is not a loopback address, so everyone who reaches it could read: say "
                          "allow_remote: true if a firewall decides who may");
}
