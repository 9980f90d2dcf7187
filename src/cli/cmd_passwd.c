/* `sealgram passwd`: a password for a user of programs that know no invites. Kept as Argon2id. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <sodium.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/dir_args.h"
#include "server/config.h"
#include "server/users.h"

/* RFC 1929 has one byte for the length. Room: with CR, LF and the NUL at the end. */
enum { PASSWORD_MIN = 8, PASSWORD_MAX = 255, PASSWORD_ROOM = PASSWORD_MAX + 3 };

/* With echo off a signal would leave the terminal mute: the ones that keys make wait for the end of the line. */
static ssize_t read_line(char *out, size_t size)
{
    struct termios shown, hidden;
    sigset_t keys, before;
    bool is_terminal = tcgetattr(STDIN_FILENO, &shown) == 0;
    sigemptyset(&keys);
    sigaddset(&keys, SIGINT);
    sigaddset(&keys, SIGQUIT);
    sigaddset(&keys, SIGTSTP);
    sigprocmask(SIG_BLOCK, &keys, &before);
    if (is_terminal) {
        hidden = shown;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
        fputs("Password: ", stderr);
    }
    size_t len = 0;
    ssize_t got = 0;
    char *end = NULL;
    while (len < size && !end && (got = read(STDIN_FILENO, out + len, size - len)) > 0) {
        end = memchr(out + len, '\n', (size_t)got);
        len += (size_t)got;
    }
    if (is_terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
        fputc('\n', stderr);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return got < 0 ? -1 : end ? end - out : (ssize_t)len;
}

/* The password, terminated; false after saying what is wrong with it. */
static bool read_password(char out[static PASSWORD_ROOM])
{
    ssize_t len = read_line(out, PASSWORD_ROOM - 1);
    if (len < 0) {
        sg_cli_error("standard input: %s", strerror(errno));
        return false;
    }
    if (len > 0 && out[len - 1] == '\r')
        len--;
    out[len] = '\0';
    if (len < PASSWORD_MIN || len > PASSWORD_MAX)
        sg_cli_error("a password has %d to %d bytes, in the first line of standard input", PASSWORD_MIN, PASSWORD_MAX);
    else if (memchr(out, '\0', (size_t)len))
        sg_cli_error("a password has no NUL byte");
    else if (sg_credential_is_token((const uint8_t *)out, (size_t)len))
        sg_cli_error("a password of 48 bytes does not begin with %s: that is a token", SG_TOKEN_PREFIX);
    else
        return true;
    return false;
}

static int set_password(const struct sg_config *config, const char *user)
{
    char password[PASSWORD_ROOM];
    char hash[crypto_pwhash_STRBYTES];
    char error[SG_USERS_ERROR_MAX] = "";
    int code = SG_EXIT_FAILED;
    if (read_password(password)) {
        if (crypto_pwhash_str(hash, password, strlen(password), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                              crypto_pwhash_MEMLIMIT_INTERACTIVE) != 0)
            sg_cli_error("out of memory");
        else
            code = sg_cli_users_exit(sg_users_add(config->users, user, SG_USER_PASSWORD, hash, NULL, true, error));
    }
    if (error[0] && code != SG_EXIT_OK)
        sg_cli_error("%s", error);
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
    if (code == SG_EXIT_OK)
        sg_cli_tell_users_changed(config->status_socket);
    sg_config_free(config);
    return code;
}
