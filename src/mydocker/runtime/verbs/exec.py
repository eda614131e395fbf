"""`exec`: a further process in a running container."""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.base.errors import Conflict, Corrupt, InvalidRequest, Unsupported
from mydocker.base.undo import Undo
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.process import open_pidfd
from mydocker.runtime.bundle import check_terminal, count_preserved, take_listen_fds, write_pid_file
from mydocker.runtime.cgroups import open_cgroup
from mydocker.runtime.create import NAMESPACES, kill_and_reap
from mydocker.runtime.exec import ExecOrder, enter
from mydocker.runtime.handshake import Handshake, take_console
from mydocker.runtime.seccomp import prepare_filter
from mydocker.runtime.status import find_status, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Process
    from mydocker.runtime.cli import Context
    from mydocker.runtime.state import ContainerState

#: Namespaces of the runtime spec by their names below /proc/PID/ns.
_FILES = {"network": "net", "mount": "mnt"}


def run(context: Context) -> int:
    """Start the process; its exit code is ours, unless detached."""
    arguments = context.arguments
    preserve_fds = count_preserved(arguments["preserve-fds"])
    listen = take_listen_fds()
    if listen + preserve_fds:
        raise Unsupported("exec: descriptors cannot be passed on")
    state = context.root.load(context.id)
    status = find_status(context.root, state)
    allowed = ("running", "created", "paused") if arguments["ignore-paused"] else ("running", "created")
    require(state, status, *allowed, action="exec in")
    process = build_process(context, state)
    if process.get("rlimits"):
        import resource  # noqa: F401  # cold: so that the process need not import inside the container
    if listen:
        process["env"] = [*process.get("env", ()), f"LISTEN_FDS={listen}", "LISTEN_PID=1"]
    wants_terminal = bool(process.get("terminal"))
    check_terminal(arguments["console-socket"], wants_terminal, detached=arguments["detach"])
    user, process = take_user(arguments["user"], process)
    pidfd = open_pidfd(state.init)
    if pidfd is None:
        raise Conflict(f"cannot exec in container {state.id}: container not running")
    order = ExecOrder(
        process=process, namespaces=foreign_namespaces(state.pid), init_pidfd=pidfd, stdio=None, user=user,
        seccomp=prepare_filter(context.root.load_spec(state.id).get("linux", {}).get("seccomp"), context.root.seccomp_cache))
    created = enter(order, find_cgroup(state, arguments["cgroup"]))
    with Undo() as undo:
        undo.callback(kill_and_reap, created.pid, created.pidfd)
        handshake = Handshake(created.channel, process["args"])
        console = take_console(handshake.wait_ready(terminal=wants_terminal), arguments["console-socket"])
        if arguments["pid-file"]:
            write_pid_file(arguments["pid-file"], created.pid)

        def start() -> None:
            handshake.start()
            undo.pop_all()

        if arguments["detach"]:
            start()
            return 0
        from mydocker.runtime.foreground import attend  # cold: not with --detach

        return attend(created.pid, created.pidfd, console, start)


def build_process(context: Context, state: ContainerState) -> Process:
    """Return the process to execute: the one of --process, or the container's own with what the options change."""
    arguments = context.arguments
    if arguments["process"]:
        process = files.load_json(arguments["process"])
        if not isinstance(process, dict) or not process.get("args"):
            raise Corrupt(f"read {arguments['process']}: not a process with args")
        process.setdefault("cwd", "/")
        # containerd's shim writes the terminal into the file and gives --tty besides.
        return {**process, "terminal": bool(process.get("terminal") or arguments["tty"])}  # type: ignore[typeddict-item]
    args = arguments.words[1:]
    if args[:1] == ["--"]:
        args = args[1:]
    if not args:
        raise InvalidRequest("exec: a command, or a process.json, is needed", hint="exec ID COMMAND, or exec --process FILE ID")
    own = context.root.load_spec(state.id).get("process", {})
    process = {**own, "args": args, "terminal": arguments["tty"], "env": [*own.get("env", ()), *arguments["env"]]}
    process.pop("consoleSize", None)
    for option, field in (
        ("cwd", "cwd"), ("process-label", "selinuxLabel"), ("apparmor", "apparmorProfile"), ("no-new-privs", "noNewPrivileges"),
    ):
        if arguments[option]:
            process[field] = arguments[option]
    add_capabilities(process, arguments["cap"])
    if arguments["additional-gids"]:
        gids = [parse_number(text, "additional-gids") for text in arguments["additional-gids"]]
        user = process.get("user", {})
        process["user"] = {**user, "additionalGids": [*user.get("additionalGids", ()), *gids]}
    return process  # type: ignore[return-value]


def add_capabilities(process: dict[str, object], names: list[str]) -> None:
    """Add capabilities to the sets of a process, but to the inheritable and ambient ones (CVE-2022-29162)."""
    if not names:
        return
    from mydocker.linux.caps import NUMBERS  # cold

    for name in names:
        if name not in NUMBERS:
            raise InvalidRequest(f"exec: {name!r} is no capability", hint="they are written CAP_SYS_ADMIN")
    sets: dict[str, list[str]] = dict(process.get("capabilities") or {})  # type: ignore[call-overload]
    for kind in ("bounding", "effective", "permitted"):
        sets[kind] = list(dict.fromkeys([*sets.get(kind, ()), *names]))
    process["capabilities"] = sets


def take_user(text: str, process: Process) -> tuple[str | None, Process]:
    """Return a name to look up inside, or the process with the numbers that the option gives."""
    if not text:
        return None, process
    uid, _, gid = text.partition(":")
    if not (uid.isdigit() and (gid.isdigit() or not gid)):
        return text, process
    user = {**process.get("user", {}), "uid": parse_number(uid, "user")}
    if gid:
        user["gid"] = parse_number(gid, "user")
    return None, {**process, "user": user}  # type: ignore[typeddict-item]


def parse_number(text: str, option: str) -> int:
    """Return a uid or gid. Raises InvalidRequest."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > 0xFFFFFFFE:
        raise InvalidRequest(f"exec: option --{option}: {text!r} is no id")
    return int(text)


def foreign_namespaces(pid: int) -> int:
    """Return the CLONE_NEW* flags of the namespaces that a process does not share with us.

    Compared by inode, so that what the container joined by path counts as well. Raises OSError.
    """
    flags = 0
    for kind, flag in NAMESPACES.items():
        name = _FILES.get(kind, kind)
        try:
            if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
                flags |= flag
        except FileNotFoundError:
            pass  # a kernel without this kind; that the process has ended is for open_pidfd's caller to see
    return flags


def find_cgroup(state: ContainerState, choices: list[str]) -> Cgroup:
    """Return the cgroup to enter: the container's, or the existing ones below it that --cgroup names.

    Raises NotFound, InvalidRequest.
    """
    group = open_cgroup(state)
    if group is None:
        raise Unsupported(f"exec in container {state.id}: it has no cgroup")
    for choice in choices:
        controllers, colon, path = choice.rpartition(":")
        parts = [part for part in path.split("/") if part]
        if any(part in (".", "..") for part in parts):
            raise InvalidRequest(f"exec: option --cgroup: {choice!r} leads out of the container's cgroup")
        below = "".join(f"/{part}" for part in parts)
        for controller in controllers.split(",") if colon else [*group.v1, ""]:
            if controller and controller not in group.v1:
                raise InvalidRequest(f"exec: option --cgroup: the container has no cgroup of controller {controller!r}")
            enter_below(group, controller, below, choice)
    return group


def enter_below(group: Cgroup, controller: str, below: str, choice: str) -> None:
    """Have a cgroup object name a directory below itself; controller "" is v2. Raises InvalidRequest when there is none."""
    directory = (group.v1[controller] if controller else group.v2)
    if not directory:
        return
    if not os.path.isdir(directory + below):
        raise InvalidRequest(f"exec: option --cgroup: {choice!r}: no such cgroup below the container's")
    if controller:
        group.v1[controller] = directory + below
    else:
        group.v2 = directory + below
