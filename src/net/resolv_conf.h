/*
 * What of the system's files about names c-ares does not look at: whether they are other files by now, and those
 * options of /etc/resolv.conf that its older versions do not know by the names of resolv.conf(5).
 */
#ifndef SG_NET_RESOLV_CONF_H
#define SG_NET_RESOLV_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "core/err.h"

enum { SG_RESOLV_CONF, SG_RESOLV_HOSTS, SG_RESOLV_NSSWITCH, SG_RESOLV_HOST_CONF, SG_RESOLV_FILES };

/* Which files /etc/resolv.conf, hosts, nsswitch.conf and host.conf are, behind all links, and when they changed. */
struct sg_resolv_stamp {
    struct sg_resolv_file {
        int error;    /* of stat, or 0 */
        bool is_pipe; /* who opens it waits for a writer */
        dev_t dev;
        ino_t ino;
        off_t size;
        struct timespec written, changed;
    } files[SG_RESOLV_FILES];
};

struct sg_resolv_options {
    int timeout_ms; /* for the first try at a server */
    int tries;      /* at each server */
    bool rotates;   /* each look-up begins with another server */
};

void sg_resolv_stamp(struct sg_resolv_stamp *out);
bool sg_resolv_stamp_equal(const struct sg_resolv_stamp *a, const struct sg_resolv_stamp *b);

/* Reads the options of /etc/resolv.conf. A file that does not exist has none. SYSTEM with errno: it cannot be read. */
SG_MUST_CHECK enum sg_err sg_resolv_options_read(struct sg_resolv_options *out);

/* The options of a text of that format; what it does not say is 2 s, 3 tries, no rotation. */
void sg_resolv_options_parse(const char *text, size_t len, struct sg_resolv_options *out);

#endif
