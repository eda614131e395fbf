// init.c - the last stage: the program between the engine's own init and the user's command.
//
// It runs from a sealed memfd inside the finished root file system, so /proc/PID/exe of a process
// that enters a container never leads to a file of the host (CVE-2019-5736). It uses no C library,
// no heap, and nothing of the container's but the command it is told to run.
//
//     mydocker-init PLAN_FD
//     mydocker-init --procfs FD FD        only a procfs (procfs.h)
//     mydocker-init -- COMMAND ARG...     only the small process 1 of `--init` (reap.c), for other runtimes
//
// PLAN_FD is a memfd that holds one `struct plan` and what follows it (runtime/plan.py writes it):
//
//     struct plan | struct limit[] | struct hook[] | uint32 groups[] | struct sock_filter[] | strings
//     strings: cwd \0 | args \0 ... | env \0 ... | listener state \0 | AppArmor profile \0 | SELinux label \0
//              | for each hook: path \0 | args \0 ... | env \0 ...
//
// In order: set limits and priorities, become the user, go to the working directory, find the command,
// say READY on the sync socket, wait for START (there or on a FIFO), drop what is left of privilege, run
// the startContainer hooks, with `--init` leave process 1 to reap.c, execve. A failure is one message `F<kind>\0<errno>\0<what>` on the sync
// socket; the socket closing without one means that the command runs. docs/protocols.md has the messages.

#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <linux/seccomp.h>
#include <linux/wait.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "entry.h"
#include "reap.h"
#include "sys.h"

enum {
    PLAN_NO_NEW_PRIVS = 1, PLAN_SECCOMP = 2, PLAN_SCHEDULER = 4, PLAN_PERSONALITY = 8, PLAN_REAPER = 16, PLAN_TERMINAL = 32,
    PLAN_ALL_CPUS = 64, PLAN_OLD_KEYRING = 128, PLAN_CPUSET = 256
};
enum { EXIT_FAILED = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };
enum { PATH_BYTES = 4096, SIGNALS = 64, JOIN_SESSION_KEYRING = 1, IOPRIO_WHO_PROCESS = 1, OUTPUT_BYTES = 512 };

// Descriptors that the last stage uses itself, -1 where there is none; the command gets none of them.
enum {
    FD_SYNC,        // the sync socket
    FD_START,       // a FIFO to wait on in place of the sync socket
    FD_HOOK_INPUT,  // memory files: the state for hooks, and what they write
    FD_HOOK_OUTPUT,
    FD_LISTENER, // a socket connected to the agent of linux.seccomp.listenerPath
    FD_ENTERED,  // where to report the process that was cloned into the pid namespace of a container
    FDS
};

struct plan {
    char magic[8]; // "mydinit2"
    uint32_t flags, uid, gid, umask;
    uint32_t groups, args, envs, filters;
    uint32_t filter_flags, strings_at; // strings_at: where cwd begins, from the start of the plan
    uint32_t preserve_fds, limits;     // descriptors 3 .. 3+preserve_fds-1 go to the command
    uint32_t hooks, io_priority;       // io_priority: as ioprio_set(2) takes it, 0 to leave it
    int32_t fds[FDS];
    uint64_t personality;
    uint64_t bounding, effective, inheritable, permitted, ambient;
    struct sched_attr scheduler;
};

struct limit {
    uint64_t resource, soft, hard;
};

struct hook {
    uint32_t args, envs, timeout_ms, reserved; // timeout_ms: 0 for none
};

struct stage {
    const struct plan *plan;
    const struct limit *limits;
    const struct hook *hooks;
    char *hook_strings;
    const uint32_t *groups;
    const struct sock_filter *filters;
    const char *cwd;
    const char *listener_state, *apparmor, *selinux; // "" where there is nothing to do
    char **argv, **envp;
    char command[PATH_BYTES];
};

static size_t length(const char *text) {
    size_t count = 0;
    while (text[count])
        count++;
    return count;
}

static int begins(const char *text, const char *with) {
    while (*with)
        if (*text++ != *with++)
            return 0;
    return 1;
}

static char *append(char *at, const char *end, const char *text) {
    while (*text && at < end)
        *at++ = *text++;
    return at;
}

static char *append_number(char *at, const char *end, long number) {
    char digits[24];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    while (count && at < end)
        *at++ = digits[--count];
    return at;
}

static long say(const struct stage *stage, const char *message, long bytes) {
    // Without MSG_NOSIGNAL a creator that has gone would end this process by SIGPIPE, and with no exit code.
    return sys6(SYS_sendto, stage->plan->fds[FD_SYNC], (long)message, bytes, MSG_NOSIGNAL, 0, 0);
}

// Who made an OCI container is gone when it starts: then its own standard error is the only place for the news. Of a command
// that cannot be executed these are runc's words, which people know from `docker logs`.
static void tell_user(long error, const char *what, const char *object) {
    char message[PATH_BYTES + 256];
    char *const end = message + sizeof message;
    int is_command = begins(what, "execute ");
    char *at = append(append(message, end, is_command ? "exec " : "mydocker-init: "), end, is_command ? "" : what);
    at = append(at, end, object);
    at = append(at, end, error == -ENOEXEC  ? ": exec format error\n"
                         : error == -EACCES ? ": permission denied\n"
                         : error == -ENOENT ? ": no such file or directory\n"
                         : error == 0       ? "\n"
                                            : ": error ");
    if (at > message && at[-1] != '\n')
        at = append(append_number(at, end, -error), end, "\n");
    (void)sys(SYS_write, 2, (long)message, at - message, 0, 0); // the exit code tells it in any case
}

// Reports and ends. `error` is a negative errno. What: verb and object, without the reason.
static void fail(const struct stage *stage, const char *kind, long error, const char *what, const char *object) {
    char message[PATH_BYTES + 256];
    char *const end = message + sizeof message;
    char *at = append(message, end, "F");
    at = append(at, end, kind);
    *at++ = 0;
    at = append_number(at, end, -error);
    *at++ = 0;
    at = append(at, end, what);
    at = append(at, end, object);
    if (say(stage, message, at - message) < 0)
        tell_user(error, what, object);
    int code = begins(kind, "CommandNotFound")        ? EXIT_NOT_FOUND
               : begins(kind, "CommandNotExecutable") ? EXIT_NOT_EXECUTABLE
                                                      : EXIT_FAILED;
    for (;;)
        sys(SYS_exit_group, code, 0, 0, 0, 0);
}

static void check(const struct stage *stage, long result, const char *what) {
    if (result < 0)
        fail(stage, "RuntimeFailed", result, what, "");
}

#include "signals.h"
#include "labels.h"
#include "listener.h"
#include "entering.h"
#include "procfs.h"

static void *map(long bytes, int protection, int flags, int fd) {
    long at = sys6(SYS_mmap, 0, bytes, protection, flags, fd, 0);
    if (at < 0 && at > -4096)
        sys(SYS_exit_group, EXIT_FAILED, 0, 0, 0, 0);
    return (void *)at;
}

// Sets pointers to `count` strings in a row, NULL behind them; returns what follows in the text.
static char *point_at(char **vector, uint32_t count, char *text) {
    for (uint32_t i = 0; i < count; i++) {
        vector[i] = text;
        text += length(text) + 1;
    }
    vector[count] = NULL;
    return text;
}

static char **new_vector(uint32_t count) {
    return map((long)((count + 1) * sizeof(char *)), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

// The plan comes from our own parent through a sealed memfd: its shape is trusted.
static void read_plan(struct stage *stage, int fd) {
    long bytes = sys(SYS_lseek, fd, 0, 2 /* SEEK_END */, 0, 0);
    if (bytes < (long)sizeof(struct plan))
        sys(SYS_exit_group, EXIT_FAILED, 0, 0, 0, 0);
    char *base = map(bytes, PROT_READ, MAP_PRIVATE, fd);
    const struct plan *plan = (const struct plan *)base;
    stage->plan = plan;
    stage->limits = (const struct limit *)(plan + 1);
    stage->hooks = (const struct hook *)(stage->limits + plan->limits);
    stage->groups = (const uint32_t *)(stage->hooks + plan->hooks);
    stage->filters = (const struct sock_filter *)(stage->groups + plan->groups);
    stage->cwd = base + plan->strings_at;
    stage->argv = new_vector(plan->args);
    stage->envp = new_vector(plan->envs);
    char *text = base + plan->strings_at + length(stage->cwd) + 1;
    text = point_at(stage->argv, plan->args, text);
    text = point_at(stage->envp, plan->envs, text);
    stage->listener_state = text;
    text += length(text) + 1;
    stage->apparmor = text;
    text += length(text) + 1;
    stage->selinux = text;
    stage->hook_strings = text + length(text) + 1;
}

static long lowest_kept(const struct plan *plan, long from) {
    long lowest = -1;
    for (int i = 0; i < FDS; i++)
        if (plan->fds[i] >= from && (lowest < 0 || plan->fds[i] < lowest))
            lowest = plan->fds[i];
    return lowest;
}

// Everything that is not meant for the command is closed before the command's code can run, and
// even before the wait for START: a host directory among them would be a way out (CVE-2024-21626).
static void close_other_descriptors(const struct stage *stage) {
    long next = 3 + (long)stage->plan->preserve_fds;
    for (long keep; (keep = lowest_kept(stage->plan, next)) >= 0; next = keep + 1) {
        if (keep > next)
            check(stage, sys(SYS_close_range, next, keep - 1, 0, 0, 0), "close descriptors");
        check(stage, sys(SYS_fcntl, keep, F_SETFD, FD_CLOEXEC, 0, 0), "set close-on-exec");
    }
    check(stage, sys(SYS_close_range, next, ~0U, 0, 0, 0), "close descriptors");
}

// The interpreter ignores SIGPIPE and SIGXFSZ, which execve would pass on.
static void reset_signals(const struct stage *stage) {
    const uint64_t zero[4] = {0}; // struct kernel_sigaction with SIG_DFL, and an empty set
    for (int signum = 1; signum <= SIGNALS; signum++)
        (void)sys(SYS_rt_sigaction, signum, (long)zero, 0, 8, 0); // SIGKILL and SIGSTOP refuse: they are default
    check(stage, sys(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)zero, 0, 8, 0), "reset the signal mask");
}

// By RLIMIT_*: podman and docker raise limits that nobody asked for, so an error has to say which one it is.
#define LIMIT_KINDS 16
#define LIMIT_ACTION(name) "set process.rlimits RLIMIT_" name
static const char LIMIT_ACTIONS[LIMIT_KINDS][40] = {
    LIMIT_ACTION("CPU"), LIMIT_ACTION("FSIZE"), LIMIT_ACTION("DATA"), LIMIT_ACTION("STACK"),
    LIMIT_ACTION("CORE"), LIMIT_ACTION("RSS"), LIMIT_ACTION("NPROC"), LIMIT_ACTION("NOFILE"),
    LIMIT_ACTION("MEMLOCK"), LIMIT_ACTION("AS"), LIMIT_ACTION("LOCKS"), LIMIT_ACTION("SIGPENDING"),
    LIMIT_ACTION("MSGQUEUE"), LIMIT_ACTION("NICE"), LIMIT_ACTION("RTPRIO"), LIMIT_ACTION("RTTIME"),
};

// Set here and not by the interpreter before: some limits (RLIMIT_AS, RLIMIT_NOFILE, RLIMIT_FSIZE) would stop it.
static void set_limits(const struct stage *stage) {
    for (uint32_t i = 0; i < stage->plan->limits; i++)
        check(stage, sys(SYS_prlimit64, 0, (long)stage->limits[i].resource, (long)&stage->limits[i].soft, 0, 0),
              LIMIT_ACTIONS[stage->limits[i].resource % LIMIT_KINDS]);
}

static void set_priorities(const struct stage *stage) {
    const struct plan *plan = stage->plan;
    if (plan->flags & PLAN_PERSONALITY)
        check(stage, sys(SYS_personality, (long)plan->personality, 0, 0, 0, 0), "set linux.personality");
    if (plan->io_priority)
        check(stage, sys(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, plan->io_priority, 0, 0), "set process.ioPriority");
    if (plan->flags & PLAN_SCHEDULER) {
        long result = sys(SYS_sched_setattr, 0, (long)&plan->scheduler, 0, 0, 0);
        // SCHED_DEADLINE is for those only who may run on every processor (sched-deadline.rst); runc's words.
        check(stage, result,
              result == -EPERM && plan->flags & PLAN_CPUSET
                  ? "set process.scheduler: process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)"
                  : "set process.scheduler");
    }
}

// Whoever called the runtime may be bound to some processors. What binds the container is its cpuset, which the kernel minds.
static void take_all_cpus(const struct stage *stage) {
    static const uint8_t all[1024] = {[0 ... 1023] = 0xff};
    if (stage->plan->flags & PLAN_ALL_CPUS)
        (void)sys(SYS_sched_setaffinity, 0, sizeof all, (long)all, 0, 0); // refused: the processors stay what they were
}

static void drop_bounding(const struct stage *stage) {
    for (int cap = 0; cap < 64; cap++) {
        long has = sys(SYS_prctl, PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has < 0)
            return; // EINVAL: past the last capability that this kernel knows
        if (has && !(stage->plan->bounding >> cap & 1))
            check(stage, sys(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0), "drop a capability from the bounding set");
    }
}

static void set_capabilities(const struct stage *stage, uint64_t effective, uint64_t permitted, uint64_t inheritable) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
    };
    check(stage, sys(SYS_capset, (long)&header, (long)data, 0, 0, 0), "set capabilities");
}

static uint64_t permitted_now(const struct stage *stage) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    check(stage, sys(SYS_capget, (long)&header, (long)data, 0, 0, 0), "read capabilities");
    return (uint64_t)data[1].permitted << 32 | data[0].permitted;
}

// Changes the user but keeps every capability: the way to the working directory may be closed to the user.
static void become_user(const struct stage *stage) {
    const struct plan *plan = stage->plan;
    drop_bounding(stage);
    check(stage, sys(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities");
    // A user namespace whose setgroups is denied has no groups to set, and says EPERM for none, too.
    long result = sys(SYS_setgroups, plan->groups, (long)stage->groups, 0, 0, 0);
    if (result != -EPERM || plan->groups)
        check(stage, result, "set supplementary groups");
    check(stage, sys(SYS_setresgid, plan->gid, plan->gid, plan->gid, 0, 0), "set the group id");
    check(stage, sys(SYS_setresuid, plan->uid, plan->uid, plan->uid, 0, 0), "set the user id");
    uint64_t all = permitted_now(stage);
    set_capabilities(stage, all, all, 0);
    sys(SYS_umask, plan->umask, 0, 0, 0, 0);
}

// The kernel resolves the path inside the root; what this catches is a directory that lies outside
// of it all the same, such as /proc/self/fd/7 of a leaked descriptor (CVE-2024-21626).
static void enter_cwd(const struct stage *stage) {
    char where[PATH_BYTES];
    long result = sys(SYS_chdir, (long)stage->cwd, 0, 0, 0, 0);
    if (result < 0)
        fail(stage, "RuntimeFailed", result, "chdir to cwd ", stage->cwd);
    result = sys(SYS_getcwd, (long)where, sizeof where, 0, 0, 0);
    if (result < 0 || where[0] != '/')
        fail(stage, "Denied", -ENOENT, "change to a working directory outside of the container: ", stage->cwd);
}

// 0 when the path is a file that this user may execute, else a negative errno.
static long executable(const struct stage *stage, const char *path) {
    struct stat status;
#ifdef SYS_newfstatat
    long result = sys(SYS_newfstatat, AT_FDCWD, (long)path, (long)&status, 0, 0);
#else
    long result = sys(SYS_fstatat, AT_FDCWD, (long)path, (long)&status, 0, 0);
#endif
    if (result < 0)
        return result;
    if (S_ISDIR(status.st_mode))
        return -EISDIR;
    result = sys(SYS_faccessat, AT_FDCWD, (long)path, 1 /* X_OK */, 0, 0);
    // access(2) asks for a user without capabilities. This process has them all, the command this one if it is ambient.
    if (result == -EACCES && stage->plan->ambient & stage->plan->inheritable & 1U << CAP_DAC_OVERRIDE)
        result = sys(SYS_faccessat2, AT_FDCWD, (long)path, 1 /* X_OK */, AT_EACCESS, 0);
    return result;
}

static const char *search_path(const struct stage *stage) {
    for (char **env = stage->envp; *env; env++)
        if (begins(*env, "PATH="))
            return *env + length("PATH=");
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

static void found(struct stage *stage, const char *directory, size_t directory_length, const char *name) {
    char *const end = stage->command + sizeof stage->command - 1;
    char *at = stage->command;
    for (size_t i = 0; i < directory_length && at < end; i++)
        *at++ = directory[i];
    if (directory_length)
        at = append(at, end, "/");
    at = append(at, end, name);
    *at = 0;
}

static void find_command(struct stage *stage) {
    const char *name = stage->argv[0];
    long refusal = -ENOENT;
    int has_slash = 0;
    if (!name)
        return; // a bundle without a process: `start` refuses it, and nobody says START
    for (const char *c = name; *c; c++)
        has_slash |= *c == '/';
    if (!*name || length(name) >= PATH_BYTES)
        fail(stage, "CommandNotFound", *name ? -ENAMETOOLONG : -ENOENT, "find the command ", name);
    if (has_slash) {
        found(stage, "", 0, name);
        refusal = executable(stage, name);
        if (!refusal)
            return;
    }
    for (const char *at = search_path(stage); !has_slash;) {
        const char *end = at;
        while (*end && *end != ':')
            end++;
        if ((size_t)(end - at) + length(name) + 2 < PATH_BYTES) {
            found(stage, at == end ? "." : at, at == end ? 1 : (size_t)(end - at), name);
            long result = executable(stage, stage->command);
            if (!result)
                return;
            if (result != -ENOENT && result != -ENOTDIR)
                refusal = result;
        }
        if (!*end)
            break;
        at = end + 1;
    }
    int absent = refusal == -ENOENT || refusal == -ENOTDIR;
    fail(stage, absent ? "CommandNotFound" : "CommandNotExecutable", refusal,
         has_slash ? "find the command " : "find the command in $PATH: ", name);
}

// One byte means go. End of file means that whoever was to say so is gone: then nothing must run.
static void wait_for_start(const struct stage *stage) {
    char byte;
    const int *fds = stage->plan->fds;
    int fd = fds[FD_START] >= 0 ? fds[FD_START] : fds[FD_SYNC];
    // Who creates waits for this, FIFO or not: one that is gone by now was killed, and nobody would know of us.
    check(stage, say(stage, "R", 1), "say that the container is ready");
    long result;
    if (fd == fds[FD_START])
        set_ending_signals(1);
    do
        result = sys(SYS_read, fd, (long)&byte, 1, 0, 0);
    while (result == -EINTR);
    if (fd == fds[FD_START])
        set_ending_signals(0);
    if (result != 1)
        sys(SYS_exit_group, EXIT_FAILED, 0, 0, 0, 0);
}

static int install_filter(const struct stage *stage, uint32_t flags) {
    struct sock_fprog program = {.len = (unsigned short)stage->plan->filters, .filter = (struct sock_filter *)stage->filters};
    long result = sys(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, (long)&program, 0, 0);
    check(stage, result, "load the filter of linux.seccomp");
    return (int)result;
}

static void load_filter(const struct stage *stage) {
    static struct listener listener;
    listener.stage = stage;
    if (!(stage->plan->flags & PLAN_SECCOMP))
        return;
    if (stage->plan->fds[FD_LISTENER] >= 0)
        start_listener(&listener);
    int fd = install_filter(stage, stage->plan->filter_flags);
    if (stage->plan->fds[FD_LISTENER] >= 0)
        await_listener(&listener, fd);
}

static void raise_ambient(const struct stage *stage, uint64_t ambient) {
    (void)sys(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int cap = 0; cap < 64; cap++)
        if (ambient >> cap & 1)
            check(stage, sys(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0), "raise an ambient capability");
}

// What loading a filter takes without no_new_privs.
static uint64_t for_filter(const struct plan *plan) {
    return plan->flags & PLAN_SECCOMP && !(plan->flags & PLAN_NO_NEW_PRIVS) ? 1ULL << CAP_SYS_ADMIN : 0;
}

// Before the wait for START, which may be long: in a pid namespace that is joined, a container with CAP_SYS_PTRACE could take
// over what waits, with all that it has. Nothing of what comes after START needs more than this.
static void shed_capabilities(const struct stage *stage) {
    const struct plan *plan = stage->plan;
    uint64_t held = permitted_now(stage);
    uint64_t kept = held & (plan->permitted | plan->inheritable | plan->ambient | for_filter(plan));
    if (kept != held)
        set_capabilities(stage, kept, kept, 0);
}

// The filter comes last of all, so execve is the only call that a profile must allow. Without
// no_new_privs loading it takes CAP_SYS_ADMIN, which is therefore kept until execve drops it: what
// that call gives depends on the inheritable, ambient and bounding sets and on the user, not on what
// is permitted or effective before it (capabilities(7), "Transformation of capabilities during
// execve"). With no_new_privs, where it may depend on them, nothing is kept.
// What cannot be granted, as the runtime has not got it itself, is left out: the specification wants no error.
static void drop_privileges(const struct stage *stage) {
    const struct plan *plan = stage->plan;
    int locked = plan->flags & PLAN_NO_NEW_PRIVS;
    uint64_t held = permitted_now(stage), permitted = plan->permitted & held, kept = held & for_filter(plan);
    set_capabilities(stage, (plan->effective & permitted) | kept, permitted | kept, plan->inheritable & held);
    raise_ambient(stage, plan->ambient & permitted & plan->inheritable);
    if (locked)
        check(stage, sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs");
    load_filter(stage);
}

// `--init`: the command goes on in a child, process 1 is confined at once and stays in reap.c. It has what
// the command will have after execve: the capabilities of its user, and the filter, for which no_new_privs,
// which means nothing to a program that executes nothing, spares it CAP_SYS_ADMIN.
static void leave_reaper(const struct stage *stage) {
    const struct plan *plan = stage->plan;
    long command = fork_command();
    if (command == 0)
        return;
    check(stage, command, "fork the command of --init");
    label_reaper(stage);
    uint64_t permitted = (plan->uid ? plan->ambient & plan->inheritable : plan->permitted) & permitted_now(stage);
    set_capabilities(stage, plan->effective & permitted, permitted, 0);
    check(stage, sys(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs");
    // Before the filter, which may not allow it: the end of the sync socket must say that the command runs.
    check(stage, sys(SYS_close_range, 0, ~0U, 0, 0, 0), "close descriptors");
    // No listener: calls of this process that its profile wants the agent to be asked about are ENOSYS.
    if (plan->flags & PLAN_SECCOMP)
        (void)install_filter(stage, plan->filter_flags & ~(uint32_t)LISTENER_FLAGS);
    reap_until_end(command);
}

static void become_hook(const struct stage *stage, const char *path, char **argv, char **envp) {
    const int *fds = stage->plan->fds;
    (void)sys(SYS_lseek, fds[FD_HOOK_INPUT], 0, 0 /* SEEK_SET */, 0, 0);
    if (sys(SYS_dup3, fds[FD_HOOK_INPUT], 0, 0, 0, 0) == 0 && sys(SYS_dup3, fds[FD_HOOK_OUTPUT], 1, 0, 0, 0) == 1 &&
        sys(SYS_dup3, fds[FD_HOOK_OUTPUT], 2, 0, 0, 0) == 2 &&
        sys(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC, 0, 0) == 0)
        tell_user(sys(SYS_execve, (long)path, (long)argv, (long)envp, 0, 0), "execute ", path); // among the hook's output
    for (;;)
        sys(SYS_exit_group, EXIT_NOT_FOUND, 0, 0, 0, 0);
}

// 0 when it went on to its end in time, else the negative errno of what stopped the wait; it is reaped then, too.
static long wait_for_hook(long pid, uint32_t timeout_ms, int *status) {
    long late = 0;
    if (timeout_ms) {
        struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
        struct pollfd end = {.fd = (int)sys(SYS_pidfd_open, pid, 0, 0, 0, 0), .events = POLLIN};
        long ready = end.fd < 0 ? end.fd : sys(SYS_ppoll, (long)&end, 1, (long)&timeout, 0, 0);
        late = ready > 0 ? 0 : ready < 0 ? ready : -ETIMEDOUT;
        if (end.fd >= 0)
            (void)sys(SYS_close, end.fd, 0, 0, 0, 0);
        if (late)
            (void)sys(SYS_kill, pid, SIGKILL, 0, 0, 0);
    }
    long result;
    do
        result = sys(SYS_wait4, pid, (long)status, 0, 0, 0);
    while (result == -EINTR);
    return late ? late : result < 0 ? result : 0;
}

static void fail_hook(const struct stage *stage, uint32_t index, const char *path, long error, int status) {
    char text[PATH_BYTES + 64 + OUTPUT_BYTES];
    char *const end = text + sizeof text - OUTPUT_BYTES - 1;
    char *at = append(append(append_number(text, end, index), end, ": "), end, path);
    if (!error) {
        at = append(at, end, status & 0x7f ? ": killed by signal " : ": exit status ");
        at = append_number(at, end, status & 0x7f ? status & 0x7f : status >> 8 & 0xff);
        if (status & 0x7f)
            at = append(append(append(at, end, " ("), end, signal_name(status & 0x7f)), end, ")");
        long fd = stage->plan->fds[FD_HOOK_OUTPUT], size = sys(SYS_lseek, fd, 0, 2 /* SEEK_END */, 0, 0);
        if (size > 0) {
            at = append(at, end, ", output: ");
            long got = sys(SYS_pread64, fd, (long)at, OUTPUT_BYTES, size > OUTPUT_BYTES ? size - OUTPUT_BYTES : 0, 0);
            at += got > 0 ? got : 0;
        }
    }
    int is_late = error == -ETIMEDOUT; // of which its own words would be "connection timed out"
    at = append(at, end, is_late ? ": killed, as it ran past its timeout" : "");
    *at = 0;
    fail(stage, is_late ? "Timeout" : "RuntimeFailed", is_late ? 0 : error, "error running startContainer hook #", text);
}

// Inside, with no more rights than the command has: a hook is the image's own program here.
static void run_start_hooks(const struct stage *stage) {
    char *text = stage->hook_strings;
    for (uint32_t i = 0; i < stage->plan->hooks; i++) {
        const struct hook *hook = &stage->hooks[i];
        char *path = text, **argv = new_vector(hook->args), **envp = new_vector(hook->envs);
        int status = 0;
        text = point_at(argv, hook->args, text + length(path) + 1);
        text = point_at(envp, hook->envs, text);
        long pid = sys(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
            become_hook(stage, path, argv, envp);
        check(stage, pid, "fork for a startContainer hook");
        long error = wait_for_hook(pid, hook->timeout_ms, &status);
        if (error || status)
            fail_hook(stage, i, path, error, status);
    }
}

static void run_command(const struct stage *stage) {
    long result = sys(SYS_execve, (long)stage->command, (long)stage->argv, (long)stage->envp, 0, 0);
    if (result == -ENOENT)
        fail(stage, "CommandNotFound", result, "execute (its interpreter is missing) ", stage->command);
    fail(stage, "CommandNotExecutable", result, "execute ", stage->command);
}

static int number(const char *text) {
    int value = 0;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (*text++ - '0');
    return value;
}

// Another runtime has done all the rest. There is no sync socket: the exit code tells what went wrong.
static void run_only_reaper(char **argv) {
    const struct plan plan = {.fds = {-1, -1, -1, -1, -1, -1}};
    struct stage stage = {.plan = &plan, .argv = argv + 2, .envp = argv};
    while (*stage.envp++)
        continue;
    find_command(&stage);
    long command = fork_command();
    check(&stage, command, "fork the command of --init");
    if (command)
        reap_until_end(command);
    run_command(&stage);
}

static int last_stage(int argc, char **argv) {
    struct stage stage = {0};
    if (argc >= 4 && begins(argv[1], "--procfs"))
        run_procfs(number(argv[2]), number(argv[3]), argv + 4);
    if (argc > 2 && argv[1][0] == '-' && argv[1][1] == '-')
        run_only_reaper(argv);
    if (argc != 2)
        return EXIT_FAILED;
    read_plan(&stage, number(argv[1]));
    close_other_descriptors(&stage);
    enter_pid_namespace(&stage);
    reset_signals(&stage);
    if (!(stage.plan->flags & PLAN_OLD_KEYRING))
        join_keyring(&stage);
    set_limits(&stage);
    take_all_cpus(&stage);
    set_priorities(&stage);
    become_user(&stage);
    enter_cwd(&stage);
    find_command(&stage);
    label_command(&stage);
    shed_capabilities(&stage);
    wait_for_start(&stage);
    if (stage.plan->flags & PLAN_REAPER)
        leave_reaper(&stage);
    drop_privileges(&stage);
    run_start_hooks(&stage);
    run_command(&stage);
    return EXIT_FAILED;
}

ENTER_AT(last_stage)
