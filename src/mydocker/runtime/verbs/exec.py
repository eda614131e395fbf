"""`exec`: a further process in a running container."""
from __future__ import annotations

import os

from mydocker.base import files
from mydocker.base.errors import Conflict, Corrupt, InvalidRequest
from mydocker.base.undo import Undo
from mydocker.linux.cgroup.group import Cgroup
from mydocker.linux.process import open_pidfd
from mydocker.oci.validate import validate_process
from mydocker.runtime.bundle import check_terminal, write_pid_file
from mydocker.runtime.cgroups import open_for_exec
from mydocker.runtime.cloning import kill_and_reap
from mydocker.runtime.descriptors import announce_listen_fds
from mydocker.runtime.exec import ExecOrder, enter
from mydocker.runtime.handshake import Handshake, connect_console, send_pidfd
from mydocker.runtime.namespaces import FILES, FLAGS
from mydocker.runtime.seccomp import prepare_filter
from mydocker.runtime.status import find_status, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mydocker.oci.runtime_spec import Process, Spec
    from mydocker.runtime.arguments import Arguments
    from mydocker.runtime.cli import Context
    from mydocker.runtime.state import ContainerState



def run(context: Context) -> int:
    """Start the process; its exit code is ours, unless detached."""
    arguments = context.arguments
    state = context.root.load(context.id)
    status = find_status(context.root, state)
    allowed = ("running", "created", "paused") if arguments["ignore-paused"] else ("running", "created")
    if status == "paused" and status not in allowed:
        raise Conflict(f"cannot exec in a paused container: {state.id}", hint="--ignore-paused waits until it is resumed")
    require(state, status, *allowed, action="exec in")
    spec = context.root.load_spec(state.id)
    user, process = take_user(arguments["user"], build_process(arguments, spec))
    listen = announce_listen_fds(process)
    wants_terminal = bool(process.get("terminal"))
    check_terminal(arguments["console-socket"], wants_terminal, detached=arguments["detach"])
    pidfd = open_pidfd(state.init)
    if pidfd is None:
        raise Conflict(f"cannot exec in container {state.id}: container not running")
    console_socket = connect_console(arguments["console-socket"])
    created = enter(ExecOrder(
        process=process, namespaces=foreign_namespaces(state.pid), init_pidfd=pidfd, stdio=None, user=user,
        console_fd=console_socket.fileno() if console_socket else -1, preserve_fds=listen + arguments["preserve-fds"],
        seccomp=prepare_filter(spec.get("linux", {}).get("seccomp"), context.root.seccomp_cache),
        container_id=state.id, bundle=state.bundle, annotations=spec.get("annotations", {}), linux=spec.get("linux"),
        is_cgroup_chosen=bool(arguments["cgroup"]),
    ), find_cgroup(state, arguments["cgroup"]))
    with Undo() as undo:
        undo.callback(kill_and_reap, created.pid, created.pidfd)
        handshake = Handshake(created.channel, process["args"])
        console = handshake.wait_ready(console_here=wants_terminal and console_socket is None)
        if arguments["pid-file"]:
            write_pid_file(arguments["pid-file"], created.pid)
        if arguments["pidfd-socket"]:
            send_pidfd(arguments["pidfd-socket"], created.pidfd, b"setns")

        def start() -> None:
            handshake.start()
            undo.pop_all()

        if arguments["detach"]:
            start()
            return 0
        from mydocker.runtime.foreground import attend  # cold: not with --detach

        return attend(created.pid, created.pidfd, console, start)


def build_process(arguments: Arguments, spec: Spec) -> Process:
    """Return the process to execute: the one of --process, or the container's own with what the options change."""
    if arguments["process"]:
        process = files.load_json(arguments["process"])
        if not isinstance(process, dict) or not process.get("args"):
            raise Corrupt(f"read {arguments['process']}: not a process with args")
        judged = validate_process({**process, "cwd": process.get("cwd") or "/"})
        # containerd's shim writes the terminal into the file and gives --tty besides.
        return {**judged, "terminal": bool(judged.get("terminal") or arguments["tty"])}
    args = arguments.words[1:]
    if args[:1] == ["--"]:
        args = args[1:]
    if not args:
        raise InvalidRequest("exec: a command, or a process.json, is needed", hint="exec ID COMMAND, or exec --process FILE ID")
    own = spec.get("process") or {"args": [], "cwd": "/"}  # a container that can only be created
    process = {**own, "args": args, "terminal": arguments["tty"], "env": [*own.get("env", ()), *arguments["env"]]}
    process.pop("consoleSize", None)
    for option, field in (("cwd", "cwd"), ("process-label", "selinuxLabel"), ("apparmor", "apparmorProfile")):
        if arguments[option]:
            process[field] = arguments[option]
    if "no-new-privs" in arguments.given:
        process["noNewPrivileges"] = arguments["no-new-privs"]
    add_capabilities(process, arguments["cap"])
    if arguments["additional-gids"]:
        gids = [parse_number(text, "additional-gids") for text in arguments["additional-gids"]]
        user = process.get("user", {})
        process["user"] = {**user, "additionalGids": [*user.get("additionalGids", ()), *gids]}
    return validate_process(process)


def add_capabilities(process: dict[str, object], names: list[str]) -> None:
    """Add capabilities to the sets of a process, but not to the inheritable ones (CVE-2022-29162), and to the ambient ones
    only what is inheritable already: then the spec means it so."""
    if not names:
        return
    from mydocker.linux.caps import NUMBERS  # cold

    for name in names:
        if name not in NUMBERS:
            raise InvalidRequest(f"exec: {name!r} is no capability", hint="they are written CAP_SYS_ADMIN")
    sets: dict[str, list[str]] = dict(process.get("capabilities") or {})  # type: ignore[call-overload]
    for kind in ("bounding", "effective", "permitted"):
        sets[kind] = list(dict.fromkeys([*sets.get(kind, ()), *names]))
    inheritable = [name for name in names if name in sets.get("inheritable", ())]
    sets["ambient"] = list(dict.fromkeys([*sets.get("ambient", ()), *inheritable]))
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
    for kind, name in FILES.items():
        try:
            if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
                flags |= FLAGS[kind]
        except FileNotFoundError:
            pass  # a kernel without this kind; that the process has ended is for open_pidfd's caller to see
    return flags


def find_cgroup(state: ContainerState, choices: list[str]) -> Cgroup:
    """Return the cgroup to enter: the container's, or the existing ones below it that --cgroup names.

    Raises NotFound, InvalidRequest.
    """
    group = open_for_exec(state)
    for choice in choices:
        controllers, colon, path = choice.rpartition(":")
        group = group.below(path, controllers.split(",") if colon else ())
    return group
