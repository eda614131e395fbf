// attach.c - clients of the control socket. docs/protocols.md has the messages.
//
// A client costs no buffer: output is sent from the stream's chunk, which stays until every
// subscriber has it, and all other messages are made from the state when the socket has room.
// Every message is one datagram of a SOCK_SEQPACKET socket: it arrives whole or not at all.

#include "monitor.h"
#include "text.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READS_PER_EVENT = 16 };  // then others have their turn

static uint32_t bit_of(struct monitor *m, const struct client *c) { return 1U << (c - m->clients); }

static void forgive_output(struct monitor *m, struct client *c) {
    for (int index = 0; index < 2; index++) {
        struct stream *s = &m->streams[index];
        bool was_owed = s->owed != 0;
        s->owed &= ~bit_of(m, c);
        if (was_owed && s->owed == 0)
            stream_resume(m, s);
    }
}

static bool is_owed_output(struct monitor *m, const struct client *c) {
    return ((m->streams[0].owed | m->streams[1].owed) & bit_of(m, c)) != 0;
}

// Whoever runs a container for a moment's work, such as a step of a build, may not be there to end it: it was killed.
static void take_along(struct monitor *m, const struct client *c) {
    if ((c->flags & TAKES_IT_ALONG) != 0)
        loop_kill_container(m);
}

static void drop(struct monitor *m, struct client *c) {
    take_along(m, c);
    unwatch_and_close(m, &c->source);
    c->flags = c->owes = 0;
    c->paused = false;
    forgive_output(m, c);
}

// Its messages cannot arrive any more; what it sent before may still be in the socket, so it is
// dropped only when a read says so.
static void hang_up(struct monitor *m, struct client *c) {
    take_along(m, c);
    c->flags = c->owes = 0;
    forgive_output(m, c);
}

static void watch_client(struct monitor *m, struct client *c) {
    uint32_t events = 0;
    if (c->source.fd < 0)
        return;
    // A client that does not read its answers is not listened to either.
    if (!c->paused && (c->owes & (OWES_PONG | OWES_REFUSED)) == 0)
        events |= EPOLLIN;
    if (c->owes != 0 || is_owed_output(m, c))
        events |= EPOLLOUT;
    if (!watch(m, &c->source, events))
        drop(m, c);
}

// Returns false when the socket is full, or the client gone.
static bool send_message(struct monitor *m, struct client *c, char type, const char *payload, size_t length) {
    struct iovec parts[2] = {{&type, 1}, {(void *)(uintptr_t)payload, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent;
    do
        sent = sendmsg(c->source.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM)
        hang_up(m, c);
    return sent >= 0;
}

static bool send_started(struct monitor *m, struct client *c) {
    char data[80];
    struct text text = {data, sizeof data, 0};
    text_number(&text, m->pid);
    text_bytes(&text, " ", 1);
    text_number(&text, m->start_time);
    text_bytes(&text, " ", 1);
    text_number(&text, m->started_ns);
    return send_message(m, c, 'B', data, text.length);
}

static bool send_owed(struct monitor *m, struct client *c, uint8_t owes) {
    switch (owes) {
    case OWES_STARTED:
        return send_started(m, c);
    case OWES_PONG:
        return send_message(m, c, 'P', "", 0);
    case OWES_REFUSED:
        return send_message(m, c, 'N', c->refusal, strlen(c->refusal));
    case OWES_FAILED:
        return send_message(m, c, 'F', m->failure, m->failure_length);
    default:
        return send_message(m, c, 'X', m->exit_text, m->exit_length);
    }
}

static bool flush_messages(struct monitor *m, struct client *c, uint8_t first, uint8_t last) {
    for (uint8_t owes = first; owes <= last; owes = (uint8_t)(owes << 1)) {
        if ((c->owes & owes) == 0)
            continue;
        if (!send_owed(m, c, owes))
            return false;
        c->owes &= (uint8_t)~owes;
    }
    return true;
}

static bool flush_output(struct monitor *m, struct client *c) {
    for (int index = 0; index < 2; index++) {
        struct stream *s = &m->streams[index];
        if ((s->owed & bit_of(m, c)) == 0)
            continue;
        if (!send_message(m, c, s->tag, s->data + s->chunk_at, s->end - s->chunk_at))
            return false;
        s->owed &= ~bit_of(m, c);
        if (s->owed == 0)
            stream_resume(m, s);
    }
    return true;
}

// Sends what the client is owed, as far as its socket takes it: STARTED, output, then the rest, so
// that EXITED is its last message.
void client_flush(struct monitor *m, struct client *c) {
    if (flush_messages(m, c, OWES_STARTED, OWES_STARTED) && flush_output(m, c))
        (void)flush_messages(m, c, OWES_PONG, OWES_EXITED);
    watch_client(m, c);
}

void clients_owe(struct monitor *m, uint8_t owes) {
    for (struct client *c = m->clients; c < m->clients + MAX_CLIENTS; c++) {
        if (c->source.fd < 0)
            continue;
        c->owes |= owes;
        client_flush(m, c);
    }
}

static void owe_end(struct monitor *m, struct client *c) {
    c->hears_end = true;
    c->owes |= (uint8_t)(OWES_EXITED | (m->failed ? OWES_FAILED : 0));
}

// Tells of the end. Those who take output hear it after all of it; who takes none does not wait until others have theirs.
void clients_hear_end(struct monitor *m, bool is_drained) {
    for (struct client *c = m->clients; c < m->clients + MAX_CLIENTS; c++) {
        if (c->source.fd < 0 || c->hears_end || (!is_drained && (c->flags & (WANTS_STDOUT | WANTS_STDERR)) != 0))
            continue;
        owe_end(m, c);
        client_flush(m, c);
    }
}

// Answers those who asked before there was something to say.
void clients_hear_ready(struct monitor *m) {
    for (struct client *c = m->clients; c < m->clients + MAX_CLIENTS; c++) {
        if (c->source.fd < 0 || !c->asked_alive)
            continue;
        c->asked_alive = false;
        c->owes |= OWES_PONG;
        client_flush(m, c);
    }
}

void clients_deliver(struct monitor *m, struct stream *s) {
    for (struct client *c = m->clients; c < m->clients + MAX_CLIENTS; c++)
        if (c->source.fd >= 0 && (c->flags & s->flag) != 0)
            s->owed |= bit_of(m, c);
    for (struct client *c = m->clients; c < m->clients + MAX_CLIENTS && s->owed != 0; c++)
        if ((s->owed & bit_of(m, c)) != 0)
            client_flush(m, c);
}

// The input buffer is empty, or nobody wants input any more.
void clients_resume_input(struct monitor *m) {
    for (struct client *c = m->clients; c < m->clients + MAX_CLIENTS; c++) {
        if (!c->paused)
            continue;
        c->paused = false;
        watch_client(m, c);
    }
}

// After EXITED: nobody waits for a message, and no owner is about to clean up.
bool clients_are_done(struct monitor *m) {
    for (struct client *c = m->clients; c < m->clients + MAX_CLIENTS; c++)
        if (c->source.fd >= 0 && (c->owes != 0 || ((c->flags & IS_OWNER) != 0 && !m->cleaned)))
            return false;
    return true;
}

static void refuse(struct client *c, const char *text) {
    c->refusal = text;
    c->owes |= OWES_REFUSED;
}

static void take_attach(struct client *c, const char *payload, size_t length) {
    if (length != 1 || ((uint8_t)payload[0] & ~ALL_FLAGS) != 0)
        refuse(c, "ATTACH: takes one byte of known flags");
    else
        c->flags = (uint8_t)payload[0];
}

static void take_resize(struct monitor *m, struct client *c, const char *payload, size_t length) {
    const uint8_t *bytes = (const uint8_t *)payload;
    if (length != 4 || (m->input.exists && !m->input.is_terminal) || !m->input.exists)
        refuse(c, length != 4 ? "RESIZE: takes four bytes" : "RESIZE: there is no terminal");
    else
        input_resize(m, (uint16_t)(bytes[0] | bytes[1] << 8), (uint16_t)(bytes[2] | bytes[3] << 8));
}

static void take_cleaned(struct monitor *m, struct client *c) {
    if ((c->flags & IS_OWNER) == 0 || !c->hears_end)
        refuse(c, "CLEANED: only an owner may say so, after EXITED");
    else
        m->cleaned = true;
}

static void take_end_of_input(struct monitor *m, struct client *c) {
    if ((c->flags & WANTS_STDIN) == 0)
        refuse(c, "STDIN_EOF: not attached to standard input");
    else
        input_end(m);
}

// Whether the message that was taken was the last of a client that has closed: of one that waited while we stood still.
static bool has_left(const struct client *c) {
    char next;
    ssize_t got = recv(c->source.fd, &next, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno == ECONNRESET);
}

static void take_start(struct monitor *m, struct client *c) {
    if (m->phase > PHASE_CREATED || m->start_at_once)
        refuse(c, "START: already started");
    else if (!has_left(c))  // it has told its user that nothing was started
        loop_start_when_ready(m);
}

static void take_message(struct monitor *m, struct client *c, const char *message, size_t length) {
    switch (message[0]) {
    case 'A':
        take_attach(c, message + 1, length - 1);
        break;
    case 'S':
        take_start(m, c);
        break;
    case 'E':
        take_end_of_input(m, c);
        break;
    case 'W':
        take_resize(m, c, message + 1, length - 1);
        break;
    case 'C':
        take_cleaned(m, c);
        break;
    case 'P':
        if (m->phase == PHASE_MAKING)
            c->asked_alive = true;
        else
            c->owes |= OWES_PONG;
        break;
    default:
        refuse(c, "unknown message");
    }
}

// Receives a STDIN message into the input buffer, which the caller found empty.
static ssize_t receive_input(struct monitor *m, struct client *c) {
    struct input *input = &m->input;
    char type;
    struct iovec parts[2] = {{&type, 1}, {input->data, sizeof input->data}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t got = recvmsg(c->source.fd, &message, MSG_DONTWAIT);
    if (got < 1)
        return got;
    if ((c->flags & WANTS_STDIN) == 0 || !input->exists)
        refuse(c, input->exists ? "STDIN: not attached to standard input" : "STDIN: the container has none");
    else if ((message.msg_flags & MSG_TRUNC) != 0)
        refuse(c, "STDIN: more than 65536 bytes");
    else if (input->source.fd >= 0 && !input->eof_wanted) {
        input->at = 0;
        input->end = (uint32_t)got - 1;
        input_flush(m);
    }
    return got;
}

// Receives one message. Returns what recv(2) says, 1 or more for a message; 0 also when the client
// has to wait for the input buffer.
static ssize_t receive(struct monitor *m, struct client *c) {
    char message[8];
    // Look first: a STDIN message stays in the socket until the buffer is free.
    ssize_t got = recv(c->source.fd, message, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 1)
        return got;
    if (message[0] == 'I' && m->input.at != m->input.end) {
        c->paused = true;
        return 0;
    }
    if (message[0] == 'I')
        return receive_input(m, c);
    got = recv(c->source.fd, message, sizeof message, MSG_DONTWAIT);
    if (got >= 1)
        take_message(m, c, message, (size_t)got);
    return got;
}

void client_handle(struct monitor *m, struct source *source) {
    struct client *c = (struct client *)source;
    client_flush(m, c);
    for (int count = 0; count < READS_PER_EVENT && source->fd >= 0; count++) {
        if (c->paused || (c->owes & (OWES_PONG | OWES_REFUSED)) != 0)
            break;
        ssize_t got = receive(m, c);
        if (got < 0 && errno == EAGAIN)
            break;
        // ECONNRESET comes once, before what the client had sent; the end is 0.
        if (got < 0 && (errno == EINTR || errno == ECONNRESET))
            continue;
        if (got <= 0 && !c->paused)
            drop(m, c);
        else
            client_flush(m, c);
    }
}

// Only root and the user that runs the monitor may control it: the socket's directory is 0700, but
// a descriptor can be passed on.
static bool is_trusted(int fd) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

// Takes the descriptor over; the client hears at once of what has happened already.
void client_add(struct monitor *m, int fd, uint8_t flags) {
    struct client *c = m->clients;
    static const char full[] = "Ntoo many clients";
    while (c < m->clients + MAX_CLIENTS && c->source.fd >= 0)
        c++;
    if (c == m->clients + MAX_CLIENTS) {
        // It goes away whether it hears this or not.
        (void)send(fd, full, sizeof full - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)close(fd);
        return;
    }
    *c = (struct client){.source = {.fd = fd, .handle = client_handle}, .flags = flags};
    if (m->started)
        c->owes |= OWES_STARTED;
    if (m->exit_length > 0)
        owe_end(m, c);
    client_flush(m, c);
}

void clients_accept(struct monitor *m, struct source *source) {
    int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        // EAGAIN, EINTR, ECONNABORTED: nobody there. Without descriptors we cannot serve more clients.
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            complain(m, "accept client");
            (void)watch(m, source, 0);
            m->deaf_since_ns = clock_ns();
            m->touched = true;  // a second from now is another try
        }
        return;
    }
    if (is_trusted(fd))
        client_add(m, fd, 0);
    else
        (void)close(fd);
}
