/*
 * The text of a YAML file, before it is parsed: read whole, and refused where it has bytes with which no configuration
 * is written. libfyaml 0.8 never returns from some of them (a line that begins with % and has a byte that is not
 * UTF-8), so none of them reaches it.
 */
#ifndef SG_SERVER_YAML_TEXT_H
#define SG_SERVER_YAML_TEXT_H

#include <stdbool.h>
#include <stddef.h>

enum { SG_YAML_TEXT_MAX = 1024 * 1024 };

/*
 * The contents of the file and their length, which the caller frees. NULL with errno; EFBIG for more than
 * SG_YAML_TEXT_MAX bytes. Returns when the file system does: a file that does not answer is waited for.
 */
char *sg_yaml_text_read(const char *path, size_t *len);

/*
 * What is wrong with the bytes, or NULL if libfyaml may see them; *line is then where, from 1. Refused are: what is not
 * UTF-8, control characters but tab and line ends, and lines that begin with %, which are directives.
 */
const char *sg_yaml_text_check(const char *text, size_t len, int *line);

#endif
