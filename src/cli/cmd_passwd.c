/* `sealgram passwd`: a password for a user of programs that know no invites. Kept as Argon2id. */
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <sodium.h>

#include "cli/cli.h"
#include "cli/dir_args.h"
#include "server/config.h"
#include "server/users.h"

enum { PASSWORD_MIN = 8, PASSWORD_MAX = 255 };

/* One line of standard input, not shown on a terminal. False: none, or of a wrong length. */
static bool read_password(char out[static PASSWORD_MAX + 2])
{
    struct termios shown, hidden;
    bool is_terminal = tcgetattr(STDIN_FILENO, &shown) == 0;
    if (is_terminal) {
        hidden = shown;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
        fputs("Password: ", stderr);
    }
    bool read = fgets(out, PASSWORD_MAX + 2, stdin) != NULL;
    if (is_terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
        fputc('\n', stderr);
    }
    if (!read)
        return false;
    out[strcspn(out, "\r\n")] = '\0';
    size_t len = strlen(out);
    return len >= PASSWORD_MIN && len <= PASSWORD_MAX && !sg_credential_is_token((const uint8_t *)out, len);
}

static int set_password(const struct sg_config *config, const char *user)
{
    char password[PASSWORD_MAX + 2];
    char hash[crypto_pwhash_STRBYTES];
    char error[SG_USERS_ERROR_MAX];
    int code = SG_EXIT_FAILED;
    if (!read_password(password))
        sg_cli_error("a password has %d to %d bytes, in one line of standard input", PASSWORD_MIN, PASSWORD_MAX);
    else if (crypto_pwhash_str(hash, password, strlen(password), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                               crypto_pwhash_MEMLIMIT_INTERACTIVE) != 0)
        sg_cli_error("out of memory");
    else if (sg_users_add(config->users, user, SG_USER_PASSWORD, hash, true, error) != SG_OK)
        sg_cli_error("%s", error);
    else
        code = SG_EXIT_OK;
    sodium_memzero(password, sizeof password);
    return code;
}

int sg_cmd_passwd(int argc, char **argv)
{
    struct sg_dir_args args = {.wants_user = true};
    sg_dir_args_parse(
        &args, NULL,
        "Sets the password of USER at the server in DIR, read from standard input; adds the user if needed.\v"
        "For programs that speak SOCKS over TLS. Sealgram's own client uses invites.",
        argc, argv);
    struct sg_config *config = sg_cli_load_dir(args.dir);
    if (!config)
        return SG_EXIT_CONFIG;
    int code = set_password(config, args.user);
    sg_config_free(config);
    return code;
}
