// entry.h - where the kernel enters a program: its own `main`, or without a C library the address `_start`.
#pragma once

#include "sys.h"

#if defined(MYDOCKER_HOSTED)
#define ENTER_AT(program) \
    int main(int argc, char **argv) { return program(argc, argv); }
#else
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall enter\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29,#0\n\tmov x30,#0\n\tmov x0,sp\n\tb enter\n");
#endif
// The kernel enters with argc, argv, ... at the stack pointer (elf(5), System V ABI).
#define ENTER_AT(program)                                              \
    __attribute__((used, noreturn)) static void enter(long *stack) {   \
        int code = program((int)stack[0], (char **)(stack + 1));       \
        for (;;)                                                       \
            sys(SYS_exit_group, code, 0, 0, 0, 0);                     \
    }
#endif
