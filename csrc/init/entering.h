// entering.h - the last step of `exec` into the pid namespace of a container.
//
// Whoever is in a pid namespace can be seen by everybody in it, and opened by a process that may trace: its
// root, its program, its descriptors (/proc/PID/root, exe, fd). So the engine's own process, an interpreter with
// the host's root at first, never is: it joins everything else and executes this program, which clones the process
// that will be the command. What the container's processes see of an exec is a sealed memfd inside their own root.
//
// The clone is a child of our parent, who learns of it by CLONED on FD_ENTERED: `P`, its pid in decimal, and its pidfd.
#ifndef MYDOCKER_ENTERING_H
#define MYDOCKER_ENTERING_H

static long report_entered(const struct stage *stage, long pid, int pidfd) {
    char text[24] = "P";
    struct iovec part = {text, (size_t)(append_number(text + 1, text + sizeof text, pid) - text)};
    return send_with_descriptor(stage->plan->fds[FD_ENTERED], &part, pidfd);
}

static void enter_pid_namespace(const struct stage *stage) {
    int pidfd = -1;
    if (stage->plan->fds[FD_ENTERED] < 0)
        return;
    long pid = sys(SYS_clone, CLONE_PARENT | CLONE_PIDFD, 0, (long)&pidfd, 0, 0);
    check(stage, pid, "clone into the container's pid namespace");
    if (pid > 0) {
        if (report_entered(stage, pid, pidfd) < 0)
            (void)sys(SYS_kill, pid, SIGKILL, 0, 0, 0); // who was to know of it has gone
        for (;;)
            sys(SYS_exit_group, 0, 0, 0, 0, 0);
    }
    check(stage, sys(SYS_close, stage->plan->fds[FD_ENTERED], 0, 0, 0, 0), "close the report's socket");
    check(stage, sys(SYS_setsid, 0, 0, 0, 0, 0), "lead a session");
    if (stage->plan->flags & PLAN_TERMINAL)
        check(stage, sys(SYS_ioctl, 0, TIOCSCTTY, 0, 0, 0), "take the terminal");
}

#endif
