/*
 * What changes while a server runs: the configuration, when it is asked for; the user file, the revocation lists and
 * the addresses of this machine, when they change. All of it is made into one policy, which every worker turns to.
 * Files are read on a thread of their own: one that does not come holds up neither a loop nor the end. All else is on
 * the loop of worker 0.
 */
#ifndef SG_SERVER_RELOAD_H
#define SG_SERVER_RELOAD_H

#include <stdbool.h>

struct event_base;
struct sg_reload;
struct sg_server;

/* Before the server's first policy is built. NULL when memory is short. */
struct sg_reload *sg_reload_new(struct sg_server *server);
/* Begins to watch the machine's addresses and its network, on the loop of worker 0, which exists. False: no memory. */
bool sg_reload_start(struct sg_reload *reload, struct event_base *base);
/* Starts the thread that reads. False with errno. */
bool sg_reload_start_thread(struct sg_reload *reload);

enum sg_reload_what {
    SG_RELOAD_CONFIG, /* the configuration and all that it names, whether or not they have changed */
    SG_RELOAD_FILES,  /* the user file and the revocation lists, if they have */
};

/* One line without its end: `ok: ...`, or `error: ...`, and then nothing has changed. It has been logged, too. */
typedef void sg_reload_fn(void *ctx, const char *answer);

/*
 * Reads again. Sessions stay; what a start alone can change is told in a log line, and keeps its value. fn, which may
 * be NULL, is called once: when that is done, or after SG_CONFIG_SECONDS_MAX; but not after sg_reload_stop.
 */
void sg_reload_order(struct sg_reload *reload, enum sg_reload_what what, sg_reload_fn *fn, void *ctx);

/*
 * To be called a few times a second: looks whether the user file or the revocation lists have changed, or the time of a
 * credential is over; and at the addresses, where the system does not tell of changes.
 */
void sg_reload_watch(struct sg_reload *reload);

/*
 * The end, in two steps: before worker 0 goes, and after its inbox was worked off; also if nothing was started. False:
 * the thread hangs in a file that does not come. Then nothing that it works with may be freed: the process has to end
 * with _exit.
 */
bool sg_reload_stop(struct sg_reload *reload);
void sg_reload_free(struct sg_reload *reload); /* accepts NULL */

#endif
