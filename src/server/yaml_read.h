/*
 * Reading a YAML file into a struct by tables of keys: each key names the reader of its type and where the value goes.
 * libfyaml parses, and tells the line of every node; the first fault is FILE:LINE: KEY: reason,
 * and a few more may follow it.
 */
#ifndef SG_SERVER_YAML_READ_H
#define SG_SERVER_YAML_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SG_YAML_ERROR_MAX = 1024, SG_YAML_NETS_MAX = 64 };

struct fy_node;

struct sg_yaml_reader {
    void *base; /* the struct that is filled */
    const char *path;
    char *error; /* SG_YAML_ERROR_MAX; empty as long as all is well */
    unsigned faults;
    int line; /* of the key whose value is read: an empty list or mapping has no line of its own */
};

struct sg_yaml_key {
    const char *name; /* NULL ends a table */
    bool (*read)(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
    size_t offset;                  /* of the value in the reader's base */
    size_t count_offset;            /* lists: of the number of entries */
    uint32_t min, max;              /* numbers */
    const struct sg_yaml_key *keys; /* mappings */
};

/*
 * Reads the file's one document, a mapping of these keys, into base. False: error has the line to show. What was
 * allocated until then is in base.
 */
bool sg_yaml_load(const char *path, const struct sg_yaml_key *keys, void *base, char error[static SG_YAML_ERROR_MAX]);

/* The same of the file's text; path is for error and relative names. */
bool sg_yaml_parse(const char *path, const char *text, size_t len, const struct sg_yaml_key *keys, void *base,
                   char error[static SG_YAML_ERROR_MAX]);

/* Records a fault (line 0: that of the key), the first few; returns false, for `return sg_yaml_refuse(...)`. */
bool sg_yaml_refuse(struct sg_yaml_reader *reader, int line, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Where the value of a key goes. */
void *sg_yaml_value_at(struct sg_yaml_reader *reader, size_t offset);
/* The text of a scalar; NULL for all else. */
const char *sg_yaml_scalar_of(struct fy_node *node);
int sg_yaml_line_of(struct fy_node *node);
/* The line of a node that may be a list or a mapping: that of its first scalar. */
int sg_yaml_first_line(struct fy_node *node);

/* Readers: char *, allocated, which the owner of base frees. */
bool sg_yaml_read_text(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
/* A path; a relative one is taken from the directory of the file, credential:NAME from that of credentials. */
bool sg_yaml_read_path(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
/* A file that must be there. */
bool sg_yaml_read_file(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
/* One that nobody but its owner may read, too. */
bool sg_yaml_read_secret(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
/* uint32_t, from min to max. */
bool sg_yaml_read_number(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
/* uint64_t milliseconds, written as seconds. */
bool sg_yaml_read_seconds(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
bool sg_yaml_read_bool(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
/* struct sg_cidr [SG_YAML_NETS_MAX], and their number at count_offset, unsigned. */
bool sg_yaml_read_nets(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
/* A mapping of the keys of key->keys, into the same base. */
bool sg_yaml_read_mapping(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);

#endif
