// reap.h - see reap.c
#ifndef MYDOCKER_REAP_H
#define MYDOCKER_REAP_H

// Forks for the command: 0 in the child, which is to be it; its pid in the caller; or a negative errno. All signals are
// blocked in the caller from here on.
long fork_command(void);

// Passes signals on and reaps until the command has ended, and ends like it.
__attribute__((noreturn)) void reap_until_end(long command);

#endif
