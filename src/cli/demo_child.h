/* Processes of the own program, for `sealgram demo` and `sealgram doctor`: started, asked for their status, ended. */
#ifndef SG_CLI_DEMO_CHILD_H
#define SG_CLI_DEMO_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct json_t;

struct sg_demo_child {
    pid_t pid; /* 0: none */
    int out;   /* its standard output, non-blocking; -1 */
};

/* Starts `sealgram ARGV...` (ended by NULL); its log goes to DIR/NAME.log, its control socket below DIR. */
bool sg_demo_child_start(struct sg_demo_child *child, const char *dir, const char *name, const char *const *argv);

/* SIGTERM, then the end; its exit code, or -1. Safe for a child that was never started. */
int sg_demo_child_stop(struct sg_demo_child *child);

/* Waits for one that ends by itself; its exit code, or -1. */
int sg_demo_child_wait(struct sg_demo_child *child);

/* The status document of a child: a new reference, or NULL. name is `server` or `client`. */
struct json_t *sg_demo_child_status(const struct sg_demo_child *child, const char *dir, const char *name);

/* Removes a throwaway directory and all in it. */
void sg_demo_remove_dir(const char *path);

#endif
