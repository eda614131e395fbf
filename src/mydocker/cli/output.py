"""The sole writer of standard output and of error lines.

Bytes are gathered and written with write(2): no text layer whose encoding depends on the locale, nothing
left to flush at interpreter shutdown, nothing written twice by a forked child. Cells of tables lose their
control characters here, so that no container writes escape sequences to a terminal through its name or command.
"""
from __future__ import annotations

import os

from mydocker.base import jsontext
from mydocker.base.files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_FLUSH_AT_BYTES = 1 << 16
_GAP = "   "


class OutputClosed(Exception):
    """Whoever read standard output has gone (EPIPE): the command ends quietly, as by SIGPIPE."""


class Output:
    """Standard output and error of one command. Raises OutputClosed, OSError (disk full) when written."""

    __slots__ = ("_chunks", "_size_bytes", "error_fd", "fd")

    def __init__(self, fd: int = 1, error_fd: int = 2) -> None:
        self.fd = fd
        self.error_fd = error_fd
        self._chunks: list[bytes] = []
        self._size_bytes = 0

    def write_bytes(self, data: bytes) -> None:
        """Gather bytes for standard output; they go out at 64 KiB or with `flush`."""
        self._chunks.append(data)
        self._size_bytes += len(data)
        if self._size_bytes >= _FLUSH_AT_BYTES:
            self.flush()

    def line(self, text: str) -> None:
        """Gather one line. Lone surrogates (bytes that were no UTF-8) go out as the bytes they were."""
        self.write_bytes(encode(text) + b"\n")

    def json(self, value: Any) -> None:
        """Gather a JSON document, indented for people."""
        import json  # cold: indented text is what the quick encoder lacks

        # As jsontext does it: JSON is UTF-8, whatever bytes a container was given.
        self.write_bytes(f"{json.dumps(value, indent=4, ensure_ascii=False)}\n".encode("utf-8", "backslashreplace"))

    def json_line(self, value: Any) -> None:
        """Gather a JSON document as one line."""
        self.line(jsontext.dumps(value))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Gather an aligned table."""
        for text in format_table(headers, rows):
            self.line(text)

    def flush(self) -> None:
        """Write what was gathered."""
        chunks, self._chunks, self._size_bytes = self._chunks, [], 0
        if not chunks:
            return
        try:
            write_all(self.fd, b"".join(chunks))
        except BrokenPipeError:
            raise OutputClosed from None

    def write_error_bytes(self, data: bytes) -> None:
        """Write bytes to standard error, after what standard output has coming. Raises OutputClosed."""
        self.flush()
        try:
            write_all(self.error_fd, data)
        except BrokenPipeError:
            raise OutputClosed from None

    def error(self, message: str, hint: str = "") -> None:
        """Write the one line of an error: what is wrong, and the way out. Never raises."""
        self._tell(f"mydocker: {message}", hint)

    def warning(self, message: str, hint: str = "") -> None:
        """Write the one line of a warning, as of an error."""
        self._tell(f"mydocker: warning: {message}", hint)

    def _tell(self, message: str, hint: str) -> None:
        text = one_line(f"{message}; {hint}" if hint else message)
        try:
            self.flush()
        except (OutputClosed, OSError):
            pass  # the error itself is the news
        try:
            write_all(self.error_fd, encode(text) + b"\n")
        except OSError:
            pass  # nobody is left to read it; the exit code still tells


def encode(text: str) -> bytes:
    """Return the bytes of a text; lone surrogates of file names and arguments become their bytes again."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte: JSON text can hold them
        return text.encode("utf-8", "replace")


def one_line(text: str) -> str:
    """Return text with line breaks and other control characters shown as escapes (`\\n`, `\\x1b`)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or "\udc80" <= char <= "\udcff" else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def format_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table: columns as wide as their widest cell, no blanks at the end of a line."""
    table = [list(headers)] + [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(headers))]
    return [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    ]


def shorten(text: str, width: int) -> str:
    """Return text of at most `width` characters, ending in an ellipsis when something was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def stdout_is_terminal() -> bool:
    """Tell whether standard output is a terminal."""
    return os.isatty(1)
