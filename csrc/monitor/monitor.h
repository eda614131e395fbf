// monitor.h - the state of one monitor and what its files offer each other.
//
// One process per container (or exec session), single-threaded, around one epoll set. It allocates
// nothing: every buffer is a member of `struct monitor`, which lives in .bss, so that pages nobody
// wrote to cost nothing. docs/protocols.md describes the files and messages.

#ifndef MYDOCKER_MONITOR_H
#define MYDOCKER_MONITOR_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // accept4, memrchr, struct ucred: this header comes first everywhere
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum {
    MAX_CLIENTS = 32,            // one bit each in stream.owed
    PAGE_BYTES = 4096,           // alignment of buffers that are given back to the kernel when idle
    CHUNK_BYTES = 65536,         // one read, one OUTPUT or STDIN message: also the default size of a pipe
    PIECE_BYTES = 16384,         // the longest message of one log record, as containerd and CRI-O have it
    PREFIX_BYTES = 40,           // "2016-10-06T00:17:09.669794202Z stdout F "
    STAGE_BYTES = 65536,         // log records between two writes
    SMALLEST_LOG_BYTES = 256,    // a rotation size below this would leave no room for a message
    DRAIN_BYTES = 2 << 20,       // read at most this much of a pipe that outlives init (pipes hold up to 1 MiB)
    FAILURE_BYTES = 4096,        // the last stage's report, longer ones are cut
    EXIT_BYTES = FAILURE_BYTES + 512,
};

// Bits of the ATTACH message.
enum { WANTS_STDOUT = 1, WANTS_STDERR = 2, WANTS_STDIN = 4, IS_OWNER = 8, TAKES_IT_ALONG = 16, ALL_FLAGS = 31 };

// Messages that a client still has to get; they are made again from the state, so nothing is queued.
enum { OWES_STARTED = 1, OWES_PONG = 2, OWES_REFUSED = 4, OWES_FAILED = 8, OWES_EXITED = 16 };

enum phase { PHASE_MAKING, PHASE_CREATED, PHASE_STARTING, PHASE_RUNNING, PHASE_DEAD, PHASE_ANNOUNCED };

struct monitor;

// A descriptor in the epoll set. Handlers never block, and look at the descriptor, not at the event:
// an event of a client that was dropped and replaced in the same round does no harm.
struct source {
    int fd;
    uint32_t events;  // as registered; 0 = not in the set
    void (*handle)(struct monitor *, struct source *);
};

// One output of the container. `data` holds, in this order: what is logged already, the unterminated
// line that waits for its end (`line_at`), and the last read (`chunk_at` to `end`), which clients get.
struct stream {
    struct source source;
    char tag;          // type of its OUTPUT message
    char name[7];      // "stdout", "stderr"
    uint8_t flag;      // WANTS_*
    uint32_t owed;     // clients that have not got the chunk yet; nothing is read meanwhile
    uint32_t line_at, chunk_at, end;
    uint32_t drain_left;
    _Alignas(PAGE_BYTES) char data[PIECE_BYTES + CHUNK_BYTES];
};

// The container's standard input: one message at a time.
struct input {
    struct source source;
    bool exists, is_terminal, eof_wanted;
    uint32_t at, end;
    _Alignas(PAGE_BYTES) char data[CHUNK_BYTES];
};

struct client {
    struct source source;
    uint8_t flags, owes;
    bool asked_alive;     // it sent PING before the container was ready
    bool hears_end;       // it got EXITED, or is owed it: once
    bool paused;          // its next message is STDIN, and the input buffer is not empty
    const char *refusal;  // text of the REFUSED message it is owed
};

struct log {
    int fd;
    const char *name;
    uint64_t max_bytes, max_files;
    uint64_t size, dropped_bytes;
    uint64_t stamped_s;
    uint32_t piece_bytes, staged;
    char prefix[PREFIX_BYTES];
    _Alignas(PAGE_BYTES) char stage[STAGE_BYTES];
};

struct monitor {
    // the command line
    int dir_fd, lock_fd, journal_fd, cpu_fd, memory_peak_fd, oom_fd;
    int held_fd;  // it and all above are held while the container lives: sockets on its published ports
    uint64_t pid, client_flags;
    bool start_at_once, is_making;
    const char *id, *peak_reset;
    char **cleanup_argv;

    int epoll_fd, error_fd, complaints;
    struct source signals, pidfd, sync, listener;
    enum phase phase;
    bool started, failed, exit_saved, cleaned, touched, oom_score_set;
    int64_t oom_score;
    uint64_t start_time, started_ns, finished_ns, recorded_dropped_bytes;
    uint64_t deaf_since_ns;  // since when no client is accepted
    int status;
    struct rusage usage;
    uint32_t failure_length, exit_length;
    char failure[FAILURE_BYTES];
    char exit_text[EXIT_BYTES];

    struct client clients[MAX_CLIENTS];
    struct log log;
    struct stream streams[2];  // stdout (or the terminal), stderr
    struct input input;
};

// main.c
#define complain(m, what) complain_at((m), __FILE__, __LINE__, (what))
void complain_at(struct monitor *m, const char *file, int line, const char *what);
uint64_t clock_ns(void);

// loop.c
void loop_setup(struct monitor *m);
void loop_run(struct monitor *m);
void loop_start_container(struct monitor *m);
void loop_start_when_ready(struct monitor *m);
void loop_kill_container(struct monitor *m);
bool watch(struct monitor *m, struct source *source, uint32_t events);
void unwatch_and_close(struct monitor *m, struct source *source);

// stream.c
void set_nonblocking(struct monitor *m, int fd);
void terminal_setup(struct monitor *m, int fd);
void stream_setup(struct monitor *m, struct stream *s);
void stream_resume(struct monitor *m, struct stream *s);
bool streams_drain(struct monitor *m);
void streams_release_memory(struct monitor *m);
void input_setup(struct monitor *m);
void input_flush(struct monitor *m);
void input_end(struct monitor *m);
void input_close(struct monitor *m);
void input_resize(struct monitor *m, uint16_t rows, uint16_t cols);

// log.c
void log_setup(struct monitor *m);
void log_chunk(struct monitor *m, struct stream *s);
void log_rest(struct monitor *m, struct stream *s);

// attach.c
void client_add(struct monitor *m, int fd, uint8_t flags);
void client_handle(struct monitor *m, struct source *source);
void client_flush(struct monitor *m, struct client *c);
void clients_accept(struct monitor *m, struct source *source);
void clients_owe(struct monitor *m, uint8_t owes);
void clients_hear_ready(struct monitor *m);
void clients_hear_end(struct monitor *m, bool is_drained);
void clients_deliver(struct monitor *m, struct stream *s);
void clients_resume_input(struct monitor *m);
bool clients_are_done(struct monitor *m);

// exit.c
void record_started(struct monitor *m);
void record_exit(struct monitor *m);
void save_exit(struct monitor *m);
uint64_t read_start_time(uint64_t pid);

#endif
