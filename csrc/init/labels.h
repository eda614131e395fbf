// labels.h - what a Linux security module is told of the command: an AppArmor profile, SELinux labels.
//
// They are written to this thread's attributes in /proc. /proc is the container's by now, and another container
// that shares a volume could have mounted something else on a file of it, which would then get the word and the
// command no confinement (CVE-2025-52881). So the path begins at what must be the root of a procfs, crosses no
// mount and follows no magic link (openat2(2), Linux 5.6).
#ifndef MYDOCKER_LABELS_H
#define MYDOCKER_LABELS_H

enum { PROC_ROOT_INODE = 1, PROC_MAGIC = 0x9fa0, HANDLE_ONLY = 010000000 /* O_PATH */ };

static long open_beneath(int directory, const char *path, uint64_t flags, uint64_t resolve) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
    return sys(SYS_openat2, directory, (long)path, (long)&how, sizeof how, 0);
}

// The root of the container's procfs, or a negative errno: ENXIO when /proc is something else.
static long open_procfs(void) {
    struct stat status;
    struct statfs kind;
    long fd = open_beneath(AT_FDCWD, "/proc", HANDLE_ONLY | O_DIRECTORY, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
    if (fd < 0)
        return fd;
    long result = sys(SYS_fstat, fd, (long)&status, 0, 0, 0);
    if (result == 0)
        result = sys(SYS_fstatfs, fd, (long)&kind, 0, 0, 0);
    if (result == 0 && kind.f_type == PROC_MAGIC && status.st_ino == PROC_ROOT_INODE)
        return fd;
    (void)sys(SYS_close, fd, 0, 0, 0, 0);
    return result < 0 ? result : -ENXIO;
}

static long open_attribute(const char *path, const char *older_path) {
    const uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    long procfs = open_procfs();
    if (procfs < 0)
        return procfs;
    long fd = open_beneath((int)procfs, path, O_WRONLY, resolve);
    if (fd == -ENOENT && older_path)
        fd = open_beneath((int)procfs, older_path, O_WRONLY, resolve);
    (void)sys(SYS_close, procfs, 0, 0, 0, 0);
    return fd;
}

// The word is `text`; an error names `field` and `label`.
static void write_attribute(const struct stage *stage, long fd, const char *text, const char *field, const char *label) {
    long result = fd < 0 ? fd : sys(SYS_write, fd, (long)text, length(text), 0, 0);
    if (result < 0)
        fail(stage, "RuntimeFailed", result, field, label);
    check(stage, sys(SYS_close, fd, 0, 0, 0, 0), field);
}

static void write_profile(const struct stage *stage, long fd, const char *verb) {
    char text[PATH_BYTES];
    char *at = append(text, text + sizeof text - 1, verb);
    *append(at, text + sizeof text - 1, stage->apparmor) = 0;
    write_attribute(stage, fd, text, "process.apparmorProfile: ", stage->apparmor);
}

// For the execve of the command, which is the next one.
static void label_command(const struct stage *stage) {
    if (*stage->apparmor)
        write_profile(stage, open_attribute("thread-self/attr/apparmor/exec", "thread-self/attr/exec"), "exec ");
    if (*stage->selinux)
        write_attribute(stage, open_attribute("thread-self/attr/exec", NULL), stage->selinux, "process.selinuxLabel: ",
                        stage->selinux);
}

// For the small process 1 of `--init`, which executes nothing any more.
static void label_reaper(const struct stage *stage) {
    if (*stage->apparmor)
        write_profile(stage, open_attribute("thread-self/attr/apparmor/current", "thread-self/attr/current"), "changeprofile ");
}

// A keyring of the host's session would be shared with the container; old kernels lack the call.
static void join_keyring(const struct stage *stage) {
    if (*stage->selinux)
        write_attribute(stage, open_attribute("thread-self/attr/keycreate", NULL), stage->selinux,
                        "label the session keyring with process.selinuxLabel: ", stage->selinux);
    (void)sys(SYS_keyctl, JOIN_SESSION_KEYRING, 0, 0, 0, 0);
    if (*stage->selinux)
        write_attribute(stage, open_attribute("thread-self/attr/keycreate", NULL), "\n", "reset the label of keyrings", "");
}

#endif
