"""A small binding of libseccomp (libseccomp.so.2), imported only to compile a filter that is not in the cache.

Owns the library's handle and its C types; knows nothing of the runtime spec. ctypes costs 3 ms to import,
which is why nothing on the start path imports this module at its top.

Source: seccomp.h of libseccomp 2.5, seccomp_rule_add(3), seccomp_export_bpf(3).
"""
from __future__ import annotations

import ctypes
import os

from mydocker.base.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

LIBRARY = "libseccomp.so.2"
_SCMP_ERROR = -1  # __NR_SCMP_ERROR: no architecture has a call of this name
_CTL_OPTIMIZE, _BINARY_TREE = 8, 2
_EEXIST = 17


class _ArgCmp(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("datum_a", ctypes.c_uint64), ("datum_b", ctypes.c_uint64))


class _Version(ctypes.Structure):
    """struct scmp_version."""

    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


def _open() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise Unsupported(
            f"linux.seccomp: {LIBRARY} is not on this machine", hint="install libseccomp2, or run without a filter") from None
    library.seccomp_version.restype = ctypes.POINTER(_Version)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_arch_native.restype = ctypes.c_uint32
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_release.restype = None
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    try:
        library.seccomp_rule_add_array.argtypes = (
            ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_ArgCmp))
    except AttributeError:
        raise Unsupported(f"linux.seccomp: {LIBRARY} is older than 2.1") from None
    return library


class Library:
    """The opened library: its version, its names, and `new_filter`."""

    def __init__(self) -> None:
        self._library = _open()
        version = self._library.seccomp_version().contents
        self.version: tuple[int, int, int] = (version.major, version.minor, version.micro)
        self.native_arch: int = self._library.seccomp_arch_native()

    def resolve(self, name: str) -> int | None:
        """Return the number that rules use for a system call (a negative one where it is another architecture's), or None."""
        number: int = self._library.seccomp_syscall_resolve_name(os.fsencode(name))
        return None if number == _SCMP_ERROR else number

    def resolve_for(self, arch: int, name: str) -> int:
        """Return a system call's number on one architecture; negative when it has none."""
        number: int = self._library.seccomp_syscall_resolve_name_arch(arch, os.fsencode(name))
        return number

    def new_filter(self, default_action: int) -> FilterBuilder:
        """Return an empty filter for the native architecture; it is a context manager. Raises OSError."""
        return FilterBuilder(self._library, default_action)

    def file_path(self) -> str:
        """Return where the library was loaded from, or '' when it cannot be told."""
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as stream:
            return next((line.rstrip("\n").split(None, 5)[5] for line in stream if "/libseccomp." in line), "")


class FilterBuilder:
    """One scmp_filter_ctx. Every method raises OSError with the library's error number."""

    def __init__(self, library: ctypes.CDLL, default_action: int) -> None:
        self._library = library
        self._context = library.seccomp_init(default_action)
        if not self._context:
            raise OSError(22, "seccomp_init")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.seccomp_release(self._context)

    def add_arch(self, arch: int) -> None:
        """Let the filter's rules count for a further architecture, too. One that is there already stays."""
        if (code := self._library.seccomp_arch_add(self._context, arch)) not in (0, -_EEXIST):
            raise OSError(-code, os.strerror(-code))

    def use_binary_tree(self) -> None:
        """Let calls be found by bisection where the library can (2.5), else in a row; no failure."""
        self._library.seccomp_attr_set(self._context, _CTL_OPTIMIZE, _BINARY_TREE)

    def add_rule(self, action: int, number: int, conditions: Sequence[tuple[int, int, int, int]]) -> None:
        """Add a rule; each condition is (argument, operator, datum_a, datum_b), and all must hold."""
        array = (_ArgCmp * len(conditions))(*(_ArgCmp(*condition) for condition in conditions))
        if code := self._library.seccomp_rule_add_array(self._context, action, number, len(conditions), array):
            raise OSError(-code, os.strerror(-code))

    def export(self) -> bytes:
        """Return the program: an array of struct sock_filter."""
        fd = os.memfd_create("mydocker-seccomp", 1)  # MFD_CLOEXEC
        try:
            if code := self._library.seccomp_export_bpf(self._context, fd):
                raise OSError(-code, os.strerror(-code))
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)
