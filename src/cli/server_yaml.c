/*
 * The text of a new server.yaml. Defaults are printed from the configuration's own, so that the file cannot say
 * something else than the program does.
 */
#include "cli/server_yaml.h"

#include <inttypes.h>
#include <stdio.h>

#include "server/config.h"

static void write_list(FILE *file, const char *const *items, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        fprintf(file, "  - \"%s\"\n", items[i]);
}

static void write_place(FILE *file, const struct sg_server_yaml *yaml)
{
    static const char *const both[] = {"0.0.0.0:1443", "[::]:1443"};
    fputs("# Sealgram server. Every key is here; one in a comment shows its default or an example.\n"
          "# `sealgram server -c FILE --check` checks this file; `sealgram reload` makes a running server read it "
          "again.\n\n"
          "# Where to listen, ADDRESS:PORT. One port number serves TCP and UDP.\nlisten:\n",
          file);
    write_list(file, yaml->listen_count > 0 ? yaml->listen : both, yaml->listen_count > 0 ? yaml->listen_count : 2);
    fprintf(
        file,
        "\n# How clients reach this server, a name or an address: invites carry it, the certificate names it.\n"
        "host: \"%s\"\n\n"
        "# The UDP endpoint to tell clients, where it is not the one they connected to: address and port of the NAT\n"
        "# or port forward in front. The port may be left out. Clients of the other address family are told nothing.\n"
        "# advertise: \"203.0.113.7:1443\"\n\n"
        "# Files; relative names begin at this file's directory. Only their owner may read key and users.\n"
        "certificate: cert.pem\nkey: key.pem\nusers: users\n\n"
        "# Devices that joined by invites with --uses: the server writes this file.\n"
        "# devices: users.devices\n\n"
        "# Client certificates that this CA signed name their user by subject CN (sealgram invite --certificate).\n"
        "# client_ca: client_ca.pem\n\n"
        "# Certificates that other names map to users with credential certificate; the first that fits, then the CN.\n"
        "# certificate_users:\n"
        "#   - {san: \"email:alice@example.org\", user: alice}\n"
        "#   - {subject: \"CN=Bob,O=Example\", user: bob}\n\n"
        "# Revocation lists of that CA (PEM). The file is read again when it changes.\n"
        "# client_crl: client_crl.pem\n\n"
        "# The control socket (`sealgram status`, `reload`, `kick`, `drain`), if not in the run directory.\n"
        "# status_socket: /run/sealgram/control.sock\n\n"
        "# Who to become once the ports are open, if started as root. The files above must belong to that user.\n"
        "# user: sealgram\n\n"
        "# Once it runs, the server can open files only in the directories of those above and in /etc, and start no\n"
        "# program; off is for debuggers.\n"
        "# sandbox: on\n\n"
        "# If true, there is no start where the kernel has no means for the sandbox; otherwise a line of the log.\n"
        "# require_sandbox: false\n\n"
        "# If true, there is no start where keys cannot be locked in memory; otherwise a warning.\n"
        "# require_locked_memory: false\n\n"
        "# Threads that carry the traffic; if not said, one for each CPU.\n"
        "# workers: 2\n\n"
        "# Code points (DSCP) that are copied from datagrams of targets to their records.\n"
        "# dscp: ef,af41\n\n",
        yaml->host);
}

static void write_policy(FILE *file, const struct sg_server_yaml *yaml)
{
    fputs("# Targets on loopback, private, link-local and other special networks, and this machine's own addresses,\n"
          "# are refused unless they are listed here.\n",
          file);
    fputs(yaml->allow_count > 0 ? "allow:\n" : "# allow:\n#   - \"10.0.0.0/8\"\n", file);
    write_list(file, yaml->allow, yaml->allow_count);
    fputs("\n# Prefixes under which a translator of the server's network reaches IPv4 (NAT64); those that the name "
          "server\n"
          "# knows need not be listed.\n"
          "# nat64: [\"2001:db8:64::/96\"]\n",
          file);
    fputs("\n# Who may send where: the first rule that matches decides. Without rules all is allowed that the list "
          "above\n"
          "# leaves open; with them, what no rule matches is refused. Conditions, each one value or a list: user, "
          "group,\n"
          "# from (the client's network), command (udp, connect, bind), protocol (udp, tcp), to (the target's "
          "network), host\n"
          "# (a name, or \"*.example.org\"), port (N or FIRST-LAST). `sealgram policy test` tells which rule decides.\n"
          "# groups: {staff: [alice, bob]}\n"
          "# rules:\n"
          "#   - {name: dns, command: udp, to: 9.9.9.9, port: 53, action: allow}\n"
          "#   - {name: no-mail, port: [25, 465], action: deny, reply: 5, log: true}\n"
          "#   - {name: web, group: staff, protocol: tcp, port: [80, 443], action: allow}\n",
          file);
    fputs(
        "\n# From where SOCKS5 is spoken without TLS, user names and passwords in the clear. Nowhere by default.\n"
        "# plain_socks:\n#   from: []\n\n"
        "# From where UDP associations may be plain RFC 1928, each datagram in the clear.\n"
        "# plain_udp:\n#   from: [\"127.0.0.0/8\", \"::1/128\"]\n\n"
        "# Out of which ports associations send, FIRST-LAST; each needs one for IPv4 and one for IPv6. If not said,\n"
        "# the system chooses.\n"
        "# udp_ports: 40000-49999\n\n"
        "# Who may answer an association: address-dependent lets pass what comes from an address that it has sent to,\n"
        "# address-and-port-dependent only from address and port, endpoint-independent from anyone (RFC 4787).\n"
        "# filtering: address-dependent\n\n"
        "# If true, everyone who reaches this server may use it.\n"
        "# allow_anyone_without_authentication: false\n\n",
        file);
}

static void write_numbers(FILE *file, const struct sg_config *defaults)
{
    const struct {
        const char *name;
        uint32_t value;
    } limits[] = {
        {"sessions", defaults->limits.sessions},
        {"sessions_per_user", defaults->limits.sessions_per_user},
        {"associations", defaults->limits.associations},
        {"associations_per_user", defaults->limits.associations_per_user},
        {"connections", defaults->limits.connections},
        {"connections_per_user", defaults->limits.connections_per_user},
        {"unauthenticated", defaults->limits.unauthenticated},
        {"unauthenticated_per_address", defaults->limits.unauthenticated_per_address},
        {"handshake_seconds", defaults->limits.handshake_seconds},
        {"handshakes_per_second", defaults->limits.handshakes_per_second},
        {"handshakes_per_second_per_address", defaults->limits.handshakes_per_second_per_address},
        {"password_threads", defaults->limits.password_threads},
        {"password_queue", defaults->limits.password_queue},
    };
    fputs(
        "# How much of each at the same time. The unauthenticated are connections that have not logged in, which they\n"
        "# must within handshake_seconds; handshakes over a rate wait. Passwords are checked by password_threads, and\n"
        "# password_queue may wait.\n"
        "# limits:\n",
        file);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        fprintf(file, "#   %s: %" PRIu32 "\n", limits[i].name, limits[i].value);
    fprintf(
        file,
        "\n# A program that is asked about every password or token that the user file does not know: a line of JSON\n"
        "# in, a line of JSON out (server.yaml(5)). This one lets nobody in.\n"
        "# authenticator:\n#   command: [\"/bin/false\"]\n#   timeout_seconds: %" PRIu32 "\n#   processes: %" PRIu32
        "\n",
        defaults->authenticator.timeout_seconds, defaults->authenticator.processes);
    fputs("\n# What single users, or each user of a group, may have instead; and how much they may carry, payload of\n"
          "# datagrams and streams together. Numbers may end in k, M, G or T. Datagrams over a rate are dropped, "
          "streams\n"
          "# wait. A day is one of UTC. The user's own setting comes first, then the largest of the user's groups.\n"
          "# user_limits:\n#   alice:\n#     sessions: 4\n#     associations: 256\n#     connections: 64\n"
          "#     up_bits_per_second: 20M\n#     down_bits_per_second: 100M\n#     datagrams_per_second: 10k\n"
          "#     bytes_per_day: 50G\n# group_limits:\n#   staff:\n#     bytes_per_day: 1G\n",
          file);
    fprintf(
        file,
        "\n# When an association without datagrams ends; dns_seconds is for one that only asked port 53. Clients "
        "get fresh\n"
        "# keys each renew_seconds (0: never). A session whose TLS connection broke is kept for grace_seconds, a TCP\n"
        "# relay in which nothing moves for relay_idle_seconds.\n"
        "# timeouts:\n#   association_seconds: %" PRIu64 "\n#   dns_seconds: %" PRIu64 "\n#   renew_seconds: %" PRIu64
        "\n#   grace_seconds: %" PRIu64 "\n#   relay_idle_seconds: %" PRIu64 "\n",
        defaults->timeouts.association_ms / 1000, defaults->timeouts.dns_ms / 1000, defaults->timeouts.renew_ms / 1000,
        defaults->timeouts.grace_ms / 1000, defaults->timeouts.relay_idle_ms / 1000);
}

static void write_seeing(FILE *file)
{
    fputs(
        "\n# What is logged: error, warning, info or debug; as text or json lines; addresses of clients masked (an "
        "IPv4\n"
        "# address without its last number, an IPv6 address to /48) or full.\n"
        "# log:\n#   level: info\n#   format: text\n#   addresses: masked\n\n"
        "# Where Prometheus may ask, http://ADDRESS:PORT/metrics; nowhere by default. Another than a loopback address\n"
        "# needs allow_remote: true, as everyone who reaches it may read. per_user adds what each user has and sent.\n"
        "# metrics:\n#   listen: \"127.0.0.1:9090\"\n#   allow_remote: false\n#   per_user: false\n",
        file);
}

bool sg_server_yaml_write(FILE *file, const struct sg_server_yaml *yaml)
{
    struct sg_config *defaults = sg_config_new();
    if (!defaults)
        return false;
    write_place(file, yaml);
    write_policy(file, yaml);
    write_numbers(file, defaults);
    write_seeing(file);
    sg_config_free(defaults);
    return true;
}
