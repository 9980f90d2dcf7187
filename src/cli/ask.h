/* Questions to running programs, over their control sockets. */
#ifndef SG_CLI_ASK_H
#define SG_CLI_ASK_H

/*
 * Asks the program whose socket is at path, or, without one, the only one that runs and whose socket's name begins with
 * role ("server-", or "" for any), and returns its whole answer, which the caller frees. NULL after saying why on
 * standard error: *code is then the exit code.
 */
char *sg_cli_ask(const char *path, const char *role, const char *request, int *code);

/* The same for a request that is answered by one line: prints it, and returns the exit code. */
int sg_cli_order(const char *path, const char *request);

/*
 * Tells the servers that run and may be asked, or the one whose control socket is at path, that a user file has
 * changed, and returns when they have looked. Where there is none, or it does not answer, nothing is said: a server
 * looks by itself, too.
 */
void sg_cli_tell_users_changed(const char *path);

#endif
