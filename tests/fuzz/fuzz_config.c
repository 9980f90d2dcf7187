/*
 * A configuration file, from its bytes to what the server works with: what is taken is whole, what is refused is
 * refused with a line and a reason. An input that takes longer than libFuzzer's -timeout is a find, too.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "server/config.h"
#include "server/rules.h"

static char folder[] = "/tmp/sg-fuzz-config-XXXXXX";
static char path[64];

static void remove_files(void)
{
    char name[64];
    snprintf(name, sizeof name, "%s/secret", folder);
    unlink(name);
    rmdir(folder);
}

/* The one file that seeds name as key, users and CA. */
static void make_files(void)
{
    char name[64];
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/server.yaml", folder);
    snprintf(name, sizeof name, "%s/secret", folder);
    FILE *file = fopen(name, "we");
    CHECK(file && fclose(file) == 0 && chmod(name, 0600) == 0);
    CHECK(atexit(remove_files) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[SG_CONFIG_ERROR_MAX] = "";
    if (path[0] == '\0')
        make_files();
    struct sg_config *config = sg_config_parse(path, (const char *)data, size, error);
    if (!config) {
        CHECK(strncmp(error, path, strlen(path)) == 0 && strlen(error) > strlen(path) + 4);
        return 0;
    }
    if (PLANTED_BUG && config->listen_count > 1)
        config->listen_count = 0;
    CHECK(config->listen_count > 0 && config->listen_count <= SG_CONFIG_LISTEN_MAX);
    CHECK(config->allow_count <= SG_CONFIG_NETS_MAX && config->plain_udp_count <= SG_CONFIG_NETS_MAX);
    CHECK(config->certificate && config->key && config->users && config->devices && config->rules);
    CHECK(config->udp_ports.first <= config->udp_ports.last && !memchr(data, '\0', size));
    CHECK(config->limits.sessions >= 1 && config->limits.sessions <= 65536);
    sg_config_free(config);
    return 0;
}
