/*
 * An invite as a person pastes it: what parses formats to a line that parses to the same, with a host that a host may
 * be; what does not parse leaves nothing behind, and the message repeats nothing of the text.
 */
#include <string.h>

#include "check.h"
#include "net/invite.h"

static void check_refused(const struct sg_invite *invite, const char *problem)
{
    static const struct sg_invite empty;
    size_t len = strlen(problem);
    CHECK(len > 0 && len < SG_INVITE_TEXT_MAX);
    CHECK(memcmp(invite, &empty, sizeof empty) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sg_invite invite, again;
    char problem[SG_INVITE_TEXT_MAX], line[SG_INVITE_LINE_MAX], twice[SG_INVITE_LINE_MAX];
    char *text = malloc(size + 1); /* exactly as long as the text */
    CHECK(text);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    if (!sg_invite_parse(text, &invite, problem)) {
        check_refused(&invite, problem);
        free(text);
        return 0;
    }
    free(text);
    CHECK(problem[0] == '\0' && invite.user[0] != '\0' && invite.port != 0);
    CHECK(sg_invite_host_is_valid(invite.host));
    sg_invite_format(&invite, line);
    if (PLANTED_BUG && invite.has_pin && invite.password[0])
        invite.pin[31] ^= 1;
    CHECK(sg_invite_parse(line, &again, problem));
    CHECK(strcmp(invite.user, again.user) == 0 && strcmp(invite.password, again.password) == 0);
    CHECK(strcmp(invite.host, again.host) == 0 && invite.port == again.port && invite.has_pin == again.has_pin);
    CHECK(sg_ip_list_equal(&invite.addresses, &again.addresses));
    CHECK(memcmp(invite.pin, again.pin, sizeof invite.pin) == 0);
    sg_invite_format(&again, twice);
    CHECK(strcmp(line, twice) == 0);
    return 0;
}
