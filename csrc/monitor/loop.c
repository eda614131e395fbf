// loop.c - the epoll loop, the container's phases, and the death of children.
//
//     MAKING --READY--> CREATED --START--> STARTING --end of sync--> RUNNING --wait4--> DEAD --drained--> ANNOUNCED
//        `----------------`------------------`---------- wait4 ------------------------^
//
// The monitor is there from the moment that the init was cloned (--making): what the init does to become
// the container, and what it takes to execute a monitor, go on at the same time.
//
// The last stage's end of the sync socket is close-on-exec, so its end says that the user's command
// runs; a report of failure comes before it.

#include "monitor.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EVENTS_PER_ROUND = 16, QUIET_MS = 1000, QUIET_NS = QUIET_MS * 1000000 };

// Changes what is waited for; 0 takes the descriptor out, because epoll reports EPOLLHUP and
// EPOLLERR even to those who asked for nothing.
bool watch(struct monitor *m, struct source *source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (source->fd < 0 || source->events == events)
        return true;
    int operation = events == 0 ? EPOLL_CTL_DEL : source->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(m->epoll_fd, operation, source->fd, &event) < 0) {
        complain(m, "change epoll set");
        return false;
    }
    source->events = events;
    return true;
}

void unwatch_and_close(struct monitor *m, struct source *source) {
    if (source->fd < 0)
        return;
    (void)watch(m, source, 0);
    if (close(source->fd) < 0)
        complain(m, "close descriptor");
    source->fd = -1;
    source->events = 0;
}

// Commands that change this container may go on.
static void release_lock(struct monitor *m) {
    if (m->lock_fd >= 0 && close(m->lock_fd) < 0)
        complain(m, "release lock");
    m->lock_fd = -1;
}

// The container is whole: whatever kills us from here on, it is not garbage any more.
static void end_journal(struct monitor *m) {
    if (m->journal_fd < 0)
        return;
    // Somebody may have undone this container already; then its last stage will soon be gone, too.
    if (unlinkat(m->journal_fd, m->id, 0) < 0 && errno != ENOENT)
        complain(m, "end the journal entry");
    (void)close(m->journal_fd);
    m->journal_fd = -1;
}

static void container_is_ready(struct monitor *m) {
    m->phase = PHASE_CREATED;
    end_journal(m);
    clients_hear_ready(m);
    if (m->start_at_once)
        loop_start_container(m);
    else
        release_lock(m);
}

void loop_start_when_ready(struct monitor *m) {
    m->start_at_once = true;
    if (m->phase == PHASE_CREATED)
        loop_start_container(m);
}

void loop_start_container(struct monitor *m) {
    // When the last stage is gone this fails, and its death is reported as one before the start.
    if (m->sync.fd >= 0 && send(m->sync.fd, "S", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        m->phase = PHASE_STARTING;
}

// Init is the first process of its pid namespace: all others die with it.
void loop_kill_container(struct monitor *m) {
    if (m->phase < PHASE_DEAD && syscall(SYS_pidfd_send_signal, m->pidfd.fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
        complain(m, "kill init");
}

// The other end is closed; a reset says that the last stage died without having read START.
static void end_sync(struct monitor *m, bool is_reset) {
    unwatch_and_close(m, &m->sync);
    if (m->phase != PHASE_STARTING || m->failed || is_reset)
        return;
    m->phase = PHASE_RUNNING;
    record_started(m);
    release_lock(m);
    clients_owe(m, OWES_STARTED);
}

// One message, and the descriptor that came with it or -1.
static ssize_t receive_from_init(struct source *source, char *message, size_t size, int *fd) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {message, size};
    struct msghdr wanted = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    *fd = -1;
    ssize_t got = recvmsg(source->fd, &wanted, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&wanted) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(header), sizeof *fd);
    return got;
}

static void handle_sync(struct monitor *m, struct source *source) {
    char message[1 + FAILURE_BYTES];
    int fd;
    while (source->fd >= 0) {
        ssize_t got = receive_from_init(source, message, sizeof message, &fd);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            end_sync(m, got < 0);
        } else if (message[0] == 'C' && fd >= 0 && m->phase == PHASE_MAKING && !m->input.is_terminal) {
            terminal_setup(m, fd);
            fd = -1;
        } else if (message[0] == 'R' && m->phase == PHASE_MAKING) {
            container_is_ready(m);
        } else if (message[0] == 'F' && !m->failed) {
            m->failed = true;
            // Longer reports are cut; the last byte stays NUL for record_failure.
            m->failure_length = (uint32_t)got - 1 < FAILURE_BYTES ? (uint32_t)got - 1 : FAILURE_BYTES - 1;
            memcpy(m->failure, message + 1, m->failure_length);
        }
        if (fd >= 0)
            (void)close(fd);  // nobody asked for it
    }
}

static void init_exited(struct monitor *m, int status, const struct rusage *usage) {
    // Its last word may still be in the socket. If somebody else holds the other end, do not wait.
    handle_sync(m, &m->sync);
    if (m->sync.fd >= 0)
        end_sync(m, false);
    m->finished_ns = clock_ns();
    m->status = status;
    m->usage = *usage;
    m->phase = PHASE_DEAD;
    unwatch_and_close(m, &m->pidfd);
    input_close(m);
}

// Reaps every child that is dead: init, and orphans that a subreaper is given.
static void reap(struct monitor *m) {
    struct rusage usage;
    int status;
    for (;;) {
        pid_t pid = wait4(-1, &status, WNOHANG | __WALL, &usage);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return;
        if ((uint64_t)pid == m->pid && m->phase < PHASE_DEAD)
            init_exited(m, status, &usage);
    }
}

static void handle_signals(struct monitor *m, struct source *source) {
    struct signalfd_siginfo info;
    // SIGCHLD is not counted by the kernel; reap() looks for itself.
    while (read(source->fd, &info, sizeof info) > 0)
        continue;
    reap(m);
}

// Also wakes us for an init that was cloned without SIGCHLD.
static void handle_pidfd(struct monitor *m, struct source *source) {
    static const struct rusage unknown;
    struct rusage usage;
    int status;
    (void)source;
    reap(m);
    if (m->phase >= PHASE_DEAD)
        return;
    pid_t pid = wait4((pid_t)m->pid, &status, WNOHANG | __WALL, &usage);
    if (pid > 0) {
        init_exited(m, status, &usage);
    } else if (pid < 0) {
        complain(m, "wait for init");  // not our child: its status is lost
        init_exited(m, 255 << 8, &unknown);
    }
    // Else it is dead, and a tracer (strace, gdb) has the first look. The pidfd, which is edge-triggered, and SIGCHLD
    // wake us again when the tracer has reaped it or let it go.
}

static void watch_signals(struct monitor *m) {
    const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ};
    for (size_t index = 0; index < sizeof ignored / sizeof *ignored; index++)
        if (signal(ignored[index], SIG_IGN) == SIG_ERR)
            complain(m, "ignore signal");
    // If this was inherited as ignored, the kernel would reap for us and the status be lost.
    if (signal(SIGCHLD, SIG_DFL) == SIG_ERR)
        complain(m, "reset SIGCHLD");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        complain(m, "block SIGCHLD");
    m->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    m->signals.handle = handle_signals;
    if (m->signals.fd < 0 || !watch(m, &m->signals, EPOLLIN)) {
        complain(m, "watch SIGCHLD");
        _exit(125);
    }
}

void loop_setup(struct monitor *m) {
    watch_signals(m);
    m->start_time = read_start_time(m->pid);
    m->pidfd.handle = handle_pidfd;
    m->sync.handle = handle_sync;
    m->listener.handle = clients_accept;
    if (m->listener.fd >= 0)
        set_nonblocking(m, m->listener.fd);
    if (!watch(m, &m->pidfd, EPOLLIN | EPOLLET) || !watch(m, &m->sync, EPOLLIN) || !watch(m, &m->listener, EPOLLIN))
        _exit(125);
    if (m->phase == PHASE_CREATED)
        container_is_ready(m);
    reap(m);  // init may have died before SIGCHLD was blocked
}

// Before anybody hears of the end: who starts the container again needs the same ports.
static void release_held(struct monitor *m) {
    if (m->held_fd >= 0 && syscall(SYS_close_range, (unsigned)m->held_fd, ~0U, 0U) < 0)
        complain(m, "close held descriptors");
    m->held_fd = -1;
}

// Brings a dead container to its end, as far as clients let us.
static bool finish(struct monitor *m) {
    if (m->phase == PHASE_DEAD) {
        release_held(m);
        bool is_drained = streams_drain(m);
        // A client that holds the output up must not hide the exit from everybody else. What the log
        // loses after that belongs into the record, too.
        if (!m->exit_saved || m->recorded_dropped_bytes != m->log.dropped_bytes) {
            record_exit(m);
            save_exit(m);
        }
        release_lock(m);
        if (is_drained)
            m->phase = PHASE_ANNOUNCED;
        clients_hear_end(m, is_drained);
        if (!is_drained)
            return false;
    }
    return clients_are_done(m);
}

// Clients were not let in for want of descriptors: try again, now and then, however busy the container keeps us.
static void listen_again(struct monitor *m, bool is_quiet) {
    if (m->listener.events == 0 && (is_quiet || clock_ns() - m->deaf_since_ns >= QUIET_NS))
        (void)watch(m, &m->listener, EPOLLIN);
}

void loop_run(struct monitor *m) {
    struct epoll_event events[EVENTS_PER_ROUND];
    while (m->phase < PHASE_DEAD || !finish(m)) {
        int count = epoll_wait(m->epoll_fd, events, EVENTS_PER_ROUND, m->touched ? QUIET_MS : -1);
        if (count < 0 && errno != EINTR) {
            complain(m, "wait for events");
            _exit(125);
        }
        if (count == 0)
            streams_release_memory(m);
        listen_again(m, count == 0);
        for (int index = 0; index < count; index++) {
            struct source *source = events[index].data.ptr;
            if (source->fd >= 0)  // an earlier event of this round may have closed it
                source->handle(m, source);
        }
    }
    save_exit(m);  // once more, if the disk was full
}
