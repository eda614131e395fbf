"""The engine's default seccomp profile: what a container may call when nobody says anything. Data and one pure function.

An allow list: everything else is EPERM, and calls newer than all that is listed are ENOSYS (runtime/seccomp_compiler.py).
Kept as tight as Docker's (moby/profiles, seccomp/default.json, June 2026), which tests/unit/engine/test_seccomp_default.py
holds it against. Not in it, on purpose: io_uring and userfaultfd (kernel attack surface), keyctl, add_key and request_key
(keyrings have no namespace), clone3 without CAP_SYS_ADMIN (its flags are behind a pointer, where no filter can look), the
mount and namespace calls, bpf, perf_event_open, module loading and kexec.
"""
from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from mydocker.oci.runtime_spec import Seccomp, SeccompArg, SeccompRule

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"

#: uname(2)'s machine -> the architectures whose calls are looked at, the native one first. Any other gets the process killed.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "mips64": ("SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64",),
}

_ALWAYS = (
    # descriptors and their content
    "_llseek cachestat close close_range copy_file_range creat dup dup2 dup3 fadvise64 fadvise64_64 fallocate fcntl "
    "fcntl64 fdatasync flock fsync ftruncate ftruncate64 ioctl lseek open openat openat2 pipe pipe2 pread64 preadv "
    "preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 splice sync sync_file_range syncfs tee "
    "truncate truncate64 vmsplice write writev "
    # directories and names
    "chdir fchdir getcwd getdents getdents64 link linkat mkdir mkdirat mknod mknodat name_to_handle_at readlink "
    "readlinkat rename renameat renameat2 rmdir symlink symlinkat umask unlink unlinkat "
    # attributes of files and mounts
    "access chmod chown chown32 faccessat faccessat2 fchmod fchmodat fchmodat2 fchown fchown32 fchownat fgetxattr "
    "flistxattr fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 futimesat getxattr getxattrat lchown "
    "lchown32 lgetxattr listmount listxattr listxattrat llistxattr lremovexattr lsetxattr lstat lstat64 newfstatat "
    "removexattr removexattrat setxattr setxattrat stat stat64 statfs statfs64 statmount statx utime utimensat "
    "utimensat_time64 utimes "
    # waiting for events
    "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old "
    "eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy "
    "io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit poll ppoll ppoll_time64 pselect6 "
    "pselect6_time64 select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
    "timerfd_settime64 "
    # memory
    "brk getrandom madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap "
    "mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease "
    "remap_file_pages "
    # processes and threads
    "execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake "
    "get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getsid gettid kill "
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open pidfd_send_signal prctl "
    "restart_syscall riscv_hwprobe rseq seccomp set_robust_list set_thread_area set_tid_address setpgid setpriority "
    "setsid tgkill tkill uretprobe vfork wait4 waitid waitpid "
    # signals
    "alarm pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
    "rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn "
    # users, groups, capabilities
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 "
    "getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups "
    "setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32 "
    # scheduling and limits
    "getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max sched_get_priority_min "
    "sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval "
    "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield "
    "setrlimit sysinfo times ugetrlimit uname "
    # time; setting it needs its capability all the same
    "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 "
    "clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete "
    "timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 "
    # sockets, but for making them
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 "
    "recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair "
    # System V and POSIX interprocess communication
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 "
    "mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget "
    # Another process' memory: safe since Linux 4.8, where a filter looks at what the tracer made of a call; clone3, which the
    # runtime needs, is younger.
    "process_vm_readv process_vm_writev ptrace"
).split()

#: Calls of one architecture only.
_BY_MACHINE = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    "ppc64le": "sync_file_range2 swapcontext",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "riscv64": "riscv_flush_icache",
}

#: What a capability is for is allowed to who has it in the bounding set.
_BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules "
        "lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname "
        "sethostname setns syslog umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

#: Socket families without a network namespace, or with a history: AF_ALG (the kernel's crypto), AF_VSOCK (the hypervisor).
_AF_ALG, _AF_VSOCK = 38, 40
#: Personalities that only change what a program is told: none, UNAME26 and PER_LINUX32, and the question which it is.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
#: CLONE_NEW* of mount, cgroup, uts, ipc, user, pid and network: clone may not make namespaces.
_NAMESPACE_FLAGS = 0x7E020000


def default_profile(capabilities: Iterable[str], machine: str) -> Seccomp:
    """Return the `linux.seccomp` section for a container with these capabilities in its bounding set."""
    held = set(capabilities)
    names = [*_ALWAYS, *_BY_MACHINE.get(machine, "").split()]
    for capability, calls in _BY_CAPABILITY.items():
        if capability in held:
            names += calls.split()
    rules: list[SeccompRule] = [{"names": list(dict.fromkeys(names)), "action": ALLOW}]
    rules += (_only("socket", 0, "SCMP_CMP_LT", _AF_ALG), _only("socket", 0, "SCMP_CMP_EQ", _AF_ALG + 1))
    rules.append(_only("socket", 0, "SCMP_CMP_GT", _AF_VSOCK))
    rules += (_only("personality", 0, "SCMP_CMP_EQ", value) for value in _PERSONALITIES)
    if "CAP_SYS_ADMIN" not in held:
        # On s390 the flags are clone's second argument.
        rules.append(_only("clone", 1 if machine == "s390x" else 0, "SCMP_CMP_MASKED_EQ", _NAMESPACE_FLAGS))
        # ENOSYS, so that a C library falls back to clone.
        rules.append({"names": ["clone3"], "action": ERRNO, "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": ERRNO, "defaultErrnoRet": errno.EPERM,
        "architectures": list(ARCHITECTURES.get(machine, ())), "syscalls": rules,
    }


def _only(name: str, index: int, operator: str, value: int) -> SeccompRule:
    condition: SeccompArg = {"index": index, "value": value, "op": operator}
    return {"names": [name], "action": ALLOW, "args": [condition]}
