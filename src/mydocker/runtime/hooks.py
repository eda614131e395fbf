"""Hooks: programs of the host that a bundle wants run at points of a container's life.

    prestart, createRuntime   the creator, in its own namespaces; the container's mounts are made   runtime/create.py
    createContainer           the init, in the container's namespaces, before its root is entered    runtime/init.py
    startContainer            the last stage, inside, after START                                     csrc/init/init.c
    poststart, poststop       whoever starts or deletes                                               runtime/cli

Each gets the state as JSON on its standard input, the environment of its own list and nothing else (ours where it has
no list, as with crun: a script without PATH finds little), no descriptor but the three standard ones, and its time. The
first failure ends the row, but for poststop.

Source: runtime-spec config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
"""
from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # `signal` itself imports enum
import os

from mydocker.base import files, log
from mydocker.base.errors import RuntimeFailed, Timeout
from mydocker.base.jsontext import dumps
from mydocker.linux import syscalls as sc
from mydocker.linux.process import wait_pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mydocker.oci.runtime_spec import Hook, Spec

    from .init import InitOrder

_MAX_OUTPUT_BYTES = 2048
_CLOSE_RANGE_CLOEXEC = 4
#: Signals that Python ignores, and a hook must not inherit ignored.
_DEFAULT_SIGNALS = (13, 25)  # SIGPIPE, SIGXFSZ


def state_of(spec: Spec, *, container_id: str, status: str, pid: int, bundle: str) -> dict[str, Any]:
    """Return a container's state as runtime.md "State" draws it; `pid` 0 is left out."""
    state: dict[str, Any] = {"ociVersion": spec.get("ociVersion", ""), "id": container_id, "status": status}
    if pid:
        state["pid"] = pid
    state["bundle"] = bundle
    if annotations := spec.get("annotations"):
        state["annotations"] = annotations
    return state


def run_hooks(hooks: Sequence[Hook], state: Mapping[str, Any], *, kind: str) -> None:
    """Run the hooks of one kind in their order. Raises at the first that fails, Timeout when one takes too long."""
    for index in range(len(hooks)):
        run_hook(hooks, index, state, kind=kind)


def run_hook(hooks: Sequence[Hook], index: int, state: Mapping[str, Any], *, kind: str) -> None:
    """Run one of the hooks of a kind. Raises as run_program does."""
    hook = hooks[index]
    log.debug("hook", kind=kind, path=hook["path"])
    listed = hook.get("env")
    env = dict(os.environ) if listed is None else dict(item.split("=", 1) for item in listed if "=" in item)
    run_program(
        hook.get("args") or [hook["path"]], path=hook["path"], env=env, stdin=dumps(dict(state)).encode(),
        timeout_s=hook.get("timeout"), what=f"error running {kind} hook #{index}: {hook['path']}")  # runc's words


def open_hook_files(order: InitOrder) -> tuple[int, int]:
    """Return memory files for the startContainer hooks: the state to read, and one to write to. The last stage closes them."""
    # Where the last stage is still to enter the pid namespace, its pid in there is nobody's to know.
    pid = os.getpid() if order.pid_namespace_fd < 0 else 0
    state = state_of(order.spec, container_id=order.container_id, status="created", pid=pid, bundle=order.bundle)
    source = os.memfd_create("state")
    files.write_all(source, dumps(state).encode())
    return source, os.memfd_create("output")


def run_program(
    argv: Sequence[str], *, what: str, path: str = "", env: Mapping[str, str] | None = None, stdin: bytes = b"",
    timeout_s: float | None = None,
) -> None:
    """Run a program of the host to its end. Raises RuntimeFailed with the end of its output, Timeout."""
    # Memory files and not pipes: whatever the program reads or writes, neither side waits for the other.
    source, sink = os.memfd_create("stdin"), os.memfd_create("output")
    try:
        files.write_all(source, stdin)
        os.lseek(source, 0, os.SEEK_SET)
        sc.close_range(3, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)  # whatever our caller left open is no business of the program's
        pid = _spawn(path or argv[0], argv, env or {}, source, sink, what)
        code = _wait(pid, timeout_s, what)
        if code:
            raise RuntimeFailed(f"{what}: {_describe_end(code)}{_end_of(sink)}")
    finally:
        os.close(source)
        os.close(sink)


def _spawn(path: str, argv: Sequence[str], env: Mapping[str, str], source: int, sink: int, what: str) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, sink, 1), (os.POSIX_SPAWN_DUP2, sink, 2)]
    try:
        return os.posix_spawn(path, list(argv), env, file_actions=actions, setsigmask=(), setsigdef=_DEFAULT_SIGNALS)
    except FileNotFoundError:
        raise RuntimeFailed(f"{what}: no such file or directory") from None  # not the kind of the command's own absence
    except OSError as error:
        raise RuntimeFailed(f"{what}: {os.strerror(error.errno or 0)}") from error
    except ValueError as error:  # an empty name, which posix_spawn of Python refuses itself
        raise RuntimeFailed(f"{what}: {error}") from error


def _wait(pid: int, timeout_s: float | None, what: str) -> int:
    """Reap a child; return its exit code, negative for a signal. Raises Timeout, after having killed it."""
    if timeout_s is not None:
        pidfd = os.pidfd_open(pid)
        try:
            if not wait_pidfd(pidfd, timeout_s):
                os.kill(pid, 9)  # our own child, not reaped: the pid is still its own
                os.waitpid(pid, 0)
                raise Timeout(f"{what}: killed, as it ran past its timeout of {timeout_s} s")
        finally:
            os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _describe_end(code: int) -> str:
    if code > 0:
        return f"exit status {code}"
    return f"killed by signal {-code} ({(signal.strsignal(-code) or '').lower()})"


def _end_of(fd: int) -> str:
    size = os.fstat(fd).st_size
    text = os.pread(fd, _MAX_OUTPUT_BYTES, max(size - _MAX_OUTPUT_BYTES, 0)).decode("utf-8", "replace").strip()
    return f", output: {text}" if text else ""


