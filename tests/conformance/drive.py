#!/usr/bin/env python3
"""Run a conformance suite that is already fetched and built, outside this repository, against one OCI runtime.

Owns: how each of the three suites is called and how its output becomes one outcome a test name. Knows nothing of how a
suite is built, and holds none of its code. Everything a suite needs (go on PATH for runc's image look-up, bats, the helper
binaries, the root file systems) is there before it is called.

    drive.py run SUITE DIR RUNTIME --json OUT [--only WORD ...] [--tests WORD ...]
    drive.py compare OURS.json REFERENCE.json ...

SUITE is runtime-tools (validation/*/*.t), crun (tests/test_*.py) or runc (tests/integration/*.bats). `compare` prints the rows of
docs/conformance.md, and every test that a reference passes and ours does not; it exits 1 when there is one.
"""
import argparse
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TAP_LINE = re.compile(r"^(?P<not>not )?ok\b\s*\d*\s*(?:-\s*)?(?P<name>.*?)\s*(?P<directive># ?(?:skip|SKIP|todo|TODO)\b.*|#SKIP.*)?$")
TIMING = re.compile(r"\s*(?:# [0-9.]+s|# timeout after \d+s|in \d+ ?(?:ms|sec))$")
WORST_FIRST = ("fail", "pass", "skip")
TEST_TIMEOUT_S = 60
#: A file of bats has the time of that many tests.
FILE_TESTS = 15

Results = dict[str, dict[str, object]]


def run_bounded(argv: list[str], cwd: Path, environment: dict[str, str], timeout_s: float,
                terminal: bool = False) -> tuple[str, bool]:
    """All output of a command, and whether it ended in time. To a file: what it leaves behind could hold a pipe open.
    With `terminal` its standard input is one (`run` of a bundle with a terminal looks for it)."""
    with tempfile.TemporaryFile() as output, contextlib.ExitStack() as closing:
        stdin = subprocess.DEVNULL
        if terminal:
            master_fd, stdin = pty.openpty()
            closing.callback(os.close, master_fd)
            closing.callback(os.close, stdin)
        child = subprocess.Popen(argv, cwd=cwd, env=environment, stdin=stdin, stdout=output, stderr=output, start_new_session=True)
        try:
            child.wait(timeout_s)
            in_time = True
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            in_time = False
        output.seek(0)
        return output.read().decode("utf-8", "replace"), in_time


def parse_tap(text: str) -> Iterator[tuple[str, str, str]]:
    """(name, outcome, diagnostics) of each line of a TAP stream; lines that are no results belong to the result before
    (bats, TAP of Go) them."""
    name = outcome = ""
    notes: list[str] = []
    for line in text.splitlines():
        match = TAP_LINE.match(line)
        if match is None:
            notes.append(line)
            continue
        if outcome:
            yield name, outcome, "\n".join(notes)
        directive = match["directive"] or ""
        name = TIMING.sub("", TIMING.sub("", match["name"])) or directive
        outcome = "skip" if "skip" in directive.lower() else "fail" if match["not"] else "pass"
        notes = [directive] if directive else []
    if outcome:
        yield name, outcome, "\n".join(notes)


def record(results: Results, name: str, outcome: str, note: str, seconds: float = 0.0) -> None:
    """A name that comes twice has the worse of its outcomes."""
    before = results.get(name)
    if before is None or WORST_FIRST.index(outcome) < WORST_FIRST.index(str(before["outcome"])):
        results[name] = {"outcome": outcome, "note": note[-4000:] if outcome != "pass" else "", "seconds": round(seconds, 2)}


def drive_runtime_tools(suite: Path, runtime: str, only: list[str], _tests: list[str], seconds: int) -> Results:
    """One program a topic, each a TAP stream of assertions. The program as a whole is a test too: it can end early."""
    results: Results = {}
    for program in wanted(sorted(suite.glob("validation/*/*.t")), only):
        started = time.monotonic()
        text, in_time = run_bounded([str(program)], suite, {**os.environ, "RUNTIME": runtime}, seconds)
        assertions = list(parse_tap(text))
        for name, outcome, note in assertions:
            record(results, f"{program.stem}: {name}", outcome, note)
        planned = [int(count) for count in re.findall(r"^1\.\.(\d+)", text, re.M)]  # a few make more than one container
        whole = in_time and bool(planned) and sum(planned) == len(assertions)
        outcome = "fail" if not whole or any(outcome == "fail" for _, outcome, _ in assertions) else \
            "skip" if assertions and all(outcome == "skip" for _, outcome, _ in assertions) else "pass"
        failing = [f"not ok {name}" for name, outcome, _ in assertions if outcome == "fail"]
        record(results, program.stem, outcome, "\n".join(failing) or text, time.monotonic() - started)
        progress(program.stem, outcome)
    return results


def drive_crun(suite: Path, runtime: str, only: list[str], tests: list[str], seconds: int) -> Results:
    results: Results = {}
    listing = "import json, sys, importlib; sys.path.insert(0, 'tests'); m = importlib.import_module(sys.argv[1]);" \
              "print(); print(json.dumps(list(m.all_tests)))"
    base = {**os.environ, "OCI_RUNTIME": runtime, "INIT": str(suite / "tests/init"), "PYTHONDONTWRITEBYTECODE": "1"}
    for script in wanted(sorted(suite.glob("tests/test_*.py")), only):
        listed = subprocess.run([sys.executable, "-c", listing, script.stem], cwd=suite, env=base, check=True, capture_output=True)
        names = json.loads(listed.stdout.splitlines()[-1])
        for name in names:
            if tests and not any(word in name for word in tests):
                continue
            started = time.monotonic()
            # RUN_TESTS is split at spaces: a name that has some cannot be chosen, so its whole file runs.
            chosen = {} if " " in name else {"RUN_TESTS": name}
            text, in_time = run_bounded([sys.executable, str(script)], suite, {**base, **chosen}, seconds)
            found = [outcome for found_name, outcome, _ in parse_tap(text) if found_name == name]
            outcome = found[0] if in_time and found else "fail"
            record(results, f"{script.stem}: {name}", outcome, text, time.monotonic() - started)
            progress(f"{script.stem}: {name}", outcome)
    return results


def drive_runc(suite: Path, runtime: str, only: list[str], tests: list[str], seconds: int) -> Results:
    results: Results = {}
    environment = {**os.environ, "RUNC": runtime, "BATS_TEST_TIMEOUT": str(seconds)}
    chosen = ["-f", "|".join(tests)] if tests else []
    for script in wanted(sorted(suite.glob("tests/integration/*.bats")), only):
        started = time.monotonic()
        text, in_time = run_bounded(["bats", "--tap", *chosen, str(script)], suite, environment, FILE_TESTS * seconds, terminal=True)
        for name, outcome, note in parse_tap(text):
            record(results, f"{script.stem}: {name}", outcome, note)
            progress(f"{script.stem}: {name}", outcome)
        if not in_time:
            record(results, f"{script.stem}: (whole file in time)", "fail", text, time.monotonic() - started)
    return results


def wanted(files: list[Path], only: list[str]) -> list[Path]:
    return [file for file in files if not only or any(word in file.stem for word in only)]


def progress(name: str, outcome: str) -> None:
    if outcome == "fail":
        print(f"{outcome:5}{name}", file=sys.stderr, flush=True)


DRIVERS = {"runtime-tools": drive_runtime_tools, "crun": drive_crun, "runc": drive_runc}


def run(args: argparse.Namespace) -> int:
    suite = Path(args.directory).resolve()
    runtime = os.path.realpath(args.runtime) if "/" in args.runtime else args.runtime
    commit = subprocess.run(["git", "-C", str(suite), "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    version = subprocess.run([runtime, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    results = DRIVERS[args.suite](suite, runtime, args.only, args.tests, args.seconds)
    if args.merge and Path(args.json).exists():
        results = {**json.loads(Path(args.json).read_text())["results"], **results}
    document = {"suite": args.suite, "commit": commit, "runtime": runtime, "version": version, "results": results}
    Path(args.json).write_text(json.dumps(document, indent=1, sort_keys=True))
    print(row(document))
    return 0


def row(document: dict) -> str:
    count = {outcome: sum(result["outcome"] == outcome for result in document["results"].values()) for outcome in WORST_FIRST}
    return f"| {document['suite']} | `{document['commit'][:12]}` | {document['version']} | {count['pass']} | {count['fail']} | {count['skip']} |"


def compare(args: argparse.Namespace) -> int:
    ours, *references = [json.loads(Path(path).read_text()) for path in args.documents]
    for document in (ours, *references):
        print(row(document))
    behind = 0
    for name in sorted({name for reference in references for name in reference["results"]} | set(ours["results"])):
        outcome = ours["results"].get(name, {"outcome": "missing"})["outcome"]
        passing = [reference["version"] for reference in references
                   if reference["results"].get(name, {"outcome": "missing"})["outcome"] == "pass"]
        if outcome != "pass" and (passing or args.all):
            behind += bool(passing)
            print(f"{outcome:8}{name}    [{', '.join(passing)}]")
    print(f"{behind} behind")
    return int(behind > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    runs = verbs.add_parser("run")
    runs.add_argument("suite", choices=DRIVERS)
    runs.add_argument("directory")
    runs.add_argument("runtime")
    runs.add_argument("--json", required=True, help="where the outcomes go")
    runs.add_argument("--merge", action="store_true", help="keep the outcomes of tests that do not run this time")
    runs.add_argument("--only", nargs="*", default=[], metavar="WORD", help="test files whose name has one of these")
    runs.add_argument("--tests", nargs="*", default=[], metavar="WORD", help="tests whose name has one of these")
    runs.add_argument("--seconds", type=int, default=TEST_TIMEOUT_S, metavar="S", help=f"time of one test (default {TEST_TIMEOUT_S})")
    runs.set_defaults(function=run)
    compares = verbs.add_parser("compare")
    compares.add_argument("documents", nargs="+", metavar="JSON", help="ours first")
    compares.add_argument("--all", action="store_true", help="also what no reference passes")
    compares.set_defaults(function=compare)
    args = parser.parse_args()
    return int(args.function(args))


if __name__ == "__main__":
    sys.exit(main())
