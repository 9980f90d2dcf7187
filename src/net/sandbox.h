/*
 * What a process gives up once it has started: privileges, most of the file system, and all system calls but those that
 * it still needs. Each step is for good, and holds for threads that are started later. In this order:
 * sg_sandbox_become, sg_sandbox_drop, sg_sandbox_confine, threads, sg_sandbox_filter. A thread that was started before
 * a step takes the first three for itself, each with what it needs.
 */
#ifndef SG_NET_SANDBOX_H
#define SG_NET_SANDBOX_H

#include <stdbool.h>

enum { SG_SANDBOX_PATHS_MAX = 96, SG_SANDBOX_ERROR_MAX = 256 };

/* What is done with a path: a directory and what lies below it, but where said otherwise. */
enum sg_sandbox_use {
    SG_SANDBOX_READ,
    SG_SANDBOX_READ_FILE, /* one file, as it is now: another that takes its name stays closed */
    SG_SANDBOX_REMOVE,    /* sockets are taken away */
    SG_SANDBOX_REPLACE,   /* files are read, written, made and replaced */
};

/* What stays open to the process. All 0: nothing. */
struct sg_sandbox {
    struct {
        char *path;
        enum sg_sandbox_use use;
    } paths[SG_SANDBOX_PATHS_MAX];
    unsigned count;
    bool required; /* a kernel without Landlock or seccomp is a failure, not a line in the log */
};

/* A path; the directory of a file, which may be replaced by another of its name. NULL is nothing. */
void sg_sandbox_add(struct sg_sandbox *sandbox, enum sg_sandbox_use use, const char *path);
void sg_sandbox_add_dir_of(struct sg_sandbox *sandbox, enum sg_sandbox_use use, const char *file);
/* What libraries read while certificates are checked and times are written. */
void sg_sandbox_add_system(struct sg_sandbox *sandbox);
/*
 * What is read while names are resolved: /etc, and where a link from there may lead, now or once another program
 * manages the name servers. For an account that owns no person's files that is all that it may read, for others what
 * lies below /run; for root only the files as they are now.
 */
void sg_sandbox_add_names(struct sg_sandbox *sandbox);
void sg_sandbox_dispose(struct sg_sandbox *sandbox);

/* Becomes the user, if the process is root, with the user's groups. Before threads are started. False: error says why.
 */
bool sg_sandbox_become(const char *user, char error[static SG_SANDBOX_ERROR_MAX]);

/*
 * The calling thread alone becomes nobody, if it is root and may do that: it reads what everybody may read, and no
 * system call that the filter leaves leads back. A build for sanitizers does nothing here.
 */
void sg_sandbox_become_nobody(void);

/*
 * No capabilities, no way to get any, and none to more privileges by executing programs. False: error says why.
 */
bool sg_sandbox_drop(char error[static SG_SANDBOX_ERROR_MAX]);

/*
 * No core dumps, no tracing by others of the same user, and of the file system only those directories (Landlock).
 * Before threads are started. Where there is no Landlock the files stay open, and one log line says why there is none
 * (unless that is a failure: required). A build for sanitizers does nothing here and below.
 */
bool sg_sandbox_confine(const struct sg_sandbox *sandbox, char error[static SG_SANDBOX_ERROR_MAX]);

/*
 * From now on the process, with all its threads, is killed by any system call that is not on the list (seccomp); no
 * thread can be started any more. No program, no process. Where there is no seccomp all calls stay allowed, and a
 * warning says why there is none (unless that is a failure: required).
 */
bool sg_sandbox_filter(const struct sg_sandbox *sandbox, char error[static SG_SANDBOX_ERROR_MAX]);

#endif
