"""System calls and constants under the kernel's names; one thin function a call (csrc/linuxext.c).

Source: man-pages section 2 and the kernel's include/uapi. Every function raises OSError.
"""
from __future__ import annotations

from mydocker._linux import (
    bpf_prog_attach,
    bpf_prog_detach,
    bpf_prog_get_fd_by_id,
    bpf_prog_load,
    bpf_prog_query,
    capget,
    capset,
    clone3,
    close_range,
    fsconfig,
    fsmount,
    fsopen,
    fspick,
    fstatfs_type,
    inotify_add_watch,
    inotify_init1,
    madvise,
    mount,
    mount_setattr,
    move_mount,
    open_tree,
    openat2,
    pivot_root,
    prctl,
    renameat2,
    set_mempolicy,
    set_name,
    setdomainname,
    setfsids,
    sethostname,
    setns,
    umount2,
    unshare,
)

__all__ = [
    "bpf_prog_attach", "bpf_prog_detach", "bpf_prog_get_fd_by_id", "bpf_prog_load", "bpf_prog_query",
    "capget", "capset", "clone3", "close_range", "fsconfig", "fsmount", "fsopen", "fspick", "fstatfs_type",
    "inotify_add_watch", "inotify_init1", "madvise", "mount", "mount_setattr", "move_mount", "open_tree", "openat2",
    "pivot_root", "prctl",
    "renameat2", "set_mempolicy", "set_name", "setdomainname", "setfsids", "sethostname", "setns", "umount2", "unshare",
]

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
O_PATH = 0o10000000

# clone3(2), unshare(2), setns(2)
CLONE_PARENT = 0x00008000
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_MOVE = 1 << 13
MS_SHARED = 1 << 20
MS_STRICTATIME = 1 << 24
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# mount_setattr(2), fsmount(2)
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

# fsopen(2), fsconfig(2), fsmount(2), move_mount(2), open_tree(2)
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
FSPICK_CLOEXEC = 1
FSPICK_EMPTY_PATH = 8
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000

# openat2(2)
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# renameat2(2)
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

# prctl(2)
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

# statfs(2) magic numbers, to know what a descriptor really is
PROC_SUPER_MAGIC = 0x9FA0
DEVPTS_SUPER_MAGIC = 0x1CD1

# bpf(2), include/uapi/linux/bpf.h
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
BPF_F_REPLACE = 4
BPF_DEVCG_ACC_MKNOD = 1
BPF_DEVCG_ACC_READ = 2
BPF_DEVCG_ACC_WRITE = 4
BPF_DEVCG_DEV_BLOCK = 1
BPF_DEVCG_DEV_CHAR = 2

# inotify(7)
IN_CLOEXEC = 0o2000000
IN_MODIFY = 0x2
