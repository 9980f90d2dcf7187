/*
 * The file of addresses at which servers were reached, and --resolve: what is read is a server as an invite may name
 * one, and what is written of it is read again.
 */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "net/invite.h"
#include "net/known_servers.h"

static void check_server(const struct sg_known_server *server, char separator)
{
    char line[SG_KNOWN_SERVER_HOST_MAX + SG_IP_LIST_TEXT_MAX + 16], addresses[SG_IP_LIST_TEXT_MAX];
    static struct sg_known_servers again;
    struct sg_known_server same;
    CHECK(sg_invite_host_is_valid(server->host) && server->port != 0);
    CHECK(server->addresses.count >= 1 && server->addresses.count <= SG_IP_LIST_MAX);
    sg_ip_list_format(&server->addresses, addresses);
    int len = snprintf(line, sizeof line, "%s%c%u%c%s", server->host, separator,
                       (unsigned)server->port ^ (PLANTED_BUG && server->addresses.count > 1), separator, addresses);
    if (separator == ' ') {
        sg_known_servers_parse(line, (size_t)len, &again);
        CHECK(again.count == 1);
        same = again.servers[0];
    } else {
        CHECK(sg_known_server_parse(line, &same));
    }
    CHECK(strcmp(same.host, server->host) == 0 && same.port == server->port);
    CHECK(sg_ip_list_equal(&same.addresses, &server->addresses));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sg_known_servers servers;
    struct sg_known_server one;
    char *text = malloc(size + 1); /* exactly as long as the text */
    CHECK(text);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    sg_known_servers_parse(text, size, &servers);
    CHECK(servers.count <= SG_KNOWN_SERVERS_MAX);
    for (size_t i = 0; i < servers.count; i++)
        check_server(&servers.servers[i], ' ');
    if (sg_known_server_parse(text, &one))
        check_server(&one, ':');
    free(text);
    return 0;
}
