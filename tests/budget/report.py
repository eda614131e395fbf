"""The results as a table for people and as JSON for programs."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rows import Row
from sampling import Series

_OURS = "mydocker"
_HEADERS = ("what", "engine", "median", "minimum", "noise", "ratio", "of minima", "budget", "")


@dataclass(frozen=True)
class Comparison:
    """mydocker against one peer in one row; ratios are mydocker's number by the peer's."""

    peer: str
    ratio: float
    ratio_of_minima: float
    budget: float | None

    @property
    def verdict(self) -> str:
        """`ok`, `MISS`, or nothing where the design sets no budget."""
        if self.budget is None:
            return ""
        return "ok" if self.ratio <= self.budget else "MISS"


@dataclass(frozen=True)
class Result:
    """One row and the samples of each engine."""

    row: Row
    series: Mapping[str, Series]

    def comparisons(self) -> Iterator[Comparison]:
        """Yield what can be compared: both sides have samples."""
        ours = self.series.get(_OURS)
        for peer in self.row.peers:
            theirs = self.series.get(peer)
            if ours and theirs and ours.samples and theirs.samples:
                yield Comparison(
                    peer, ours.median / theirs.median, ours.minimum / theirs.minimum, self.row.budgets.get(peer))

    @property
    def own_verdict(self) -> str:
        """The verdict on mydocker's own number: its ceiling, or that it failed."""
        ours = self.series.get(_OURS)
        if ours is None:
            return ""
        if ours.error:
            return "MISS"
        if self.row.ceiling is None:
            return ""
        return "ok" if ours.median <= self.row.ceiling else "MISS"

    def misses(self) -> int:
        """Return how many budgets of this row do not hold."""
        return [self.own_verdict, *(comparison.verdict for comparison in self.comparisons())].count("MISS")


def format_table(results: list[Result]) -> str:
    """Return the table: a line for each engine of each row, ours first."""
    lines: list[tuple[str, ...]] = [_HEADERS]
    for result in results:
        lines += list(_lines(result))
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADERS))]
    # Words to the left, numbers to the right.
    text = [
        "  ".join(cell.ljust(width) if column in (0, 1, 8) else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def _lines(result: Result) -> Iterator[tuple[str, ...]]:
    compared = {comparison.peer: comparison for comparison in result.comparisons()}
    title = result.row.title
    for name, series in result.series.items():
        if not series.samples:
            continue  # the errors are listed below the table
        cells = (
            format_number(series.median, is_bytes=result.row.is_bytes),
            format_number(series.minimum, is_bytes=result.row.is_bytes), f"{series.noise:.0%}")
        comparison = compared.get(name)
        if comparison:
            budget = "" if comparison.budget is None else f"{comparison.budget:.2f}"
            ratios = (f"{comparison.ratio:.2f}", f"{comparison.ratio_of_minima:.2f}")
            yield (title, name, *cells, *ratios, budget, comparison.verdict)
        else:
            ceiling = result.row.ceiling if name == _OURS else None
            budget = "" if ceiling is None else format_number(ceiling, is_bytes=result.row.is_bytes)
            yield (title, name, *cells, "", "", budget, result.own_verdict if name == _OURS else "")
        title = ""


def format_errors(results: list[Result]) -> list[str]:
    """Return a line for each engine that failed in a row."""
    return [
        f"{result.row.key}: {name} failed: {series.error}"
        for result in results for name, series in result.series.items() if series.error]


def format_number(value: float, *, is_bytes: bool = False) -> str:
    """Return seconds or bytes with a unit that leaves some three digits."""
    if is_bytes:
        return f"{value / 2**20:.1f} MiB" if value >= 2**20 else f"{value / 1024:.0f} KiB"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms"


def _document_series(series: Series) -> dict[str, Any]:
    document: dict[str, Any] = {"samples": series.samples, "error": series.error}
    if series.samples:
        document |= {"median": series.median, "minimum": series.minimum, "noise": series.noise}
    return document


def build_document(results: list[Result], versions: Mapping[str, str]) -> dict[str, Any]:
    """Return everything as one JSON object; seconds and bytes are plain numbers."""
    return {
        "version": 1,
        "engines": dict(versions),
        "rows": [
            {
                "key": result.row.key, "title": result.row.title, "unit": "bytes" if result.row.is_bytes else "seconds",
                "ceiling": result.row.ceiling, "verdict": result.own_verdict,
                "engines": {
                    name: _document_series(series) for name, series in result.series.items()
                },
                "comparisons": [
                    {
                        "peer": item.peer, "ratio": item.ratio, "ratio_of_minima": item.ratio_of_minima,
                        "budget": item.budget, "verdict": item.verdict,
                    }
                    for item in result.comparisons()
                ],
            }
            for result in results
        ],
    }
