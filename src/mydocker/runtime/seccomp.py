"""`linux.seccomp` of a runtime spec -> the filter that the last stage loads; compiled once, then from a cache.

Owns the cache of compiled filters, a directory that the caller names (0700, entries appear by rename, any of
them may be removed at any time):

    <key>      32 hexadecimal digits: a hash of the section and the machine's architecture
               BLAKE2 of the rest | "<library path> <bytes> <mtime ns>\n" | struct sock_filter[]

An entry counts only while its hash is right and the library that compiled it is the one installed: a newer
one knows more system calls. Compiling takes 10 ms and more (seccomp_compiler.py); a hit costs the
hash and four system calls.

Source: runtime-spec config-linux.md "Seccomp", seccomp(2).
"""
from __future__ import annotations

import os
from _blake2 import blake2b  # hashlib would load libcrypto

from mydocker.base import files, jsontext, log
from mydocker.base.errors import Corrupt, InvalidRequest
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Seccomp

FLAG_LOG = 1 << 1
FLAG_SPEC_ALLOW = 1 << 2
FLAG_NEW_LISTENER = 1 << 3
FLAG_WAIT_KILLABLE_RECV = 1 << 5
#: What `linux.seccomp.flags` may say. TSYNC has no meaning in a process of one thread that is about to execve.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
}
NOTIFY = "SCMP_ACT_NOTIFY"

#: Part of every key: to be raised when compiling the same section gives another program.
_REVISION = "mydocker-bpf-1"
_DIGEST_BYTES = 32
_MAX_FILE_BYTES = 1 << 16  # 4096 instructions, which is all the kernel takes, are 32 KiB
_MAX_ENTRIES = 256


class Filter(Record):
    """A filter ready to be loaded: `program` is an array of struct sock_filter, `flags` are seccomp(2)'s.

    `listener_path` names the socket that gets the notification descriptor, when a rule asks for one.
    """

    program: bytes = b""
    flags: int = 0
    listener_path: str = ""
    listener_metadata: str = ""


NO_FILTER = Filter()


def prepare_filter(section: Seccomp | None, cache_directory: str = "") -> Filter:
    """Return the filter of a section; an empty one for no section. Without a directory nothing is cached.

    Raises InvalidRequest and Unsupported, which name the field.
    """
    # As in runc: a section with no default action and no rules is none.
    if not section or not (section.get("defaultAction") or section.get("syscalls")):
        return NO_FILTER
    flags = filter_flags(section)
    key = cache_key(section)
    program = _load(f"{cache_directory}/{key}") if cache_directory else b""
    if not program:
        program = _compile(section, cache_directory, key)
    if not flags & FLAG_NEW_LISTENER:  # a path that no rule has a use for is no error in runc and crun
        return Filter(program=program, flags=flags)
    return Filter(
        program=program, flags=flags, listener_path=section["listenerPath"],
        listener_metadata=section.get("listenerMetadata", ""))


def filter_flags(section: Seccomp) -> int:
    """Return the flags for seccomp(2). Raises InvalidRequest for one that is not known."""
    # Without a word on flags Spectre mitigation by filter is left off, as in runc and crun: it costs up to a third.
    flags = FLAG_SPEC_ALLOW if section.get("flags") is None else 0
    for name in section.get("flags") or ():
        if name not in FLAGS:
            raise InvalidRequest(f"linux.seccomp.flags: {name!r} is not a flag")
        flags |= FLAGS[name]
    if any(rule.get("action") == NOTIFY for rule in section.get("syscalls") or ()):
        if not section.get("listenerPath"):
            raise InvalidRequest(f"linux.seccomp.listenerPath: missing, and a rule says {NOTIFY}")
        return flags | FLAG_NEW_LISTENER
    return flags & ~FLAG_WAIT_KILLABLE_RECV  # nobody to wait for, and the kernel refuses it without a listener


def cache_key(section: Seccomp) -> str:
    """Return the name under which a section's program is kept."""
    text = f"{_REVISION} {os.uname().machine} {jsontext.dumps(section)}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _load(path: str) -> bytes:
    """Return the program of an entry; nothing when it is missing, spoiled, or made by another library."""
    try:
        content = files.read_bytes(path, limit_bytes=_MAX_FILE_BYTES)
    except (OSError, Corrupt):
        return b""  # missing, or too large to be one of ours: it is made anew
    header, newline, program = content[_DIGEST_BYTES:].partition(b"\n")
    if not newline or not program or len(program) % 8 or content[:_DIGEST_BYTES] != _digest(content[_DIGEST_BYTES:]):
        log.debug("seccomp cache entry is spoiled", path=path)
        return b""
    library = os.fsdecode(header).rpartition(" ")[0].rpartition(" ")[0]
    return program if _identity(library) == header else b""


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _identity(library: str) -> bytes:
    try:
        status = os.stat(library)
    except OSError:
        return b""  # it was removed or moved: then the entry is of another one
    return os.fsencode(f"{library} {status.st_size} {status.st_mtime_ns}")


def _compile(section: Seccomp, cache_directory: str, key: str) -> bytes:
    from .seccomp_compiler import compile_section  # cold: ctypes and libseccomp, for a filter that is not in the cache

    program, library = compile_section(section)
    log.debug("compiled a seccomp filter", instructions=len(program) // 8, library=library)
    if cache_directory and (header := _identity(library)):
        try:
            _save(cache_directory, key, header + b"\n" + program)
        except OSError as error:
            # A full or read-only disk is no reason not to start: the next start compiles again.
            log.debug("cannot keep a seccomp filter", path=f"{cache_directory}/{key}", error=str(error))
    return program


def _save(cache_directory: str, key: str, content: bytes) -> None:
    os.makedirs(cache_directory, mode=0o700, exist_ok=True)
    _make_room(cache_directory)
    files.replace_bytes(f"{cache_directory}/{key}", _digest(content) + content)


def _make_room(cache_directory: str) -> None:
    """Remove everything when there are too many entries: whatever is still in use is compiled again once."""
    names = os.listdir(cache_directory)
    if len(names) < _MAX_ENTRIES:
        return
    for name in names:
        try:
            os.unlink(f"{cache_directory}/{name}")
        except FileNotFoundError:
            pass  # another command was quicker
