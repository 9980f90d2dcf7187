/*
 * What a command waits for, on standard error, when a step takes longer than 3 s: nobody is to look at a program that
 * says nothing for long. One command at a time; a thread of its own watches the clock.
 */
#ifndef SG_CLI_PROGRESS_H
#define SG_CLI_PROGRESS_H

/* The command does this now, as in "looking for a target that answers"; what must live until the next step. */
void sg_progress_step(const char *command, const char *what);

/* Nothing is waited for any more. Also safe if there was no step. */
void sg_progress_stop(void);

#endif
