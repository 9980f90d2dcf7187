/*
 * One TLS connection from the client to its server, up to the reply to one SOCKS request. Channel, CONNECT and BIND
 * each use one: resolve the server's name, connect (next address on failure), TLS with pin or CA check, then greeting,
 * credentials, request and extra bytes in one flight, then the replies.
 */
#ifndef SG_CLIENT_SERVER_CONN_H
#define SG_CLIENT_SERVER_CONN_H

#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

struct bufferevent;
struct sg_client;
struct sg_server_conn;

struct sg_server_conn_result {
    bool ok;                  /* the request was answered with 00; otherwise see rep and text */
    uint8_t rep;              /* SOCKS reply code: the server's own, or 01 when there was none */
    bool answered;            /* rep comes from the server */
    bool fatal;               /* trying again cannot help: wrong pin, credentials refused, expired certificate */
    bool may_be_new;          /* fatal, but for credentials that a server may be about to learn: of a fresh invite */
    bool turned_away;         /* the server ended the connection before it looked at who we are: it may have had no
                                 room, and have some later */
    struct sg_endpoint bound; /* BND.ADDR and BND.PORT */
    struct sg_endpoint peer;  /* the server's address that was connected to */
    struct bufferevent *bev;  /* given to the callback, which owns it from then on: callbacks unset, reading enabled,
                                 input holds what followed the reply. NULL if not answered. When answered with
                                 another code than 00 it is still given (a channel's reply has a block). */
    const char *text; /* one line for the log, valid for the call: "server 127.0.0.1:1443: connection refused" */
};

/* Called exactly once, never before the start returned and never after a cancel; the sg_server_conn is gone then. */
typedef void sg_server_conn_fn(void *ctx, const struct sg_server_conn_result *result);

/*
 * Starts one. extra (may be NULL) is sent in the same flight after the request. The whole takes at most 20 s (10 s
 * without any progress), a CONNECT 60 s from authentication on. Those of CONNECT and BIND count as client->logins until
 * they are authenticated. NULL when memory is short (fn is not called).
 */
struct sg_server_conn *sg_server_conn_start(struct sg_client *client, uint8_t cmd, const struct sg_target *target,
                                            const uint8_t *extra, size_t extra_len, sg_server_conn_fn *fn, void *ctx);
/* The server is told by a reset. Accepts NULL. */
void sg_server_conn_cancel(struct sg_server_conn *conn);

#endif
