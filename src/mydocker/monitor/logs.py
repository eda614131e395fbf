"""Reading container logs: from the start or the end, across rotation, while they grow.

Owns the log's files (csrc/monitor/log.c writes them, and nobody else); takes no lock: a file only
grows, then is renamed, then removed, and is known by its inode. Knows nothing of containers beyond
a callable that says whether more can come.

    container.log     newest
    container.log.1   older, and so on

A record is one line, `2016-10-06T00:17:09.669794202Z stdout F message`, 40 bytes before the message;
P in place of F when the message does not end its line (CRI log format of Kubernetes).
"""
from __future__ import annotations

import errno
import os
import select

from mydocker import _linux
from mydocker.base.clock import format_rfc3339
from mydocker.base.errors import NotFound
from mydocker.base.paths import LOG
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TIME = slice(0, 30)
_STREAM = slice(31, 37)
_KIND = slice(38, 39)
_PREFIX_BYTES = 40
_STREAMS = {b"stdout": "stdout", b"stderr": "stderr"}

#: The last instant that a record's time can tell, of the year 9999. What is before 1970 or after it bounds nothing more.
_LAST_NS = 253_402_300_799_999_999_999

_BLOCK_BYTES = 1 << 18

#: A line that is longer is yielded in pieces.
_MAX_LINE_BYTES = 1 << 20

#: How far `tail` looks for earlier pieces of a line, beyond the last one that it found.
_HEAD_SEARCH_BYTES = 1 << 16

# inotify(7): writes, renames into place (the exit record), rotation.
_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x80, 0x100
_IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC

#: A monitor that was killed leaves no event: look again after this time.
_LOOK_AGAIN_MS = 1000
_LOOK_WITHOUT_INOTIFY_MS = 100


class _Query(Record):
    """Which log, and which part of it; `output_fd` is watched for its reader's death while following."""

    dir_path: str
    name: str
    follow: bool
    tail: int | None
    is_ended: Callable[[], bool]
    output_fd: int = -1


class LogLine(tuple[bytes, str, bytes, bool]):
    """(time_text, stream, message, partial): `message` has its newline, unless `partial`."""

    __slots__ = ()

    @property
    def time_text(self) -> bytes:
        """When the line (its first piece) was read, RFC 3339 with nine digits."""
        return self[0]

    @property
    def stream(self) -> str:
        """"stdout" or "stderr"."""
        return self[1]

    @property
    def message(self) -> bytes:
        """What the container wrote."""
        return self[2]

    @property
    def partial(self) -> bool:
        """The line does not end here: more of it follows, or the container ended without a newline."""
        return self[3]


def read_log(
    dir_path: str, name: str = LOG, *, follow: bool = False, tail: int | None = None,
    since_ns: int | None = None, until_ns: int | None = None, is_ended: Callable[[], bool] = lambda: False,
) -> Iterator[LogLine]:
    """Yield the lines of a log, pieces joined.

    `follow` goes on until `is_ended()` and everything was read. Raises NotFound when there is no such
    directory; a log that is not there yet is empty.
    """
    query = _Query(dir_path=dir_path, name=name, follow=follow, tail=tail, is_ended=is_ended)
    pieces: dict[str, list[bytes]] = {}
    times: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    for record in _filtered(query, _time_text(since_ns), _time_text(until_ns)):
        stream = _STREAMS.get(record[_STREAM])
        if stream is None:
            continue  # torn by a power loss
        is_whole = record[_KIND] == b"F"
        message = record[_PREFIX_BYTES:] + b"\n" if is_whole else record[_PREFIX_BYTES:]
        if is_whole and stream not in pieces:
            yield LogLine((record[_TIME], stream, message, False))
            continue
        pieces.setdefault(stream, []).append(message)
        times.setdefault(stream, record[_TIME])
        sizes[stream] = sizes.get(stream, 0) + len(message)
        if is_whole or sizes[stream] >= _MAX_LINE_BYTES:
            del sizes[stream]
            yield LogLine((times.pop(stream), stream, b"".join(pieces.pop(stream)), not is_whole))
    for stream, rest in pieces.items():
        yield LogLine((times[stream], stream, b"".join(rest), True))


def copy_log(
    dir_path: str, stdout_fd: int, stderr_fd: int, name: str = LOG, *, follow: bool = False, tail: int | None = None,
    since_ns: int | None = None, until_ns: int | None = None, timestamps: bool = False,
    is_ended: Callable[[], bool] = lambda: False,
) -> None:
    """Write a log's messages to two descriptors, as they were written, each line after its time if asked.

    Raises NotFound, and OSError of the writes (BrokenPipeError when the reader went away, which is
    noticed while waiting, too).
    """
    since, until = _time_text(since_ns), _time_text(until_ns)
    copy = _Copy(stdout_fd, stderr_fd, timestamps)
    query = _Query(dir_path=dir_path, name=name, follow=follow, tail=tail, is_ended=is_ended, output_fd=stdout_fd)
    for block in _blocks(query):
        if until and block[_TIME] > until:
            return
        if since and block[block.rfind(b"\n", 0, -1) + 1:][_TIME] < since:
            continue
        records = block.split(b"\n")
        records.pop()
        if (since and block[_TIME] < since) or (until and records[-1][_TIME] > until):
            records = [record for record in records if _is_between(record, since, until)]
            copy.mixed(records)
        elif b" stderr " in block or b"Z stdout P " in block:
            copy.mixed(records)
        else:
            copy.whole_lines_of_stdout(records)


class _Copy:
    """Writes records to two descriptors."""

    def __init__(self, stdout_fd: int, stderr_fd: int, timestamps: bool) -> None:
        self._fds = {b"stdout": stdout_fd, b"stderr": stderr_fd}
        self._timestamps = timestamps
        self._inside: set[bytes] = set()  # streams whose last record did not end its line

    def whole_lines_of_stdout(self, records: list[bytes]) -> None:
        """Write a block in which nothing else is: most blocks of most logs, 20 MB in some 30 ms."""
        if b"stdout" in self._inside and self._timestamps:
            self.mixed(records)
            return
        self._inside.discard(b"stdout")
        if self._timestamps:
            lines = [record[:31] + record[_PREFIX_BYTES:] for record in records]
        else:
            lines = [record[_PREFIX_BYTES:] for record in records]
        lines.append(b"")
        _write_all(self._fds[b"stdout"], b"\n".join(lines))

    def mixed(self, records: list[bytes]) -> None:
        """Write records of both streams and kinds, in order, with one write for each run of a stream."""
        pending: list[bytes] = []
        current = b""
        for record in records:
            stream = record[_STREAM]
            if stream not in self._fds:
                continue  # torn by a power loss
            if stream != current:
                if pending:
                    _write_all(self._fds[current], b"".join(pending))
                pending, current = [], stream
            if self._timestamps and stream not in self._inside:
                pending.append(record[:31])
            pending.append(record[_PREFIX_BYTES:])
            if record[_KIND] == b"F":
                pending.append(b"\n")
                self._inside.discard(stream)
            else:
                self._inside.add(stream)
        if pending:
            _write_all(self._fds[current], b"".join(pending))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view):]
        except BlockingIOError:  # a terminal or pipe that somebody made non-blocking
            select.select((), (fd,), ())


def _time_text(time_ns: int | None) -> bytes:
    return b"" if time_ns is None else format_rfc3339(min(max(time_ns, 0), _LAST_NS)).encode()


def _is_between(record: bytes, since: bytes, until: bytes) -> bool:
    time_text = record[_TIME]
    return time_text >= since and (not until or time_text <= until)


def _filtered(query: _Query, since: bytes, until: bytes) -> Iterator[bytes]:
    for block in _blocks(query):
        for record in block.split(b"\n")[:-1]:
            # Times only rise (but for a clock that is set back): nothing that is wanted comes later.
            if until and record[_TIME] > until:
                return
            if record[_TIME] >= since:
                yield record


# --- files ----------------------------------------------------------------------------------------


class _File:
    """One log file and how far it is read, to the end of a record."""

    __slots__ = ("fd", "identity", "offset")

    def __init__(self, fd: int) -> None:
        status = os.fstat(fd)
        self.fd = fd
        self.identity = (status.st_dev, status.st_ino)
        self.offset = 0

    def blocks(self) -> Iterator[bytes]:
        """Yield all whole records that are there now, many at a time."""
        while data := os.pread(self.fd, _BLOCK_BYTES, self.offset):
            size = data.rfind(b"\n") + 1
            if size == 0:
                return  # a record that is being written
            self.offset += size
            yield data if size == len(data) else data[:size]

    def records_backward(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, record) from the last whole record to the first."""
        end = os.fstat(self.fd).st_size
        carry: bytes | None = None  # the start of the block behind, which begins inside a record
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            block = os.pread(self.fd, end - start, start)
            block = block[:block.rfind(b"\n") + 1] if carry is None else block + carry
            cut = block.find(b"\n") + 1 if start > 0 else 0
            carry = block[:cut]
            at = start + len(block)
            for record in reversed(block[cut:].split(b"\n")[:-1]):
                at -= len(record) + 1
                yield at, record
            end = start

    def close(self) -> None:
        os.close(self.fd)


def _open(directory_fd: int, name: str) -> _File | None:
    try:
        return _File(os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory_fd))
    except FileNotFoundError:
        return None


def _identity(directory_fd: int, name: str) -> tuple[int, int] | None:
    try:
        status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _names(directory_fd: int, name: str) -> list[str]:
    """Return the names of the log's files that may be there, newest first: all numbers, and one more.

    A rotation that goes on while we look moves everything by one, and between its two steps there is a gap: what was
    listed then must not make neighbours of the names on both sides.
    """
    last = max((
        int(entry[len(name) + 1:]) for entry in os.listdir(directory_fd)
        if entry.startswith(f"{name}.") and entry[len(name) + 1:].isdigit()), default=0)
    return [name, *(f"{name}.{number}" for number in range(1, last + 2))]


def _open_all(directory_fd: int, name: str) -> list[_File]:
    """Open the log's files, oldest first: what there was when the newest was opened, each file once."""
    while True:
        names = _names(directory_fd, name)
        files = _open_each(directory_fd, names)
        # Two rotations meanwhile: the oldest file has a name that was not among those we tried, or one that is newer
        # than the newest we had came up behind it.
        has_oldest = len(_names(directory_fd, name)) <= len(names) + 1
        has_newest = not files or files[-1].identity in [_identity(directory_fd, candidate) for candidate in (name, f"{name}.1")]
        if has_oldest and has_newest:
            return files
        for file in files:
            file.close()


def _open_each(directory_fd: int, names: list[str]) -> list[_File]:
    files: list[_File] = []
    for candidate in names:
        file = _open(directory_fd, candidate)
        if file is None:
            continue
        if any(file.identity == other.identity for other in files):
            file.close()  # it was moved from the name before to this one meanwhile
        else:
            files.insert(0, file)
    return files


def _open_successor(directory_fd: int, name: str, current: _File | None) -> _File | None:
    """Open the file that was begun after `current`; when that is not there any more, the oldest. None to look again."""
    names = _names(directory_fd, name)
    identities = [_identity(directory_fd, candidate) for candidate in names]
    if current is not None and current.identity in identities:
        at = identities.index(current.identity)
        if at == 0:
            return None
        file = _open(directory_fd, names[at - 1])
        # A rotation between the two looks: what we opened is not its successor.
        if file is not None and _identity(directory_fd, names[at]) != current.identity:
            file.close()
            return None
        return file
    if current is not None and os.fstat(current.fd).st_nlink:
        return None  # rotations moved it past the names that we looked at
    there = [candidate for candidate, identity in zip(names, identities, strict=True) if identity is not None]
    return _open(directory_fd, there[-1]) if there else None


# --- the stream of blocks ---------------------------------------------------------------------------


def _blocks(query: _Query) -> Iterator[bytes]:
    """Yield whole records, many at a time, in order."""
    try:
        directory_fd = os.open(query.dir_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"read log in {query.dir_path}: it is not there") from None
    files: list[_File] = []
    watch: _Watch | None = None
    try:
        if query.follow:
            watch = _Watch(query.dir_path, query.output_fd)
        files.extend(_open_all(directory_fd, query.name))
        if query.tail is not None:
            yield from _seek_tail(files, query.tail)
        # The newest stays open: it may grow.
        while len(files) > 1:
            yield from files[0].blocks()
            files.pop(0).close()
        if watch is not None:
            yield from _follow(directory_fd, query, files, watch)
        elif files:
            yield from files[0].blocks()
    finally:
        if watch is not None:
            watch.close()
        for file in files:
            file.close()
        os.close(directory_fd)


def _follow(directory_fd: int, query: _Query, files: list[_File], watch: _Watch) -> Iterator[bytes]:
    """Read the last of `files`, and what comes after it. `files` holds the open one, for the caller to close."""
    while True:
        # Asked before reading: what was written before the end is then read after it.
        was_ended = query.is_ended()
        if files:
            yield from files[0].blocks()
        current = files[0] if files else None
        there = _identity(directory_fd, query.name)
        if there is not None and (current is None or there != current.identity):
            if current is not None:
                yield from current.blocks()  # moved away, so nothing more is written to it
            successor = _open_successor(directory_fd, query.name, current)
            if successor is not None:
                if current is not None:
                    current.close()
                files[:] = [successor]
            continue
        if was_ended:
            return
        watch.wait()


class _Watch:
    """Wakes when something happens in the log's directory, or to the reader of our output."""

    __slots__ = ("_fd", "_output_fd", "_poll")

    def __init__(self, dir_path: str, output_fd: int) -> None:
        self._poll = select.poll()
        self._output_fd = output_fd
        if output_fd >= 0:
            self._poll.register(output_fd, 0)
        try:
            self._fd = _linux.inotify_init1(_IN_NONBLOCK_CLOEXEC)
        except OSError as error:
            # Each user has 128 of them by default: beyond that, look now and then.
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._fd = -1
            return
        try:
            _linux.inotify_add_watch(self._fd, dir_path, _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE)
        except OSError as error:
            os.close(self._fd)
            if error.errno != errno.ENOSPC:  # the user's watches are all in use: look now and then, as above
                raise
            self._fd = -1
            return
        self._poll.register(self._fd, select.POLLIN)

    def wait(self) -> None:
        """Wait for an event, not longer than a second. Raises BrokenPipeError when nobody reads the output."""
        for fd, _ in self._poll.poll(_LOOK_AGAIN_MS if self._fd >= 0 else _LOOK_WITHOUT_INOTIFY_MS):
            if fd == self._output_fd:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            if fd == self._fd:
                os.read(self._fd, 1 << 16)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _seek_tail(files: list[_File], count: int) -> Iterator[bytes]:
    """Move `files` (oldest first) to the last `count` lines; yield the records before that begin those lines.

    Files before the first line are closed and taken out of the list.
    """
    head: list[bytes] = []
    start, offset = _find_tail(files, count, head)
    while start > 0:
        files.pop(0).close()
        start -= 1
    if files:
        files[0].offset = offset
    if head:
        head.reverse()
        yield b"\n".join([*head, b""])


def _find_tail(files: list[_File], count: int, head: list[bytes]) -> tuple[int, int]:
    """Return (index of file, offset) of the `count`-th line from the end.

    A line is its last record: F, or the last P of a stream. Earlier pieces of lines that end after
    that place go into `head`, last first.
    """
    found = 0
    begun: set[bytes] = set()  # streams whose earliest line so far may have pieces before this place
    seen: set[bytes] = set()
    walked = 0
    last = len(files) - 1
    place = (max(last, 0), 0)
    for index in range(last, -1, -1):
        for offset, record in files[index].records_backward():
            if not seen and index == last:
                place = (last, offset + len(record) + 1)  # not the end of the file: a record may be half written
            stream = record[_STREAM]
            ends_line = record[_KIND] == b"F" or stream not in seen
            seen.add(stream)
            if found < count:
                if ends_line:
                    found += 1
                    begun.add(stream)
                place = (index, offset)
                continue
            walked += len(record)
            if ends_line:
                begun.discard(stream)
            elif stream in begun:
                head.append(record)
                walked = 0
            if not begun or walked > _HEAD_SEARCH_BYTES:
                return place
    return place
