/* Reasons of the system, each with the step that helps. */
#include "net/listen_failed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/log.h"

enum { ADVICE_MAX = 256, FIRST_FREE_PORT = 1024 };

/* What to do, as the rest of the sentence behind the reason; empty where nobody knows. */
static void advise(int error, const struct sg_endpoint *at, const char *setting, char out[static ADVICE_MAX])
{
    out[0] = '\0';
    switch (error) {
    case EADDRINUSE:
        snprintf(out, ADVICE_MAX, ": `ss -tulpn 'sport = :%u'` shows which program has the port; %s may name another",
                 at->port, setting);
        return;
    case EACCES:
        if (at->port < FIRST_FREE_PORT)
            snprintf(
                out, ADVICE_MAX,
                ": ports below %d are for root; a socket unit of systemd can open them for other users, and %s may "
                "name another",
                FIRST_FREE_PORT, setting);
        return;
    case EADDRNOTAVAIL:
        snprintf(out, ADVICE_MAX, ": no interface of this machine has the address (`ip address` lists those it has)");
        return;
    case EAFNOSUPPORT:
        snprintf(out, ADVICE_MAX, ": this kernel has no IPv%u; %s may name another address", at->ip.family, setting);
        return;
    case EMFILE:
        snprintf(out, ADVICE_MAX,
                 ": raise the limit of open files (`ulimit -n 65536`, or LimitNOFILE= of the systemd unit)");
        return;
    default:
        return;
    }
}

bool sg_listen_failed(const char *kind, const struct sg_endpoint *at, const char *setting, int error)
{
    char text[SG_ENDPOINT_TEXT_MAX], advice[ADVICE_MAX];
    sg_endpoint_format(at, text);
    advise(error, at, setting, advice);
    sg_log_event(SG_LOG_ERROR, "listen_failed", SG_LOG_FIELDS(sg_log_word("address", text)),
                 "cannot listen on %s %s (%s): %s%s", kind, text, setting, strerror(error), advice);
    return false;
}

bool sg_listen_failed_path(const char *path, const char *setting, int error)
{
    const char *advice = "";
    switch (error) {
    case ENOENT:
        advice = ": the directory must be there";
        break;
    case EACCES:
    case EROFS:
        advice = ": this user must be able to write to the directory";
        break;
    case EADDRINUSE:
        advice = ": another program listens there";
        break;
    default:
        break;
    }
    sg_log_event(SG_LOG_ERROR, "listen_failed", NULL, "cannot listen on %s (%s): %s%s%s%s", path, setting,
                 strerror(error), advice, advice[0] ? "; another path in " : "", advice[0] ? setting : "");
    return false;
}
