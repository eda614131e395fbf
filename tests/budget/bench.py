"""`make bench`: mydocker against docker, podman, crun and runc, where they are installed, in one interleaved run.

Prints a table of ratios against the budgets of the design (docs/benchmarks.md explains it). A budget that
does not hold is marked MISS; the exit code is 0 all the same, because a machine may be busy.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # the modules beside this file, whatever started it

from engines import BundleRunner, Engine, open_engine
from payload import make_rootfs, pack_directory
from report import Result, build_document, format_errors, format_table
from rows import ROWS, Bench, Row, Sampler
from sampling import CommandFailed, Series, interleave

_ENGINES = ("mydocker", "docker", "podman", "crun", "runc")
#: The OCI runtime of an engine, where it has one that takes bundles.
_RUNTIMES = {"mydocker": "mydocker-runtime", "crun": "crun", "runc": "runc"}


def main(words: Sequence[str] | None = None) -> int:
    """Run the chosen rows and print the table."""
    options = _parse(words)
    if os.geteuid() != 0:
        print("bench: starting containers needs root", file=sys.stderr)
        return 0
    # A request to end must run the clean-up as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        scratch = stack.enter_context(_scratch(options.dir))
        bench = Bench(scratch, is_quick=options.quick)
        image_tar = _make_image(scratch)
        engines = _open_engines(stack, bench, options.engines, image_tar)
        results = [_measure(row, engines, bench, options.rounds) for row in ROWS if row.key in options.only]
        versions = {name: engine.version for name, engine in engines.items()}
        versions |= {name: runner.version for name, runner in bench.runners.items() if name not in versions}
    _print(results, versions, bench, options.json)
    return 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    keys = [row.key for row in ROWS]
    parser = argparse.ArgumentParser(prog="bench.py", description="Compare mydocker with docker, podman, crun and runc.")
    add = parser.add_argument
    add("--only", metavar="ROWS", type=_choice(keys), default=keys, help="rows, with commas: " + ", ".join(keys))
    add("--engines", metavar="NAMES", type=_choice(_ENGINES), default=list(_ENGINES),
        help="engines, with commas: " + ", ".join(_ENGINES))
    add("--rounds", metavar="N", type=int, default=0, help="samples of each engine (default: each row's own)")
    add("--quick", action="store_true", help="fewer rounds, smaller loads: a look, not a measurement")
    add("--json", metavar="FILE", default="", help="write the results as JSON, too (-: instead of the table)")
    add("--dir", metavar="DIR", default="/var/tmp", help="where to keep state meanwhile (default /var/tmp)")
    return parser.parse_args(words)


def _choice(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = [word.strip() for word in text.split(",") if word.strip()]
        for word in chosen:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word} is none of {', '.join(known)}")
        return chosen
    return parse


@contextmanager
def _scratch(parent: str) -> Iterator[str]:
    """A directory on a real file system (overlayfs wants one), gone afterwards with what was mounted in it."""
    path = tempfile.mkdtemp(prefix="mydocker-bench-", dir=parent)
    try:
        yield path
    finally:
        _unmount_below(path)
        shutil.rmtree(path, ignore_errors=True)
        if os.path.exists(path):
            print(f"bench: cannot remove all of {path}", file=sys.stderr)


def _unmount_below(directory: str) -> None:
    """Unmount what engines left mounted, such as podman's bind mount of its storage on itself."""
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        rows = [line.split() for line in stream]
    for row in reversed(rows):
        kind = row[row.index("-") + 1]
        if row[4].startswith(f"{directory}/") and not kind.startswith("cgroup"):
            subprocess.run(["umount", "-l", row[4]], check=False)


def _make_image(scratch: str) -> str:
    make_rootfs(f"{scratch}/rootfs")
    pack_directory(f"{scratch}/rootfs", f"{scratch}/rootfs.tar")
    return f"{scratch}/rootfs.tar"


def _open_engines(stack: ExitStack, bench: Bench, names: Sequence[str], image_tar: str) -> dict[str, Engine]:
    """Open what is installed and asked for; say what is left out and why."""
    engines: dict[str, Engine] = {}
    for name in names:
        try:
            if name not in _RUNTIMES or name == "mydocker":
                engines[name] = stack.enter_context(open_engine(name, bench.scratch, image_tar))
            if name in _RUNTIMES:
                bench.runners[name] = _open_runner(name, engines, bench, image_tar)
        except (CommandFailed, FileNotFoundError) as error:
            print(f"bench: without {name}: {error}", file=sys.stderr)
    return engines


def _open_runner(engine_name: str, engines: dict[str, Engine], bench: Bench, image_tar: str) -> BundleRunner:
    if "mydocker" not in engines:
        raise CommandFailed("its bundle is that of a mydocker container")
    mydocker = engines["mydocker"]
    name = mydocker.start("true", verb=("create",))
    try:
        program = _RUNTIMES[engine_name]
        return BundleRunner(program, f"{bench.scratch}/{program}", mydocker.inspect(name)["spec"], image_tar)
    finally:
        mydocker.remove(name)


def _measure(row: Row, engines: dict[str, Engine], bench: Bench, rounds: int) -> Result:
    begin = time.monotonic()
    rounds = rounds or (row.quick_rounds if bench.is_quick else row.rounds)
    chosen = {name: engine for name, engine in engines.items() if name in ("mydocker", *row.peers)}
    chosen |= {name: Engine(name, [], {}) for name in row.peers if name in bench.runners}
    series = {name: Series() for name in chosen}
    with ExitStack() as stack:
        samplers: dict[str, Sampler] = {}
        for name, engine in chosen.items():
            try:
                samplers[name] = stack.enter_context(row.open(engine, bench))
            except (CommandFailed, OSError, subprocess.TimeoutExpired) as error:
                series[name].error = str(error)
        interleave(samplers, rounds, series)
    print(f"bench: {row.key}: {rounds} rounds in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return Result(row, series)


def _print(results: list[Result], versions: dict[str, str], bench: Bench, json_path: str) -> None:
    document = json.dumps(build_document(results, versions), indent=1)
    if json_path == "-":
        print(document)
        return
    if json_path:
        with open(json_path, "w", encoding="utf-8") as stream:
            stream.write(document + "\n")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(format_table(results))
    for line in [*bench.notes, *format_errors(results)]:
        print(line)
    misses = sum(result.misses() for result in results)
    if "mydocker" not in versions:
        print("mydocker itself was not measured")
    else:
        print(f"{misses} of the budgets missed" if misses else "no budget missed")


if __name__ == "__main__":
    sys.exit(main())
