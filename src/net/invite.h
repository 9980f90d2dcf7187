/*
 * Invites: `sealgram://USER:TOKEN@HOST:PORT/?pin=sha256:...&addr=...`, all that a client needs. Without TOKEN the
 * client shows a certificate, without a pin the server must. addr has addresses for when nobody says what HOST is.
 */
#ifndef SG_NET_INVITE_H
#define SG_NET_INVITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/ip_list.h"

enum { SG_INVITE_TEXT_MAX = 160, SG_INVITE_LINE_MAX = 2048, SG_INVITE_PIN_BYTES = 32, SG_DEFAULT_PORT = 1443 };

/* What tokens begin with; the second counts the devices that use it (net/device.h). */
#define SG_TOKEN_PREFIX "sgt1_"
#define SG_DEVICE_TOKEN_PREFIX "sgd1_"

struct sg_invite {
    char user[65];
    char password[256]; /* a token or a password; empty: none */
    char host[256];     /* name or IP, without brackets */
    uint16_t port;
    bool has_pin;
    struct sg_ip_list addresses;      /* of the host, where it is a name; may be none */
    uint8_t pin[SG_INVITE_PIN_BYTES]; /* SHA-256 of the server's SubjectPublicKeyInfo */
};

/*
 * True for what an invite may name as its host: an IP address (no brackets, no zone, not 0.0.0.0 or ::), or a name of 1
 * to 255 letters, digits and . _ - that is not numbers with dots between alone.
 */
bool sg_invite_host_is_valid(const char *host);

/*
 * The part of a text that an invite would be, and its length: without the blanks, line ends, byte order mark and quotes
 * ("", '' or <>) that mail, chat and editors leave around it. Length 0: nothing else was there.
 */
const char *sg_invite_trim(const char *text, size_t *len);

/*
 * Parses one line, trimmed. False, and problem says what is wrong (never the token); out is then empty. The caller
 * wipes out.
 */
bool sg_invite_parse(const char *text, struct sg_invite *out, char problem[static SG_INVITE_TEXT_MAX]);

/* True if what it presents is a token that `sealgram invite` made, and not a password that somebody chose. */
bool sg_invite_has_token(const struct sg_invite *invite);

/* The line of an invite, terminated. */
void sg_invite_format(const struct sg_invite *invite, char out[static SG_INVITE_LINE_MAX]);

#endif
