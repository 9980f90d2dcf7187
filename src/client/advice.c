/* The words are chosen by what the client knows; what only the server knows, its log tells. */
#include "client/advice.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/invite.h"

void sg_advice_dial(int error, uint16_t port, char out[static SG_ADVICE_MAX])
{
    switch (error) {
    case ECONNREFUSED:
        snprintf(out, SG_ADVICE_MAX, "connection refused (is the server running, and is %u its port?)", port);
        return;
    case ETIMEDOUT:
        snprintf(out, SG_ADVICE_MAX,
                 "connection timed out (is the address right, and does a firewall drop TCP port %u?)", port);
        return;
    case ENETUNREACH:
    case EHOSTUNREACH:
        snprintf(out, SG_ADVICE_MAX, "%s (is this machine connected to a network that leads there?)", strerror(error));
        return;
    default:
        snprintf(out, SG_ADVICE_MAX, "%s", strerror(error));
    }
}

const char *sg_advice_login(const struct sg_invite *invite)
{
    if (sg_invite_has_token(invite))
        return "the invite was refused: it has expired, was revoked or replaced, or as many devices as may have used "
               "it; "
               "ask whoever runs the server for a new one (its log says which it was)";
    if (invite->password[0] != '\0')
        return "user or password refused; whoever runs the server can set a new one with `sealgram passwd DIR USER`";
    return "user refused: the invite holds no token, and the server knows no user by the certificate";
}
