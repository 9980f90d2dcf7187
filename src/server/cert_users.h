/*
 * Whom a client certificate stands for: `certificate_users` of server.yaml, a list of names in certificates and the
 * user of each. The first entry that fits decides; where none does, the subject's CN is the user's name.
 */
#ifndef SG_SERVER_CERT_USERS_H
#define SG_SERVER_CERT_USERS_H

#include <stdbool.h>

#include "net/tls_client_cert.h"
#include "server/yaml_read.h"

struct bufferevent;

struct sg_cert_user {
    enum sg_tls_cert_name kind;
    char *value;
    char user[65];
};

struct sg_cert_users {
    struct sg_cert_user *list;
    unsigned count;
};

/* Reader of the list, struct sg_cert_users. */
bool sg_yaml_read_cert_users(struct sg_yaml_reader *reader, struct fy_node *node, const struct sg_yaml_key *key);
void sg_cert_users_dispose(struct sg_cert_users *users);

/* The name of the user whom the verified certificate of a connection stands for. False: it stands for nobody. */
bool sg_cert_users_find(const struct sg_cert_users *users, struct bufferevent *bev, char user[static 65]);

#endif
