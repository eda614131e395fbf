// stream.c - the container's standard streams: output to log and clients, clients' input to it.

#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

void set_nonblocking(struct monitor *m, int fd) {
    // The open file descriptions are ours alone: the container has the other ends of its pipes.
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        complain(m, "set O_NONBLOCK");
}

static void end_stream(struct monitor *m, struct stream *s) {
    log_rest(m, s);
    unwatch_and_close(m, &s->source);
}

// Keeps the unterminated line at the front, to make room for a whole chunk. Only when no client is
// owed the last one.
static void make_room(struct stream *s) {
    memmove(s->data, s->data + s->line_at, s->end - s->line_at);
    s->end -= s->line_at;
    s->line_at = 0;
    s->chunk_at = s->end;
}

// Reads one chunk, logs it and gives it to the clients. Returns its size, 0 when there is none now.
static uint32_t read_chunk(struct monitor *m, struct stream *s) {
    ssize_t got;
    make_room(s);
    do
        got = read(s->source.fd, s->data + s->end, CHUNK_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0) {
        // The end of a pipe, or EIO from a terminal whose last user is gone.
        end_stream(m, s);
        return 0;
    }
    m->touched = true;
    s->end += (uint32_t)got;
    log_chunk(m, s);
    clients_deliver(m, s);
    if (s->owed != 0)
        (void)watch(m, &s->source, 0);
    return (uint32_t)got;
}

static void handle_stream(struct monitor *m, struct source *source) {
    struct stream *s = (struct stream *)source;
    if (s->owed == 0)
        (void)read_chunk(m, s);
}

void stream_setup(struct monitor *m, struct stream *s) {
    s->drain_left = DRAIN_BYTES;
    s->source.handle = handle_stream;
    if (s->source.fd < 0)
        return;
    set_nonblocking(m, s->source.fd);
    (void)watch(m, &s->source, EPOLLIN);
}

// The last client that was owed the chunk has got it.
void stream_resume(struct monitor *m, struct stream *s) {
    if (s->source.fd >= 0)
        (void)watch(m, &s->source, EPOLLIN);
}

static bool drain(struct monitor *m, struct stream *s) {
    while (s->source.fd >= 0 && s->owed == 0) {
        // Whoever still holds the other end is not waited for; and as such a process may write faster
        // than we read, there is a limit.
        uint32_t got = s->drain_left >= CHUNK_BYTES ? read_chunk(m, s) : 0;
        s->drain_left -= got;
        if (got == 0 && s->source.fd >= 0)
            end_stream(m, s);
    }
    return s->source.fd < 0 && s->owed == 0;
}

// After init is dead: reads what the streams still hold. Returns false while a client holds it up.
bool streams_drain(struct monitor *m) {
    bool is_drained = true;
    for (int index = 0; index < 2; index++)
        is_drained = drain(m, &m->streams[index]) && is_drained;
    return is_drained;
}

static void release(char *data, size_t used, size_t size) {
    size_t keep = (used + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    // Advice: when the kernel has larger pages and refuses, we only use more memory.
    if (keep < size)
        (void)madvise(data + keep, size - keep, MADV_DONTNEED);
}

// After a quiet second: gives the pages of the buffers back. Most containers write seldom.
void streams_release_memory(struct monitor *m) {
    for (int index = 0; index < 2; index++) {
        struct stream *s = &m->streams[index];
        if (s->owed != 0)
            continue;
        make_room(s);
        release(s->data, s->end, sizeof s->data);
    }
    release(m->log.stage, m->log.staged, sizeof m->log.stage);
    release(m->input.data, m->input.end, sizeof m->input.data);
    m->touched = false;
}

static void handle_input(struct monitor *m, struct source *source) {
    (void)source;
    input_flush(m);
}

void input_setup(struct monitor *m) {
    struct input *input = &m->input;
    input->source.handle = handle_input;
    input->exists = input->source.fd >= 0;
    // The terminal's master is also an output; its second descriptor keeps the two apart in epoll.
    if (input->exists && !input->is_terminal)
        set_nonblocking(m, input->source.fd);
}

// Takes the terminal's master over as output and input.
void terminal_setup(struct monitor *m, int fd) {
    m->input.is_terminal = true;
    m->input.source.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (m->input.source.fd < 0)
        complain(m, "duplicate the terminal's master");
    input_setup(m);
    m->streams[0].source.fd = fd;
    stream_setup(m, &m->streams[0]);
}

void input_close(struct monitor *m) {
    m->input.at = m->input.end = 0;
    unwatch_and_close(m, &m->input.source);
    clients_resume_input(m);
}

// The end of input in a terminal is a character, if its user has not switched that off.
static void end_terminal_input(struct input *input) {
    struct termios settings;
    if (ioctl(input->source.fd, TCGETS, &settings) < 0 || (settings.c_lflag & ICANON) == 0)
        return;
    // One byte into a terminal that just took all we had; when it has no room, a person types ^D again.
    (void)!write(input->source.fd, &settings.c_cc[VEOF], 1);
}

static void finish_input(struct monitor *m) {
    struct input *input = &m->input;
    input->at = input->end = 0;
    (void)watch(m, &input->source, 0);
    if (input->eof_wanted && input->is_terminal) {
        input->eof_wanted = false;
        end_terminal_input(input);
    } else if (input->eof_wanted) {
        input_close(m);
        return;
    }
    clients_resume_input(m);
}

// Writes what is buffered; watches the descriptor only while it is full, because the write end of a
// pipe without readers would report EPOLLERR for ever.
void input_flush(struct monitor *m) {
    struct input *input = &m->input;
    if (input->source.fd < 0)
        return;
    while (input->at < input->end) {
        ssize_t written = write(input->source.fd, input->data + input->at, input->end - input->at);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno == EAGAIN) {
            (void)watch(m, &input->source, EPOLLOUT);
            return;
        }
        if (written <= 0) {
            input_close(m);  // EPIPE, EIO: nobody reads it any more, later input is thrown away
            return;
        }
        m->touched = true;
        input->at += (uint32_t)written;
    }
    finish_input(m);
}

void input_end(struct monitor *m) {
    m->input.eof_wanted = true;
    if (m->input.source.fd >= 0 && m->input.at == m->input.end)
        finish_input(m);
}

void input_resize(struct monitor *m, uint16_t rows, uint16_t cols) {
    struct winsize size = {.ws_row = rows, .ws_col = cols};
    if (m->input.source.fd >= 0 && ioctl(m->input.source.fd, TIOCSWINSZ, &size) < 0)
        complain(m, "set window size");
}
