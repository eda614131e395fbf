// log.c - the container's output as CRI log records, with rotation by size.
//
// Format: kubernetes/design-proposals node/kubelet-cri-logging.md. One record a line:
// "<time> <stream> <F|P> <message>\n", P when the message is not the end of a line.
// Records are put together in one buffer and written at least once for each read, so the log is
// never behind what clients see. Copying beats writev(2) here: two iovecs for 80 bytes cost more in
// the kernel than the copy does.

#include "monitor.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>  // renameat
#include <sys/stat.h>
#include <unistd.h>

static void open_file(struct monitor *m) {
    struct log *log = &m->log;
    struct stat status;
    char last = '\n';
    log->fd = openat(m->dir_fd, log->name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log->fd < 0) {
        complain(m, "open log");
        return;
    }
    // A container that is started again goes on with the file it has.
    log->size = fstat(log->fd, &status) == 0 ? (uint64_t)status.st_size : 0;
    // A monitor that was killed, or a power loss, may have torn the last record: end it.
    if (log->size > 0 && pread(log->fd, &last, 1, (off_t)log->size - 1) == 1 && last != '\n')
        log->size += write(log->fd, "\n", 1) == 1;
}

void log_setup(struct monitor *m) {
    struct log *log = &m->log;
    if (log->name == NULL)
        return;
    if (log->max_bytes != 0 && log->max_bytes < SMALLEST_LOG_BYTES)
        log->max_bytes = SMALLEST_LOG_BYTES;
    log->piece_bytes = PIECE_BYTES;
    // Every record must fit into a file that never grows beyond max_bytes.
    if (log->max_bytes != 0 && log->max_bytes - PREFIX_BYTES - 1 < PIECE_BYTES)
        log->piece_bytes = (uint32_t)(log->max_bytes - PREFIX_BYTES - 1);
    open_file(m);
}

// Writes the staged records. What cannot be written is dropped and counted: a full disk must stop
// neither the container nor the clients that read along.
static void flush(struct monitor *m) {
    struct log *log = &m->log;
    uint32_t done = 0;
    if (log->staged == 0)
        return;
    if (log->fd < 0)
        open_file(m);
    while (log->fd >= 0 && done < log->staged) {
        ssize_t written = write(log->fd, log->stage + done, log->staged - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            break;
        done += (uint32_t)written;
    }
    if (done < log->staged && done > 0) {
        // Cut the torn record off; a newline is only ever the end of a record.
        const char *end = memrchr(log->stage, '\n', done);
        done = end == NULL ? 0 : (uint32_t)(end - log->stage + 1);
        if (ftruncate(log->fd, (off_t)(log->size + done)) < 0)
            complain(m, "truncate log");
    }
    log->size += done;
    log->dropped_bytes += log->staged - done;
    log->staged = 0;
}

static void rotated_name(const struct log *log, uint64_t number, char *name, uint32_t size) {
    struct text text = {name, size - 1, 0};
    text_string(&text, log->name);
    if (number > 0) {
        text_bytes(&text, ".", 1);
        text_number(&text, number);
    }
    name[text.length] = '\0';
}

// Renames name.1 to name.2 and so on, name to name.1, and starts a new file. Readers find a file that
// moved by its inode.
static void rotate(struct monitor *m) {
    struct log *log = &m->log;
    char from[256], to[256];
    if (log->fd >= 0 && close(log->fd) < 0)
        complain(m, "close log");
    for (uint64_t number = log->max_files - 1; number > 0; number--) {
        rotated_name(log, number - 1, from, sizeof from);
        rotated_name(log, number, to, sizeof to);
        if (renameat(m->dir_fd, from, m->dir_fd, to) < 0 && errno != ENOENT)
            complain(m, "rotate log");
    }
    // With one file there is nothing to rename: a new inode still tells readers what happened.
    if (log->max_files == 1 && unlinkat(m->dir_fd, log->name, 0) < 0 && errno != ENOENT)
        complain(m, "rotate log");
    open_file(m);
}

static void two_digits(char *at, uint64_t number) {
    at[0] = (char)('0' + number / 10);
    at[1] = (char)('0' + number % 10);
}

// Days since 1970-01-01 to the Gregorian calendar (the algorithm of Howard Hinnant's civil_from_days);
// gmtime(3) would read the time zone files.
static void stamp_date(char *at, uint64_t days) {
    uint64_t shifted = days + 719468;  // since 0000-03-01, so that a leap day ends its year
    uint64_t era = shifted / 146097, day_of_era = shifted % 146097;
    uint64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t shifted_month = (5 * day_of_year + 2) / 153;
    uint64_t day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    uint64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
    uint64_t year = era * 400 + year_of_era + (month <= 2);
    two_digits(at, year / 100 % 100);
    two_digits(at + 2, year % 100);
    two_digits(at + 5, month);
    two_digits(at + 8, day);
}

// Fills the prefix of the records of one read: one clock_gettime for all of its lines.
static void stamp(struct log *log, const struct stream *s) {
    uint64_t now_ns = clock_ns(), now_s = now_ns / 1000000000, rest_ns = now_ns % 1000000000;
    if (log->stamped_s != now_s) {
        memcpy(log->prefix, "0000-00-00T00:00:00.000000000Z ", 31);
        stamp_date(log->prefix, now_s / 86400);
        two_digits(log->prefix + 11, now_s / 3600 % 24);
        two_digits(log->prefix + 14, now_s / 60 % 60);
        two_digits(log->prefix + 17, now_s % 60);
        log->stamped_s = now_s;
    }
    for (int at = 28; at >= 20; at--, rest_ns /= 10)
        log->prefix[at] = (char)('0' + rest_ns % 10);
    memcpy(log->prefix + 31, s->name, 6);
    memcpy(log->prefix + 37, " F ", 3);
}

static void record(struct monitor *m, char kind, const char *message, uint32_t length) {
    struct log *log = &m->log;
    uint32_t total = PREFIX_BYTES + length + 1;
    uint64_t size = log->size + log->staged;
    if (log->max_bytes != 0 && size + total > log->max_bytes && size > 0) {
        flush(m);
        // After a failed write the file may have room after all.
        if (log->size + total > log->max_bytes)
            rotate(m);
    }
    if (log->staged + total > STAGE_BYTES)
        flush(m);
    char *at = log->stage + log->staged;
    memcpy(at, log->prefix, PREFIX_BYTES);
    at[PREFIX_BYTES - 2] = kind;
    memcpy(at + PREFIX_BYTES, message, length);
    at[PREFIX_BYTES + length] = '\n';
    log->staged += total;
}

static uint32_t record_pieces(struct monitor *m, const char *message, uint32_t length) {
    uint32_t done = 0;
    for (; length - done > m->log.piece_bytes; done += m->log.piece_bytes)
        record(m, 'P', message + done, m->log.piece_bytes);
    return done;
}

// Logs the lines that end in the chunk, and whole pieces of one that does not end yet.
void log_chunk(struct monitor *m, struct stream *s) {
    uint32_t scan = s->chunk_at;
    const char *newline;
    if (m->log.name == NULL) {
        s->line_at = s->end;
        return;
    }
    stamp(&m->log, s);
    while ((newline = memchr(s->data + scan, '\n', s->end - scan)) != NULL) {
        uint32_t end = (uint32_t)(newline - s->data);
        s->line_at += record_pieces(m, s->data + s->line_at, end - s->line_at);
        record(m, 'F', s->data + s->line_at, end - s->line_at);
        s->line_at = scan = end + 1;
    }
    s->line_at += record_pieces(m, s->data + s->line_at, s->end - s->line_at);
    flush(m);
}

// Logs an unterminated last line: as P, so that a reader gives back exactly what was written.
void log_rest(struct monitor *m, struct stream *s) {
    if (m->log.name == NULL || s->line_at == s->end)
        return;
    stamp(&m->log, s);
    record(m, 'P', s->data + s->line_at, s->end - s->line_at);
    s->line_at = s->end;
    flush(m);
}
