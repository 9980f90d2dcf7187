/*
 * The client's session with its server: one channel for all datagrams. Connects, reconnects with jittered backoff,
 * moves to UDP when it answers, and carries the associations of local applications.
 */
#ifndef SG_CLIENT_UPLINK_H
#define SG_CLIENT_UPLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/pass.h"

struct sg_client;
struct sg_client_server;
struct sg_client_servers;
struct sg_uplink;
struct sg_flow;
struct json_t;

/* NULL with errno on failure. Starting connects; free closes the session in good order. */
struct sg_uplink *sg_uplink_new(struct sg_client *client);
void sg_uplink_start(struct sg_uplink *uplink);
void sg_uplink_free(struct sg_uplink *uplink);

/* Another list of servers, which is taken over (sg_client_use_invites). */
void sg_uplink_use_servers(struct sg_uplink *uplink, struct sg_client_servers *servers);

/* True while a channel is open. When it is not, requests of applications are answered 01 at once; asking wakes a
 * waiting reconnect. */
bool sg_uplink_is_up(struct sg_uplink *uplink);

/*
 * What a further connection to this server shows, each time another (core/pass.h). False: there is
 * no session with it, and nothing to show.
 */
bool sg_uplink_show_pass(struct sg_uplink *uplink, const struct sg_client_server *server,
                         uint8_t out[static SG_PASS_BYTES]);

/* Told once each time: the session can carry datagrams (path "udp" or "stream"), or the server cannot be used at all
 * (fatal: wrong pin, credentials refused). Implemented by process.c. */
void sg_client_on_ready(struct sg_client *client, const char *path);
void sg_client_on_fatal(struct sg_client *client, const char *text);

/*
 * UDP ASSOCIATE of a local application: a relay socket on the address where its TCP connection arrived (local); only
 * datagrams from the IP of peer are taken, and from the port that request promises (sg_socks5_promised_port), if it
 * does; else the first sender latches. On success *bound is where the application must send. The flow lives until
 * sg_flow_release, which tells the server too.
 */
SG_MUST_CHECK enum sg_err sg_flow_associate(struct sg_uplink *uplink, const struct sg_endpoint *local,
                                            const struct sg_endpoint *peer, const struct sg_target *request,
                                            struct sg_flow **out, struct sg_endpoint *bound);
void sg_flow_release(struct sg_flow *flow);

/* A UDP forward: datagrams to the listen address go to target, each source address as an association of its own.
 * datagram_only: what does not fit into a record, or finds no UDP path, is dropped (too_big, no_path) and never goes by
 * the stream. errno tells why it failed (SG_ERR_SYSTEM). Lives as long as the uplink; *bound is the actual address. */
SG_MUST_CHECK enum sg_err sg_uplink_add_forward(struct sg_uplink *uplink, const struct sg_endpoint *listen,
                                                const struct sg_target *target, bool datagram_only,
                                                struct sg_endpoint *bound);

/* Adds "session", "ledger" and so on to the status document (jansson object). */
void sg_uplink_status(const struct sg_uplink *uplink, struct json_t *status);

#endif
