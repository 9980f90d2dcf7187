/* Groups of a user that somebody else than the configuration names: the authenticator. */
#ifndef SG_SERVER_GROUP_NAMES_H
#define SG_SERVER_GROUP_NAMES_H

enum { SG_GROUP_NAMES_MAX = 8 };

struct sg_group_names {
    unsigned count;
    char names[SG_GROUP_NAMES_MAX][65];
};

#endif
