// sys.h - raw system calls, so that the last stage needs no C library at all.
//
// A C library would cost the last stage hundreds of kilobytes to copy into its memfd, relocations
// at every start, and code that reads the environment (GLIBC_TUNABLES) of an image.
// Sources: syscall(2), "Architecture calling conventions"; include/uapi/linux.
#ifndef MYDOCKER_SYS_H
#define MYDOCKER_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined(MYDOCKER_HOSTED)
// Sanitizer builds: the same program on top of the C library.
#include <errno.h>
#include <unistd.h>
static long sys(long n, long a, long b, long c, long d, long e) {
    long result = syscall(n, a, b, c, d, e);
    return result < 0 ? -errno : result;
}
#elif defined(__x86_64__)
static long sys(long n, long a, long b, long c, long d, long e) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
static long sys(long n, long a, long b, long c, long d, long e) { return sys6(n, a, b, c, d, e, 0); }
#else
#error "no system call convention for this architecture: build with -DMYDOCKER_HOSTED"
#endif

// Starts a thread of this process on a stack of its own; `run` must not return. Its number, or a negative errno.
#if defined(__x86_64__)
static inline long sys_thread(long flags, char *top, void (*run)(void *), void *argument) {
    long result;
    void **stack = (void **)top;
    *--stack = argument;
    *--stack = (void *)run;
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    __asm__ volatile("syscall\n\ttest %%rax,%%rax\n\tjnz 1f\n\txor %%ebp,%%ebp\n\tpop %%rax\n\tpop %%rdi\n\tcall *%%rax\n\tud2\n1:"
                     : "=a"(result)
                     : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(0), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
static inline void relax(void) { __asm__ volatile("pause" ::: "memory"); }
#elif defined(__aarch64__)
static inline long sys_thread(long flags, char *top, void (*run)(void *), void *argument) {
    void **stack = (void **)top;
    *--stack = argument;
    *--stack = (void *)run;
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = flags;
    register long x1 __asm__("x1") = (long)stack;
    register long x2 __asm__("x2") = 0;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile("svc 0\n\tcbnz x0,1f\n\tldp x1,x0,[sp],#16\n\tmov x29,#0\n\tmov x30,#0\n\tblr x1\n\tbrk #0\n1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory");
    return x0;
}
static inline void relax(void) { __asm__ volatile("yield" ::: "memory"); }
#else
static inline long sys_thread(long flags, char *top, void (*run)(void *), void *argument) {
    (void)flags, (void)top, (void)run, (void)argument;
    return -38; // ENOSYS: nobody has built this for this architecture yet
}
static inline void relax(void) {}
#endif

#if defined(MYDOCKER_HOSTED)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
    long result = syscall(n, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
}
#else
// The compiler may call these for structure copies, whatever it is told.
// Weak, because each file of the program brings them.
__attribute__((weak)) void *memcpy(void *to, const void *from, size_t count);
void *memcpy(void *to, const void *from, size_t count) {
    for (size_t i = 0; i < count; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    return to;
}
__attribute__((weak)) void *memset(void *to, int byte, size_t count);
void *memset(void *to, int byte, size_t count) {
    for (size_t i = 0; i < count; i++)
        ((char *)to)[i] = (char)byte;
    return to;
}
#endif

#endif
