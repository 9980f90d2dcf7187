/* The sandbox: what is not on the list ends the process, what is not below its directories is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/sandbox.h"

static char inside[] = "/tmp/sg-test-inside-XXXXXX", outside[] = "/tmp/sg-test-outside-XXXXXX";
static char inner_file[64], outer_file[64];

static bool has_sandbox(void)
{
    return SG_TEST_SANDBOX;
}

static int write_file(const char *path)
{
    FILE *file = fopen(path, "w");
    return file && fputs("text", file) >= 0 && fclose(file) == 0 ? 0 : -1;
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(inside) || !mkdtemp(outside))
        return -1;
    snprintf(inner_file, sizeof inner_file, "%s/file", inside);
    snprintf(outer_file, sizeof outer_file, "%s/file", outside);
    return write_file(inner_file) + write_file(outer_file);
}

static int tear_down(void **state)
{
    (void)state;
    unlink(inner_file);
    unlink(outer_file);
    return rmdir(inside) + rmdir(outside);
}

static bool has_landlock(void)
{
    return has_sandbox() && syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 1;
}

/* Runs fn in a child inside the sandbox; its wait status. What fn returns is the exit code. */
static int run_inside(enum sg_sandbox_use use, int (*fn)(void))
{
    char error[SG_SANDBOX_ERROR_MAX] = "";
    pid_t child = fork();
    int status = 0;
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0};
        struct sg_sandbox sandbox = {.count = 0};
        setrlimit(RLIMIT_CORE, &none);
        sg_sandbox_add(&sandbox, use, inside);
        sg_sandbox_add_system(&sandbox);
        if (!sg_sandbox_drop(error) || !sg_sandbox_confine(&sandbox, error) || !sg_sandbox_filter(&sandbox, error)) {
            fprintf(stderr, "%s\n", error);
            _exit(100);
        }
        _exit(fn());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static int call_nothing(void)
{
    return 7;
}

static int start_program(void)
{
    execl("/bin/true", "true", (char *)NULL);
    return 0;
}

static int start_process(void)
{
    return fork() == 0;
}

static void *idle(void *ctx)
{
    return ctx;
}

static int start_thread(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, idle, NULL);
}

static int trace(void)
{
    return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static int map_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static int make_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static int open_raw_socket(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0);
}

static int open_local_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int open_raw_ip_socket(void)
{
    return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
}

static int open_other_netlink(void)
{
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
}

static int load_socket_filter(void)
{
    struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
    const struct sock_fprog program = {.len = 1, .filter = &all};
    return setsockopt(socket(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

static int be_transparent(void)
{
    const int on = 1;
    return setsockopt(socket(AF_INET, SOCK_DGRAM, 0), IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on);
}

static int have_signals_sent(void)
{
    return fcntl(socket(AF_INET, SOCK_DGRAM, 0), F_SETOWN, getppid());
}

static int take_lease(void)
{
    return fcntl(open(inner_file, O_RDONLY | O_CLOEXEC), F_SETLEASE, F_RDLCK);
}

static int use_sockets(void)
{
    const int on = 1;
    int tcp = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
        udp = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
    bool set = (tcp < 0 || (setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
                            setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0)) &&
               setsockopt(udp, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) == 0 &&
               fcntl(udp, F_SETFL, fcntl(udp, F_GETFL) | O_NONBLOCK) == 0 && fcntl(udp, F_DUPFD_CLOEXEC, 3) >= 0 &&
               socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) >= 0;
    return set ? 7 : 1;
}

static int open_for_writing(void)
{
    return open(inner_file, O_WRONLY | O_CLOEXEC);
}

static int kill_others(void)
{
    return kill(getppid(), SIGUSR1);
}

static int change_user(void)
{
    return (int)syscall(SYS_setuid, 65534);
}

static int load_filter(void)
{
    return (int)syscall(SYS_io_uring_setup, 1, NULL);
}

#ifdef __x86_64__
/* getpid in the ABI of x32, by a thread that is not the first: that one would go on if the thread alone ended. */
static _Atomic bool is_inside;

static void *call_x32(void *ctx)
{
    while (!is_inside)
        continue;
    (void)syscall(0x40000000 + SYS_getpid);
    return ctx;
}

static int run_x32(void)
{
    char error[SG_SANDBOX_ERROR_MAX] = "";
    const struct sg_sandbox sandbox = {.count = 0};
    pthread_t thread;
    if (pthread_create(&thread, NULL, call_x32, NULL) != 0 || !sg_sandbox_drop(error) ||
        !sg_sandbox_filter(&sandbox, error))
        return 100;
    is_inside = true;
    struct timespec long_enough = {.tv_sec = 2};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &long_enough, NULL);
    return 7;
}

static void test_another_abi_ends_the_process(void **state)
{
    (void)state;
    int status = 0;
    if (!has_sandbox()) {
        print_message("skip: this build has no sandbox\n");
        skip();
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        _exit(run_x32());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
        fail_msg("wait status %x", (unsigned)status);
}
#endif

static void test_what_ends_the_process(void **state)
{
    (void)state;
    static int (*const fns[])(void) = {start_program,      start_process,      start_thread,       trace,
                                       map_code,           make_code,          kill_others,        open_raw_socket,
                                       open_for_writing,   change_user,        load_filter,        open_local_socket,
                                       open_raw_ip_socket, open_other_netlink, load_socket_filter, be_transparent,
                                       have_signals_sent,  take_lease};
    if (!has_sandbox()) {
        print_message("skip: this build has no sandbox\n");
        skip();
    }
    for (size_t i = 0; i < sizeof fns / sizeof *fns; i++) {
        int status = run_inside(SG_SANDBOX_READ, fns[i]);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            fail_msg("call %zu: wait status %x", i, (unsigned)status);
    }
    int status = run_inside(SG_SANDBOX_READ, call_nothing);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(run_inside(SG_SANDBOX_READ, use_sockets), 7 << 8);
}

static int read_both(void)
{
    return access("/proc/self/status", F_OK) == 0 && open(inner_file, O_RDONLY | O_CLOEXEC) >= 0 &&
                   open(outer_file, O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES && unlink(inner_file) < 0 &&
                   errno == EACCES
               ? 7
               : 1;
}

static int replace_both(void)
{
    char fresh[80];
    snprintf(fresh, sizeof fresh, "%s.new", inner_file);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd >= 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0 && rename(fresh, inner_file) == 0 &&
                   open(outer_file, O_WRONLY | O_CLOEXEC) < 0 && errno == EACCES
               ? 7
               : 1;
}

static int remove_inner(void)
{
    return open(inner_file, O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES && unlink(inner_file) == 0 &&
                   unlink(outer_file) < 0 && errno == EACCES
               ? 7
               : 1;
}

static void test_directories(void **state)
{
    (void)state;
    if (!has_landlock()) {
        print_message("skip: this build has no sandbox, or the kernel no Landlock\n");
        skip();
    }
    assert_int_equal(run_inside(SG_SANDBOX_READ, read_both), 7 << 8);
    assert_int_equal(run_inside(SG_SANDBOX_REPLACE, replace_both), 7 << 8);
    assert_int_equal(run_inside(SG_SANDBOX_REMOVE, remove_inner), 7 << 8);
    assert_int_equal(write_file(inner_file), 0);
}

/* Root has no capability then, but still owns what only root may read. */
static int read_secrets(void)
{
    int secret = open("/etc/shadow", O_RDONLY | O_CLOEXEC);
    bool closed = secret < 0 && errno == EACCES;
    return closed ? 7 : 1;
}

/* What a thread of root does that resolves names: it reads what everybody may, and can be root no more. */
static int read_as_nobody(void)
{
    char error[SG_SANDBOX_ERROR_MAX];
    struct sg_sandbox sandbox = {.count = 0};
    sg_sandbox_become_nobody();
    sg_sandbox_add_names(&sandbox);
    if (!sg_sandbox_drop(error) || !sg_sandbox_confine(&sandbox, error) || !sg_sandbox_filter(&sandbox, error))
        return 2;
    bool closed = open("/etc/shadow", O_RDONLY | O_CLOEXEC) < 0 && open("/proc/self/environ", O_RDONLY | O_CLOEXEC) < 0;
    bool reads = open("/etc/hosts", O_RDONLY | O_CLOEXEC) >= 0 && open(inner_file, O_RDONLY | O_CLOEXEC) >= 0;
    if (!closed || !reads || geteuid() == 0)
        return 1;
    syscall(SYS_setresuid, 0, 0, 0);
    return 3; /* the call has ended it */
}

static void test_secrets_of_the_system(void **state)
{
    (void)state;
    if (!has_landlock()) {
        print_message("skip: this build has no sandbox, or the kernel no Landlock\n");
        skip();
    }
    assert_int_equal(run_inside(SG_SANDBOX_READ, read_secrets), 7 << 8);
}

static void test_who_resolves_names(void **state)
{
    (void)state;
    int status = 0;
    if (!has_landlock() || geteuid() != 0) {
        print_message("skip: not root, or this build has no sandbox, or the kernel no Landlock\n");
        skip();
    }
    assert_int_equal(chmod(inside, 0755), 0);
    assert_int_equal(chmod(inner_file, 0644), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        _exit(read_as_nobody());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void test_drop_errors(void **state)
{
    (void)state;
    char error[SG_SANDBOX_ERROR_MAX] = "";
    assert_false(sg_sandbox_become("nobody.of.that.name", error));
    assert_string_equal(error, "user: there is no user nobody.of.that.name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_ends_the_process),
#ifdef __x86_64__
        cmocka_unit_test(test_another_abi_ends_the_process),
#endif
        cmocka_unit_test(test_directories),
        cmocka_unit_test(test_secrets_of_the_system),
        cmocka_unit_test(test_who_resolves_names),
        cmocka_unit_test(test_drop_errors),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
