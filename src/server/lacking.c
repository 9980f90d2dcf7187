/* Each is tried out: a socket is made and closed again. */
#include "server/lacking.h"

#include <errno.h>
#include <string.h>

#include "net/log.h"
#include "net/own_routes.h"
#include "net/udp.h"
#include "server/config.h"
#include "server/server.h"

bool sg_lacking_choose_listen(struct sg_server *server)
{
    const struct sg_config *config = server->config;
    server->listen_count = 0;
    for (unsigned i = 0; i < config->listen_count; i++) {
        const struct sg_endpoint *at = &config->listen[i];
        char text[SG_ENDPOINT_TEXT_MAX];
        if (!sg_ip_is_unspecified(&at->ip) || sg_udp_has_family(at->ip.family)) {
            server->listen[server->listen_count++] = *at;
            continue;
        }
        sg_endpoint_format(at, text);
        sg_log_event(SG_LOG_INFO, "listen_left_out", SG_LOG_FIELDS(sg_log_word("address", text)),
                     "listen: %s is left out: this kernel has no IPv%u", text, at->ip.family);
    }
    if (server->listen_count > 0)
        return true;
    sg_log_event(SG_LOG_ERROR, "listen_failed", NULL, "listen: no address is left: name one that this kernel can have");
    return false;
}

bool sg_lacking_can_share(const struct sg_server *server, unsigned workers, bool were_passed)
{
    if (workers <= 1 || sg_udp_can_steer(server->listen[0].ip.family))
        return true;
    const char *reason = strerror(errno);
    if (were_passed)
        sg_log_event(SG_LOG_ERROR, "listen_failed", NULL,
                     "%u sockets of each address were passed, but this kernel cannot tell which datagram is for which "
                     "(SO_ATTACH_REUSEPORT_CBPF: %s): pass one of each",
                     workers, reason);
    else
        sg_log_event(SG_LOG_WARN, "one_worker", NULL,
                     "one worker instead of %u: this kernel cannot tell which datagram is for which "
                     "(SO_ATTACH_REUSEPORT_CBPF: %s)",
                     workers, reason);
    return false;
}

void sg_lacking_tell_netlink(void)
{
    if (sg_own_routes_are_told())
        return;
    sg_log_event(SG_LOG_WARN, "no_netlink", NULL,
                 "netlink is not to be had (%s): of this machine's own addresses only those under listen and advertise "
                 "are refused as targets, and changes go unnoticed; rules (server.yaml(5)) can refuse the others",
                 strerror(errno));
}
