/* The invites of a client, in order of preference: from the command line, a file or standard input. */
#ifndef SG_CLI_INVITE_LIST_H
#define SG_CLI_INVITE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "net/invite.h"

enum { SG_CLI_INVITES_MAX = 64 };

/* Secret: the caller wipes it. */
struct sg_cli_invites {
    struct sg_invite list[SG_CLI_INVITES_MAX];
    size_t count;
    bool is_again; /* in a sandbox, where no file can be made */
};

/* Takes what INVITE says: an invite, @FILE, or - for standard input. invites is empty before. False: it logged why. */
bool sg_cli_invites_take(struct sg_cli_invites *invites, const char *argument);

/* Takes a file once more, while the client runs: nothing is waited for, nothing is made. False after logging why. */
bool sg_cli_invites_take_again(struct sg_cli_invites *invites, const char *path);

#endif
