// signals.h - the last stage's part with signals: their names, and those that end it while it waits for START.
//
// The names are those of strsignal(3) in lower case, as Go has them and so runc and its callers.
#ifndef MYDOCKER_SIGNALS_H
#define MYDOCKER_SIGNALS_H

// By number, from 1, on x86-64 and arm64; "" ends them.
static const char signal_names[] =
    "hangup\0interrupt\0quit\0illegal instruction\0trace/breakpoint trap\0aborted\0bus error\0floating point exception\0"
    "killed\0user defined signal 1\0segmentation fault\0user defined signal 2\0broken pipe\0alarm clock\0terminated\0"
    "stack fault\0child exited\0continued\0stopped (signal)\0stopped\0stopped (tty input)\0stopped (tty output)\0"
    "urgent i/o condition\0cpu time limit exceeded\0file size limit exceeded\0virtual timer expired\0"
    "profiling timer expired\0window changed\0i/o possible\0power failure\0bad system call\0";

// "" for a real-time signal.
static const char *signal_name(int signum) {
    const char *at = signal_names;
    while (--signum > 0 && *at)
        at += length(at) + 1;
    return at;
}

enum { WITH_RESTORER = 0x04000000 }; // SA_RESTORER, which only the kernel's own headers have

struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static void end_by_signal(int signum) {
    for (;;)
        sys(SYS_exit_group, 128 + signum, 0, 0, 0, 0);
}

// A process 1 gets no signal that it has no handler for, from nobody; but a container that is `created` is to end by `kill`
// like any other (runtime-spec runtime.md "Kill"), as does runc's, by the handlers of Go. Without `catches` they go again.
static void set_ending_signals(int catches) {
    static const int ending[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    // x86-64 takes no handler without a restorer; the handler does not return, so it is none.
    const struct kernel_sigaction action = {
        .handler = catches ? end_by_signal : SIG_DFL, .flags = catches ? WITH_RESTORER : 0, .restorer = NULL, .mask = 0};
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
        (void)sys(SYS_rt_sigaction, ending[i], (long)&action, 0, 8, 0); // refused: the signal stays what it was
}

#endif
