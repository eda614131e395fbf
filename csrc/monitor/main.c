// main.c - command line, set-up, and what the monitor becomes at the end.
//
// The monitor is started by execve from the process that made the container, in place: it is the
// parent of the container's init, and every descriptor it needs is open already.

#include "monitor.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { MAX_COMPLAINTS = 20 };  // what goes wrong again and again must not fill the disk

static struct monitor the_monitor;

struct option {
    const char *name;
    size_t offset;
};

#define AT(member) offsetof(struct monitor, member)

static const struct option FD_OPTIONS[] = {
    {"--dir", AT(dir_fd)},           {"--pid-fd", AT(pidfd.fd)},
    {"--sync", AT(sync.fd)},         {"--stdin", AT(input.source.fd)},
    {"--lock", AT(lock_fd)},         {"--journal", AT(journal_fd)},
    {"--listen", AT(listener.fd)},   {"--held", AT(held_fd)},
    {"--cgroup-cpu", AT(cpu_fd)},    {"--cgroup-memory-peak", AT(memory_peak_fd)},
    {"--cgroup-oom", AT(oom_fd)},    {"--stdout", AT(streams[0].source.fd)},
    {"--tty", AT(streams[0].source.fd)}, {"--stderr", AT(streams[1].source.fd)},
};

static const struct option NUMBER_OPTIONS[] = {
    {"--pid", AT(pid)},
    {"--client-flags", AT(client_flags)},
    {"--log-max-size", AT(log.max_bytes)},
    {"--log-max-files", AT(log.max_files)},
};

static const struct option TEXT_OPTIONS[] = {
    {"--id", AT(id)},
    {"--log", AT(log.name)},
    {"--peak-reset", AT(peak_reset)},
};

#define FIND(table, name) find((table), sizeof(table) / sizeof *(table), (name))

// Writes a line to standard error, and once that is /dev/null to the file `monitor.error`: a
// monitor has no one to talk to, and what went wrong must be found afterwards.
void complain_at(struct monitor *m, const char *file, int line, const char *what) {
    char data[256];
    struct text text = {data, sizeof data, 0};
    uint64_t number = (uint64_t)errno;
    if (m->complaints >= MAX_COMPLAINTS)
        return;
    m->complaints++;
    text_string(&text, file);
    text_bytes(&text, ":", 1);
    text_number(&text, (uint64_t)line);
    text_bytes(&text, ": ", 2);
    text_string(&text, what);
    text_string(&text, ": errno ");
    text_number(&text, number);
    text_bytes(&text, "\n", 1);
    if (m->error_fd < 0)
        m->error_fd = openat(m->dir_fd, "monitor.error", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (m->error_fd >= 0)
        (void)!write(m->error_fd, data, text.length);
}

uint64_t clock_ns(void) {
    struct timespec now;
    // It cannot fail for this clock and a valid pointer (clock_gettime(2)).
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static _Noreturn void refuse_argument(struct monitor *m, const char *argument) {
    errno = EINVAL;
    complain(m, argument);
    _exit(125);
}

static const struct option *find(const struct option *options, size_t count, const char *name) {
    for (size_t index = 0; index < count; index++)
        if (strcmp(options[index].name, name) == 0)
            return &options[index];
    return NULL;
}

static uint64_t number_of(struct monitor *m, const char *name, const char *value, uint64_t limit) {
    uint64_t number;
    const char *end = parse_number(value, &number);
    if (end == NULL || *end != '\0' || number > limit)
        refuse_argument(m, name);
    return number;
}

static void add_client_descriptor(struct monitor *m, int fd) {
    for (int index = 0; index < MAX_CLIENTS; index++) {
        if (m->clients[index].source.fd < 0) {
            m->clients[index].source.fd = fd;
            return;
        }
    }
    refuse_argument(m, "--client");
}

static void take_value(struct monitor *m, const char *name, char *value) {
    const struct option *option;
    if ((option = FIND(FD_OPTIONS, name)) != NULL) {
        *(int *)((char *)m + option->offset) = (int)number_of(m, name, value, INT32_MAX);
        m->input.is_terminal |= strcmp(name, "--tty") == 0;
    } else if ((option = FIND(NUMBER_OPTIONS, name)) != NULL) {
        *(uint64_t *)((char *)m + option->offset) = number_of(m, name, value, INT64_MAX);
    } else if ((option = FIND(TEXT_OPTIONS, name)) != NULL) {
        *(const char **)((char *)m + option->offset) = value;
    } else if (strcmp(name, "--client") == 0) {
        add_client_descriptor(m, (int)number_of(m, name, value, INT32_MAX));
    } else {
        refuse_argument(m, name);
    }
}

static void parse_arguments(struct monitor *m, char **argv) {
    for (argv++; *argv != NULL; argv++) {
        if (strcmp(*argv, "--") == 0) {
            m->cleanup_argv = argv[1] == NULL ? NULL : argv + 1;
            break;
        }
        if (strcmp(*argv, "--start") == 0) {
            m->start_at_once = true;
        } else if (strcmp(*argv, "--making") == 0) {
            m->is_making = true;
        } else if (argv[1] == NULL) {
            refuse_argument(m, *argv);
        } else {
            take_value(m, argv[0], argv[1]);
            argv++;
        }
    }
    // The name of the log gets ".N" appended in a buffer of 256; kill(2) takes positive pids.
    if (m->dir_fd < 0 || m->pid == 0 || m->pid > INT32_MAX || m->client_flags > ALL_FLAGS)
        refuse_argument(m, "--dir, --pid, --client-flags");
    if (m->log.name != NULL && (strlen(m->log.name) > 200 || strchr(m->log.name, '/') != NULL))
        refuse_argument(m, "--log");
    if (m->log.max_files == 0)
        m->log.max_files = 1;
}

static void set_defaults(struct monitor *m) {
    m->dir_fd = m->lock_fd = m->journal_fd = m->cpu_fd = m->memory_peak_fd = m->oom_fd = m->epoll_fd = -1;
    m->held_fd = -1;
    m->signals.fd = m->pidfd.fd = m->sync.fd = m->listener.fd = m->input.source.fd = m->log.fd = -1;
    m->error_fd = STDERR_FILENO;
    for (int index = 0; index < MAX_CLIENTS; index++)
        m->clients[index].source.fd = -1;
    for (int index = 0; index < 2; index++) {
        struct stream *s = &m->streams[index];
        s->source.fd = -1;
        s->tag = index == 0 ? 'O' : 'R';
        s->flag = index == 0 ? WANTS_STDOUT : WANTS_STDERR;
        memcpy(s->name, index == 0 ? "stdout" : "stderr", sizeof s->name);
    }
}

static void use_null_stdio(struct monitor *m) {
    // Whoever reads our standard output, `id=$(mydocker run -d ...)`, must see its end.
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        complain(m, "open /dev/null");
        return;
    }
    for (int number = 0; number <= STDERR_FILENO; number++)
        if (number != fd && dup2(fd, number) < 0)
            complain(m, "redirect standard streams");
    if (fd > STDERR_FILENO)
        (void)close(fd);
    m->error_fd = -1;
}

static void write_oom_score(struct monitor *m, int64_t score) {
    char data[24];
    struct text text = {data, sizeof data, 0};
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (score < 0)
        text_bytes(&text, "-", 1);
    text_number(&text, (uint64_t)(score < 0 ? -score : score));
    m->oom_score_set = write(fd, data, text.length) == (ssize_t)text.length;
    (void)close(fd);
}

// Keeps the out-of-memory killer away: a container without its monitor loses its exit code. The
// container's init is already running and has its own value. Not allowed to all users.
static void avoid_oom_killer(struct monitor *m) {
    char data[24] = "";
    uint64_t score;
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = read(fd, data, sizeof data - 1);
    (void)close(fd);
    if (got <= 0 || parse_number(data + (data[0] == '-'), &score) == NULL)
        return;
    m->oom_score = data[0] == '-' ? -(int64_t)score : (int64_t)score;
    write_oom_score(m, -1000);
}

static void setup(struct monitor *m) {
    use_null_stdio(m);
    m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (m->epoll_fd < 0) {
        complain(m, "create epoll set");
        _exit(125);
    }
    avoid_oom_killer(m);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        complain(m, "become subreaper");
    m->phase = m->is_making ? PHASE_MAKING : PHASE_CREATED;
    log_setup(m);
    if (m->input.is_terminal)
        terminal_setup(m, m->streams[0].source.fd);
    else
        input_setup(m);
    // Clients before streams: they get the container's first byte.
    for (int index = 0; index < MAX_CLIENTS && m->clients[index].source.fd >= 0; index++) {
        int fd = m->clients[index].source.fd;
        m->clients[index].source.fd = -1;
        client_add(m, fd, index == 0 ? (uint8_t)m->client_flags : 0);
    }
    if (!m->input.is_terminal)
        stream_setup(m, &m->streams[0]);
    stream_setup(m, &m->streams[1]);
    loop_setup(m);
}

// Ends, or becomes the clean-up command: same pid, nothing of ours left in it.
static _Noreturn void finish(struct monitor *m) {
    const int changed[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ};
    sigset_t none;
    if (m->cleaned || m->cleanup_argv == NULL)
        _exit(0);
    // It may start the container again, whose processes must not inherit these.
    if (m->oom_score_set)
        write_oom_score(m, m->oom_score);
    for (size_t index = 0; index < sizeof changed / sizeof *changed; index++)
        (void)signal(changed[index], SIG_DFL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    // Marked, not closed, so that a failing execve can still be reported; before Linux 5.11 closed.
    if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0 && syscall(SYS_close_range, 3U, ~0U, 0U) < 0)
        complain(m, "close descriptors");
    execve(m->cleanup_argv[0], m->cleanup_argv, environ);
    complain(m, "execute clean-up command");
    _exit(127);
}

int main(int argc, char **argv) {
    struct monitor *m = &the_monitor;
    (void)argc;
    set_defaults(m);
    parse_arguments(m, argv);
    setup(m);
    loop_run(m);
    finish(m);
}
