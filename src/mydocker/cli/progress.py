"""How far a pull or push is: on a terminal one line a layer, redrawn, with speed, time left and the bottleneck; else plain lines.

Everything goes to one descriptor: standard error, or standard output for the verbs whose result it is. Knows transfers
(image/progress.py) and nothing of registries.
"""
from __future__ import annotations

import os
import threading
import time

from mydocker.base.files import write_all
from mydocker.base.units import format_size
from mydocker.image.progress import DONE, KEPT, MOVING, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from mydocker.image.progress import Transfer

_REDRAW_S = 0.1
_BAR = 24
#: How far back the speed looks.
_WINDOW_S = 2.0
_WORDS = {"pull": ("Pulling", "Pull complete", "Already exists"), "push": ("Pushing", "Pushed", "Layer already exists")}


class PlainProgress:
    """A line for each thing that happened, as docker writes them where there is no terminal."""

    def __init__(self, fd: int, verb: str = "pull", heading: str = "") -> None:
        self._fd = fd
        self._heading = heading
        self._words = _WORDS[verb]
        self._lock = threading.Lock()

    def begin(self, name: str, transfers: Sequence[Transfer]) -> None:
        """Tell what is there already."""
        self._say_heading()
        for transfer in transfers:
            if transfer.state == KEPT:
                self.note(transfer)

    def note(self, transfer: Transfer) -> None:
        """Tell that a layer came or went."""
        text = {DONE: self._words[1], KEPT: self._words[2]}.get(transfer.state)
        if text:
            self.say(f"{transfer.short}: {text}")

    def _say_heading(self) -> None:
        if self._heading:
            self.say(self._heading)
            self._heading = ""

    def say(self, text: str) -> None:
        """Tell something else."""
        with self._lock:
            try:
                write_all(self._fd, text.encode("utf-8", "backslashreplace") + b"\n")
            except OSError:
                pass  # whoever watched has gone; the transfer goes on

    def end(self) -> None:
        """Nothing to tell."""


class TerminalProgress(PlainProgress):
    """Lines that are redrawn in place by a thread, between `begin` and `end`."""

    def __init__(self, fd: int, verb: str = "pull", heading: str = "") -> None:
        super().__init__(fd, verb, heading)
        self._transfers: Sequence[Transfer] = ()
        self._meters: dict[int, _Meter] = {}
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        self._drawn = 0

    def begin(self, name: str, transfers: Sequence[Transfer]) -> None:
        """Start drawing."""
        self._say_heading()
        self._transfers = transfers
        self._meters = {id(transfer): _Meter(transfer) for transfer in transfers}
        self._is_over.clear()
        self._drawn = 0
        self._thread = threading.Thread(target=self._draw_until_over, name="mydocker-progress", daemon=True)
        self._thread.start()

    def note(self, transfer: Transfer) -> None:
        """Nothing: the next picture shows it."""

    def end(self) -> None:
        """Draw the last picture and leave it."""
        if self._thread is not None:
            self._is_over.set()
            self._thread.join()
            self._thread = None

    def _draw_until_over(self) -> None:
        while not self._is_over.wait(_REDRAW_S):
            self._draw()
        self._draw()

    def _lines(self, columns: int, rows: int) -> list[str]:
        """Return what is to be seen now."""
        shown = self._visible(rows)
        return [format_line(transfer, self._meters[id(transfer)], self._words, columns)[:columns] for transfer in shown]

    def _draw(self) -> None:
        try:
            columns, rows = os.get_terminal_size(self._fd)
        except OSError:
            columns, rows = 80, 24
        columns, rows = columns or 80, rows or 24  # a terminal that was given no size
        lines = self._lines(max(20, columns - 1), max(1, rows - 2))
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._drawn = len(lines)
        self.say(up + "\n".join(f"\r{line}\x1b[K" for line in lines) + "\x1b[J" if lines else up)

    def _visible(self, rows: int) -> Sequence[Transfer]:
        """Return what fits on the screen: what moves before what is done."""
        if len(self._transfers) <= rows:
            return self._transfers
        order = {MOVING: 0, WAITING: 1, DONE: 2, KEPT: 3}
        chosen = sorted(self._transfers, key=lambda transfer: order[transfer.state])[:rows]
        return [transfer for transfer in self._transfers if transfer in chosen]


class _Meter:
    """Speed and bottleneck of one transfer over the last seconds."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._samples: list[tuple[float, int, float, float, float]] = []

    def look(self) -> tuple[float, str]:
        """Return (bytes a second, what it waits for most)."""
        found = self._transfer
        now = time.monotonic()
        self._samples.append((now, found.done, found.network_s, found.cpu_s, found.disk_s))
        while len(self._samples) > 2 and self._samples[1][0] < now - _WINDOW_S:
            del self._samples[0]
        first, last = self._samples[0], self._samples[-1]
        passed_s = last[0] - first[0]
        speed = (last[1] - first[1]) / passed_s if passed_s > 0 else 0.0
        network_s, cpu_s, disk_s = (last[place] - first[place] for place in (2, 3, 4))
        return speed, bottleneck(network_s, cpu_s, disk_s)


def bottleneck(network_s: float, cpu_s: float, disk_s: float) -> str:
    """Return what a transfer spends its time on."""
    most = max((network_s, "network"), (cpu_s, "cpu"), (disk_s, "disk"))
    return most[1] if most[0] > 0 else ""


def format_line(transfer: Transfer, meter: _Meter, words: tuple[str, str, str], columns: int) -> str:
    """Return one layer's line."""
    if transfer.state == KEPT:
        return f"{transfer.short}: {words[2]}"
    if transfer.state == DONE:
        return f"{transfer.short}: {words[1]}  {format_size(transfer.size)}"
    if transfer.state == WAITING:
        return f"{transfer.short}: Waiting"
    speed, waits_for = meter.look()
    share = min(1.0, transfer.done / transfer.size) if transfer.size else 0.0
    head = f"{transfer.short}: {words[0]} "
    tail = f" {format_size(transfer.done)}/{format_size(transfer.size)}  {format_size(int(speed))}/s"
    if speed > 0 and transfer.done < transfer.size:
        tail += f"  {format_duration((transfer.size - transfer.done) / speed)} left"
    if waits_for:
        tail += f"  ({waits_for})"
    return f"{head}{format_bar(share, columns - len(head) - len(tail))}{tail}"


def format_bar(share: float, columns: int) -> str:
    """Return a bar of what room there is; the numbers come first."""
    inside = min(_BAR, columns) - 2
    if inside < 4:
        return f"{int(share * 100)}%"
    filled = int(inside * share)
    return f"[{'=' * filled}{'>' * (filled < inside)}{' ' * (inside - filled - 1)}]"


def format_duration(seconds: float) -> str:
    """Return a time as people read it: 42s, 3m10s, 1h05m."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{min(whole // 3600, 99)}h{whole % 3600 // 60:02d}m"


def open_progress(fd: int, verb: str = "pull", heading: str = "") -> PlainProgress:
    """Return who shows a transfer on a descriptor; `heading` is said when there is something to show."""
    is_terminal = os.isatty(fd) and os.environ.get("TERM", "dumb") != "dumb"
    return TerminalProgress(fd, verb, heading) if is_terminal else PlainProgress(fd, verb, heading)
