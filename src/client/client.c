/* One client: its servers, its session, its listeners. */
#include "client/client.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <jansson.h>
#include <sodium.h>

#include "client/socks.h"
#include "client/tunnel.h"
#include "client/uplink.h"
#include "net/invite.h"
#include "net/listen_failed.h"
#include "net/log.h"
#include "net/log_text.h"
#include "net/loop.h"
#include "net/sockaddr.h"
#include "net/tls.h"

bool sg_client_is_local(const struct sg_ip *ip)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    return (ip->family == 4 && ip->bytes[0] == 127) || (ip->family == 6 && memcmp(ip->bytes, loopback6, 16) == 0);
}

void sg_client_servers_release(struct sg_client_servers *servers)
{
    if (!servers || --servers->refs > 0)
        return;
    for (size_t i = 0; i < servers->count; i++)
        SSL_CTX_free(servers->list[i].tls);
    sodium_memzero(servers->list, servers->count * sizeof servers->list[0]);
    free(servers);
}

static void add_known(struct sg_client_server *server, const struct sg_known_server *known)
{
    for (size_t i = 0; known && i < known->addresses.count; i++)
        sg_ip_list_add(&server->known, &known->addresses.ips[i]);
}

/* What is known of the servers' addresses before anything is looked up. */
static void find_addresses(const struct sg_client *client, struct sg_client_servers *servers)
{
    const struct sg_client_options *options = client->options;
    struct sg_known_servers *before = calloc(1, sizeof *before);
    if (before && client->known_path)
        sg_known_servers_load(client->known_path, before);
    for (size_t i = 0; i < servers->count; i++) {
        struct sg_client_server *server = &servers->list[i];
        const struct sg_invite *invite = &server->invite;
        const struct sg_known_server *fixed =
            sg_known_servers_find(options->resolves, options->resolve_count, invite->host, invite->port);
        server->is_fixed = fixed != NULL;
        add_known(server, fixed);
        if (fixed)
            continue;
        const struct sg_known_server *kept =
            before ? sg_known_servers_find(before->servers, before->count, invite->host, invite->port) : NULL;
        server->is_kept = kept && invite->addresses.count == 0;
        add_known(server, kept);
        for (size_t k = 0; k < invite->addresses.count; k++)
            sg_ip_list_add(&server->known, &invite->addresses.ips[k]);
    }
    free(before);
}

/* NULL after logging why. */
static struct sg_client_servers *make_servers(const struct sg_client *client, const struct sg_invite *invites,
                                              size_t count)
{
    const struct sg_client_options *options = client->options;
    struct sg_client_servers *servers = calloc(1, sizeof *servers + count * sizeof servers->list[0]);
    char text[SG_TLS_TEXT_MAX] = "out of memory";
    bool good = servers != NULL;
    if (servers)
        servers->refs = 1;
    for (size_t i = 0; i < count && good; i++) {
        struct sg_tls_client_options tls = {.has_pin = invites[i].has_pin,
                                            .ca_file = options->ca_file,
                                            .certificate = options->certificate,
                                            .key = options->key};
        memcpy(tls.pin, invites[i].pin, sizeof tls.pin);
        servers->list[i].invite = invites[i];
        servers->list[i].tls = sg_tls_client_ctx(&tls, text);
        servers->count = i + 1;
        good = servers->list[i].tls != NULL;
    }
    if (good) {
        find_addresses(client, servers);
        return servers;
    }
    sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "%s", text);
    sg_client_servers_release(servers);
    return NULL;
}

void sg_client_use_invites(struct sg_client *client, const struct sg_invite *invites, size_t count)
{
    struct sg_client_servers *fresh = make_servers(client, invites, count);
    if (fresh)
        sg_uplink_use_servers(client->uplink, fresh);
}

/* A SOCKS listener can ask for a password, a forward cannot. */
static void warn_if_reachable(const struct sg_client_forward *forward, const struct sg_endpoint *bound)
{
    char listen[SG_ENDPOINT_TEXT_MAX], target[SG_TARGET_TEXT_MAX];
    if (sg_client_is_local(&bound->ip))
        return;
    sg_endpoint_format(bound, listen);
    sg_log_target(&forward->target, target);
    sg_log_event(
        SG_LOG_WARN, "forward_reachable", SG_LOG_FIELDS(sg_log_word("address", listen)),
        "--forward %s:%s: not a loopback address, so everyone who reaches it sends to %s as this client's user: "
        "listen on 127.0.0.1, or let a firewall decide who may",
        forward->udp ? "udp" : "tcp", listen, target);
}

/* [::] means every address: IPv4's too, unless another option listens there. */
static bool wants_twin(const struct sg_client_options *options, const struct sg_endpoint *at)
{
    const struct sg_endpoint twin = {.ip.family = 4, .port = at->port};
    if (at->ip.family != 6 || !sg_ip_is_unspecified(&at->ip))
        return false;
    for (size_t i = 0; i < options->socks_count; i++)
        if (at->port != 0 && sg_endpoint_equal(&options->socks[i], &twin))
            return false;
    for (size_t i = 0; i < options->forward_count; i++)
        if (at->port != 0 && sg_endpoint_equal(&options->forwards[i].listen, &twin))
            return false;
    return true;
}

/* A port that is free for IPv6 and IPv4: one that IPv6 alone is given may be taken for the other. 0: none was found. */
static uint16_t find_port_of_both(int type)
{
    const struct sg_endpoint any = {.ip.family = 6};
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(&any, &ss);
    const int off = 0;
    uint16_t port = 0;
    int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0 && bind(fd, (struct sockaddr *)&ss, len) == 0)
        port = sg_socket_local(fd).port;
    close(fd);
    return port;
}

/* Where to listen: the first of the clients of a process finds the ports that the others listen at, too. */
static struct sg_endpoint choose_address(const struct sg_client *client, const struct sg_endpoint *wanted,
                                         const struct sg_endpoint *bound, int type)
{
    struct sg_endpoint at = client->index == 0 ? *wanted : *bound;
    if (at.port == 0 && wants_twin(client->options, &at))
        at.port = find_port_of_both(type);
    return at;
}

static bool listen_socks(struct sg_client *client, const struct sg_endpoint *at, struct sg_endpoint *bound)
{
    return sg_socks_listen(client, at, bound) || sg_listen_failed("TCP", at, "--socks", errno);
}

static bool listen_forward(struct sg_client *client, const struct sg_client_forward *forward,
                           const struct sg_endpoint *at, struct sg_endpoint *bound)
{
    bool good = forward->udp ? sg_uplink_add_forward(client->uplink, at, &forward->target, forward->datagram_only,
                                                     bound) == SG_OK
                             : sg_tunnel_listen(client, at, &forward->target, bound);
    return good || sg_listen_failed(forward->udp ? "UDP" : "TCP", at, "--forward", errno);
}

static bool open_listeners(struct sg_client *client, struct sg_endpoint *bound)
{
    const struct sg_client_options *options = client->options;
    for (size_t i = 0; i < options->socks_count; i++, bound++) {
        const struct sg_endpoint at = choose_address(client, &options->socks[i], bound, SOCK_STREAM);
        struct sg_endpoint twin = {.ip.family = 4};
        if (!listen_socks(client, &at, bound))
            return false;
        twin.port = bound->port;
        if (wants_twin(options, &options->socks[i]) && !listen_socks(client, &twin, &twin))
            return false;
    }
    for (size_t i = 0; i < options->forward_count; i++, bound++) {
        const struct sg_client_forward *forward = &options->forwards[i];
        const int type = forward->udp ? SOCK_DGRAM : SOCK_STREAM;
        const struct sg_endpoint at = choose_address(client, &forward->listen, bound, type);
        struct sg_endpoint twin = {.ip.family = 4};
        if (!listen_forward(client, forward, &at, bound))
            return false;
        twin.port = bound->port;
        if (wants_twin(options, &forward->listen) && !listen_forward(client, forward, &twin, &twin))
            return false;
        if (client->index == 0)
            warn_if_reachable(forward, bound);
    }
    return true;
}

bool sg_client_open(struct sg_client *client, const struct sg_loop *loop, struct sg_endpoint *bound)
{
    client->base = loop->base;
    client->servers = make_servers(client, client->options->invites, client->options->invite_count);
    if (!client->servers)
        return false;
    client->uplink = sg_tunnels_init(client) ? sg_uplink_new(client) : NULL;
    if (!client->uplink) {
        sg_log_event(SG_LOG_ERROR, "start_failed", NULL, "cannot set up the session: %s", strerror(errno));
        return false;
    }
    return open_listeners(client, bound);
}

void sg_client_close(struct sg_client *client)
{
    sg_socks_free(client);
    sg_tunnel_free_all(client);
    sg_uplink_free(client->uplink);
    sg_client_servers_release(client->servers);
}

void sg_client_status(const struct sg_client *client, struct json_t *status)
{
    const struct sg_invite *invite = &client->servers->list[client->current].invite;
    json_object_set_new(status, "server", json_sprintf("%s:%u", invite->host, invite->port));
    json_object_set_new(status, "user", json_string(invite->user));
    json_object_set_new(status, "tls_handshakes", json_integer((json_int_t)client->tls_handshakes));
    json_object_set_new(status, "tunnels", json_integer((json_int_t)client->tunnel_count));
    json_object_set_new(status, "tunnels_opened", json_integer((json_int_t)client->tunnels_opened));
    json_object_set_new(status, "local_connections", json_integer((json_int_t)client->connection_count));
    sg_uplink_status(client->uplink, status);
}
