// listener.h - hands the notification descriptor of a seccomp filter to its agent (linux.seccomp.listenerPath).
//
// The descriptor comes with loading the filter, and every call that follows may be one that the filter notifies
// the agent of, which has not got it yet. So a thread of ours sends it, made before: a filter counts for the
// thread that loads it only. execve, which comes next, ends the thread.
//
// Source: seccomp_unotify(2), runtime-spec config-linux.md "containerProcessState".
#ifndef MYDOCKER_LISTENER_H
#define MYDOCKER_LISTENER_H

enum { LISTENER_NONE = -1, LISTENER_PENDING = 1, STACK_BYTES = 16384, POLL_NS = 50000 };
enum { LISTENER_FLAGS = SECCOMP_FILTER_FLAG_NEW_LISTENER | 1 << 5 /* WAIT_KILLABLE_RECV, Linux 5.19 */ };

struct listener {
    const struct stage *stage;
    volatile int fd;
    volatile long result;
};

static long send_with_descriptor(int to, struct iovec *part, int fd) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {
        .msg_iov = part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    *(int *)CMSG_DATA(&control.header) = fd;
    long sent = sys(SYS_sendmsg, to, (long)&message, MSG_NOSIGNAL, 0, 0);
    return sent < 0 ? sent : 0;
}

static long send_listener(const struct stage *stage, int fd) {
    struct iovec part = {(void *)stage->listener_state, length(stage->listener_state)};
    return send_with_descriptor(stage->plan->fds[FD_LISTENER], &part, fd);
}

static void serve_listener(void *argument) {
    struct listener *listener = argument;
    const struct timespec pause = {.tv_nsec = POLL_NS};
    while (listener->fd == LISTENER_NONE)
        (void)sys(SYS_nanosleep, (long)&pause, 0, 0, 0, 0);
    long result = send_listener(listener->stage, listener->fd);
    // Told from here: the loading thread may have a filter by now that keeps it from writing.
    check(listener->stage, result, "linux.seccomp.listenerPath: send the notification descriptor");
    listener->result = result;
    for (;;)
        sys(SYS_exit, 0, 0, 0, 0, 0);
}

static void start_listener(struct listener *listener) {
    static _Alignas(16) char stack[STACK_BYTES];
    listener->fd = LISTENER_NONE;
    listener->result = LISTENER_PENDING;
    long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_THREAD;
    check(listener->stage, sys_thread(flags, stack + STACK_BYTES, serve_listener, listener),
          "start a thread that sends the notification descriptor");
}

// No system call: the filter is in force.
static void await_listener(struct listener *listener, int fd) {
    listener->fd = fd;
    while (listener->result == LISTENER_PENDING)
        relax();
}

#endif
