/*
 * The filter of system calls, by libseccomp: what a program that serves still calls, on purpose or by way of its
 * libraries. Nothing on the list starts a program, a process or a thread, or makes memory executable.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <seccomp.h>

#include "net/log.h"
#include "net/sandbox.h"
#include "net/sandbox_action.h"

/* PR_SET_VMA: the allocator of newer C libraries names its memory. */
enum { SET_VMA = 0x53564d41 };

enum { SOCKET_TYPE = 0xf }; /* of the argument that holds SOCK_CLOEXEC and SOCK_NONBLOCK, too */

static const char *const always[] = {
    /* streams and datagrams */
    "read", "write", "readv", "writev", "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "accept",
    "accept4", "bind", "listen", "connect", "shutdown", "getsockname", "getpeername", "getsockopt", "close",
    /* waiting */
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl", "poll", "ppoll", "select", "pselect6", "futex",
    "nanosleep", "clock_nanosleep", "restart_syscall", "sched_yield",
    /* files that are read again: configuration, keys, users, resolv.conf, hosts; links and types of them */
    "fstat", "stat", "lstat", "newfstatat", "statx", "lseek", "pread64", "getdents64", "readlink", "readlinkat",
    "access", "faccessat", "faccessat2", "fadvise64", "getcwd",
    /* the control socket at the end */
    "unlink", "unlinkat",
    /* memory */
    "brk", "munmap", "mremap", "madvise", "mlock", "mlock2", "munlock",
    /* time, randomness, who and where this is */
    "clock_gettime", "clock_getres", "gettimeofday", "time", "getrandom", "getpid", "gettid", "getuid", "geteuid",
    "getgid", "getegid", "getppid", "uname", "sysinfo", "getcpu", "sched_getaffinity", "getrusage", "times",
    /* signals; the first steps of threads that were just started, and the end of all */
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "sigaltstack", "set_robust_list", "rseq", "exit",
    "exit_group"};

/* Where files are replaced (enum sg_sandbox_use). */
static const char *const replacing[] = {"fchown",    "rename", "renameat", "renameat2", "fsync",
                                        "fdatasync", "flock",  "fchmod",   "ftruncate"};

static int allow(scmp_filter_ctx filter, const char *name, unsigned count, const struct scmp_arg_cmp *conditions)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number < 0)
        return 0; /* this architecture has none */
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, count, conditions);
}

static int allow_all(scmp_filter_ctx filter, const char *const *names, size_t count)
{
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = allow(filter, names[i], 0, NULL);
    return rc;
}

static int allow_one(scmp_filter_ctx filter, const char *name, struct scmp_arg_cmp condition)
{
    return allow(filter, name, 1, &condition);
}

/* Streams and datagrams of IP, and the kernel's routes and addresses; no raw socket, and no other family. */
static int allow_sockets(scmp_filter_ctx filter)
{
    static const uint32_t families[] = {AF_INET, AF_INET6}, types[] = {SOCK_STREAM, SOCK_DGRAM};
    const struct scmp_arg_cmp routes[] = {SCMP_A0_32(SCMP_CMP_EQ, AF_NETLINK, 0),
                                          SCMP_A2_32(SCMP_CMP_EQ, NETLINK_ROUTE, 0)};
    int rc = allow(filter, "socket", 2, routes);
    for (size_t i = 0; i < 4 && rc == 0; i++) {
        const struct scmp_arg_cmp inet[] = {SCMP_A0_32(SCMP_CMP_EQ, families[i / 2], 0),
                                            SCMP_A1_32(SCMP_CMP_MASKED_EQ, SOCKET_TYPE, types[i % 2])};
        rc = allow(filter, "socket", 2, inet);
    }
    return rc;
}

/*
 * What this program and its libraries set: buffers, addresses, time limits, what is told of datagrams. Nothing that
 * loads a program into the kernel, marks or redirects packets, binds to a device, or changes tables of a firewall.
 */
static int allow_socket_options(scmp_filter_ctx filter)
{
    static const struct {
        int level, name;
    } options[] = {
        {SOL_SOCKET, SO_REUSEADDR},
        {SOL_SOCKET, SO_REUSEPORT},
        {SOL_SOCKET, SO_KEEPALIVE},
        {SOL_SOCKET, SO_LINGER},
        {SOL_SOCKET, SO_RCVBUF},
        {SOL_SOCKET, SO_SNDBUF},
        {SOL_SOCKET, SO_RCVTIMEO},
        {SOL_SOCKET, SO_SNDTIMEO},
        {SOL_SOCKET, SO_BROADCAST},
        {SOL_SOCKET, SO_RXQ_OVFL},
        {IPPROTO_TCP, TCP_NODELAY},
        {IPPROTO_TCP, TCP_MAXSEG},
        {IPPROTO_TCP, TCP_KEEPIDLE},
        {IPPROTO_TCP, TCP_KEEPINTVL},
        {IPPROTO_TCP, TCP_KEEPCNT},
        {IPPROTO_TCP, TCP_USER_TIMEOUT},
        {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
        {IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
        {IPPROTO_IP, IP_PKTINFO},
        {IPPROTO_IP, IP_RECVERR},
        {IPPROTO_IP, IP_MTU_DISCOVER},
        {IPPROTO_IP, IP_RECVTOS},
        {IPPROTO_IP, IP_TOS},
        {IPPROTO_IPV6, IPV6_V6ONLY},
        {IPPROTO_IPV6, IPV6_RECVPKTINFO},
        {IPPROTO_IPV6, IPV6_RECVERR},
        {IPPROTO_IPV6, IPV6_MTU_DISCOVER},
        {IPPROTO_IPV6, IPV6_RECVTCLASS},
        {IPPROTO_IPV6, IPV6_TCLASS},
        {SOL_UDP, UDP_GRO},
        {SOL_NETLINK, NETLINK_GET_STRICT_CHK},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof options / sizeof *options && rc == 0; i++) {
        const struct scmp_arg_cmp both[] = {SCMP_A1_32(SCMP_CMP_EQ, (uint32_t)options[i].level, 0),
                                            SCMP_A2_32(SCMP_CMP_EQ, (uint32_t)options[i].name, 0)};
        rc = allow(filter, "setsockopt", 2, both);
    }
    return rc;
}

/* Flags of files and descriptors, and a second descriptor; no signals, leases, locks or pipes. */
static int allow_fcntl(scmp_filter_ctx filter)
{
    static const char *const names[] = {"fcntl", "fcntl64"};
    static const uint32_t commands[] = {F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC};
    int rc = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < sizeof commands / sizeof *commands && rc == 0; k++)
            rc = allow_one(filter, names[i], SCMP_A1_32(SCMP_CMP_EQ, commands[k], 0));
    return rc;
}

/* Calls that do more than is needed, by what they are asked to do. */
static int allow_some(scmp_filter_ctx filter, bool replaces)
{
    static const unsigned long ioctls[] = {FIONBIO, FIONREAD, TCGETS, SIOCOUTQ};
    int rc = allow_sockets(filter);
    if (rc == 0)
        rc = allow_socket_options(filter);
    if (rc == 0)
        rc = allow_fcntl(filter);
    for (size_t i = 0; i < sizeof ioctls / sizeof *ioctls && rc == 0; i++)
        rc = allow_one(filter, "ioctl", SCMP_A1_32(SCMP_CMP_EQ, (uint32_t)ioctls[i], 0));
    if (rc == 0)
        rc = allow_one(filter, "mmap", SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = allow_one(filter, "mprotect", SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = allow_one(filter, "tgkill", SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid(), 0)); /* abort() */
    if (rc == 0)
        rc = allow_one(filter, "prctl", SCMP_A0_32(SCMP_CMP_EQ, SET_VMA, 0));
    if (rc == 0)
        rc = allow_one(filter, "prlimit64", SCMP_A2_64(SCMP_CMP_EQ, 0, 0)); /* asks */
    if (rc == 0 && replaces)
        return allow(filter, "openat", 0, NULL);
    if (rc == 0)
        rc = allow_one(filter, "openat", SCMP_A2_32(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
    return rc;
}

static bool replaces_files(const struct sg_sandbox *sandbox)
{
    for (unsigned i = 0; i < sandbox->count; i++)
        if (sandbox->paths[i].use == SG_SANDBOX_REPLACE)
            return true;
    return false;
}

/* Makes and loads the filter: 0 or -errno. */
static int load_filter(bool replaces)
{
    scmp_filter_ctx filter = seccomp_init(sg_sandbox_action());
    int rc = filter ? 0 : -ENOMEM;
    if (rc == 0) /* or every error of the kernel is ECANCELED */
        rc = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0) /* calls of other architectures, x32's too: the default would end the one thread */
        rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a search by halves: the list is long */
    if (rc == 0)
        rc = allow_all(filter, always, sizeof always / sizeof *always);
    if (rc == 0 && replaces)
        rc = allow_all(filter, replacing, sizeof replacing / sizeof *replacing);
    if (rc == 0)
        rc = allow_some(filter, replaces);
    if (rc == 0)
        rc = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    return rc;
}

/* Whether the kernel lets this process have a filter at all: 0, or the error why it does not. */
static int ask_seccomp(void)
{
    const uint32_t action = SCMP_ACT_KILL_PROCESS;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 ? 0 : errno;
}

static const char *missing_text(int error)
{
    switch (error) {
    case ENOSYS:
        return "this kernel has none";
    case EINVAL:
    case EOPNOTSUPP:
        return "that of this kernel is older than Linux 4.14";
    default:
        return strerror(error);
    }
}

bool sg_sandbox_filter(const struct sg_sandbox *sandbox, char error[static SG_SANDBOX_ERROR_MAX])
{
    int rc = load_filter(replaces_files(sandbox));
    int missing = rc == 0 ? 0 : ask_seccomp();
    if (missing != 0 && !sandbox->required) {
        sg_log(SG_LOG_WARN, "sandbox: system calls are not restricted: no seccomp: %s", missing_text(missing));
        return true;
    }
    if (rc != 0)
        snprintf(error, SG_SANDBOX_ERROR_MAX, "system calls cannot be filtered (seccomp): %s",
                 missing != 0 ? missing_text(missing) : strerror(-rc));
    return rc == 0;
}
