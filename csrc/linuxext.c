// linuxext.c - mydocker._linux: one function for each system call that CPython lacks, nothing else.
//
// Limited API of Python 3.11. Every function takes plain integers, strings or bytes, releases the
// GIL around calls that may block, and raises OSError with the errno of the call. Constants live in
// mydocker/linux/syscalls.py. Sources: the section 2 man pages, include/uapi/linux/{mount,openat2}.h.

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

// Numbers that are the same on every architecture, for C libraries older than the calls.
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#define SYS_fspick 433
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

static PyObject *failed(void) { return PyErr_SetFromErrno(PyExc_OSError); }

static PyObject *none_or_failed(long result) {
    if (result < 0)
        return failed();
    Py_RETURN_NONE;
}

static PyObject *number_or_failed(long result) {
    if (result < 0)
        return failed();
    return PyLong_FromLong(result);
}

#define BLOCKING(result, call)        \
    do {                              \
        Py_BEGIN_ALLOW_THREADS        \
        (result) = (call);            \
        Py_END_ALLOW_THREADS          \
    } while (0)

// For "O&": the bytes of a path that may be None. Paths need not be UTF-8, which "s" and "z" insist on.
static int optional_path(PyObject *object, void *result) {
    if (object != Py_None)
        return PyUnicode_FSConverter(object, result);
    *(PyObject **)result = NULL;
    return 1;
}

static const char *text_of(PyObject *bytes) { return bytes == NULL ? NULL : PyBytes_AsString(bytes); }

// --- mounts ---------------------------------------------------------------------------------------

static PyObject *py_mount(PyObject *self, PyObject *args) {
    PyObject *source = NULL, *target = NULL, *data = NULL;
    const char *fstype;
    unsigned long flags;
    long result = -1;
    (void)self;
    bool is_parsed = PyArg_ParseTuple(args, "O&O&zkO&:mount", optional_path, &source, PyUnicode_FSConverter, &target, &fstype,
                                      &flags, optional_path, &data);
    if (is_parsed) {
        const char *from = text_of(source), *to = text_of(target), *options = text_of(data);
        BLOCKING(result, mount(from, to, fstype, flags, options));
        if (result < 0)
            failed();
    }
    Py_XDECREF(source);
    Py_XDECREF(target);
    Py_XDECREF(data);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_umount2(PyObject *self, PyObject *args) {
    PyObject *target;
    int flags;
    long result;
    (void)self;
    if (!PyArg_ParseTuple(args, "O&i:umount2", PyUnicode_FSConverter, &target, &flags))
        return NULL;
    const char *path = PyBytes_AsString(target);
    BLOCKING(result, umount2(path, flags));
    if (result < 0)
        failed();
    Py_DECREF(target);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_pivot_root(PyObject *self, PyObject *args) {
    const char *new_root, *put_old;
    (void)self;
    if (!PyArg_ParseTuple(args, "ss:pivot_root", &new_root, &put_old))
        return NULL;
    return none_or_failed(syscall(SYS_pivot_root, new_root, put_old));
}

static PyObject *py_fsopen(PyObject *self, PyObject *args) {
    const char *fstype;
    unsigned int flags;
    (void)self;
    if (!PyArg_ParseTuple(args, "sI:fsopen", &fstype, &flags))
        return NULL;
    return number_or_failed(syscall(SYS_fsopen, fstype, flags));
}

static PyObject *py_fsconfig(PyObject *self, PyObject *args) {
    int fd, aux;
    unsigned int command;
    const char *key, *value;
    long result;
    (void)self;
    if (!PyArg_ParseTuple(args, "iIzzi:fsconfig", &fd, &command, &key, &value, &aux))
        return NULL;
    BLOCKING(result, syscall(SYS_fsconfig, fd, command, key, value, aux));
    return none_or_failed(result);
}

static PyObject *py_fsmount(PyObject *self, PyObject *args) {
    int fd;
    unsigned int flags, attributes;
    (void)self;
    if (!PyArg_ParseTuple(args, "iII:fsmount", &fd, &flags, &attributes))
        return NULL;
    return number_or_failed(syscall(SYS_fsmount, fd, flags, attributes));
}

static PyObject *py_fspick(PyObject *self, PyObject *args) {
    int directory_fd;
    const char *path;
    unsigned int flags;
    (void)self;
    if (!PyArg_ParseTuple(args, "isI:fspick", &directory_fd, &path, &flags))
        return NULL;
    return number_or_failed(syscall(SYS_fspick, directory_fd, path, flags));
}

static PyObject *py_move_mount(PyObject *self, PyObject *args) {
    int from_fd, to_fd;
    const char *from_path, *to_path;
    unsigned int flags;
    (void)self;
    if (!PyArg_ParseTuple(args, "isisI:move_mount", &from_fd, &from_path, &to_fd, &to_path, &flags))
        return NULL;
    return none_or_failed(syscall(SYS_move_mount, from_fd, from_path, to_fd, to_path, flags));
}

static PyObject *py_open_tree(PyObject *self, PyObject *args) {
    int directory_fd;
    PyObject *path_bytes;
    unsigned int flags;
    (void)self;
    if (!PyArg_ParseTuple(args, "iO&I:open_tree", &directory_fd, PyUnicode_FSConverter, &path_bytes, &flags))
        return NULL;
    long result = syscall(SYS_open_tree, directory_fd, PyBytes_AsString(path_bytes), flags);
    if (result < 0)
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path_bytes);
    Py_DECREF(path_bytes);
    return result < 0 ? NULL : PyLong_FromLong(result);
}

// struct mount_attr, spelled out because <linux/mount.h> and <sys/mount.h> clash in older C libraries.
struct attributes {
    uint64_t set, clear, propagation, userns_fd;
};

static PyObject *py_mount_setattr(PyObject *self, PyObject *args) {
    int directory_fd;
    const char *path;
    unsigned int flags;
    unsigned long long set, clear, propagation, userns_fd;
    (void)self;
    if (!PyArg_ParseTuple(args, "isIKKKK:mount_setattr", &directory_fd, &path, &flags, &set, &clear, &propagation,
                          &userns_fd))
        return NULL;
    struct attributes attributes = {.set = set, .clear = clear, .propagation = propagation, .userns_fd = userns_fd};
    return none_or_failed(syscall(SYS_mount_setattr, directory_fd, path, flags, &attributes, sizeof attributes));
}

// --- files ----------------------------------------------------------------------------------------

static PyObject *py_openat2(PyObject *self, PyObject *args) {
    int directory_fd;
    PyObject *path_bytes;
    unsigned long long flags, mode, resolve;
    long result;
    (void)self;
    if (!PyArg_ParseTuple(args, "iO&KKK:openat2", &directory_fd, PyUnicode_FSConverter, &path_bytes, &flags, &mode,
                          &resolve))
        return NULL;
    const char *path = PyBytes_AsString(path_bytes);
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    // EAGAIN: a rename somewhere on the path while RESOLVE_IN_ROOT or _BENEATH was walked; openat2(2)
    // says to try again. Bounded, because whoever renames may be the container.
    for (int tries = 0; tries < 128; tries++) {
        BLOCKING(result, syscall(SYS_openat2, directory_fd, path, &how, sizeof how));
        if (result >= 0 || errno != EAGAIN)
            break;
    }
    if (result < 0)
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path_bytes);
    Py_DECREF(path_bytes);
    return result < 0 ? NULL : PyLong_FromLong(result);
}

static PyObject *py_renameat2(PyObject *self, PyObject *args) {
    int old_fd, new_fd;
    PyObject *old_bytes = NULL, *new_bytes = NULL;
    unsigned int flags;
    (void)self;
    if (!PyArg_ParseTuple(args, "iO&iO&I:renameat2", &old_fd, PyUnicode_FSConverter, &old_bytes, &new_fd,
                          PyUnicode_FSConverter, &new_bytes, &flags)) {
        Py_XDECREF(old_bytes);
        return NULL;
    }
    long result =
        syscall(SYS_renameat2, old_fd, PyBytes_AsString(old_bytes), new_fd, PyBytes_AsString(new_bytes), flags);
    if (result < 0)
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, old_bytes);
    Py_DECREF(old_bytes);
    Py_DECREF(new_bytes);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_close_range(PyObject *self, PyObject *args) {
    unsigned int first, last, flags;
    (void)self;
    if (!PyArg_ParseTuple(args, "III:close_range", &first, &last, &flags))
        return NULL;
    return none_or_failed(syscall(SYS_close_range, first, last, flags));
}

static PyObject *py_madvise(PyObject *self, PyObject *args) {
    unsigned long long address, length;
    int advice;
    long result;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKi:madvise", &address, &length, &advice))
        return NULL;
    BLOCKING(result, madvise((void *)(uintptr_t)address, (size_t)length, advice));
    return none_or_failed(result);
}

// What kind of file system a descriptor is on: os.fstatvfs leaves f_type out.
static PyObject *py_fstatfs_type(PyObject *self, PyObject *args) {
    int fd;
    struct statfs status;
    (void)self;
    if (!PyArg_ParseTuple(args, "i:fstatfs_type", &fd))
        return NULL;
    if (fstatfs(fd, &status) < 0)
        return failed();
    return PyLong_FromUnsignedLong((unsigned long)status.f_type & 0xffffffffUL);
}

static PyObject *py_inotify_init1(PyObject *self, PyObject *args) {
    int flags;
    (void)self;
    if (!PyArg_ParseTuple(args, "i:inotify_init1", &flags))
        return NULL;
    return number_or_failed(inotify_init1(flags));
}

static PyObject *py_inotify_add_watch(PyObject *self, PyObject *args) {
    int fd;
    PyObject *path_bytes;
    unsigned int mask;
    (void)self;
    if (!PyArg_ParseTuple(args, "iO&I:inotify_add_watch", &fd, PyUnicode_FSConverter, &path_bytes, &mask))
        return NULL;
    long result = inotify_add_watch(fd, PyBytes_AsString(path_bytes), mask);
    if (result < 0)
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path_bytes);
    Py_DECREF(path_bytes);
    return result < 0 ? NULL : PyLong_FromLong(result);
}

// --- namespaces and processes ---------------------------------------------------------------------

static PyObject *py_setns(PyObject *self, PyObject *args) {
    int fd, flags;
    (void)self;
    if (!PyArg_ParseTuple(args, "ii:setns", &fd, &flags))
        return NULL;
    return none_or_failed(setns(fd, flags));
}

static PyObject *py_unshare(PyObject *self, PyObject *args) {
    int flags;
    long result;
    (void)self;
    if (!PyArg_ParseTuple(args, "i:unshare", &flags))
        return NULL;
    BLOCKING(result, unshare(flags));
    return none_or_failed(result);
}

// clone3(2) used as fork(2) with namespaces: the child returns from this call too, with (0, -1).
// Only for single-threaded callers, as with os.fork; the C library's own fork handlers do not run,
// and none of ours are registered.
static PyObject *py_clone3(PyObject *self, PyObject *args) {
    unsigned long long flags;
    int cgroup_fd = -1, pidfd = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, "K|i:clone3", &flags, &cgroup_fd))
        return NULL;
    struct clone_args clone = {
        .flags = flags | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        // A sibling (CLONE_PARENT) ends with the signal of its maker, and may not say another.
        .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
    };
    if (cgroup_fd >= 0) {
        clone.flags |= CLONE_INTO_CGROUP;
        clone.cgroup = (uint64_t)cgroup_fd;
    }
    PyOS_BeforeFork();
    long pid = syscall(SYS_clone3, &clone, sizeof clone);
    int saved = errno;
    if (pid == 0)
        PyOS_AfterFork_Child();
    else
        PyOS_AfterFork_Parent();
    errno = saved;
    if (pid < 0)
        return failed();
    return Py_BuildValue("li", pid, pid == 0 ? -1 : pidfd);
}

static PyObject *py_prctl(PyObject *self, PyObject *args) {
    int option;
    unsigned long arg2 = 0, arg3 = 0, arg4 = 0, arg5 = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "i|kkkk:prctl", &option, &arg2, &arg3, &arg4, &arg5))
        return NULL;
    return number_or_failed(prctl(option, arg2, arg3, arg4, arg5));
}

// The name that ps(1) and /proc/PID/comm show; the kernel keeps 15 bytes of it.
static PyObject *py_set_name(PyObject *self, PyObject *args) {
    const char *name;
    (void)self;
    if (!PyArg_ParseTuple(args, "s:set_name", &name))
        return NULL;
    return none_or_failed(prctl(PR_SET_NAME, name, 0, 0, 0));
}

static PyObject *py_capget(PyObject *self, PyObject *args) {
    int pid = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "|i:capget", &pid))
        return NULL;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = pid};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    if (syscall(SYS_capget, &header, data) < 0)
        return failed();
    return Py_BuildValue("KKK", (unsigned long long)data[1].effective << 32 | data[0].effective,
                         (unsigned long long)data[1].permitted << 32 | data[0].permitted,
                         (unsigned long long)data[1].inheritable << 32 | data[0].inheritable);
}

static PyObject *py_capset(PyObject *self, PyObject *args) {
    unsigned long long effective, permitted, inheritable;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKK:capset", &effective, &permitted, &inheritable))
        return NULL;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)effective, .permitted = (uint32_t)permitted, .inheritable = (uint32_t)inheritable},
        {.effective = (uint32_t)(effective >> 32),
         .permitted = (uint32_t)(permitted >> 32),
         .inheritable = (uint32_t)(inheritable >> 32)},
    };
    return none_or_failed(syscall(SYS_capset, &header, data));
}

static PyObject *py_setfsids(PyObject *self, PyObject *args) {
    unsigned int uid, gid;
    (void)self;
    if (!PyArg_ParseTuple(args, "II:setfsids", &uid, &gid))
        return NULL;
    /* Neither call reports a failure: both return what was before, and leave it with an id that is none. */
    setfsgid(gid);
    setfsuid(uid);
    if ((gid_t)setfsgid((gid_t)-1) != gid || (uid_t)setfsuid((uid_t)-1) != uid) {
        errno = EPERM;
        return failed();
    }
    Py_RETURN_NONE;
}

static PyObject *py_sethostname(PyObject *self, PyObject *args) {
    const char *name;
    Py_ssize_t length;
    (void)self;
    if (!PyArg_ParseTuple(args, "s#:sethostname", &name, &length))
        return NULL;
    return none_or_failed(sethostname(name, (size_t)length));
}

// The nodes come as a number: 64 of them are more than any machine has that runs containers in their thousands.
static PyObject *py_set_mempolicy(PyObject *self, PyObject *args) {
    int mode;
    unsigned long long nodes;
    unsigned long mask[2] = {0, 0}; // the kernel reads one bit less than it is told (set_mempolicy(2), "BUGS")
    (void)self;
    if (!PyArg_ParseTuple(args, "iK:set_mempolicy", &mode, &nodes))
        return NULL;
    mask[0] = (unsigned long)nodes;
    return none_or_failed(syscall(SYS_set_mempolicy, mode, nodes ? mask : NULL, nodes ? 65UL : 0UL));
}

static PyObject *py_setdomainname(PyObject *self, PyObject *args) {
    const char *name;
    Py_ssize_t length;
    (void)self;
    if (!PyArg_ParseTuple(args, "s#:setdomainname", &name, &length))
        return NULL;
    return none_or_failed(setdomainname(name, (size_t)length));
}

// --- device programs of cgroups (bpf(2)) ------------------------------------------------------------

// Tries again while the verifier is interrupted by a signal (EAGAIN, Linux 4.20 and later); bounded.
static long call_bpf(int command, union bpf_attr *attr) {
    long result = -1;
    for (int tries = 0; tries < 30; tries++) {
        BLOCKING(result, syscall(SYS_bpf, command, attr, sizeof *attr));
        if (result >= 0 || errno != EAGAIN)
            break;
    }
    return result;
}

static PyObject *py_bpf_prog_load(PyObject *self, PyObject *args) {
    int type;
    const char *instructions, *license;
    Py_ssize_t length;
    union bpf_attr attr;
    (void)self;
    if (!PyArg_ParseTuple(args, "iy#s:bpf_prog_load", &type, &instructions, &length, &license))
        return NULL;
    memset(&attr, 0, sizeof attr);
    attr.prog_type = (uint32_t)type;
    attr.insn_cnt = (uint32_t)((size_t)length / sizeof(struct bpf_insn));
    attr.insns = (uint64_t)(uintptr_t)instructions;
    attr.license = (uint64_t)(uintptr_t)license;
    return number_or_failed(call_bpf(BPF_PROG_LOAD, &attr));
}

static PyObject *py_bpf_prog_attach(PyObject *self, PyObject *args) {
    int target_fd, program_fd, type, replace_fd = 0;
    unsigned int flags;
    union bpf_attr attr;
    (void)self;
    if (!PyArg_ParseTuple(args, "iiiI|i:bpf_prog_attach", &target_fd, &program_fd, &type, &flags, &replace_fd))
        return NULL;
    memset(&attr, 0, sizeof attr);
    attr.target_fd = (uint32_t)target_fd;
    attr.attach_bpf_fd = (uint32_t)program_fd;
    attr.attach_type = (uint32_t)type;
    attr.attach_flags = flags;
    attr.replace_bpf_fd = (uint32_t)replace_fd;
    return none_or_failed(call_bpf(BPF_PROG_ATTACH, &attr));
}

static PyObject *py_bpf_prog_detach(PyObject *self, PyObject *args) {
    int target_fd, program_fd, type;
    union bpf_attr attr;
    (void)self;
    if (!PyArg_ParseTuple(args, "iii:bpf_prog_detach", &target_fd, &program_fd, &type))
        return NULL;
    memset(&attr, 0, sizeof attr);
    attr.target_fd = (uint32_t)target_fd;
    attr.attach_bpf_fd = (uint32_t)program_fd;
    attr.attach_type = (uint32_t)type;
    return none_or_failed(call_bpf(BPF_PROG_DETACH, &attr));
}

static PyObject *py_bpf_prog_query(PyObject *self, PyObject *args) {
    int target_fd, type;
    uint32_t ids[64]; // BPF_CGROUP_MAX_PROGS: a cgroup has no more
    union bpf_attr attr;
    (void)self;
    if (!PyArg_ParseTuple(args, "ii:bpf_prog_query", &target_fd, &type))
        return NULL;
    memset(&attr, 0, sizeof attr);
    attr.query.target_fd = (uint32_t)target_fd;
    attr.query.attach_type = (uint32_t)type;
    attr.query.prog_ids = (uint64_t)(uintptr_t)ids;
    attr.query.prog_cnt = sizeof ids / sizeof ids[0];
    if (call_bpf(BPF_PROG_QUERY, &attr) < 0)
        return failed();
    PyObject *list = PyList_New(0);
    for (uint32_t index = 0; list && index < attr.query.prog_cnt; index++) {
        PyObject *id = PyLong_FromUnsignedLong(ids[index]);
        if (!id || PyList_Append(list, id) < 0)
            Py_CLEAR(list);
        Py_XDECREF(id);
    }
    return list;
}

static PyObject *py_bpf_prog_get_fd_by_id(PyObject *self, PyObject *args) {
    unsigned int id;
    union bpf_attr attr;
    (void)self;
    if (!PyArg_ParseTuple(args, "I:bpf_prog_get_fd_by_id", &id))
        return NULL;
    memset(&attr, 0, sizeof attr);
    attr.prog_id = id;
    return number_or_failed(call_bpf(BPF_PROG_GET_FD_BY_ID, &attr));
}

static PyMethodDef methods[] = {
    {"mount", py_mount, METH_VARARGS, "mount(source, target, fstype, flags, data)"},
    {"umount2", py_umount2, METH_VARARGS, "umount2(target, flags)"},
    {"pivot_root", py_pivot_root, METH_VARARGS, "pivot_root(new_root, put_old)"},
    {"fsopen", py_fsopen, METH_VARARGS, "fsopen(fstype, flags) -> fd"},
    {"fsconfig", py_fsconfig, METH_VARARGS, "fsconfig(fd, command, key, value, aux)"},
    {"fsmount", py_fsmount, METH_VARARGS, "fsmount(fd, flags, attributes) -> fd"},
    {"fspick", py_fspick, METH_VARARGS, "fspick(directory_fd, path, flags) -> fd"},
    {"move_mount", py_move_mount, METH_VARARGS, "move_mount(from_fd, from_path, to_fd, to_path, flags)"},
    {"open_tree", py_open_tree, METH_VARARGS, "open_tree(directory_fd, path, flags) -> fd"},
    {"mount_setattr", py_mount_setattr, METH_VARARGS,
     "mount_setattr(directory_fd, path, flags, set, clear, propagation, userns_fd)"},
    {"openat2", py_openat2, METH_VARARGS, "openat2(directory_fd, path, flags, mode, resolve) -> fd (close-on-exec)"},
    {"renameat2", py_renameat2, METH_VARARGS, "renameat2(old_fd, old_path, new_fd, new_path, flags)"},
    {"close_range", py_close_range, METH_VARARGS, "close_range(first, last, flags)"},
    {"madvise", py_madvise, METH_VARARGS, "madvise(address, length, advice)"},
    {"fstatfs_type", py_fstatfs_type, METH_VARARGS, "fstatfs_type(fd) -> magic number"},
    {"inotify_init1", py_inotify_init1, METH_VARARGS, "inotify_init1(flags) -> fd"},
    {"inotify_add_watch", py_inotify_add_watch, METH_VARARGS, "inotify_add_watch(fd, path, mask) -> watch"},
    {"setns", py_setns, METH_VARARGS, "setns(fd, flags)"},
    {"unshare", py_unshare, METH_VARARGS, "unshare(flags)"},
    {"clone3", py_clone3, METH_VARARGS, "clone3(flags, cgroup_fd=-1) -> (pid, pidfd), (0, -1) in the child"},
    {"prctl", py_prctl, METH_VARARGS, "prctl(option, arg2=0, arg3=0, arg4=0, arg5=0) -> int"},
    {"set_name", py_set_name, METH_VARARGS, "set_name(name): prctl(PR_SET_NAME), of the calling thread"},
    {"capget", py_capget, METH_VARARGS, "capget(pid=0) -> (effective, permitted, inheritable)"},
    {"capset", py_capset, METH_VARARGS, "capset(effective, permitted, inheritable)"},
    {"setfsids", py_setfsids, METH_VARARGS, "setfsids(uid, gid): setfsgid(2) and setfsuid(2), of the calling thread"},
    {"sethostname", py_sethostname, METH_VARARGS, "sethostname(name)"},
    {"set_mempolicy", py_set_mempolicy, METH_VARARGS, "set_mempolicy(mode, nodes)"},
    {"setdomainname", py_setdomainname, METH_VARARGS, "setdomainname(name)"},
    {"bpf_prog_load", py_bpf_prog_load, METH_VARARGS, "bpf_prog_load(type, instructions, license) -> fd (close-on-exec)"},
    {"bpf_prog_attach", py_bpf_prog_attach, METH_VARARGS, "bpf_prog_attach(target_fd, program_fd, type, flags, replace_fd=0)"},
    {"bpf_prog_detach", py_bpf_prog_detach, METH_VARARGS, "bpf_prog_detach(target_fd, program_fd, type)"},
    {"bpf_prog_query", py_bpf_prog_query, METH_VARARGS, "bpf_prog_query(target_fd, type) -> list of program ids"},
    {"bpf_prog_get_fd_by_id", py_bpf_prog_get_fd_by_id, METH_VARARGS, "bpf_prog_get_fd_by_id(id) -> fd (close-on-exec)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_linux",
    .m_doc = "System calls that CPython lacks; see mydocker.linux.syscalls.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__linux(void);
PyMODINIT_FUNC PyInit__linux(void) { return PyModuleDef_Init(&module); }
