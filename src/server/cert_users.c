/* The list and its reader. An entry is {san: KIND:VALUE, user: NAME} or {subject: NAMES, user: NAME}. */
#include "server/cert_users.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfyaml.h>

#include "server/users.h"

enum { ENTRIES_MAX = 1000 };

/* dns:NAME, email:ADDRESS or uri:URI */
static const char *parse_san(const char *text, enum sg_tls_cert_name *kind)
{
    static const char *const prefixes[] = {
        [SG_TLS_CERT_DNS] = "dns:", [SG_TLS_CERT_EMAIL] = "email:", [SG_TLS_CERT_URI] = "uri:"};
    for (unsigned i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        size_t len = strlen(prefixes[i]);
        *kind = (enum sg_tls_cert_name)i;
        if (strncmp(text, prefixes[i], len) == 0 && text[len] != '\0')
            return text + len;
    }
    return NULL;
}

static bool set_name(struct sg_yaml_reader *reader, int line, const char *name, const char *text,
                     struct sg_cert_user *out)
{
    const char *value = text;
    if (out->value)
        return sg_yaml_refuse(reader, line, name, "an entry has one san or one subject");
    out->kind = SG_TLS_CERT_SUBJECT;
    if (strcmp(name, "san") == 0)
        value = parse_san(text, &out->kind);
    if (!value || value[0] == '\0')
        return sg_yaml_refuse(reader, line, name, "must be dns:NAME, email:ADDRESS or uri:URI");
    out->value = strdup(value);
    return out->value || sg_yaml_refuse(reader, line, name, "out of memory");
}

static bool read_pair(struct sg_yaml_reader *reader, struct fy_node_pair *pair, struct sg_cert_user *out)
{
    struct fy_node *key_node = fy_node_pair_key(pair);
    const char *name = sg_yaml_scalar_of(key_node), *text = sg_yaml_scalar_of(fy_node_pair_value(pair));
    int line = sg_yaml_first_line(key_node);
    if (!name || (strcmp(name, "san") != 0 && strcmp(name, "subject") != 0 && strcmp(name, "user") != 0))
        return sg_yaml_refuse(reader, line, name ? name : "?", "unknown key");
    if (!text || text[0] == '\0')
        return sg_yaml_refuse(reader, line, name, "must be a text");
    if (strcmp(name, "user") != 0)
        return set_name(reader, line, name, text, out);
    if (!sg_user_name_is_valid(text))
        return sg_yaml_refuse(reader, line, name, "'%.100s' is not a user name: 1 to 64 of letters, digits and . _ - @",
                              text);
    snprintf(out->user, sizeof out->user, "%s", text);
    return true;
}

static bool read_entry(struct sg_yaml_reader *reader, struct fy_node *node, const char *key, struct sg_cert_user *out)
{
    struct fy_node_pair *pair = NULL;
    void *at = NULL;
    int line = sg_yaml_first_line(node);
    if (!fy_node_is_mapping(node))
        return sg_yaml_refuse(reader, line, key, "an entry is a mapping of san or subject, and user");
    while ((pair = fy_node_mapping_iterate(node, &at)))
        if (!read_pair(reader, pair, out))
            return false;
    if (!out->value || out->user[0] == '\0')
        return sg_yaml_refuse(reader, line, key, "an entry needs san or subject, and user");
    return true;
}

bool sg_yaml_read_cert_users(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct sg_cert_users *users = sg_yaml_value_at(reader, key->offset);
    struct fy_node *item = NULL;
    void *at = NULL;
    if (!fy_node_is_sequence(node))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a list");
    while ((item = fy_node_sequence_iterate(node, &at))) {
        if (users->count == ENTRIES_MAX)
            return sg_yaml_refuse(reader, sg_yaml_first_line(item), key->name, "more than %d entries", ENTRIES_MAX);
        struct sg_cert_user *grown = realloc(users->list, (users->count + 1) * sizeof *grown);
        if (!grown)
            return sg_yaml_refuse(reader, 0, key->name, "out of memory");
        users->list = grown;
        users->list[users->count] = (struct sg_cert_user){.value = NULL};
        if (!read_entry(reader, item, key->name, &users->list[users->count++]))
            return false;
    }
    return true;
}

void sg_cert_users_dispose(struct sg_cert_users *users)
{
    for (unsigned i = 0; i < users->count; i++)
        free(users->list[i].value);
    free(users->list);
    *users = (struct sg_cert_users){.list = NULL};
}

bool sg_cert_users_find(const struct sg_cert_users *users, struct bufferevent *bev, char user[static 65])
{
    for (unsigned i = 0; i < users->count; i++) {
        if (!sg_tls_client_has(bev, users->list[i].kind, users->list[i].value))
            continue;
        snprintf(user, 65, "%s", users->list[i].user);
        return true;
    }
    return sg_tls_client_name(bev, user);
}
