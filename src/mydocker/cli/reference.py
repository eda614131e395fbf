"""docs/cli.md from the option table: `python -m mydocker.cli.reference > docs/cli.md` (a test compares them)."""
from __future__ import annotations

from .help import explain, spell
from .options import GLOBAL_OPTIONS, GROUPS, VERBS, Option, all_options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_INTRODUCTION = """\
# The command line

<!-- Written from src/mydocker/cli/options.py by `python -m mydocker.cli.reference`. -->

`mydocker [OPTIONS] COMMAND [ARG...]`. Options follow the rules of Docker's command line: `--name x`, `--name=x`,
`-e K=V`, `-eK=V`, clusters such as `-it`, `--rm=false`, and `--` ends them. One dash does for a long name too
(`-name x`, `-cpuset 0`). `run`, `create` and `exec` stop reading options at the image or container, because what
follows is the command's.

Wherever a container is named, its id, or any unique beginning of its name or id, will do.

## Foreground and terminal

`run` without `-d`, `exec`, `attach` and `start -a` stay connected until the end. With a terminal (`-ti`) every key goes
to the container, the window's size is right from the first instant on and followed, the detach keys (ctrl-p ctrl-q)
leave it running, and a signal to mydocker ends mydocker, not the container, after the terminal was put back. Without one,
SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1 and SIGUSR2 are passed on; a program that is process 1 and handles none of them
does not feel them, so the third SIGINT or SIGTERM kills it. When nobody reads the output any more (`run ... | head`), the
process gets SIGPIPE and mydocker ends. If mydocker itself is killed, the container goes on and is tidied up at its end all
the same.

## Exit codes

| Code | Meaning |
|---|---|
| 0 | done |
| 125 | mydocker itself failed or does not understand the command line; with several names, one of them failed |
| 126 | the container's command exists and cannot be executed |
| 127 | the container's command does not exist |
| 130 | ended by Ctrl-C |
| 141 | nobody reads the output any more |
| other | the container's own exit code (128 + N when signal N ended it) |

An error is one line on standard error: what is wrong, then the way out. `mydocker --debug COMMAND` adds the traceback.
"""

_DIFFERENCES_HEAD = """
## What differs from docker

Options of `run`, `create` and `exec` have docker's names, values and rules. The defaults are docker's or tighter: the same
fourteen capabilities, masked and read-only paths and devices, a seccomp filter, namespaces of its own for all but users, the
cgroup view read-only, /dev/shm of 64 MiB. This is different:
"""

#: (what, here, docker)
_DIFFERENCES = (
    ("`run -ti`", "removes the container at its end (`--rm=false` keeps it)", "keeps it without `--rm`"),
    ("`--cgroupns`", "`private` by default, on cgroup v1 too", "`host` by default on cgroup v1"),
    ("`--uts`, `--cgroupns`", "also `container:NAME`", "`host` and `private` only"),
    ("`--ipc`",
     "`private` by default; `container:NAME` wants the other to be `shareable`",
     "the same, unless the daemon says `shareable`"),
    ("`--pid`, `--ipc`, `--uts`, `--cgroupns` `container:NAME`",
     "the other must run when this one starts; a restart finds it again",
     "the same"),
    ("`--userns`", "`host` by default; `private`: 65536 ids that no other container has, without a copy of the image",
     "`host`; one range for all containers by the daemon's configuration"),
    ("`--mount`", "`type=bind`, `type=volume` (the default) and `type=tmpfs`", "also `image`, `npipe`"),
    ("`-v HOST:CONTAINER`", "`ro` holds for the mounts below it, too", "the same since 25.0, for kernels that can"),
    ("`volume create --opt`",
     "`type=tmpfs`, or a directory (`type=none`, `o=bind`); each container has a tmpfs of its own: the host mounts nothing",
     "every file system; a tmpfs volume is shared while it is in use"),
    ("`VOLUME` of an image at `/proc`, `/sys`, `/dev` or below, or with `..`",
     "an error, but for `/dev/shm` and `/sys/fs/cgroup`",
     "mounted, but for `/`"),
    ("`volume prune`, `system prune --volumes`", "nothing is asked; anonymous volumes, with `-a` all", "the same since 23.0"),
    ("`--tmpfs`, `-v` at a place of the engine's own",
     "takes its place (`/dev/shm`, `/etc/hosts`); `/dev` takes that of all below it",
     "the same"),
    ("`--security-opt`", "also `mask=`, `unmask=` (podman's), `builtin`", "the daemon's profile is `builtin`"),
    ("`--security-opt label=`", "without SELinux in the kernel it says nothing, as in docker", "the same"),
    ("`--ulimit`", "limits not given are those of the caller: there is no daemon whose they could be", "those of the daemon"),
    ("`--oom-kill-disable`", "needs `--memory`", "warns"),
    ("`--blkio-weight`, `--memory-swappiness`, `--cpu-rt-...`",
     "an error where the kernel lacks the limit",
     "a warning, and the limit is dropped"),
    ("`-p`, `-P` without an address", "on the loopback addresses; `MYDOCKER_PUBLISH_ADDRESS` changes that", "on every address"),
    ("`-p` with `--network none`, `host` or `container:NAME`", "an error", "a warning, or silence"),
    ("`create -p`", "holds the port from then on", "at the start"),
    ("`--pids-limit` below -1", "an error", "no limit"),
    ("`--cgroup-parent`", "a path of a cgroup; systemd's slices are refused", "slices with the systemd driver"),
    ("`--init`",
     "the last stage of the start stays as process 1, from sealed memory",
     "a program of the host, mounted at /sbin/docker-init"),
    ("`--runtime`", "a program on `PATH` or a path; also `MYDOCKER_RUNTIME`", "a name from the daemon's configuration"),
    ("`cp`, owners",
     "as docker's documentation has it: without `-a` files become root's in a container and the caller's on the host, with `-a` "
     "they keep their owners (a tar on standard input always says its own); a file that becomes another's loses its set-id bits",
     "owners are always kept on the way in, never on the way out, and so are set-id bits"),
    ("`cp`, what is seen", "also a tmpfs of `--tmpfs` or `--mount` while the container lives", "what is below it"),
    ("`cp`, links", "copied as they are, wherever they lead", "a relative one that leads out of the destination is an error"),
    ("`--cidfile`", "the file must not exist", "the same"),
    ("`exec --privileged`", "every capability; the container's seccomp filter stays", "the same"),
    ("exit codes", "125 for every error of the engine, on every verb", "1 on verbs other than `run`"),
)



def format_reference() -> str:
    """Return the text of docs/cli.md."""
    parts = [_INTRODUCTION, "## Global options\n", *_table(GLOBAL_OPTIONS)]
    for verb in VERBS:
        if verb.hidden:
            continue
        usage = f"mydocker {verb.spelled} {verb.usage}".rstrip()
        parts += [f"\n## {verb.spelled}\n", f"`{usage}`\n", f"{verb.help}.\n"]
        parts += _table(all_options_of(verb.name))
    parts += [_DIFFERENCES_HEAD, "| What | Here | docker |", "|---|---|---|"]
    parts += [f"| {' | '.join(row)} |" for row in _DIFFERENCES]
    parts += ["\n## Docker's two-word spellings\n", "| Typed | Means |", "|---|---|"]
    for group, words in GROUPS.items():
        parts += [f"| `mydocker {group} {word}` | `mydocker {' '.join([verb, *preset])}` |"
                  for word, (verb, preset) in words.items() if not verb.startswith(f"{group}-")]
    return "\n".join(parts).rstrip() + "\n"


def _table(rows: Iterable[Option]) -> list[str]:
    lines = [f"| `{spell(row).strip()}` | {explain(row)} |" for row in rows]
    return ["| Option | Meaning |", "|---|---|", *lines] if lines else []


if __name__ == "__main__":
    from .output import Output

    _output = Output()
    _output.write_bytes(format_reference().encode())
    _output.flush()
