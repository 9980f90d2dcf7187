/* Why a connection to the server failed, in words that tell a user what to do next. */
#ifndef SG_CLIENT_ADVICE_H
#define SG_CLIENT_ADVICE_H

#include <stdint.h>

struct sg_invite;

enum { SG_ADVICE_MAX = 320 };

/* error: the errno of a TCP connection to that port that was not made. */
void sg_advice_dial(int error, uint16_t port, char out[static SG_ADVICE_MAX]);

/* The server refused what the invite presents. Static. */
const char *sg_advice_login(const struct sg_invite *invite);

#endif
