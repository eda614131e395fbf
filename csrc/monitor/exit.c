// exit.c - what the monitor records: the files `started` and `exit`, and the numbers that go into them.
//
// Files are replaced by rename, so a reader sees all of one or none. No fsync: after a power loss
// the container is gone with the machine, and the engine says so.

#include "monitor.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>  // renameat
#include <sys/wait.h>
#include <unistd.h>

static bool write_all(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, data, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        data += written;
        length -= (size_t)written;
    }
    return true;
}

static bool replace_file(struct monitor *m, const char *name, const char *temporary, const char *data, size_t length) {
    int fd = openat(m->dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        complain(m, "create record");
        return false;
    }
    bool written = write_all(fd, data, length);
    if (close(fd) < 0 || !written || renameat(m->dir_fd, temporary, m->dir_fd, name) < 0) {
        complain(m, "write record");
        return false;
    }
    return true;
}

// Reads a small file of /proc or a cgroup from its start; the text ends in NUL.
static bool read_text(int fd, char *text, size_t size) {
    ssize_t length = fd < 0 ? -1 : pread(fd, text, size - 1, 0);
    if (length < 0)
        return false;
    text[length] = '\0';
    return true;
}

// Finds "key N" at the start of a line; a file of one number has the key "".
static bool find_number(const char *text, const char *key, uint64_t *number) {
    size_t length = strlen(key);
    for (const char *line = text; *line != '\0'; line++) {
        if (length == 0)
            return parse_number(line, number) != NULL;
        if (strncmp(line, key, length) == 0 && line[length] == ' ')
            return parse_number(line + length + 1, number) != NULL;
        line = strchr(line, '\n');
        if (line == NULL)
            break;
    }
    return false;
}

// Returns field 22 of /proc/PID/stat, 0 when there is none. The process may be a zombie, but it is
// our child and not reaped yet, so the pid is its own.
uint64_t read_start_time(uint64_t pid) {
    char path[40], text[1024];
    struct text name = {path, sizeof path - 1, 0};
    uint64_t number = 0;
    text_string(&name, "/proc/");
    text_number(&name, pid);
    text_string(&name, "/stat");
    path[name.length] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool got = read_text(fd, text, sizeof text);
    if (fd >= 0)
        (void)close(fd);  // nothing was written, so nothing can be lost
    // The command name (field 2) may hold spaces and parentheses: count from the last ')'.
    const char *at = got ? strrchr(text, ')') : NULL;
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at, ' ');
        at = at == NULL ? NULL : at + 1;
    }
    return at != NULL && parse_number(at, &number) != NULL ? number : 0;
}

void record_started(struct monitor *m) {
    char data[128];
    struct text text = {data, sizeof data, 0};
    m->started = true;
    m->started_ns = clock_ns();
    text_line(&text, "pid", m->pid);
    text_line(&text, "start_time", m->start_time);
    text_line(&text, "started_ns", m->started_ns);
    // The container runs whether this can be written or not; clients hear of it by STARTED.
    (void)replace_file(m, "started", ".started.tmp", data, text.length);
    // What the set-up used is not the command's peak. Old kernels refuse (memory.peak before 6.12).
    if (m->memory_peak_fd >= 0 && m->peak_reset != NULL)
        (void)!pwrite(m->memory_peak_fd, m->peak_reset, strlen(m->peak_reset), 0);
}

static uint64_t cpu_ns(struct monitor *m) {
    char file[1024];
    uint64_t number;
    if (read_text(m->cpu_fd, file, sizeof file)) {
        if (find_number(file, "usage_usec", &number))  // cgroup v2: cpu.stat
            return number * 1000;
        if (find_number(file, "", &number))  // cgroup v1: cpuacct.usage
            return number;
    }
    uint64_t seconds = (uint64_t)(m->usage.ru_utime.tv_sec + m->usage.ru_stime.tv_sec);
    uint64_t microseconds = (uint64_t)(m->usage.ru_utime.tv_usec + m->usage.ru_stime.tv_usec);
    return (seconds * 1000000 + microseconds) * 1000;
}

static void record_resources(struct monitor *m, struct text *text) {
    char file[1024];
    uint64_t number;
    text_line(text, "cpu_ns", cpu_ns(m));
    if (read_text(m->memory_peak_fd, file, sizeof file) && find_number(file, "", &number))
        text_line(text, "memory_peak_bytes", number);
    if (m->log.dropped_bytes > 0)
        text_line(text, "log_dropped_bytes", m->log.dropped_bytes);
}

// A value of a keyed file is one line, whatever a file name in the message may hold.
static void record_word(struct text *text, const char *key, const char *value) {
    text_string(text, key);
    text_bytes(text, " ", 1);
    for (; *value != '\0'; value++)
        text_bytes(text, (unsigned char)*value < ' ' ? " " : value, 1);
    text_bytes(text, "\n", 1);
}

// The report is "<kind>\0<errno>\0<message>"; failure[] always ends in NUL. What is missing is empty.
static void record_failure(struct monitor *m, struct text *text) {
    const char *keys[] = {"error_kind", "error_errno", "error_message"};
    uint32_t at = 0;
    for (int field = 0; field < 3; field++) {
        const char *value = at < m->failure_length ? m->failure + at : "";
        record_word(text, keys[field], value);
        at += (uint32_t)strlen(value) + 1;
    }
}

// Puts the exit record together; `save_exit` writes it, the EXITED message carries it.
void record_exit(struct monitor *m) {
    struct text text = {m->exit_text, sizeof m->exit_text, 0};
    int signal = WIFSIGNALED(m->status) ? WTERMSIG(m->status) : 0;
    char file[1024];
    uint64_t oom_kills = 0;
    if (!read_text(m->oom_fd, file, sizeof file) || !find_number(file, "oom_kill", &oom_kills))
        oom_kills = 0;
    text_line(&text, "exit_code", (uint64_t)(signal != 0 ? 128 + signal : WEXITSTATUS(m->status)));
    text_line(&text, "signal", (uint64_t)signal);
    text_line(&text, "oom_killed", oom_kills > 0);
    text_line(&text, "core", signal != 0 && WCOREDUMP(m->status));
    if (m->started)
        text_line(&text, "started_ns", m->started_ns);
    text_line(&text, "finished_ns", m->finished_ns);
    record_resources(m, &text);
    if (m->failed)
        record_failure(m, &text);
    m->exit_length = text.length;
    m->recorded_dropped_bytes = m->log.dropped_bytes;
    m->exit_saved = false;
}

// On a full disk there is no room for a new file, but `started` has its room, and has served: it becomes the record.
static bool reuse_started(struct monitor *m) {
    int fd = openat(m->dir_fd, "started", O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool written = write_all(fd, m->exit_text, m->exit_length) && ftruncate(fd, (off_t)m->exit_length) == 0;
    return close(fd) == 0 && written && renameat(m->dir_fd, "started", m->dir_fd, "exit") == 0;
}

void save_exit(struct monitor *m) {
    if (!m->exit_saved)
        m->exit_saved = replace_file(m, "exit", ".exit.tmp", m->exit_text, m->exit_length);
    if (!m->exit_saved)
        m->exit_saved = reuse_started(m);
}
