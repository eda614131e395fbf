"""`mydocker cp`."""
from __future__ import annotations

import os
import time

from mydocker.base.errors import InvalidRequest
from mydocker.base.files import write_all
from mydocker.base.units import format_size
from mydocker.engine.copy_rules import split_argument

from ..output import OutputClosed, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.engine.containers import Container
    from mydocker.engine.copying import Copied

    from ..context import Context
    from ..output import Output

_STDIN, _REFRESH_S = 0, 0.1


def run(context: Context) -> int:
    """Copy between a container and the host; `-` is a tar on standard input or output."""
    source, destination = context.arguments.positionals
    _refuse_empty(source, destination)
    (from_name, from_path), (to_name, to_path) = split_argument(source), split_argument(destination)
    if from_name and to_name:
        raise InvalidRequest(
            "cp: copying between containers is not supported", hint="pipe it: mydocker cp A:/dir - | mydocker cp - B:/")
    if not from_name and not to_name:
        raise InvalidRequest("cp: must specify at least one container source", hint="write CONTAINER:PATH")
    if from_name:
        return _copy_out(context, context.engine.containers.get(from_name), from_path, to_path)
    return _copy_in(context, context.engine.containers.get(to_name), from_path, to_path)


def _refuse_empty(source: str, destination: str) -> None:
    for what, word in (("source", source), ("destination", destination)):
        if not word:
            raise InvalidRequest(f"cp: {what} can not be empty")


def _copy_out(context: Context, container: Container, path: str, target: str) -> int:
    arguments = context.arguments
    if target == "-":
        _stream(context, container, path)
        return 0
    with _Progress(context, "from") as progress:
        copied = container.copy_out(
            path, target, archive=arguments["archive"], follow=arguments["follow_link"], on_bytes=progress.show)
        progress.finish(copied, copied.path)
    return 0


def _stream(context: Context, container: Container, path: str) -> None:
    fd = context.output.fd
    if os.isatty(fd):
        raise InvalidRequest("cp: standard output is a terminal", hint="redirect it, or name a file or directory")
    with container.get_archive(path, follow=context.arguments["follow_link"]) as tar:
        try:
            for chunk in tar:
                write_all(fd, chunk)
        except BrokenPipeError:
            raise OutputClosed from None


def _copy_in(context: Context, container: Container, source: str, path: str) -> int:
    arguments = context.arguments
    with _Progress(context, "to") as progress:
        if source == "-":
            copied = container.put_archive(path, _STDIN, on_bytes=progress.show)
        else:
            copied = container.copy_in(
                source, path, archive=arguments["archive"], follow=arguments["follow_link"], on_bytes=progress.show)
        progress.finish(copied, f"{container.name}:{path}")
    return 0


class _Progress:
    """One line on the terminal that tells how much was copied; nothing where there is none, or none is wanted."""

    def __init__(self, context: Context, direction: str) -> None:
        self._output: Output = context.output
        self._is_shown = not context.arguments["quiet"] and os.isatty(context.output.error_fd)
        self._heading = f"Copying {direction} container"
        self._next_s = time.monotonic() + _REFRESH_S
        self._has_line = False

    def show(self, size_bytes: int) -> None:
        """Tell how much has been read, at most ten times a second."""
        if self._is_shown and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _REFRESH_S
            self._has_line = True
            self._write(f"\r\x1b[K{self._heading} - {format_size(size_bytes)}")

    def finish(self, copied: Copied, place: str) -> None:
        """Tell what was done."""
        if self._is_shown:
            self._clear()
            self._write(f"Successfully copied {format_size(copied.tar_bytes)} to {one_line(place)}\n")

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._has_line:
            self._has_line = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._output.write_error_bytes(text.encode("utf-8", "surrogateescape"))
