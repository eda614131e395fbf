// reap.c - the small process 1 of `run --init`: it passes signals on and reaps.
//
// The command becomes its child, in a process group of its own, in front of the terminal if there is one. A
// signal that this process gets goes to the command; a child that ends, the command or what it left behind, is
// reaped; with the command it ends, too, with the same code (128 + signal), and the kernel ends whatever is left
// of the pid namespace.
//
// All signals are blocked and fetched by rt_sigtimedwait, so there is no handler and no race. Model:
// docker-init (tini), catatonit.

#include "reap.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <linux/prctl.h>
#include <linux/wait.h>
#include <signal.h>

#include "sys.h"

enum { ALL_BYTES = 8, SIGSET_BLOCK = 2 /* SIG_SETMASK */ };

// Signals that the kernel raises for what this process itself does wrong: blocked they would be lost, or loop.
static const uint64_t own = 1ULL << (SIGFPE - 1) | 1ULL << (SIGILL - 1) | 1ULL << (SIGSEGV - 1) |
                            1ULL << (SIGBUS - 1) | 1ULL << (SIGABRT - 1) | 1ULL << (SIGTRAP - 1) | 1ULL << (SIGSYS - 1);

static void set_mask(uint64_t mask) { (void)sys(SYS_rt_sigprocmask, SIGSET_BLOCK, (long)&mask, 0, ALL_BYTES, 0); }

// In the child: a group of its own, in front of the terminal. tcsetpgrp from the background raises SIGTTOU, which
// is blocked here; without a terminal it says ENOTTY, and nothing is to be done.
static void step_forward(void) {
    int group = (int)sys(SYS_getpid, 0, 0, 0, 0, 0);
    (void)sys(SYS_setpgid, 0, 0, 0, 0, 0);
    (void)sys(SYS_ioctl, 0, TIOCSPGRP, (long)&group, 0, 0);
    set_mask(0);
}

// Reaps all that ended; the code of the command if it is among them, else -1.
static int reap(long command) {
    int code = -1;
    for (;;) {
        int status = 0;
        long pid = sys(SYS_wait4, -1, (long)&status, WNOHANG, 0, 0);
        if (pid == -EINTR)
            continue;
        if (pid <= 0)
            return code;
        if (pid == command)
            code = status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
    }
}

long fork_command(void) {
    set_mask(~own);
    long command = sys(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (command == 0)
        step_forward();
    return command;
}

void reap_until_end(long command) {
    // The end of a pipe says that nobody writes any more: only the command's descriptors may count for that.
    (void)sys(SYS_close_range, 0, ~0U, 0, 0, 0);
    // The pid namespace may be shared with others: then orphans would go to its process 1, not here.
    (void)sys(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    int code = -1;
    while (code < 0) {
        const uint64_t wanted = ~own;
        long signum = sys(SYS_rt_sigtimedwait, (long)&wanted, 0, 0, ALL_BYTES, 0);
        if (signum == SIGCHLD)
            code = reap(command);
        else if (signum > 0)
            (void)sys(SYS_kill, command, signum, 0, 0, 0);
    }
    for (;;)
        sys(SYS_exit_group, code, 0, 0, 0, 0);
}
