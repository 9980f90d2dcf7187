/*
 * The server's configuration file, YAML. Loaded whole or not at all: an unknown key, a wrong type or an unusable
 * value is refused with FILE:LINE: KEY: reason. The file that `sealgram init` writes explains every key.
 */
#ifndef SG_SERVER_CONFIG_H
#define SG_SERVER_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/contacts.h"
#include "server/cert_users.h"
#include "server/user_limits.h"
#include "server/config_seeing.h"
#include "server/yaml_read.h"

enum { SG_CONFIG_LISTEN_MAX = 16, SG_CONFIG_NETS_MAX = SG_YAML_NETS_MAX, SG_CONFIG_ERROR_MAX = SG_YAML_ERROR_MAX };

/* How long a file may take, and what is said of one that takes longer. */
enum { SG_CONFIG_SECONDS_MAX = 5 };
#define SG_CONFIG_TOO_LONG "%.300s: was not read within %d seconds: is it on a file system that does not answer?"

struct sg_timeouts {
    uint64_t association_ms, dns_ms;
    uint64_t renew_ms, grace_ms; /* of channels; of sessions without a stream, 0: none */
    uint64_t relay_idle_ms;      /* of CONNECT and BIND */
};

struct sg_rules;

struct sg_config {
    _Atomic unsigned refs;
    char *file; /* where it was read from */
    struct sg_endpoint listen[SG_CONFIG_LISTEN_MAX];
    unsigned listen_count;
    struct sg_endpoint advertise;             /* sg_config_advertised; family 0: none, port 0: its own */
    char *host;                               /* name or address that invites carry */
    char *certificate, *key, *users;          /* paths; relative ones are taken from the file's directory */
    char *devices;                            /* path: users with .devices, if not said */
    char *client_ca, *client_crl;             /* or NULL */
    char *status_socket;                      /* or NULL: the default */
    struct sg_cidr allow[SG_CONFIG_NETS_MAX]; /* targets that are refused otherwise */
    struct sg_cidr nat64[SG_CONFIG_NETS_MAX]; /* prefixes of this network's translators to IPv4 */
    unsigned nat64_count;                     /* at most SG_GUARD_NAT64_MAX */
    unsigned allow_count;
    struct sg_rules *rules;                         /* and groups; one reference */
    struct sg_cidr plain_socks[SG_CONFIG_NETS_MAX]; /* clients that may speak SOCKS5 in the clear */
    unsigned plain_socks_count;
    struct sg_cidr plain_udp[SG_CONFIG_NETS_MAX]; /* clients that may have plain UDP associations */
    unsigned plain_udp_count;
    struct {
        uint16_t first, last;    /* 0: the kernel chooses */
    } udp_ports;                 /* of associations */
    enum sg_filtering filtering; /* who may send to an association */
    bool allow_anyone;           /* nobody needs to authenticate */
    char *user;                  /* to become after the start, or NULL */
    bool sandbox;                /* files and system calls are restricted */
    bool require_sandbox;        /* no start where the kernel cannot restrict them */
    bool require_locked_memory;  /* no start without */
    uint32_t workers;            /* 0: as many as there are CPUs */
    uint64_t dscp;               /* code points that are copied to the records (net/dscp.h) */
    struct {
        uint32_t sessions, sessions_per_user;
        uint32_t associations, associations_per_user;
        uint32_t connections, connections_per_user;
        uint32_t unauthenticated, unauthenticated_per_address;
        uint32_t handshake_seconds;
        uint32_t handshakes_per_second, handshakes_per_second_per_address;
        uint32_t password_threads, password_queue;
    } limits;
    struct sg_user_limits user_limits, group_limits;
    struct sg_cert_users cert_users;
    struct {
        char **command; /* and its arguments, NULL at the end; NULL: there is no authenticator */
        uint32_t timeout_seconds, processes;
    } authenticator;
    struct sg_timeouts timeouts;
    struct sg_config_log log;
    struct sg_config_metrics metrics;
};

/* Every key at its default; what has none is empty. NULL: out of memory. */
struct sg_config *sg_config_new(void);

/*
 * Loads a file. NULL, and error has the line to show, when anything in it is wrong, or when it could not be read and
 * parsed within SG_CONFIG_SECONDS_MAX. It starts a thread for that.
 */
struct sg_config *sg_config_load(const char *path, char error[static SG_CONFIG_ERROR_MAX]);

/* The same without a deadline, for threads that nobody waits for. */
struct sg_config *sg_config_read(const char *path, char error[static SG_CONFIG_ERROR_MAX]);

/* The same of a text that was read already; path is for error and relative names. */
struct sg_config *sg_config_parse(const char *path, const char *text, size_t len,
                                  char error[static SG_CONFIG_ERROR_MAX]);

/* The same once more, for another owner, who frees it too. What is shared does not change. */
struct sg_config *sg_config_share(struct sg_config *config);
void sg_config_free(struct sg_config *config); /* accepts NULL */

/*
 * The UDP endpoint to tell a client that connected to this address of ours: the advertised one if it is of that family.
 * Otherwise unspecified, with port 0: where the client connected to. Either of the two may stand for itself, too.
 */
struct sg_endpoint sg_config_advertised(const struct sg_config *config, const struct sg_ip *local);

/* True if an address to listen on is one that other machines reach. */
bool sg_config_is_exposed(const struct sg_config *config);

#endif
