/* Lines of text, read whole and replaced whole. Of two clients that write at the same moment the later one wins. */
#include "net/known_servers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/file.h"
#include "net/invite.h"

enum { FILE_BYTES_MAX = 65536 };

static bool parse_port(const char *text, size_t len, uint16_t *out)
{
    unsigned long value = 0;
    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned long)(text[i] - '0');
    }
    *out = (uint16_t)value;
    return value >= 1 && value <= 65535;
}

/* HOST, PORT and addresses with a separator between. */
static bool parse_server(const char *text, size_t len, char separator, struct sg_known_server *out)
{
    const char *end = text + len;
    const char *host_end = memchr(text, separator, len);
    const char *port = host_end ? host_end + 1 : end;
    const char *port_end = memchr(port, separator, (size_t)(end - port));
    memset(out, 0, sizeof *out);
    if (!host_end || !port_end || (size_t)(host_end - text) >= sizeof out->host)
        return false;
    memcpy(out->host, text, (size_t)(host_end - text));
    return sg_invite_host_is_valid(out->host) && parse_port(port, (size_t)(port_end - port), &out->port) &&
           sg_ip_list_parse(port_end + 1, (size_t)(end - port_end - 1), &out->addresses);
}

bool sg_known_server_parse(const char *text, struct sg_known_server *out)
{
    return parse_server(text, strlen(text), ':', out);
}

void sg_known_servers_parse(const char *text, size_t len, struct sg_known_servers *out)
{
    const char *end = text + len;
    out->count = 0;
    for (const char *line = text; line < end && out->count < SG_KNOWN_SERVERS_MAX;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *line_end = newline ? newline : end;
        out->count += parse_server(line, (size_t)(line_end - line), ' ', &out->servers[out->count]);
        line = newline ? newline + 1 : end;
    }
}

const struct sg_known_server *sg_known_servers_find(const struct sg_known_server *servers, size_t count,
                                                    const char *host, uint16_t port)
{
    for (size_t i = 0; i < count; i++)
        if (servers[i].port == port && strcasecmp(servers[i].host, host) == 0)
            return &servers[i];
    return NULL;
}

bool sg_known_servers_open(char path[static SG_STATE_PATH_MAX])
{
    return sg_state_path("servers/addresses", path) && sg_state_make_dirs(path);
}

void sg_known_servers_load(const char *path, struct sg_known_servers *out)
{
    char *text = malloc(FILE_BYTES_MAX);
    FILE *file = text ? fopen(path, "re") : NULL;
    out->count = 0;
    if (file) {
        sg_known_servers_parse(text, fread(text, 1, FILE_BYTES_MAX, file), out);
        fclose(file);
    }
    free(text);
}

static bool write_one(FILE *file, const struct sg_known_server *server)
{
    char addresses[SG_IP_LIST_TEXT_MAX];
    sg_ip_list_format(&server->addresses, addresses);
    return fprintf(file, "%s %u %s\n", server->host, server->port, addresses) > 0;
}

struct lines {
    const struct sg_known_server *first;
    const struct sg_known_servers *others;
};

static bool write_lines(FILE *file, void *ctx)
{
    const struct lines *lines = ctx;
    size_t count = 1;
    bool good = write_one(file, lines->first);
    for (size_t i = 0; i < lines->others->count && count < SG_KNOWN_SERVERS_MAX && good; i++) {
        const struct sg_known_server *other = &lines->others->servers[i];
        if (sg_known_servers_find(lines->first, 1, other->host, other->port))
            continue;
        good = write_one(file, other);
        count++;
    }
    return good;
}

enum sg_err sg_known_servers_save(const char *path, const struct sg_known_server *server)
{
    struct sg_known_servers *others = malloc(sizeof *others);
    if (!others)
        return SG_ERR_NOMEM;
    sg_known_servers_load(path, others);
    struct lines lines = {.first = server, .others = others};
    enum sg_err err = sg_file_replace(path, write_lines, &lines);
    free(others);
    return err;
}
