/* The server.yaml that `sealgram init` writes: every key with what it means, those not given as comments. */
#ifndef SG_CLI_SERVER_YAML_H
#define SG_CLI_SERVER_YAML_H

#include <stdbool.h>
#include <stdio.h>

/* What init was told. Texts that the command line has checked: they need no escapes in YAML. */
struct sg_server_yaml {
    const char *const *listen;
    unsigned listen_count; /* 0: both families, the default port */
    const char *host;
    const char *const *allow;
    unsigned allow_count;
};

/* Writes the file. False when there is no memory; errors of writing stay in the stream. */
bool sg_server_yaml_write(FILE *file, const struct sg_server_yaml *yaml);

#endif
