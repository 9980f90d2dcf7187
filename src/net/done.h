/* One thread tells another, once, that it is done; the other waits for that, but not for ever. */
#ifndef SG_NET_DONE_H
#define SG_NET_DONE_H

#include <stdbool.h>

struct sg_done {
    int fd;
};

/* False with errno. Disposed of when nobody waits and nobody will tell; also after a failure. */
bool sg_done_init(struct sg_done *done);
void sg_done_dispose(struct sg_done *done);

void sg_done_tell(struct sg_done *done);

/* To be called once. True as soon as it was told; false if it was not within limit_ms, whatever the wall clock did. */
bool sg_done_wait(struct sg_done *done, unsigned limit_ms);

#endif
