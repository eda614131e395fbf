"""Containers: the collection and the handle. Both are facades: verbs live in creating, ending, execs, logs.
"""
from __future__ import annotations

from _thread import allocate_lock

from mydocker.base import trace
from mydocker.base.errors import AlreadyInState, Corrupt, NotFound, Timeout
from mydocker.linux.cgroup.group import Cgroup
from mydocker.monitor.protocol import IS_OWNER, WANTS_STDERR, WANTS_STDIN, WANTS_STDOUT

from . import ending, recover
from .lifecycle import ALIVE, CREATED, CREATING, RUNNING, advance, require_running
from .observe import Facts, observe
from .sessions import LiveSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, BinaryIO, Unpack

    from mydocker.monitor.logs import LogLine
    from mydocker.network.model import Endpoint

    from .copying import Archive, Copied, PathStat
    from .creating import Creator
    from .execs import ExecOptions, ExecResult
    from .keywords import Options
    from .publishing import Binding
    from .request import ContainerConfig
    from .starting import Starter
    from .store import ContainerRecord, Store


class Containers:
    """The containers of an engine: `engine.containers`."""

    __slots__ = ("_lock", "_made", "_make_creator", "_make_starter", "_starting", "_store")

    def __init__(
        self, store: Store, make_starter: Callable[[], Starter], make_creator: Callable[[Starter], Creator],
    ) -> None:
        self._store = store
        self._make_starter = make_starter
        self._make_creator = make_creator
        self._starting: Starter | None = None
        self._made: Creator | None = None
        self._lock = allocate_lock()

    @property
    def _starter(self) -> Starter:
        with self._lock:  # the first starts may come from many threads at once
            if self._starting is None:
                self._starting = self._make_starter()
            return self._starting

    @property
    def _creator(self) -> Creator:
        starter = self._starter
        with self._lock:
            if self._made is None:
                self._made = self._make_creator(starter)
            return self._made

    def _delete(self, path: str) -> None:
        """Delete a tree in the trash: in the background where there is a launcher."""
        if self._starting is None:
            recover.remove_tree(path)
        else:
            self._starting.delete(path)

    def create(self, image: str, argv: Iterable[str] = (), **options: Unpack[Options]) -> Container:
        """Make a container without starting it. Options are those of `mydocker run`, `-` written as `_`.

        Raises InvalidRequest, NotFound (image), Conflict (name), CommandNotFound, CommandNotExecutable, ...
        """
        record, session = self._creator.create(_judge(image, argv, options), start=False)
        session.close()
        return Container(self, record)

    def run(
        self, image: str, argv: Iterable[str] = (), *, detach: bool = False, stdin: bytes | None = None,
        timeout: float | None = None, **options: Unpack[Options],
    ) -> Container:
        """Start a container; unless `detach`, give it `stdin` and wait for its end (`timeout` seconds at most).

        Its output is in its log; with `rm=True` also in `output` of the returned handle, as nothing else is left.
        Raises as `create` does; Timeout kills the container.
        """
        if detach:
            record, started = self._creator.create(_judge(image, argv, options), start=True)
            started.close()
            return Container(self, record)
        if stdin is not None:
            options["interactive"] = True
        session = self.open(image, argv, **options)
        container = session.container
        assert container is not None
        try:
            stdout, stderr, _ = session.communicate(stdin, timeout)
        except Timeout:
            container.kill()
            session.finish()
            raise Timeout(f"run container {container.name}: it did not end in {timeout} s and was killed") from None
        container.output = (stdout, stderr)
        container._record = observe(container._record, Facts(is_alive=False, exit=session.exit))
        session.finish()
        return container

    def open(self, image: str, argv: Iterable[str] = (), **options: Unpack[Options]) -> LiveSession:
        """Start a container attached: its live streams, and the duty to `finish` the session."""
        config = _judge(image, argv, options)
        flags = WANTS_STDOUT | WANTS_STDERR | IS_OWNER | (WANTS_STDIN if config.interactive else 0)
        record, session = self._creator.create(config, start=True, client_flags=flags)
        container = Container(self, record)
        session.container = container
        session.own(lambda: ending.finish(self._store, record.id, self._delete))
        return session

    def get(self, reference: str) -> Container:
        """Return the container with this name or id, or unique prefix of one. Raises NotFound, Conflict (ambiguous)."""
        return Container(self, ending.current(self._store, self._store.find(reference)))

    def remove(self, reference: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; `force` kills it first, and takes one whose record cannot be read; `volumes`: see there.

        Raises NotFound, Conflict (it runs; ambiguous), Corrupt.
        """
        from .removing import remove  # cold

        remove(self._store, self._store.find(reference), force=force, volumes=volumes)

    def list(self, *, all: bool = True, on_error: Callable[[Corrupt], None] | None = None) -> list[Container]:
        """Return the containers, oldest first; only running ones unless `all`.

        Takes no lock. An end that nobody recorded (a killed monitor) is recorded on the way. A container
        whose record cannot be read is told to `on_error`, without which Corrupt is raised.
        """
        found = []
        for container_id in self._store.ids():
            try:
                record: ContainerRecord | None = ending.current(self._store, container_id)
                if record is not None and record.status not in ALIVE and not record.is_recorded_end:
                    record = None if record.status == CREATING else ending.finish_if_free(self._store, record)
            except NotFound:
                continue  # removed between the listing and the look
            except Corrupt as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            if record is not None and (all or record.status in (RUNNING, "paused")):
                found.append(Container(self, record))
        found.sort(key=lambda container: container.created_ns)
        return found


def _judge(image: str, argv: Iterable[str], options: Options) -> ContainerConfig:
    from .request import judge  # cold for whoever only looks

    return judge(image, argv, options)


class Container:
    """One container: what was true of it at the last look (`refresh`), and what can be done with it.

    `output` is (stdout, stderr) after a foreground `run` from Python, else None.
    """

    __slots__ = ("_containers", "_record", "output")

    def __init__(self, containers: Containers, record: ContainerRecord) -> None:
        self._containers = containers
        self._record = record
        self.output: tuple[bytes, bytes] | None = None

    def __repr__(self) -> str:
        return f"<Container {self.name} ({self.id}) {self.status}>"

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave a `with` block: remove the container, running or not."""
        try:
            self.remove(force=True)
        except NotFound:
            pass  # it removed itself, or somebody did

    @property
    def id(self) -> str:
        """Ten decimal digits."""
        return self._record.id

    @property
    def name(self) -> str:
        """Its name; the id when none was given."""
        return self._record.name

    @property
    def image(self) -> str:
        """The reference of the image it was made from."""
        return self._record.image

    @property
    def command(self) -> str:
        """What runs in it, as one line to show."""
        return self._record.command

    @property
    def created_ns(self) -> int:
        """When it was made, in nanoseconds since the epoch."""
        return self._record.created_ns

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self._record.config["labels"])

    @property
    def record(self) -> dict[str, Any]:
        """Its record, as in config.json."""
        return self._record.to_document()

    @property
    def status(self) -> str:
        """created, running, paused, exited or stopped."""
        return self._record.status

    @property
    def pid(self) -> int | None:
        """The host's pid of its init; None when it does not run."""
        return self._record.pid

    @property
    def ports(self) -> list[Binding]:
        """Where its ports are published while it lives."""
        if not self._record.ports or self._record.status not in ALIVE:
            return []
        from .publishing import bindings_of  # cold: most containers publish nothing

        return bindings_of(self._record)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where it is on its networks (`ip`, `ip6`, `mac`, `gateway` ...) while it lives."""
        if self._record.status not in ALIVE:
            return []
        from .networks import endpoints_of  # cold

        return endpoints_of(self._record)

    @property
    def exit_code(self) -> int | None:
        """How it ended: the command's code, 128 + signal; None while it has not."""
        return self._record.exit_code

    @property
    def signal(self) -> int | None:
        """The signal that ended it, if one did."""
        return self._record.signal

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel killed it for exceeding its memory limit."""
        return self._record.oom_killed

    def refresh(self) -> Container:
        """Look again. Raises NotFound when it is gone."""
        self._record = ending.current(self._store, self.id)
        return self

    @property
    def _store(self) -> Store:
        return self._containers._store

    @property
    def _creator(self) -> Creator:
        return self._containers._creator

    # --- its life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a created container, or an ended one again. Raises AlreadyInState, Conflict."""
        from .restarting import start  # cold: `run` does not come here

        self._record, session = start(self._store, self._creator, self.id)
        session.close()

    def open_start(self, *, stdin: bool = False, console_size: tuple[int, int] | None = None) -> LiveSession:
        """Start it as `start` does, and return the live session of its streams from the first byte on.

        `console_size` (rows, columns) is the size of its terminal, if it has one.
        """
        from .restarting import start  # cold

        flags = WANTS_STDOUT | WANTS_STDERR | (WANTS_STDIN if stdin else 0)
        self._record, session = start(self._store, self._creator, self.id, flags, console_size)
        session.container = self
        return session

    def stop(self, timeout: float | None = None, signal: str | None = None) -> None:
        """End it: its stop signal, SIGKILL after `timeout` seconds (10 by default, below 0 never). Raises Conflict."""
        self._record = ending.stop(self._store, self.id, timeout_s=timeout, signal=signal or "") or self._record

    def restart(self, timeout: float | None = None, signal: str | None = None) -> None:
        """Stop it as `stop` does if it runs, and start it; one that goes with its end (`rm`) stays."""
        try:
            if self.refresh().status in ALIVE and self.status != CREATED:
                ending.stop(self._store, self.id, timeout_s=timeout, signal=signal or "", restarts=True)
        except AlreadyInState:
            pass  # it has just ended
        try:
            self.start()
        except AlreadyInState:
            self.refresh()  # by another restart, at the same time

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to its init. Raises Conflict when it does not run."""
        from .killing import kill  # cold

        kill(self._store, self.id, signal)

    def pause(self) -> None:
        """Stop all its processes where they are (the cgroup freezer). Raises Conflict, AlreadyInState."""
        self._change("pause", lambda cgroup: cgroup.freeze())

    def unpause(self) -> None:
        """Let them go on. Raises Conflict, AlreadyInState."""
        self._change("unpause", lambda cgroup: cgroup.thaw())

    def _change(self, event: str, act: Callable[[Cgroup], None]) -> None:
        with self._store.lock(self.id):
            record = ending.current(self._store, self.id)
            changed = record.replace(status=advance(record.status, event, name=record.name))
            cgroup = Cgroup.open(record.cgroups_path)
            # Whatever stands still is recorded as paused, even if we are killed here: else nothing could wake it.
            if event == "pause":
                self._store.save(changed)
            trace.point("recorded pause")
            act(cgroup)
            trace.point("froze or thawed")
            if event == "unpause":
                self._store.save(changed)
            self._record = changed

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code. Raises Timeout, NotFound (removed by its end: then
        the code comes from the monitor)."""
        from .restarting import wait  # cold

        return wait(self._store, self.id, timeout)

    def remove(self, force: bool = False, volumes: bool = False) -> None:
        """Remove it with its log and write layer; `force` kills it first. Raises Conflict, NotFound.

        With `volumes` go its anonymous volumes that no other container has.
        """
        from .removing import remove  # cold

        remove(self._store, self.id, force=force, volumes=volumes, delete=self._containers._delete)

    # --- looking and working inside ---------------------------------------------------------------

    def inspect(self) -> dict[str, Any]:
        """Return all there is to know of it as a JSON document."""
        from .inspecting import inspect_container  # cold

        return inspect_container(self._store, self.refresh()._record)

    def logs(
        self, *, follow: bool = False, tail: int | str | None = None, since: str | float | None = None,
        until: str | float | None = None,
    ) -> Iterator[LogLine]:
        """Yield the lines it wrote. `tail` is a count or "all"; `since`/`until` are times or ages (`10m`)."""
        from .logs import read_container_log  # cold

        return read_container_log(self._store, self._record, follow=follow, tail=tail, since=since, until=until)

    def copy_logs(
        self, stdout_fd: int, stderr_fd: int, *, follow: bool = False, tail: int | str | None = None,
        since: str | float | None = None, until: str | float | None = None, timestamps: bool = False,
    ) -> None:
        """Write its log to two descriptors, faster than `logs` could; options as there, and `timestamps`."""
        from .logs import copy_container_log  # cold

        copy_container_log(
            self._store, self._record, stdout_fd, stderr_fd, follow=follow, tail=tail, since=since, until=until,
            timestamps=timestamps)

    def attach(self, *, stdin: bool = False, output: bool = True) -> LiveSession:
        """Return a live session of its streams from now on. Raises Conflict when it does not run."""
        from .restarting import attach  # cold

        flags = (WANTS_STDOUT | WANTS_STDERR if output else 0) | (WANTS_STDIN if stdin else 0)
        session = attach(self._store, self.refresh()._record, flags)
        session.container = self
        return session

    def exec(
        self, argv: Iterable[str], *, env: Mapping[str, str] | Iterable[str] | None = None, workdir: str = "",
        user: str = "", tty: bool = False, stdin: bytes | None = None, timeout: float | None = None, detach: bool = False,
        env_file: Iterable[str] = (), privileged: bool = False,
    ) -> ExecResult:
        """Run a command in it and return its exit code and output; `detach` leaves it running.

        Raises Timeout after `timeout` seconds and kills the command then; CommandNotFound, Conflict, ...
        """
        from .execs import ExecResult

        session = self.open_exec(
            argv, env=env, workdir=workdir, user=user, tty=tty, interactive=stdin is not None, detach=detach, env_file=env_file,
            privileged=privileged)
        if detach:
            session.close()
            return ExecResult(exit_code=0, stdout=b"", stderr=b"")
        try:
            stdout, stderr, ended = session.communicate(stdin, timeout)
        except Timeout:
            session.kill()
            session.finish()
            raise Timeout(f"exec in container {self.name}: it did not end in {timeout} s and was killed") from None
        session.finish()
        return ExecResult(exit_code=ended.exit_code, stdout=stdout, stderr=stderr)

    def open_exec(self, argv: Iterable[str], **options: Unpack[ExecOptions]) -> LiveSession:
        """Run a command in it and return the live session: iterate `events()`, `write()`, `close_stdin()`, `finish()`."""
        from .execs import judge_exec, open_exec

        record = self.refresh()._record
        require_running(record.status, "exec in", name=record.name)
        session = open_exec(self._store, self._containers._starter, self.id, judge_exec(argv, **options))
        session.container = self
        return session

    def commit(
        self, image: str = "", *, author: str = "", message: str = "", pause: bool = True, change: Sequence[str] = (),
    ) -> str:
        """Make an image of it as it is now; return the image's digest. `change`: lines such as `CMD ["sh"]`.

        Raises InvalidRequest (name, change).
        """
        from .committing import commit  # cold

        return commit(
            self._store, self._creator.images, self.id, image, author=author, message=message, pause=pause, change=change)

    def export(self, target: int | BinaryIO) -> None:
        """Write its file system as a tar to a descriptor or a binary file, without what is mounted in it."""
        from .exporting import export  # cold

        export(self._store, self.refresh()._record, target)

    def copy_in(
        self, source: str | os.PathLike[str], path: str, *, archive: bool = False, follow: bool = False,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Copied:
        """Copy a file or directory of the host into it, by the rules of `mydocker cp`, running or not.

        `archive` keeps owners, else all becomes root's; `follow` takes what a link leads to.
        Raises NotFound, InvalidRequest, Denied (read-only), Unavailable (disk full).
        """
        from .copying import copy_in  # cold

        return copy_in(self._store, self.id, source, path, archive=archive, follow=follow, on_bytes=on_bytes)

    def copy_out(
        self, path: str, target: str | os.PathLike[str], *, archive: bool = False, follow: bool = False,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Copied:
        """Copy a file or directory of its to the host, as `copy_in` does the other way; else all becomes the caller's."""
        from .copying import copy_out  # cold

        return copy_out(self._store, self.id, path, target, archive=archive, follow=follow, on_bytes=on_bytes)

    def put_archive(
        self, path: str, data: bytes | int | BinaryIO, *, archive: bool = True, on_bytes: Callable[[int], None] | None = None,
    ) -> Copied:
        """Take a tar apart in a directory of it; `archive` keeps the owners that the tar says."""
        from .copying import write_archive  # cold

        return write_archive(self._store, self.id, path, data, archive=archive, on_bytes=on_bytes)

    def get_archive(self, path: str, *, follow: bool = False) -> Archive:
        """Return a path of it as a tar: an iterable of bytes with `stat`, to be closed or used in a `with`."""
        from .copying import read_archive  # cold

        return read_archive(self._store, self.id, path, follow=follow)

    def stat(self, path: str) -> PathStat:
        """Return what is at a path of it, a link itself, with `link_target`. Raises NotFound."""
        from .copying import stat_path  # cold

        return stat_path(self._store, self.id, path)
