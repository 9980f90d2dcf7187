/*
 * An address is bound for a moment, alone and without listening: so a server that runs there loses no connection, and
 * no datagram.
 */
#include "server/places.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/listen_failed.h"
#include "net/log.h"
#include "net/sockaddr.h"
#include "server/config.h"

/* --- ports of associations --- */

static unsigned first_unprivileged(void)
{
    char line[32];
    unsigned long first = 1024;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    if (file && fgets(line, sizeof line, file))
        first = strtoul(line, NULL, 10);
    if (file)
        fclose(file);
    return (unsigned)first;
}

bool sg_places_check_udp_ports(const struct sg_config *config)
{
    unsigned first = first_unprivileged();
    if (config->udp_ports.first == 0 || config->udp_ports.last >= first)
        return true;
    sg_log_event(SG_LOG_ERROR, "config_refused", NULL,
                 "%s: udp_ports: ports below %u need a privilege that the server does not keep", config->file, first);
    return false;
}

/* --- addresses --- */

/* 0, or an errno. */
static int try_address(const struct sg_endpoint *at, int type)
{
    struct sockaddr_storage ss;
    socklen_t len = sg_sockaddr_from(at, &ss);
    int on = 1, error = 0;
    int fd = socket(ss.ss_family, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    if ((type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) ||
        (at->ip.family == 6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
        bind(fd, (struct sockaddr *)&ss, len) != 0)
        error = errno;
    close(fd);
    return error;
}

static bool check_address(const struct sg_endpoint *at, int type, const char *setting)
{
    const char *kind = type == SOCK_STREAM ? "TCP" : "UDP";
    char text[SG_ENDPOINT_TEXT_MAX];
    int error = try_address(at, type);
    if (error == 0 || (error == EAFNOSUPPORT && sg_ip_is_unspecified(&at->ip)))
        return true;
    bool is_managed = getenv("INVOCATION_ID") != NULL; /* systemd.exec(5) */
    if (error != EADDRINUSE && (error != EACCES || !is_managed))
        return sg_listen_failed(kind, at, setting, error);
    sg_endpoint_format(at, text);
    sg_log(SG_LOG_WARN, "%s %s (%s): %s; that is no fault if %s", kind, text, setting, strerror(error),
           error == EADDRINUSE ? "this server is what runs there" : "a socket unit passes it");
    return true;
}

bool sg_places_check_addresses(const struct sg_config *config)
{
    for (unsigned i = 0; i < config->listen_count; i++)
        if (!check_address(&config->listen[i], SOCK_STREAM, "listen") ||
            !check_address(&config->listen[i], SOCK_DGRAM, "listen"))
            return false;
    return config->metrics.listen.ip.family == 0 || check_address(&config->metrics.listen, SOCK_STREAM, "metrics");
}

/* --- the control socket --- */

bool sg_places_check_control(const struct sg_config *config)
{
    const char *path = config->status_socket;
    struct stat st;
    if (!path)
        return true;
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int error = !dir ? ENOMEM : access(dir, W_OK | X_OK) != 0 ? errno : 0;
    free(dir);
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        error = ENAMETOOLONG;
    else if (error == 0 && lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
        error = EADDRINUSE;
    return error == 0 || sg_listen_failed_path(path, "status_socket", error);
}
