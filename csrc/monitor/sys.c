// sys.c - the few functions of the C library that the monitor uses, and its entry point.
//
// There is one monitor for each container, and a statically linked glibc makes 700 KiB of an idle one
// resident where this makes 80. The other files are plain C against the usual headers; they are
// also built with the real library, for the sanitizers and for architectures that have no
// section below (meson.build leaves this file out then).
//
// Functions behave as their man pages say, with one thread and one errno.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KERNEL_SIGSET_BYTES = 8 };  // the kernel's sigset_t is the first word of glibc's

char **environ;
static int the_errno;

int main(int argc, char **argv);
void start_c(uintptr_t *stack);

int *__errno_location(void) { return &the_errno; }

// Called by _start with the initial stack: argc, argv, NULL, environment, NULL (System V ABI).
void start_c(uintptr_t *stack) {
    int argc = (int)stack[0];
    char **argv = (char **)(stack + 1);
    environ = argv + argc + 1;
    _exit(main(argc, argv));
}

#if defined(__x86_64__)

__asm__(".text\n.globl _start\n.type _start,@function\n_start:\n"
        "xor %ebp, %ebp\n"
        "mov %rsp, %rdi\n"
        "and $-16, %rsp\n"
        "call start_c\n"
        "hlt\n");

static long call_kernel(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

__asm__(".text\n.globl _start\n.type _start,%function\n_start:\n"
        "mov x29, #0\n"
        "mov x30, #0\n"
        "mov x0, sp\n"
        "bl start_c\n"
        "brk #1\n");

static long call_kernel(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}

#else
#error "no system call convention for this architecture: build without sys.c, against the C library"
#endif

#define CALL(number, a, b, c, d, e, f) \
    result_of(call_kernel((number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)))

static long result_of(long result) {
    if (result >= 0 || result < -4095)
        return result;
    the_errno = (int)-result;
    return -1;
}

void _exit(int status) {
    for (;;)
        (void)CALL(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

long syscall(long number, ...) {
    va_list list;
    long arguments[6];
    va_start(list, number);
    for (int index = 0; index < 6; index++)
        arguments[index] = va_arg(list, long);
    va_end(list);
    return CALL(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

// --- files ----------------------------------------------------------------------------------------

ssize_t read(int fd, void *data, size_t size) { return CALL(SYS_read, fd, data, size, 0, 0, 0); }

ssize_t write(int fd, const void *data, size_t size) { return CALL(SYS_write, fd, data, size, 0, 0, 0); }

ssize_t pread(int fd, void *data, size_t size, off_t at) { return CALL(SYS_pread64, fd, data, size, at, 0, 0); }

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return CALL(SYS_pwrite64, fd, data, size, at, 0, 0);
}

int close(int fd) { return (int)CALL(SYS_close, fd, 0, 0, 0, 0, 0); }

int openat(int directory_fd, const char *path, int flags, ...) {
    va_list list;
    int mode;
    va_start(list, flags);
    mode = va_arg(list, int);
    va_end(list);
    return (int)CALL(SYS_openat, directory_fd, path, flags, (flags & O_CREAT) != 0 ? mode : 0, 0, 0);
}

int open(const char *path, int flags, ...) { return openat(AT_FDCWD, path, flags & ~O_CREAT, 0); }

int fstat(int fd, struct stat *status) { return (int)CALL(SYS_fstat, fd, status, 0, 0, 0, 0); }

int ftruncate(int fd, off_t size) { return (int)CALL(SYS_ftruncate, fd, size, 0, 0, 0, 0); }

int renameat(int old_fd, const char *old_path, int new_fd, const char *new_path) {
    return (int)CALL(SYS_renameat, old_fd, old_path, new_fd, new_path, 0, 0);
}

int unlinkat(int directory_fd, const char *path, int flags) {
    return (int)CALL(SYS_unlinkat, directory_fd, path, flags, 0, 0, 0);
}

int dup2(int from, int to) { return (int)CALL(SYS_dup3, from, to, 0, 0, 0, 0); }

int fcntl(int fd, int operation, ...) {
    va_list list;
    long argument;
    va_start(list, operation);
    argument = va_arg(list, long);
    va_end(list);
    return (int)CALL(SYS_fcntl, fd, operation, argument, 0, 0, 0);
}

int ioctl(int fd, unsigned long operation, ...) {
    va_list list;
    void *argument;
    va_start(list, operation);
    argument = va_arg(list, void *);
    va_end(list);
    return (int)CALL(SYS_ioctl, fd, operation, argument, 0, 0, 0);
}

// --- events and sockets ---------------------------------------------------------------------------

int epoll_create1(int flags) { return (int)CALL(SYS_epoll_create1, flags, 0, 0, 0, 0, 0); }

int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event) {
    return (int)CALL(SYS_epoll_ctl, epoll_fd, operation, fd, event, 0, 0);
}

int epoll_wait(int epoll_fd, struct epoll_event *events, int size, int timeout_ms) {
    return (int)CALL(SYS_epoll_pwait, epoll_fd, events, size, timeout_ms, NULL, KERNEL_SIGSET_BYTES);
}

int signalfd(int fd, const sigset_t *mask, int flags) {
    return (int)CALL(SYS_signalfd4, fd, mask, KERNEL_SIGSET_BYTES, flags, 0, 0);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    return (int)CALL(SYS_accept4, fd, address, length, flags, 0, 0);
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    return CALL(SYS_sendto, fd, data, size, flags, NULL, 0);
}

ssize_t recv(int fd, void *data, size_t size, int flags) {
    return CALL(SYS_recvfrom, fd, data, size, flags, NULL, NULL);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    return CALL(SYS_sendmsg, fd, message, flags, 0, 0, 0);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) { return CALL(SYS_recvmsg, fd, message, flags, 0, 0, 0); }

int getsockopt(int fd, int level, int name, void *value, socklen_t *length) {
    return (int)CALL(SYS_getsockopt, fd, level, name, value, length, 0);
}

// --- processes ------------------------------------------------------------------------------------

pid_t wait4(pid_t pid, int *status, int flags, struct rusage *usage) {
    return (pid_t)CALL(SYS_wait4, pid, status, flags, usage, 0, 0);
}

int execve(const char *path, char *const argv[], char *const environment[]) {
    return (int)CALL(SYS_execve, path, argv, environment, 0, 0, 0);
}

uid_t geteuid(void) { return (uid_t)CALL(SYS_geteuid, 0, 0, 0, 0, 0, 0); }

int prctl(int operation, ...) {
    va_list list;
    long arguments[4];
    va_start(list, operation);
    for (int index = 0; index < 4; index++)
        arguments[index] = va_arg(list, long);
    va_end(list);
    return (int)CALL(SYS_prctl, operation, arguments[0], arguments[1], arguments[2], arguments[3], 0);
}

int madvise(void *address, size_t size, int advice) { return (int)CALL(SYS_madvise, address, size, advice, 0, 0, 0); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    return (int)CALL(SYS_clock_gettime, clock, now, 0, 0, 0, 0);
}

int sigemptyset(sigset_t *set) {
    memset(set, 0, sizeof *set);
    return 0;
}

int sigaddset(sigset_t *set, int number) {
    set->__val[0] |= 1UL << (number - 1);
    return 0;
}

int sigprocmask(int operation, const sigset_t *set, sigset_t *old) {
    return (int)CALL(SYS_rt_sigprocmask, operation, set, old, KERNEL_SIGSET_BYTES, 0, 0);
}

// Only SIG_IGN and SIG_DFL: a handler would need the restorer that the C library has.
sighandler_t signal(int number, sighandler_t disposition) {
    struct {
        sighandler_t handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {.handler = disposition};
    return CALL(SYS_rt_sigaction, number, &action, NULL, KERNEL_SIGSET_BYTES, 0, 0) < 0 ? SIG_ERR : SIG_DFL;
}

// --- bytes (the compiler calls the first three on its own) ----------------------------------------

struct block {
    char bytes[16];
} __attribute__((packed, may_alias));

// Blocks of 16, the last one overlapping: log lines are some 80 bytes.
void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    char *out = to;
    const char *in = from;
    if (size < sizeof(struct block)) {
        while (size-- > 0) {
            __asm__ volatile("");  // or the compiler makes this loop a call of memcpy
            *out++ = *in++;
        }
        return to;
    }
    for (size_t at = 0; at + sizeof(struct block) < size; at += sizeof(struct block))
        *(struct block *)(out + at) = *(const struct block *)(in + at);
    *(struct block *)(out + size - sizeof(struct block)) = *(const struct block *)(in + size - sizeof(struct block));
    return to;
}

// Only moves towards the front are needed to be fast; a copy in rising order does those.
void *memmove(void *to, const void *from, size_t size) {
    char *out = to;
    const char *in = from;
    if ((uintptr_t)out - (uintptr_t)in >= sizeof(struct block) && (out < in || out >= in + size)) {
        size_t at = 0;
        for (; at + sizeof(struct block) <= size; at += sizeof(struct block))
            *(struct block *)(out + at) = *(const struct block *)(in + at);
        for (; at < size; at++) {
            __asm__ volatile("");
            out[at] = in[at];
        }
        return to;
    }
    if (out < in) {
        for (size_t at = 0; at < size; at++) {
            __asm__ volatile("");
            out[at] = in[at];
        }
    } else if (out > in) {
        while (size-- > 0) {
            __asm__ volatile("");
            out[size] = in[size];
        }
    }
    return to;
}

void *memset(void *to, int value, size_t size) {
    char *out = to;
    while (size-- > 0) {
        __asm__ volatile("");
        *out++ = (char)value;
    }
    return to;
}

typedef uint64_t __attribute__((may_alias, aligned(1))) word;

// Eight bytes at a time: a byte of `differences` is zero where `data` has the value, and then, and only
// above the first such byte wrongly, its high bit is set in `found` ("Bit Twiddling Hacks").
void *memchr(const void *data, int value, size_t size) {
    const uint64_t ones = 0x0101010101010101U, highs = 0x8080808080808080U;
    const char *at = data, *end = at + size;
    const uint64_t pattern = ones * (unsigned char)value;
    for (; end - at >= 8; at += 8) {
        uint64_t differences = *(const word *)at ^ pattern;
        uint64_t found = (differences - ones) & ~differences & highs;
        if (found != 0)  // little endian, as both architectures are run
            return (void *)(uintptr_t)(at + __builtin_ctzll(found) / 8);
    }
    for (; at < end; at++)
        if (*at == (char)value)
            return (void *)(uintptr_t)at;
    return NULL;
}

void *memrchr(const void *data, int value, size_t size) {
    const char *at = data;
    while (size-- > 0)
        if (at[size] == (char)value)
            return (void *)(uintptr_t)(at + size);
    return NULL;
}

size_t strlen(const char *string) {
    size_t length = 0;
    while (string[length] != '\0') {
        __asm__ volatile("");
        length++;
    }
    return length;
}

int strncmp(const char *left, const char *right, size_t size) {
    for (; size > 0; left++, right++, size--)
        if (*left != *right || *left == '\0')
            return (unsigned char)*left - (unsigned char)*right;
    return 0;
}

int strcmp(const char *left, const char *right) { return strncmp(left, right, SIZE_MAX); }

char *strchr(const char *string, int value) {
    for (;; string++) {
        if (*string == (char)value)
            return (char *)(uintptr_t)string;
        if (*string == '\0')
            return NULL;
    }
}

char *strrchr(const char *string, int value) {
    char *last = NULL;
    while ((string = strchr(string, value)) != NULL)
        last = (char *)(uintptr_t)string++;
    return last;
}
