"""mydocker: a daemonless container engine. `from mydocker import Engine`."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.base.errors import (
        AlreadyInState,
        CommandNotExecutable,
        CommandNotFound,
        Conflict,
        Corrupt,
        Denied,
        InvalidRequest,
        MydockerError,
        NotFound,
        RuntimeFailed,
        Timeout,
        Unavailable,
        Unsupported,
    )
    from mydocker.base.version import VERSION as __version__
    from mydocker.engine.containers import Container
    from mydocker.engine.engine import Engine
    from mydocker.engine.execs import ExecResult
    from mydocker.engine.sessions import LiveSession

__all__ = [
    "AlreadyInState", "CommandNotExecutable", "CommandNotFound", "Conflict", "Container", "Corrupt", "Denied", "Engine",
    "ExecResult", "InvalidRequest", "LiveSession", "MydockerError", "NotFound", "RuntimeFailed", "Timeout", "Unavailable",
    "Unsupported", "__version__",
]

_HOMES = {
    "Container": "engine.containers", "Engine": "engine.engine", "ExecResult": "engine.execs",
    "LiveSession": "engine.sessions",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562): a command pays for what it uses."""
    if name not in __all__:
        raise AttributeError(f"module 'mydocker' has no attribute {name!r}")
    from importlib import import_module

    if name == "__version__":
        value: object = import_module("mydocker.base.version").VERSION
    else:
        value = getattr(import_module(f"mydocker.{_HOMES.get(name, 'base.errors')}"), name)
    globals()[name] = value
    return value
