/* A thread that sleeps until the step has changed, or has lasted too long for silence. */
#include "cli/progress.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "cli/cli.h"

enum { FIRST_S = 3, NEXT_S = 8 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static pthread_t watcher;
static bool is_running, is_over;
static const char *now_command, *now_what;
static unsigned steps;

static struct timespec in_seconds(time_t seconds)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += seconds;
    return at;
}

static void *watch(void *ctx)
{
    pthread_mutex_lock(&lock);
    while (!is_over) {
        unsigned step = steps;
        struct timespec until = in_seconds(FIRST_S);
        while (!is_over && step == steps) {
            if (pthread_cond_timedwait(&changed, &lock, &until) == 0)
                continue;
            sg_cli_error("%s: still %s", now_command, now_what);
            until = in_seconds(NEXT_S);
        }
    }
    pthread_mutex_unlock(&lock);
    return ctx;
}

/* Signals stay with the thread that does the work. Without the thread the command works as well. */
static void start(void)
{
    sigset_t all, before;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    is_over = false;
    is_running = pthread_create(&watcher, NULL, watch, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void sg_progress_step(const char *command, const char *what)
{
    pthread_mutex_lock(&lock);
    now_command = command;
    now_what = what;
    steps++;
    if (is_running)
        pthread_cond_signal(&changed);
    else
        start();
    pthread_mutex_unlock(&lock);
}

void sg_progress_stop(void)
{
    if (!is_running)
        return;
    pthread_mutex_lock(&lock);
    is_over = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(watcher, NULL);
    pthread_cond_destroy(&changed);
    is_running = false;
}
