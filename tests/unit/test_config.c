/* The configuration file: defaults, every key, and the exact message for each that is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/config.h"

static char folder[] = "/tmp/sg-test-config-XXXXXX";
static char path[64];
static char error[SG_CONFIG_ERROR_MAX];

static void write_file(const char *name, const char *text, mode_t mode)
{
    char where[64];
    snprintf(where, sizeof where, "%s/%s", folder, name);
    FILE *file = fopen(where, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(where, mode), 0);
}

#define WITH_AN_ADDRESS "must be ADDRESS:PORT, with an IP address (or localhost), as in 127.0.0.1:1443"

/* Four lines: what is added begins on line 5. */
#define BASE "listen: [\"127.0.0.1:1443\"]\ncertificate: cert.pem\nkey: key.pem\nusers: users\n"

static struct sg_config *load(const char *text)
{
    write_file("server.yaml", text, 0644);
    struct sg_config *config = sg_config_load(path, error);
    if (!config)
        fail_msg("%s", error);
    return config;
}

static void expect_path(const char *value, const char *name)
{
    char expected[64];
    snprintf(expected, sizeof expected, "%s/%s", folder, name);
    assert_string_equal(value, expected);
}

static void has_defaults(void **state)
{
    (void)state;
    struct sg_config *config = load(BASE);
    struct sg_ip local, remote;
    assert_string_equal(config->file, path);
    assert_int_equal(config->listen_count, 1);
    assert_int_equal(config->listen[0].port, 1443);
    assert_int_equal(config->advertise.ip.family, 0);
    assert_null(config->host);
    assert_null(config->client_ca);
    assert_null(config->status_socket);
    expect_path(config->key, "key.pem");
    expect_path(config->certificate, "cert.pem");
    expect_path(config->users, "users");
    assert_int_equal(config->allow_count, 0);
    assert_int_equal(config->plain_socks_count, 0);
    assert_int_equal(config->plain_udp_count, 2);
    assert_int_equal(sg_ip_parse("127.1.2.3", &local), SG_OK);
    assert_int_equal(sg_ip_parse("192.0.2.1", &remote), SG_OK);
    assert_true(sg_cidr_contains(&config->plain_udp[0], &local));
    assert_false(sg_cidr_contains(&config->plain_udp[0], &remote));
    assert_false(config->allow_anyone);
    assert_int_equal(config->filtering, SG_FILTERING_ADDRESS);
    assert_int_equal(config->udp_ports.first, 0);
    assert_int_equal(config->timeouts.association_ms, 120000);
    assert_int_equal(config->timeouts.relay_idle_ms, 4 * 3600 * 1000);
    assert_int_equal(config->limits.handshake_seconds, 10);
    sg_config_free(config);
}

static void reads_every_key(void **state)
{
    (void)state;
    struct sg_config *config = load("listen:\n  - 0.0.0.0:1443\n  - \"[::]:1443\"\n"
                                    "advertise: 203.0.113.7:4000\nhost: vpn.example.org\n"
                                    "certificate: cert.pem\nkey: key.pem\nusers: users\nclient_ca: cert.pem\n"
                                    "status_socket: /run/x.sock\nallow: [10.0.0.0/8, \"fd00::/8\"]\n"
                                    "plain_socks: {from: [192.0.2.1]}\nplain_udp: {from: []}\n"
                                    "allow_anyone_without_authentication: true\n"
                                    "limits:\n  sessions: 1\n  sessions_per_user: 2\n  associations: 3\n"
                                    "  associations_per_user: 4\n  connections: 5\n  connections_per_user: 6\n"
                                    "  unauthenticated: 7\n  unauthenticated_per_address: 8\n"
                                    "  handshake_seconds: 9\n  handshakes_per_second: 10\n"
                                    "  handshakes_per_second_per_address: 11\n"
                                    "  password_threads: 12\n  password_queue: 13\n"
                                    "timeouts: {association_seconds: 60, dns_seconds: 5, relay_idle_seconds: 7500}\n");
    assert_int_equal(config->listen_count, 2);
    assert_int_equal(config->listen[1].ip.family, 6);
    assert_int_equal(config->advertise.port, 4000);
    assert_string_equal(config->host, "vpn.example.org");
    expect_path(config->client_ca, "cert.pem");
    assert_string_equal(config->status_socket, "/run/x.sock");
    assert_int_equal(config->allow_count, 2);
    assert_int_equal(config->plain_socks_count, 1);
    assert_int_equal(config->plain_socks[0].bits, 32);
    assert_int_equal(config->plain_udp_count, 0);
    assert_true(config->allow_anyone);
    const uint32_t numbers[] = {
        config->limits.sessions,
        config->limits.sessions_per_user,
        config->limits.associations,
        config->limits.associations_per_user,
        config->limits.connections,
        config->limits.connections_per_user,
        config->limits.unauthenticated,
        config->limits.unauthenticated_per_address,
        config->limits.handshake_seconds,
        config->limits.handshakes_per_second,
        config->limits.handshakes_per_second_per_address,
        config->limits.password_threads,
        config->limits.password_queue,
    };
    for (uint32_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        assert_int_equal(numbers[i], i + 1);
    assert_int_equal(config->timeouts.association_ms, 60000);
    assert_int_equal(config->timeouts.dns_ms, 5000);
    assert_int_equal(config->timeouts.relay_idle_ms, 7500 * 1000);
    sg_config_free(config);
}

/* The message after "FILE:". */
static void refuse(const char *text, const char *reason)
{
    char expected[SG_CONFIG_ERROR_MAX];
    write_file("server.yaml", text, 0644);
    struct sg_config *config = sg_config_load(path, error);
    snprintf(expected, sizeof expected, "%s:%s", path, reason);
    if (config || strcmp(error, expected) != 0)
        fail_msg("%s\n%s\nnot: %s", text, config ? "was taken" : error, expected);
}

static void expect_filtering(const char *text, enum sg_filtering filtering)
{
    struct sg_config *config = load(text);
    assert_int_equal(config->filtering, filtering);
    sg_config_free(config);
}

/* What clients of an IPv4 and an IPv6 address are told. */
static void expect_advertised(const char *text, const char *told4, const char *told6)
{
    const struct sg_ip local4 = {.family = 4, .bytes = {192, 0, 2, 1}}, local6 = {.family = 6, .bytes = {0x20, 1}};
    char shown[SG_ENDPOINT_TEXT_MAX];
    char yaml[256];
    snprintf(yaml, sizeof yaml, BASE "%s\n", text);
    struct sg_config *config = load(yaml);
    struct sg_endpoint told = sg_config_advertised(config, &local4);
    sg_endpoint_format(&told, shown);
    assert_string_equal(shown, told4);
    told = sg_config_advertised(config, &local6);
    sg_endpoint_format(&told, shown);
    assert_string_equal(shown, told6);
    sg_config_free(config);
}

static void advertises_to_clients_of_the_family(void **state)
{
    (void)state;
    expect_advertised("", "0.0.0.0:0", "[::]:0");
    expect_advertised("advertise: 203.0.113.7:4000", "203.0.113.7:4000", "[::]:0");
    expect_advertised("advertise: 203.0.113.7", "203.0.113.7:0", "[::]:0");
    expect_advertised("advertise: \"[2001:db8::7]:4000\"", "0.0.0.0:0", "[2001:db8::7]:4000");
    expect_advertised("advertise: \"2001:db8::7\"", "0.0.0.0:0", "[2001:db8::7]:0");
    expect_advertised("advertise: 0.0.0.0:4000", "0.0.0.0:4000", "[::]:0");
    refuse(BASE "advertise: 203.0.113.7:0\n", "5: advertise: the port must be a number from 1 to 65535");
    refuse(BASE "advertise: \"203.0.113.7:\"\n", "5: advertise: must be ADDRESS:PORT, as in 127.0.0.1:1443");
    refuse(BASE "advertise: \"[2001:db8::7]\"\n",
           "5: advertise: has no port: must be [ADDRESS]:PORT, as in [::1]:1443");
    refuse(BASE "advertise: \":4000\"\n", "5: advertise: must be ADDRESS:PORT, as in 127.0.0.1:1443");
    refuse(BASE "advertise: []\n", "5: advertise: must be ADDRESS or ADDRESS:PORT");
    refuse(BASE "advertise: 4000\n", "5: advertise: must be ADDRESS:PORT, as in 127.0.0.1:1443");
}

static void reads_each_kind_of_filtering(void **state)
{
    (void)state;
    expect_filtering(BASE "filtering: address-dependent\n", SG_FILTERING_ADDRESS);
    expect_filtering(BASE "filtering: address-and-port-dependent\n", SG_FILTERING_ADDRESS_AND_PORT);
    expect_filtering(BASE "filtering: \"endpoint-independent\"\n", SG_FILTERING_NONE);
    static const char *const wrong[] = {"none", "[address-dependent]", "Address-dependent", "\"\""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        snprintf(text, sizeof text, BASE "filtering: %s\n", wrong[i]);
        refuse(text, "5: filtering: must be endpoint-independent, address-dependent or address-and-port-dependent");
    }
}

static void reads_a_range_of_ports(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint16_t first, last;
    } good[] = {{"1-65535", 1, 65535}, {"40000-49999", 40000, 49999}, {"\"7000-7000\"", 7000, 7000}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char text[256];
        snprintf(text, sizeof text, BASE "udp_ports: %s\n", good[i].text);
        struct sg_config *config = load(text);
        assert_int_equal(config->udp_ports.first, good[i].first);
        assert_int_equal(config->udp_ports.last, good[i].last);
        sg_config_free(config);
    }
    static const char *const wrong[] = {"0-10",
                                        "10-9",
                                        "10",
                                        "10-",
                                        "-10",
                                        "1-65536",
                                        "1-2-3",
                                        "[1, 2]",
                                        "a-b",
                                        "1 - 2",
                                        "1-2x",
                                        "+1-2",
                                        "1--2",
                                        "1-18446744073709551616",
                                        "99999999999999999999-1",
                                        "1-0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        snprintf(text, sizeof text, BASE "udp_ports: %s\n", wrong[i]);
        refuse(text, "5: udp_ports: must be FIRST-LAST, two ports from 1 to 65535");
    }
}

static void names_unknown_keys(void **state)
{
    (void)state;
    refuse(BASE "# a comment\nlisten_on: 1\n", "6: listen_on: unknown key (did you mean listen?)");
    refuse(BASE "limits:\n  sessions: 5\n  session: 5\n", "7: session: unknown key (did you mean sessions?)");
    refuse(BASE "plain_udp: {to: []}\n", "5: to: unknown key");
    refuse(BASE "Host: h\n", "5: Host: unknown key (did you mean host?)");
    refuse(BASE "? []\n: 1\n", "4: ?: unknown key");
    refuse(BASE "key: key.pem\n", "5: yaml: duplicate key");
}

static void names_wrong_types(void **state)
{
    (void)state;
    refuse(BASE "host: [a]\n", "5: host: must be a text");
    refuse(BASE "host: \"\"\n", "5: host: must be a text");
    refuse(BASE "host:\n", "5: host: has no value");
    refuse(BASE "allow: 10.0.0.0/8\n", "5: allow: must be a list of networks (ADDRESS/BITS)");
    refuse(BASE "limits: []\n", "5: limits: must be a mapping of keys to values");
    refuse(BASE "limits: 5\n", "5: limits: must be a mapping of keys to values");
    refuse(BASE "limits:\n  sessions: many\n", "6: sessions: must be a whole number");
    refuse(BASE "limits:\n  sessions: \"5\"\n", "6: sessions: must be a whole number");
    refuse(BASE "limits:\n  sessions: 5.5\n", "6: sessions: must be a whole number");
    refuse(BASE "limits:\n  sessions: -1\n", "6: sessions: must be a whole number");
    refuse(BASE "limits:\n  sessions:\n    - 1\n", "7: sessions: must be a whole number");
    refuse(BASE "allow_anyone_without_authentication: \"true\"\n",
           "5: allow_anyone_without_authentication: must be true or false");
    refuse(BASE "allow_anyone_without_authentication: yes\n",
           "5: allow_anyone_without_authentication: must be true or false");
    refuse("listen: 127.0.0.1:1443\n", "1: listen: must be a list of ADDRESS:PORT");
    refuse("- listen\n", "1: the file: must be a mapping of keys to values");
}

static void names_wrong_values(void **state)
{
    (void)state;
    refuse(BASE "limits:\n  sessions: 0\n", "6: sessions: must be from 1 to 65536");
    refuse(BASE "limits:\n  sessions: 65537\n", "6: sessions: must be from 1 to 65536");
    refuse(BASE "limits:\n  sessions: 99999999999999999999\n", "6: sessions: must be from 1 to 65536");
    refuse(BASE "timeouts: {dns_seconds: 0}\n", "5: dns_seconds: must be from 1 to 86400");
    refuse(BASE "allow:\n  - 10.0.0.0/8\n  - 10.0.0.1/8\n",
           "7: allow: '10.0.0.1/8' is not a network: ADDRESS/BITS without host bits");
    refuse(BASE "allow: [10.0.0.0/33]\n", "5: allow: '10.0.0.0/33' is not a network: ADDRESS/BITS without host bits");
    refuse(BASE "allow: [[10.0.0.0/8]]\n", "5: allow: 'the entry' is not a network: ADDRESS/BITS without host bits");
    refuse(BASE "plain_socks: {from: [localhost]}\n",
           "5: from: 'localhost' is not a network: ADDRESS/BITS without host bits");
    refuse(BASE "advertise: example.org:1443\n", "5: advertise: " WITH_AN_ADDRESS);
    refuse(BASE "host: a b\n", "5: host: 'a b' is neither a name nor an address");
    refuse(BASE "host: \"[::1]\"\n", "5: host: '[::1]' is neither a name nor an address");
    refuse("listen: [127.0.0.1]\n", "1: listen: has no port: must be ADDRESS:PORT, as in 127.0.0.1:1443");
    refuse("listen: [127.0.0.1:65536]\n", "1: listen: the port must be a number from 1 to 65535");
    refuse("listen: [127.0.0.1:0]\n", "1: listen: the port must be a number from 1 to 65535");
    refuse("listen:\n  - 127.0.0.1:5\n  - 127.0.0.1:5\n", "3: listen: 127.0.0.1:5 is there twice");
}

static void names_what_is_missing(void **state)
{
    (void)state;
    refuse("certificate: cert.pem\nkey: key.pem\nusers: users\n", "1: listen: is missing");
    refuse("listen: []\ncertificate: cert.pem\nkey: key.pem\nusers: users\n", "1: listen: is missing");
    refuse("listen: [127.0.0.1:5]\nkey: key.pem\nusers: users\n", "1: certificate: is missing");
    refuse("listen: [127.0.0.1:5]\ncertificate: cert.pem\nusers: users\n", "1: key: is missing");
    refuse("listen: [127.0.0.1:5]\ncertificate: cert.pem\nkey: key.pem\n", "1: users: is missing");
}

static void names_the_line_of_bad_syntax(void **state)
{
    (void)state;
    refuse(BASE "allow: [\n", "6: yaml: flow sequence without a closing bracket");
    refuse(BASE "host: \"x\n", "5: yaml: double-quoted scalar without closing quote");
    refuse(BASE "limits:\n\tsessions: 5\n", "6: yaml: tab character may not be used as indentation");
    refuse(BASE "---\nhost: h\n", "6: yaml: a second document begins");
    refuse("", "1: yaml: the file holds no YAML document");
    refuse("# nothing\n", "1: yaml: the file holds no YAML document");
}

static void refuse_file(const char *key, const char *format, const char *name)
{
    char text[512], reason[512], wanted[512];
    snprintf(text, sizeof text, "%s: %s\n", key, name);
    snprintf(reason, sizeof reason, "1: %s: %s/%s: ", key, folder, name);
    snprintf(wanted, sizeof wanted, "%s%s", reason, format);
    refuse(text, wanted);
}

static void guards_secret_files(void **state)
{
    (void)state;
    char reason[256];
    write_file("open", "secret", 0644);
    write_file("written", "secret", 0602);
    snprintf(reason, sizeof reason, "others may read or write it (mode 0644): chmod 600 %s/open", folder);
    refuse_file("key", reason, "open");
    refuse_file("users", reason, "open");
    snprintf(reason, sizeof reason, "others may read or write it (mode 0602): chmod 600 %s/written", folder);
    refuse_file("users", reason, "written");
    refuse_file("key", "No such file or directory", "none");
    refuse_file("users", "No such file or directory", "none");
    refuse_file("client_ca", "No such file or directory", "none");
    refuse_file("key", "not a file", ".");
    assert_null(sg_config_load("/nonexistent/server.yaml", error));
    assert_string_equal(error, "/nonexistent/server.yaml: No such file or directory");
    assert_null(sg_config_load(folder, error));
    snprintf(reason, sizeof reason, "%s: Is a directory", folder);
    assert_string_equal(error, reason);
}

/* libfyaml never returned from the first of these; none of them reaches it. */
static void refuses_bytes_that_no_text_has(void **state)
{
    (void)state;
    static const char not_utf8[] = "yaml: a byte that is not UTF-8: save the file in that encoding";
    static const char directive[] = "yaml: a line that begins with %: directives of YAML have no meaning here";
    static const char control[] = "yaml: a control character: only tabs and line ends may be in the file";
    static const char nul[] = "yaml: a NUL byte: the file must be a text in UTF-8";
    static const struct {
        const char *text;
        size_t len;
        int line;
        const char *reason;
    } cases[] = {
#define BYTES(text) text, sizeof(text) - 1
        {BYTES("listen: [\"127.0(0.1:144:43\"]\n%oen: \xdb"
               "eis(ten: \xdb"
               "ers\ng"),
         2, directive},
        {BYTES("%\xdb"), 1, directive},
        {BYTES("%YAML 1.2\n---\n" BASE), 1, directive},
        {BYTES("\xef\xbb\xbf%YAML 1.2\n---\n" BASE), 1, directive},
        {BYTES(BASE "...\n%TAG ! x\n"), 6, directive},
        {BYTES(BASE "\r%\xdb\n"), 6, directive},
        {BYTES(BASE "# f\xfcr\n"), 5, not_utf8},
        {BYTES(BASE "host: \xc0\xafx\n"), 5, not_utf8},
        {BYTES(BASE "host: \xed\xa0\x80x\n"), 5, not_utf8},
        {BYTES(BASE "host: \xe2\x82"), 5, not_utf8},
        {BYTES("\xff\xfel\0i\0s\0"), 1, not_utf8}, /* UTF-16 */
        {BYTES("l\0i\0s\0t\0"), 1, nul},
        {BYTES(BASE "host: a\0b\n"), 5, nul},
        {BYTES(BASE "host: a\x01\n"), 5, control},
        {BYTES(BASE "host: \"a\x7f\"\n"), 5, control},
        {BYTES(BASE "host: a\xc2\x85\n"), 5, control},
        {BYTES(BASE "host: a\xe2\x80\xa8\n"), 5, control},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[SG_CONFIG_ERROR_MAX];
        struct sg_config *config = sg_config_parse(path, cases[i].text, cases[i].len, error);
        snprintf(expected, sizeof expected, "%s:%d: %s", path, cases[i].line, cases[i].reason);
        assert_null(config);
        if (strcmp(error, expected) != 0)
            fail_msg("case %zu: %s\nnot: %s", i, error, expected);
    }
    sg_config_free(load("\xef\xbb\xbf# f\xc3\xbcr 100 %\r\n" BASE "# %\n"));
}

static void refuses_too_many(void **state)
{
    (void)state;
    char text[4096];
    size_t len = (size_t)snprintf(text, sizeof text, "%s", BASE "allow:\n");
    for (int i = 0; i <= SG_CONFIG_NETS_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "  - 10.%d.0.0/16\n", i);
    refuse(text, "70: allow: more than 64 entries");
    len = (size_t)snprintf(text, sizeof text, "listen:\n");
    for (int i = 0; i <= SG_CONFIG_LISTEN_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "  - 127.0.0.1:%d\n", i + 1);
    refuse(text, "18: listen: more than 16 entries");
}

static void knows_what_is_exposed(void **state)
{
    (void)state;
    static const struct {
        const char *listen;
        bool exposed;
    } cases[] = {
        {"127.0.0.1:5", false}, {"\"[::1]:5\"", false}, {"127.0.0.9:5", false},
        {"0.0.0.0:5", true},    {"\"[::]:5\"", true},   {"192.0.2.1:5", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "listen: [127.0.0.1:6, %s]\ncertificate: cert.pem\nkey: key.pem\nusers: users\n",
                 cases[i].listen);
        struct sg_config *config = load(text);
        assert_int_equal(sg_config_is_exposed(config), cases[i].exposed);
        sg_config_free(config);
    }
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/server.yaml", folder);
    write_file("key.pem", "", 0600);
    write_file("users", "", 0600);
    write_file("cert.pem", "", 0644);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void reads_how_to_log(void **state)
{
    (void)state;
    struct sg_config *config = load(BASE);
    assert_int_equal(config->log.level, SG_LOG_INFO);
    assert_int_equal(config->log.format, SG_LOG_TEXT);
    assert_int_equal(config->log.addresses, SG_LOG_MASKED);
    sg_config_free(config);
    config = load(BASE "log: {level: debug, format: json, addresses: full}\n");
    assert_int_equal(config->log.level, SG_LOG_DEBUG);
    assert_int_equal(config->log.format, SG_LOG_JSON);
    assert_int_equal(config->log.addresses, SG_LOG_FULL);
    sg_config_free(config);
    refuse(BASE "log:\n  level: loud\n", "6: level: must be error, warning, info or debug");
    refuse(BASE "log:\n  format: [json]\n", "6: format: must be text or json");
    refuse(BASE "log:\n  addresses: none\n", "6: addresses: must be masked or full");
    refuse(BASE "log:\n  colour: red\n", "6: colour: unknown key");
}

#define METRICS_REMOTE                                                                                                 \
    "6: metrics: listen is not a loopback address, so everyone who reaches it could read: say allow_remote: true if "  \
    "a "                                                                                                               \
    "firewall decides who may"

static void metrics_are_local_unless_it_is_said(void **state)
{
    static const char *const remote[] = {"192.0.2.1:9090",         "0.0.0.0:9090",   "\"[::]:9090\"",
                                         "\"[2001:db8::1]:9090\"", "\"[::2]:9090\"", "128.0.0.1:9090"};
    static const char *const local[] = {"127.0.0.1:9090", "127.9.9.9:9090", "\"[::1]:9090\""};
    char text[256];
    (void)state;
    struct sg_config *config = load(BASE);
    assert_int_equal(config->metrics.listen.ip.family, 0);
    sg_config_free(config);
    for (size_t i = 0; i < sizeof remote / sizeof remote[0]; i++) {
        snprintf(text, sizeof text, BASE "metrics:\n  listen: %s\n", remote[i]);
        refuse(text, METRICS_REMOTE);
        snprintf(text, sizeof text, BASE "metrics:\n  listen: %s\n  allow_remote: true\n", remote[i]);
        config = load(text);
        assert_int_equal(config->metrics.listen.port, 9090);
        sg_config_free(config);
    }
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        snprintf(text, sizeof text, BASE "metrics: {listen: %s, per_user: true}\n", local[i]);
        config = load(text);
        assert_int_equal(config->metrics.listen.port, 9090);
        assert_true(config->metrics.per_user);
        sg_config_free(config);
    }
    refuse(BASE "metrics:\n  per_user: true\n", "6: metrics: listen is missing");
    refuse(BASE "metrics:\n  listen: example.org:9090\n", "6: listen: " WITH_AN_ADDRESS);
    refuse(BASE "metrics:\n  listen: 127.0.0.1\n",
           "6: listen: has no port: must be ADDRESS:PORT, as in 127.0.0.1:1443");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_defaults),
        cmocka_unit_test(reads_every_key),
        cmocka_unit_test(advertises_to_clients_of_the_family),
        cmocka_unit_test(reads_each_kind_of_filtering),
        cmocka_unit_test(reads_a_range_of_ports),
        cmocka_unit_test(names_unknown_keys),
        cmocka_unit_test(names_wrong_types),
        cmocka_unit_test(names_wrong_values),
        cmocka_unit_test(names_what_is_missing),
        cmocka_unit_test(guards_secret_files),
        cmocka_unit_test(names_the_line_of_bad_syntax),
        cmocka_unit_test(refuses_bytes_that_no_text_has),
        cmocka_unit_test(refuses_too_many),
        cmocka_unit_test(knows_what_is_exposed),
        cmocka_unit_test(reads_how_to_log),
        cmocka_unit_test(metrics_are_local_unless_it_is_said),
    };
    return cmocka_run_group_tests_name("config", tests, set_up, tear_down);
}
