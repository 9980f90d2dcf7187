/*
 * One loop around poll. Each command has one question at most; further ones wait here, and a question that is not
 * answered in its time fails, together with the command that had it: what that would still say could be taken for the
 * answer to another. A command that dies is started again, after a pause that doubles while it gives no answer.
 */
#include "server/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sodium.h>

#include "net/clock.h"
#include "net/log.h"
#include "net/sandbox.h"

enum { PROCESSES_MAX = 64, PAUSE_MIN_MS = 100, PAUSE_MAX_MS = 10000 };

struct waiting {
    struct waiting *next;
    uint64_t deadline_ms;
    size_t len; /* of the line */
    struct sg_helper_question question;
};

struct process {
    pid_t pid; /* 0: it does not run */
    int to, from;
    uint64_t start_ms; /* when to start it again */
    uint32_t pause_ms;
    bool is_busy;
    uint64_t number, deadline_ms; /* of its question */
    size_t len;                   /* of what it said so far */
    char line[SG_HELPER_LINE_MAX];
};

struct helper {
    const struct sg_helper_options *options;
    int server;
    struct process processes[PROCESSES_MAX];
    struct waiting *first, **last;
};

/* --- answers --- */

static void answer(const struct helper *helper, uint64_t number, enum sg_helper_status status, const char *line,
                   size_t len)
{
    struct sg_helper_answer message = {.number = number, .status = status};
    memcpy(message.line, line, len);
    (void)send(helper->server, &message, SG_HELPER_ANSWER_HEAD + len, MSG_NOSIGNAL); /* gone: the loop sees it */
}

static void end_process(struct helper *helper, struct process *process, const char *why)
{
    int status = 0;
    if (process->is_busy)
        answer(helper, process->number, SG_HELPER_FAILED, "", 0);
    close(process->to);
    close(process->from);
    kill(process->pid, SIGKILL);
    while (waitpid(process->pid, &status, 0) < 0 && errno == EINTR) {
    }
    process->pause_ms = process->pause_ms == 0 ? PAUSE_MIN_MS : process->pause_ms * 2;
    if (process->pause_ms > PAUSE_MAX_MS)
        process->pause_ms = PAUSE_MAX_MS;
    sg_log_event(SG_LOG_WARN, "authenticator", NULL, "authenticator %s %s: it is started again in %u ms",
                 helper->options->command[0], why, (unsigned)process->pause_ms);
    *process = (struct process){
        .to = -1, .from = -1, .start_ms = sg_now_ms() + process->pause_ms, .pause_ms = process->pause_ms};
}

/* --- starting --- */

/* Nothing of the server's environment but what a program needs to run at all. */
static char **make_environment(void)
{
    static const char *const names[] = {"PATH", "HOME", "LANG", "TZ"};
    static char *environment[5];
    unsigned count = 0;
    for (unsigned i = 0; i < 4; i++) {
        const char *value = getenv(names[i]);
        char *text = NULL;
        if (value && asprintf(&text, "%s=%s", names[i], value) > 0)
            environment[count++] = text;
    }
    return environment;
}

/* In the new process. Terminals signal whole groups: it gets one of its own, and dies with its parent instead. */
static _Noreturn void run_command(char *const *command, char **environment, int in, int out)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    for (int number = 1; number < 32; number++)
        (void)sigaction(number, &usual, NULL);
    (void)setsid();
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0)
        execve(command[0], command, environment);
    _exit(127);
}

static void start_process(struct helper *helper, struct process *process, char **environment)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    pid_t pid = -1;
    if (pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0)
        pid = fork();
    if (pid == 0)
        run_command(helper->options->command, environment, in[0], out[1]);
    if (pid < 0)
        sg_log_event(SG_LOG_ERROR, "authenticator", NULL, "authenticator %s cannot be started: %s",
                     helper->options->command[0], strerror(errno));
    for (unsigned i = 0; i < 2; i++) {
        int theirs = i == 0 ? in[0] : out[1], ours = i == 0 ? in[1] : out[0];
        if (theirs >= 0)
            close(theirs);
        if (pid < 0 && ours >= 0)
            close(ours);
    }
    if (pid < 0) {
        process->start_ms = sg_now_ms() + PAUSE_MAX_MS;
        return;
    }
    process->pid = pid;
    process->to = in[1];
    process->from = out[0];
    (void)fcntl(process->to, F_SETFL, O_NONBLOCK);
    (void)fcntl(process->from, F_SETFL, O_NONBLOCK);
}

/* --- questions --- */

/* False: the server is gone. */
static bool take_question(struct helper *helper)
{
    struct waiting *waiting = calloc(1, sizeof *waiting);
    if (!waiting)
        return true; /* it comes again: poll says so */
    ssize_t n = recv(helper->server, &waiting->question, sizeof waiting->question, MSG_DONTWAIT);
    if (n < (ssize_t)SG_HELPER_QUESTION_HEAD) {
        free(waiting);
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    }
    waiting->len = (size_t)n - SG_HELPER_QUESTION_HEAD;
    waiting->deadline_ms = sg_now_ms() + helper->options->timeout_ms;
    *helper->last = waiting;
    helper->last = &waiting->next;
    return true;
}

static void drop_first(struct helper *helper)
{
    struct waiting *waiting = helper->first;
    helper->first = waiting->next;
    if (!helper->first)
        helper->last = &helper->first;
    sodium_memzero(waiting, sizeof *waiting);
    free(waiting);
}

/* A pipe takes a line at once or not at all: it is shorter than PIPE_BUF, and empty, as the command reads before it
 * answers. */
static void give_question(struct helper *helper, struct process *process)
{
    struct waiting *waiting = helper->first;
    char *line = waiting->question.line;
    process->is_busy = true;
    process->number = waiting->question.number;
    process->deadline_ms = waiting->deadline_ms;
    line[waiting->len] = '\n';
    ssize_t n = write(process->to, line, waiting->len + 1);
    bool good = n == (ssize_t)waiting->len + 1;
    drop_first(helper);
    if (!good)
        end_process(helper, process, "does not read");
}

static void give_questions(struct helper *helper)
{
    for (unsigned i = 0; i < helper->options->processes && helper->first; i++)
        if (helper->processes[i].pid > 0 && !helper->processes[i].is_busy)
            give_question(helper, &helper->processes[i]);
}

static void read_answer(struct helper *helper, struct process *process)
{
    ssize_t n = read(process->from, process->line + process->len, sizeof process->line - process->len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end_process(helper, process, "has ended");
        return;
    }
    process->len += (size_t)n;
    const char *end = memchr(process->line, '\n', process->len);
    if (!end && process->len < sizeof process->line)
        return;
    if (!end || end != process->line + process->len - 1 || !process->is_busy) {
        end_process(helper, process, "says what was not asked for, or too much");
        return;
    }
    answer(helper, process->number, SG_HELPER_ANSWERED, process->line, process->len - 1);
    sodium_memzero(process->line, process->len);
    process->is_busy = false;
    process->len = 0;
    process->pause_ms = 0;
}

/* --- time --- */

static void look_at_clock(struct helper *helper, char **environment)
{
    uint64_t now_ms = sg_now_ms();
    for (unsigned i = 0; i < helper->options->processes; i++) {
        struct process *process = &helper->processes[i];
        if (process->pid > 0 && process->is_busy && now_ms >= process->deadline_ms)
            end_process(helper, process, "gives no answer in its time");
        else if (process->pid == 0 && now_ms >= process->start_ms)
            start_process(helper, process, environment);
    }
    while (helper->first && now_ms >= helper->first->deadline_ms) {
        answer(helper, helper->first->question.number, SG_HELPER_FAILED, "", 0);
        drop_first(helper);
    }
}

static int next_timeout(const struct helper *helper)
{
    uint64_t now_ms = sg_now_ms(), next_ms = now_ms + 60000;
    for (unsigned i = 0; i < helper->options->processes; i++) {
        const struct process *process = &helper->processes[i];
        uint64_t due_ms = process->pid == 0 ? process->start_ms : process->is_busy ? process->deadline_ms : next_ms;
        if (due_ms < next_ms)
            next_ms = due_ms;
    }
    if (helper->first && helper->first->deadline_ms < next_ms)
        next_ms = helper->first->deadline_ms;
    return next_ms > now_ms ? (int)(next_ms - now_ms) : 0;
}

static bool turn(struct helper *helper)
{
    struct pollfd fds[PROCESSES_MAX + 1] = {{.fd = helper->server, .events = POLLIN}};
    unsigned count = helper->options->processes;
    for (unsigned i = 0; i < count; i++)
        fds[i + 1] =
            (struct pollfd){.fd = helper->processes[i].pid > 0 ? helper->processes[i].from : -1, .events = POLLIN};
    if (poll(fds, count + 1, next_timeout(helper)) < 0)
        return errno == EINTR;
    for (unsigned i = 0; i < count; i++)
        if (fds[i + 1].revents != 0)
            read_answer(helper, &helper->processes[i]);
    return fds[0].revents == 0 || take_question(helper);
}

static _Noreturn void run(const struct sg_helper_options *options, int server)
{
    static struct helper helper; /* all 0: this process was just made, and comes here once */
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    char error[SG_SANDBOX_ERROR_MAX];
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        (void)sigaction(ignored[i], &ignore, NULL); /* it ends with the server, and not before */
    (void)prctl(PR_SET_NAME, "sealgram-helper");
    (void)prctl(PR_SET_DUMPABLE, 0); /* passwords go through here */
    if ((options->user && !sg_sandbox_become(options->user, error)) || !sg_sandbox_drop(error))
        _exit(1); /* the server will say why */
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(nothing, STDOUT_FILENO) < 0)
        _exit(1); /* who reads the server's output must see its end */
    char **environment = make_environment();
    helper.options = options;
    helper.server = server;
    helper.last = &helper.first;
    for (unsigned i = 0; i < options->processes; i++)
        helper.processes[i] = (struct process){.to = -1, .from = -1};
    do {
        look_at_clock(&helper, environment);
        give_questions(&helper);
    } while (turn(&helper));
    for (unsigned i = 0; i < options->processes; i++)
        if (helper.processes[i].pid > 0)
            kill(helper.processes[i].pid, SIGKILL);
    _exit(0);
}

int sg_helper_start(const struct sg_helper_options *options)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        run(options, ends[1]);
    }
    close(ends[1]);
    if (pid < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
        close(ends[0]);
        return -1;
    }
    return ends[0];
}
