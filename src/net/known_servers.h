/*
 * Addresses of servers by their names, for a client whose name server can only be reached through its session: those of
 * `--resolve`, and those at which servers were reached before, which a file keeps from one run to the next.
 */
#ifndef SG_NET_KNOWN_SERVERS_H
#define SG_NET_KNOWN_SERVERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "net/ip_list.h"
#include "net/state_dir.h"

enum { SG_KNOWN_SERVERS_MAX = 64, SG_KNOWN_SERVER_HOST_MAX = 256 };

struct sg_known_server {
    char host[SG_KNOWN_SERVER_HOST_MAX];
    uint16_t port;
    struct sg_ip_list addresses;
};

struct sg_known_servers {
    size_t count;
    struct sg_known_server servers[SG_KNOWN_SERVERS_MAX];
};

/* "HOST:PORT:ADDR[,ADDR...]". False if it is not that. */
bool sg_known_server_parse(const char *text, struct sg_known_server *out);

/* The lines "HOST PORT ADDR[,ADDR...]" of a file; what is none is left out, and what is more than fits. */
void sg_known_servers_parse(const char *text, size_t len, struct sg_known_servers *out);

/* NULL: the name and port are not among them. Names are compared as names are, without regard to case. */
const struct sg_known_server *sg_known_servers_find(const struct sg_known_server *servers, size_t count,
                                                    const char *host, uint16_t port);

/*
 * The file, servers/addresses in the state directory: its folder is made and its path written by the first, before the
 * sandbox is closed. False with errno: there is none, and nothing can be remembered.
 */
bool sg_known_servers_open(char path[static SG_STATE_PATH_MAX]);
/* Reads the file; one that is not there, or cannot be read, is empty. */
void sg_known_servers_load(const char *path, struct sg_known_servers *out);
/* Puts a server first, in place of what the file says of it; the last of too many is forgotten. */
SG_MUST_CHECK enum sg_err sg_known_servers_save(const char *path, const struct sg_known_server *server);

#endif
