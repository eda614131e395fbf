// procfs.h - makes a procfs of a pid namespace for an init that stays outside of it (runtime/procfs.py).
//
//     mydocker-init --procfs PID_NAMESPACE_FD SOCKET_FD [OPTION...]
//
// The kernel takes the namespace of the process that makes it, so a child is cloned into the namespace. Its processes
// may be allowed to look into it (CAP_SYS_PTRACE), so it has nothing of the host's: the program is a sealed
// memfd, the root an empty tmpfs that is mounted nowhere, the one descriptor a socket. On that goes the mount as
// SCM_RIGHTS, or an errno in decimal.
#ifndef MYDOCKER_PROCFS_H
#define MYDOCKER_PROCFS_H

static void exit_now(int code) {
    for (;;)
        sys(SYS_exit_group, code, 0, 0, 0, 0);
}

static void tell_errno(int socket, long error) {
    char text[24];
    char *end = append_number(text, text + sizeof text, -error);
    (void)sys6(SYS_sendto, socket, (long)text, end - text, MSG_NOSIGNAL, 0, 0); // nobody there: nobody to tell
    exit_now(EXIT_FAILED);
}

static long check_or_tell(int socket, long result) {
    if (result < 0)
        tell_errno(socket, result);
    return result;
}

static long set_option(long context, char *option) {
    char *value = option;
    while (*value && *value != '=')
        value++;
    if (!*value)
        return sys(SYS_fsconfig, context, FSCONFIG_SET_FLAG, (long)option, 0, 0);
    *value++ = 0;
    return sys(SYS_fsconfig, context, FSCONFIG_SET_STRING, (long)option, (long)value, 0);
}

// A detached mount of a new file system.
static long new_mount(int socket, const char *type, char **options) {
    long context = check_or_tell(socket, sys(SYS_fsopen, (long)type, FSOPEN_CLOEXEC, 0, 0, 0));
    for (; *options; options++)
        check_or_tell(socket, set_option(context, *options));
    check_or_tell(socket, sys(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0));
    return check_or_tell(socket, sys(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0, 0, 0));
}

static void leave_host_root(int socket) {
    char *none[] = {NULL};
    long empty = new_mount(socket, "tmpfs", none);
    check_or_tell(socket, sys(SYS_fchdir, empty, 0, 0, 0, 0));
    check_or_tell(socket, sys(SYS_chroot, (long)".", 0, 0, 0, 0));
    check_or_tell(socket, sys(SYS_close_range, 0, socket - 1, 0, 0, 0));
    check_or_tell(socket, sys(SYS_close_range, socket + 1, ~0U, 0, 0, 0));
}

static void send_mount(int socket, long mount) {
    struct iovec part = {"M", 1};
    check_or_tell(socket, send_with_descriptor(socket, &part, (int)mount));
}

__attribute__((noreturn)) static void run_procfs(int namespace, int socket, char **options) {
    check_or_tell(socket, sys(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0));
    check_or_tell(socket, sys(SYS_setns, namespace, CLONE_NEWPID, 0, 0, 0)); // for children only
    leave_host_root(socket);
    long pid = check_or_tell(socket, sys(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (pid == 0)
        send_mount(socket, new_mount(socket, "proc", options));
    else
        (void)sys(SYS_wait4, pid, 0, 0, 0, 0);
    for (;;)
        exit_now(0);
}

#endif
