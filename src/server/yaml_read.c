/* libfyaml does the parsing; here is what the types of values look like, and where the line of a fault comes from. */
#include "server/yaml_read.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libfyaml.h>

#include "core/guard.h"
#include "server/yaml_text.h"

enum { FAULTS_SHOWN = 4, KEY_NAME_MAX = 64 };

int sg_yaml_line_of(struct fy_node *node)
{
    struct fy_token *token = fy_node_get_scalar_token(node);
    const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
    return mark ? mark->line + 1 : 0;
}

bool sg_yaml_refuse(struct sg_yaml_reader *reader, int line, const char *key, const char *format, ...)
{
    va_list args;
    char reason[512];
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    size_t used = strlen(reader->error);
    line = line > 0 ? line : reader->line;
    if (reader->faults++ == 0)
        snprintf(reader->error, SG_YAML_ERROR_MAX, "%.200s:%d: %.64s: %s", reader->path, line, key, reason);
    else if (reader->faults <= FAULTS_SHOWN)
        snprintf(reader->error + used, SG_YAML_ERROR_MAX - used, "; line %d: %.64s: %.200s", line, key, reason);
    return false;
}

void *sg_yaml_value_at(struct sg_yaml_reader *reader, size_t offset)
{
    return (char *)reader->base + offset;
}

const char *sg_yaml_scalar_of(struct fy_node *node)
{
    return node && fy_node_is_scalar(node) && !fy_node_is_alias(node) ? fy_node_get_scalar0(node) : NULL;
}

/* The line of a node that may be a list or a mapping: that of its first scalar. */
int sg_yaml_first_line(struct fy_node *node)
{
    void *at = NULL;
    if (!node)
        return 0;
    if (fy_node_is_sequence(node))
        return sg_yaml_first_line(fy_node_sequence_iterate(node, &at));
    if (fy_node_is_mapping(node)) {
        struct fy_node_pair *pair = fy_node_mapping_iterate(node, &at);
        return pair ? sg_yaml_first_line(fy_node_pair_key(pair)) : 0;
    }
    return sg_yaml_line_of(node);
}

bool sg_yaml_read_text(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const char *text = sg_yaml_scalar_of(node);
    char **out = sg_yaml_value_at(reader, key->offset);
    if (!text || text[0] == '\0')
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a text");
    free(*out);
    *out = strdup(text);
    return *out || sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "out of memory");
}

static const char credential[] = "credential:";

/* `credential:NAME`: a file that the service manager put where only this service reads it (systemd.exec(5)). */
static bool read_credential(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    char **out = sg_yaml_value_at(reader, key->offset);
    const char *name = *out + strlen(credential), *dir = getenv("CREDENTIALS_DIRECTORY");
    char *joined = NULL;
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/'))
        return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "not the name of a credential");
    if (!dir || dir[0] != '/')
        return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name,
                              "there are no credentials: CREDENTIALS_DIRECTORY is not set");
    if (asprintf(&joined, "%s/%s", dir, name) < 0)
        return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "out of memory");
    free(*out);
    *out = joined;
    return true;
}

/* A path; a relative one is taken from the directory of the configuration file. */
bool sg_yaml_read_path(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    char **out = sg_yaml_value_at(reader, key->offset);
    char *joined = NULL;
    if (!sg_yaml_read_text(reader, node, key))
        return false;
    if (strncmp(*out, credential, strlen(credential)) == 0)
        return read_credential(reader, node, key);
    const char *slash = strrchr(reader->path, '/');
    if ((*out)[0] == '/' || !slash)
        return true;
    if (asprintf(&joined, "%.*s/%s", (int)(slash - reader->path), reader->path, *out) < 0)
        return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "out of memory");
    free(*out);
    *out = joined;
    return true;
}

/* A file that must be there. */
bool sg_yaml_read_file(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    if (!sg_yaml_read_path(reader, node, key))
        return false;
    const char *path = *(char **)sg_yaml_value_at(reader, key->offset);
    if (access(path, R_OK) == 0)
        return true;
    return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "%.300s: %s", path, strerror(errno));
}

/* One that nobody but its owner may read, too. */
bool sg_yaml_read_secret(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct stat st;
    if (!sg_yaml_read_file(reader, node, key))
        return false;
    const char *path = *(char **)sg_yaml_value_at(reader, key->offset);
    if (stat(path, &st) != 0)
        return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "%.300s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "%.300s: not a file", path);
    if (st.st_mode & 077)
        return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name,
                              "%.200s: others may read or write it (mode %04o): chmod 600 %.200s", path,
                              (unsigned)st.st_mode & 07777, path);
    return true;
}

/* Text as it stands: what is quoted is no number and no truth value. */
static const char *plain_scalar_of(struct fy_node *node)
{
    return fy_node_get_style(node) == FYNS_PLAIN ? sg_yaml_scalar_of(node) : NULL;
}

/* A whole number within the bounds of its key. */
static bool parse_number(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key,
                         uint32_t *out)
{
    const char *text = plain_scalar_of(node);
    char *end = NULL;
    errno = 0;
    unsigned long value = text && text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (!end || *end != '\0')
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a whole number");
    if (errno != 0 || value < key->min || value > key->max)
        return sg_yaml_refuse(reader, sg_yaml_line_of(node), key->name, "must be from %u to %u", key->min, key->max);
    *out = (uint32_t)value;
    return true;
}

bool sg_yaml_read_number(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    return parse_number(reader, node, key, sg_yaml_value_at(reader, key->offset));
}

bool sg_yaml_read_seconds(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    uint32_t seconds = 0;
    if (!parse_number(reader, node, key, &seconds))
        return false;
    *(uint64_t *)sg_yaml_value_at(reader, key->offset) = (uint64_t)seconds * 1000;
    return true;
}

bool sg_yaml_read_bool(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    const char *text = plain_scalar_of(node);
    bool *out = sg_yaml_value_at(reader, key->offset);
    if (text && strcmp(text, "true") == 0)
        *out = true;
    else if (text && strcmp(text, "false") == 0)
        *out = false;
    else
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be true or false");
    return true;
}

bool sg_yaml_read_nets(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    struct sg_cidr *nets = sg_yaml_value_at(reader, key->offset);
    unsigned *count = sg_yaml_value_at(reader, key->count_offset);
    void *at = NULL;
    struct fy_node *item = NULL;
    if (!fy_node_is_sequence(node))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a list of networks (ADDRESS/BITS)");
    *count = 0;
    while ((item = fy_node_sequence_iterate(node, &at))) {
        const char *text = sg_yaml_scalar_of(item);
        if (*count == SG_YAML_NETS_MAX)
            return sg_yaml_refuse(reader, sg_yaml_first_line(item), key->name, "more than %d entries",
                                  SG_YAML_NETS_MAX);
        if (!text || sg_cidr_parse(text, &nets[*count]) != SG_OK)
            return sg_yaml_refuse(reader, sg_yaml_first_line(item), key->name,
                                  "'%s' is not a network: ADDRESS/BITS without host bits", text ? text : "the entry");
        ++*count;
    }
    return true;
}

/* --- keys --- */

static unsigned smallest(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

/* How many letters must be added, removed or replaced to make b of a; case does not count. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[KEY_NAME_MAX + 1];
    size_t len = strlen(b);
    if (len > KEY_NAME_MAX)
        return UINT_MAX;
    for (unsigned i = 0; i <= len; i++)
        row[i] = i;
    for (unsigned i = 0; a[i]; i++) {
        unsigned diagonal = row[0];
        row[0] = i + 1;
        for (size_t k = 0; k < len; k++) {
            unsigned replaced = diagonal + (tolower((unsigned char)a[i]) != tolower((unsigned char)b[k]));
            diagonal = row[k + 1];
            row[k + 1] = smallest(row[k] + 1, row[k + 1] + 1, replaced);
        }
    }
    return row[len];
}

/* The key that was probably meant, or NULL. */
static const char *near_key(const char *name, const struct sg_yaml_key *keys)
{
    const char *nearest = NULL;
    unsigned least = strlen(name) < 5 ? 2 : strlen(name) < 9 ? 3 : 4; /* what is less is a slip */
    for (const struct sg_yaml_key *key = keys; key->name; key++) {
        unsigned distance = edit_distance(name, key->name);
        if (distance < least) {
            least = distance;
            nearest = key->name;
        }
    }
    return nearest;
}

/* The mapping of this table that the key belongs in, or NULL. */
static const char *home_of(const char *name, const struct sg_yaml_key *keys)
{
    for (const struct sg_yaml_key *key = keys; key->name; key++)
        for (const struct sg_yaml_key *inner = key->keys; inner && inner->name; inner++)
            if (strcmp(inner->name, name) == 0)
                return key->name;
    return NULL;
}

static bool refuse_key(struct sg_yaml_reader *reader, int line, const char *name, const struct sg_yaml_key *keys)
{
    const char *nearest = near_key(name, keys), *home = home_of(name, keys);
    if (nearest)
        return sg_yaml_refuse(reader, line, name, "unknown key (did you mean %s?)", nearest);
    if (home)
        return sg_yaml_refuse(reader, line, name, "unknown key (it belongs into %s)", home);
    return sg_yaml_refuse(reader, line, name, "unknown key");
}

static bool read_pair(struct sg_yaml_reader *reader, struct fy_node_pair *pair, const struct sg_yaml_key *keys)
{
    struct fy_node *key_node = fy_node_pair_key(pair);
    struct fy_node *value = fy_node_pair_value(pair);
    const char *name = sg_yaml_scalar_of(key_node);
    if (sg_yaml_first_line(key_node) > 0)
        reader->line = sg_yaml_first_line(key_node);
    for (const struct sg_yaml_key *key = keys; key->name; key++) {
        if (!name || strcmp(key->name, name) != 0)
            continue;
        if (!value || fy_node_is_null(value))
            return sg_yaml_refuse(reader, sg_yaml_line_of(key_node), key->name, "has no value");
        return key->read(reader, value, key);
    }
    return refuse_key(reader, sg_yaml_first_line(key_node), name ? name : "?", keys);
}

bool sg_yaml_read_mapping(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key)
{
    void *at = NULL;
    struct fy_node_pair *pair = NULL;
    bool good = true;
    if (!fy_node_is_mapping(node))
        return sg_yaml_refuse(reader, sg_yaml_first_line(node), key->name, "must be a mapping of keys to values");
    while ((pair = fy_node_mapping_iterate(node, &at)))
        good &= read_pair(reader, pair, key->keys); /* further faults are shown, too */
    return good;
}

/* libfyaml's own diagnosis of a file that is no YAML, as FILE:LINE: yaml: reason. */
static void note_syntax_error(struct sg_yaml_reader *reader, struct fy_diag *diag)
{
    void *at = NULL;
    struct fy_diag_error *first = fy_diag_errors_iterate(diag, &at);
    if (first)
        (void)sg_yaml_refuse(reader, first->line > 0 ? first->line : 1, "yaml", "%s", first->msg);
    else
        (void)sg_yaml_refuse(reader, 1, "yaml", "the file holds no YAML document");
}

static bool read_root(struct sg_yaml_reader *reader, struct fy_document *document, const struct sg_yaml_key *keys)
{
    const struct sg_yaml_key top = {.name = "the file", .keys = keys};
    struct fy_node *root = fy_document_root(document);
    reader->line = 1;
    return root ? sg_yaml_read_mapping(reader, root, &top) : sg_yaml_refuse(reader, 1, "yaml", "the file is empty");
}

/* One document, and no second one: its keys would say nothing. */
static bool read_documents(struct sg_yaml_reader *reader, const struct sg_yaml_key *keys, struct fy_diag *diag,
                           struct fy_parser *parser)
{
    struct fy_document *document = fy_parse_load_document(parser);
    bool good = document && read_root(reader, document, keys);
    bool broken = !document;
    fy_parse_document_destroy(parser, document);
    struct fy_document *second = good ? fy_parse_load_document(parser) : NULL;
    if (second)
        good = sg_yaml_refuse(reader, sg_yaml_first_line(fy_document_root(second)), "yaml", "a second document begins");
    fy_parse_document_destroy(parser, second);
    if (broken || (good && fy_parser_get_stream_error(parser))) {
        note_syntax_error(reader, diag);
        good = false;
    }
    return good;
}

static bool read_yaml(struct sg_yaml_reader *reader, const struct sg_yaml_key *keys, struct fy_diag *diag,
                      const char *text, size_t len)
{
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG, .diag = diag};
    struct fy_parser *parser = fy_parser_create(&cfg);
    bool good = false;
    if (parser && fy_parser_set_string(parser, text, len) == 0)
        good = read_documents(reader, keys, diag, parser);
    else
        (void)sg_yaml_refuse(reader, 1, "yaml", "cannot be read");
    if (parser)
        fy_parser_destroy(parser);
    return good;
}

bool sg_yaml_parse(const char *path, const char *text, size_t len, const struct sg_yaml_key *keys, void *base,
                   char error[static SG_YAML_ERROR_MAX])
{
    struct sg_yaml_reader reader = {.base = base, .path = path, .error = error};
    struct fy_diag_cfg diag_cfg;
    bool good = false;
    int line = 0;
    error[0] = '\0';
    const char *wrong = sg_yaml_text_check(text, len, &line);
    if (wrong)
        return sg_yaml_refuse(&reader, line, "yaml", "%s", wrong);
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    struct fy_diag *diag = fy_diag_create(&diag_cfg);
    if (diag) {
        fy_diag_set_collect_errors(diag, true);
        good = read_yaml(&reader, keys, diag, text, len);
    }
    fy_diag_destroy(diag);
    if (!good && error[0] == '\0')
        snprintf(error, SG_YAML_ERROR_MAX, "%s: out of memory", path);
    return good;
}

bool sg_yaml_load(const char *path, const struct sg_yaml_key *keys, void *base, char error[static SG_YAML_ERROR_MAX])
{
    size_t len = 0;
    char *text = sg_yaml_text_read(path, &len);
    if (!text) {
        snprintf(error, SG_YAML_ERROR_MAX, "%s: %s", path, strerror(errno));
        return false;
    }
    bool good = sg_yaml_parse(path, text, len, keys, base, error);
    free(text);
    return good;
}
