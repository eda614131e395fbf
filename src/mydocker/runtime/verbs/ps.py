"""`ps`: the processes of a container, as pids or as lines of the host's ps(1)."""
from __future__ import annotations

from mydocker.base.errors import InvalidRequest, RuntimeFailed, Unsupported
from mydocker.runtime.cgroups import open_cgroup
from mydocker.runtime.cli import write_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.runtime.cli import Context


def run(context: Context) -> int:
    """Print a JSON array of pids, or the lines of `ps -ef` (or of the options given) that are about the container."""
    arguments = context.arguments
    if arguments["format"] not in ("table", "json"):
        raise InvalidRequest(f"ps: option --format is table or json, not {arguments['format']!r}")
    state = context.root.load(context.id)
    group = open_cgroup(state)
    if group is None:
        raise Unsupported(f"list the processes of container {state.id}: it has no cgroup")
    pids = group.pids()
    if arguments["format"] == "json":
        from mydocker.base.jsontext import dumps

        return write_out(dumps(pids))
    options = arguments.words[1:]
    return write_out("\n".join(select_lines(run_ps(options or ["-ef"]), pids)))


def run_ps(options: list[str]) -> str:
    """Return what ps(1) prints. Raises RuntimeFailed."""
    import subprocess  # cold

    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise RuntimeFailed("run ps: it is not installed", hint="--format json needs no program") from None
    if done.returncode:
        raise RuntimeFailed(f"run ps {' '.join(options)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def select_lines(text: str, pids: list[int]) -> list[str]:
    """Return the header and the lines whose PID column is one of `pids`. Raises InvalidRequest without such a column."""
    header, *lines = text.rstrip("\n").split("\n")
    columns = header.split()
    if "PID" not in columns:
        raise InvalidRequest("ps: its options must leave a column PID")
    column = columns.index("PID")
    wanted = {str(pid) for pid in pids}
    # Only the last column may hold blanks, and PID is never that of a useful ps.
    return [header, *(line for line in lines if len(line.split()) > column and line.split()[column] in wanted)]
