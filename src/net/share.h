/* How sockets of several loops have one address and port between them: the kernel spreads what comes. */
#ifndef SG_NET_SHARE_H
#define SG_NET_SHARE_H

enum sg_share {
    SG_ALONE,        /* nobody else may have it */
    SG_SHARED_FIRST, /* others of this program follow; that another program has it is noticed */
    SG_SHARED,       /* one that follows */
};

/* Of socket number index among so many. */
static inline enum sg_share sg_share_of(unsigned index, unsigned count)
{
    if (count == 1)
        return SG_ALONE;
    return index == 0 ? SG_SHARED_FIRST : SG_SHARED;
}

#endif
