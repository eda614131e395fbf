"""Builds: what the user asks for, judged, and the engine as a build needs it (build/request.py Runner)."""
from __future__ import annotations

import os
from _thread import allocate_lock

from mydocker.base.errors import InvalidRequest, MydockerError, NotFound
from mydocker.base.record import Record
from mydocker.base.undo import Undo
from mydocker.build import cache, secrets
from mydocker.build.job import Job
from mydocker.build.request import BuildOptions
from mydocker.image.progress import Silent
from mydocker.image.store import ResolvedImage
from mydocker.oci import platform as platforms
from mydocker.oci import reference as references

from .request import ContainerConfig, judge, judge_labels, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from mydocker.build.request import Built, Progress, RunStep
    from mydocker.image.store import Images

    from .creating import Creator
    from .launching import LauncherStarter
    from .sessions import LiveSession
    from .store import ContainerRecord, Store

_OUTPUTS = ("local", "tar", "oci", "docker", "image", "registry")
_LIMITS = frozenset((
    "memory", "memory_swap", "cpu_shares", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems", "shm_size", "ulimit",
    "cgroup_parent",
))
_POLL_S = 0.2


class _Output(Record):
    """What --output says: for an image in the store `kind` is empty; `names` are more of its names."""

    kind: str = ""
    destination: str = ""
    names: tuple[str, ...] = ()
    pushes: bool = False
    insecure: bool = False


class Builds:
    """`engine.builds`."""

    def __init__(self, store: Store, images: Images) -> None:
        self._store = store
        self._images = images

    def build(
        self, context: str | os.PathLike[str], *, file: str = "", tag: str | Iterable[str] = (),
        build_arg: Mapping[str, str] | Iterable[str] = (), label: Mapping[str, str] | Iterable[str] = (), target: str = "",
        platform: str = "", network: str = "", no_cache: bool = False, pull: bool = False, squash: bool = False,
        secret: Iterable[str] = (), ssh: Iterable[str] = (), output: str = "", add_host: Iterable[str] = (),
        insecure_registry: Iterable[str] = (), progress: Progress | None = None, **limits: Any,
    ) -> Built:
        """Build a Dockerfile; `context` is a directory, a git URL, an http URL of a tar, or `-`. See docs/build.md.

        `limits` are those of `containers.run`, for each RUN step: memory, memory_swap, cpu_shares, cpu_period, cpu_quota,
        cpuset_cpus, cpuset_mems, shm_size, ulimit, cgroup_parent.

        Raises InvalidRequest, NotFound, CommandFailed, Unsupported, ..., with the line of the Dockerfile.
        """
        arguments = _judge_build_args(build_arg)
        agents = [secrets.parse_ssh(word) for word in words(ssh, "ssh")]
        hosts = tuple(words(add_host, "add_host"))
        insecure = tuple(words(insecure_registry, "insecure_registry"))
        limits = _judge_limits(limits, hosts)
        wanted = _judge_output(output)
        names = list(dict.fromkeys((*words(tag, "tag"), *wanted.names)))
        if wanted.pushes and not names:
            raise InvalidRequest("build: an image that is pushed needs a name", hint="-t REGISTRY/NAME[:TAG]")
        options = BuildOptions(
            context=os.fspath(context), dockerfile=file,
            references=tuple(self._images.judged_name(name) for name in names), build_args=arguments,
            labels=dict(judge_labels(label, "label")), target=target, platform=platform,
            network=_judge_network(network), no_cache=no_cache, pull=pull, squash=squash,
            output=(wanted.kind, wanted.destination), add_hosts=hosts,
            secrets=secrets.Secrets(
                secrets=dict(secrets.parse_secret(word) for word in words(secret, "secret")),
                sockets={identity: paths[0] for identity, paths, _ in agents}),
            epoch_ns=_judge_epoch(arguments))
        if platform:
            platforms.parse(platform)
        shown = progress or _Silence()
        with Undo() as undo:
            runner = _Runner(self._store, self._images, limits, shown, insecure)
            undo.callback(runner.close)
            keyed = {identity: paths for identity, paths, are_keys in agents if are_keys}
            if keyed:
                options = options.replace(secrets=self._start_agents(options.secrets, keyed, undo))
            built = Job(self._store.layout, runner, options, shown).run()
        if wanted.pushes:
            for name in options.references:
                self._push(name, insecure, wanted.insecure, shown)
        return built

    def _start_agents(self, given: secrets.Secrets, keyed: Mapping[str, Sequence[str]], undo: Undo) -> secrets.Secrets:
        """Start an agent for each id that has key files in place of a socket."""
        from mydocker.build.keyagent import KeyAgent  # cold

        self._store.layout.ensure()
        sockets = dict(given.sockets)
        for identity, keys in keyed.items():
            agent = KeyAgent(self._store.layout.run, identity, keys)
            undo.callback(agent.close)
            sockets[identity] = agent.socket
        return given.replace(sockets=sockets)

    @staticmethod
    def is_on_stdout(output: str) -> bool:
        """Tell whether what --output asks for goes to standard output. Raises InvalidRequest."""
        return _judge_output(output).destination == "-"

    def _push(self, name: str, insecure: tuple[str, ...], is_insecure: bool, progress: Progress) -> None:
        """Push what was built, as one more step."""
        reference = references.parse(name)
        transfers = progress.transfer("push", reference.familiar)
        if is_insecure:
            insecure = (*insecure, reference.domain)
        try:
            pushed = self._images.push(name, insecure=insecure, progress=transfers)
        except MydockerError as error:
            transfers.close(error.message)
            raise
        transfers.say(f"digest: {pushed.digest}")
        transfers.close()

    def prune(self) -> int:
        """Forget the build cache; what only it needed goes. Returns how many entries there were."""
        count = cache.prune(self._store.layout)
        self._images.collect()
        return count


class _SilentStep:
    """A step that nobody hears of."""

    def write(self, stream: str, data: bytes) -> None: ...
    def end(self, *, cached: bool = False, error: str = "") -> None: ...


class _SilentTransfers(Silent):
    """A pull or push that nobody hears of."""

    def close(self, error: str = "") -> None: ...


class _Silence:
    """Progress that nobody hears of."""

    def begin(self, name: str, text: str) -> _SilentStep:
        return _SilentStep()

    def transfer(self, verb: str, name: str) -> _SilentTransfers:
        return _SilentTransfers()

    def warn(self, text: str) -> None: ...


class _Runner:
    """Runs the steps of one build as containers of this engine."""

    def __init__(
        self, store: Store, images: Images, limits: Mapping[str, Any], progress: Progress, insecure: tuple[str, ...]
    ) -> None:
        self._store = store
        self._images = images
        self._limits = limits
        self._progress = progress
        self._insecure = insecure
        self._lock = allocate_lock()
        self._pulling = allocate_lock()
        self._made: tuple[LauncherStarter, Creator] | None = None

    def _make(self) -> tuple[LauncherStarter, Creator]:
        """Return what starts containers: stages run in threads, so a launcher does (monitor/launcher.py)."""
        with self._lock:
            if self._made is None:
                from .creating import Creator  # cold where everything is cached
                from .launching import LauncherStarter

                starter = LauncherStarter()
                self._made = starter, Creator(self._store, self._images, starter)
            return self._made

    def close(self) -> None:
        """End the launcher, if there was one."""
        if self._made is not None:
            self._made[0].close()

    def run(
        self, step: RunStep, upper_dir: str, write: Callable[[str, bytes], None], is_cancelled: Callable[[], bool]
    ) -> int:
        """Run a step in a container of its own; its write layer becomes `upper_dir`. Returns the exit code."""
        from mydocker.monitor.protocol import IS_OWNER, TAKES_IT_ALONG, WANTS_STDERR, WANTS_STDOUT  # cold: where all is cached

        from . import ending

        starter, creator = self._make()
        config = _config_of(step, self._limits)
        image_config = {"Env": list(step.config.get("Env") or ())}
        resolved = ResolvedImage(
            reference="build", manifest_digest="", config={"config": image_config}, chain_ids=step.layers)
        record, session = creator.create(
            config, start=True, client_flags=WANTS_STDOUT | WANTS_STDERR | IS_OWNER | TAKES_IT_ALONG, resolved=resolved)
        session.own(lambda: ending.finish(self._store, record.id, starter.delete))
        try:
            with _Killer(session, is_cancelled):
                for stream, payload in session.events():
                    if isinstance(payload, bytes):
                        write(stream, payload)
            assert session.exit is not None
            if session.exit.exit_code == 0:
                self._take_upper(record, upper_dir)
            return session.exit.exit_code
        except BaseException:
            session.kill()
            raise
        finally:
            session.finish()

    def _take_upper(self, record: ContainerRecord, upper_dir: str) -> None:
        """Move a container's write layer, as it is, to where the build wants it (an empty directory)."""
        os.rename(f"{self._store.layout.container(record.id)}/upper", upper_dir)

    def resolve(self, name: str, *, platform: str, pull: bool) -> ResolvedImage:
        """Return the image of a FROM or --from, pulled where it is not here (or with `pull`, if there is a newer one).

        Stages pull one after the other, so that what their images have in common comes once.
        """
        if not pull:
            try:
                return self._find(name, platform)
            except NotFound:
                pass  # it is to be pulled
        with self._pulling:
            return self._pull(name, platform, "always" if pull else "missing")

    def _find(self, name: str, platform: str) -> ResolvedImage:
        if not platform:
            return self._images.resolve(name)
        from .pulling import pulled  # cold

        return pulled(self._images, ContainerConfig(image=name, pull="never", platform=platform))

    def _pull(self, name: str, platform: str, when: str) -> ResolvedImage:
        from .pulling import pulled  # cold

        config = ContainerConfig(image=name, pull=when, platform=platform, insecure_registries=self._insecure)
        transfers = self._progress.transfer("pull", references.parse(name).familiar)
        try:
            resolved = pulled(self._images, config, transfers)
        except MydockerError as error:
            transfers.close(error.message)
            raise
        transfers.close()
        return resolved

    def judge_signal(self, word: str) -> None:
        """Raise InvalidRequest for what is no signal."""
        from .signals import parse_signal  # cold

        parse_signal(word)


class _Killer:
    """Kills a session's command when the build is cancelled by another stage, while `with` waits for its end."""

    def __init__(self, session: LiveSession, is_cancelled: Callable[[], bool]) -> None:
        import threading  # cold

        self._session = session
        self._is_cancelled = is_cancelled
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mydocker-cancel", daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_S):
            if self._is_cancelled():
                self._session.kill()
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()


def _config_of(step: RunStep, limits: Mapping[str, Any]) -> ContainerConfig:
    """Return the configuration of a step's container. Raises InvalidRequest."""
    options: dict[str, Any] = {
        "entrypoint": [step.argv[0]], "env": [f"{name}={value}" for name, value in step.env.items()], "workdir": step.workdir,
        "rm": True, "label": ["io.mydocker.build=step"], **limits,
    }
    if step.user:
        options["user"] = step.user
    if step.network not in ("", "default"):
        options["network"] = step.network
    mounts = []
    for mount in step.mounts:
        keys = {"type": "bind" if mount.source else "tmpfs", "target": mount.target}
        if mount.source:
            keys["source"] = mount.source
        if mount.is_read_only:
            keys["readonly"] = "true"
        if mount.size_bytes:
            keys["tmpfs-size"] = str(mount.size_bytes)
        mounts.append(keys)
    if mounts:
        options["mount"] = mounts
    return judge("build", step.argv[1:], options)


def _judge_limits(limits: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, Any]:
    """Return what each RUN step's container is given besides what the Dockerfile says. Raises InvalidRequest."""
    unknown = sorted(set(limits) - _LIMITS)
    if unknown:
        raise InvalidRequest(f"build: {unknown[0]} is unknown")
    found = {**limits, **({"add_host": list(hosts)} if hosts else {})}
    if found:
        judge("build", ("true",), found)  # a mistake is told before anything is built
    return found


def _judge_build_args(value: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    items = value.items() if hasattr(value, "items") else [_pair_or_own(word) for word in words(value, "build_arg")]
    found = {name: text for name, text in items if text is not None}
    if "SOURCE_DATE_EPOCH" not in found and "SOURCE_DATE_EPOCH" in os.environ:
        found["SOURCE_DATE_EPOCH"] = os.environ["SOURCE_DATE_EPOCH"]
    return found


def _pair_or_own(word: str) -> tuple[str, str | None]:
    """Return NAME=VALUE as a pair; NAME alone has our own environment's value, if there is one."""
    name, equals, value = word.partition("=")
    if not name:
        raise InvalidRequest(f"build_arg {word!r} is not NAME=VALUE")
    return name, value if equals else os.environ.get(name)


def _judge_epoch(arguments: Mapping[str, str]) -> int | None:
    text = arguments.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isdecimal() or int(text) > 0x3_7FFF_FFFF:
        raise InvalidRequest(f"SOURCE_DATE_EPOCH={text}: seconds since 1970 are needed")
    return int(text) * 1_000_000_000


def _judge_network(value: str) -> str:
    return "" if value in ("", "default") else value


def _judge_output(value: str) -> _Output:
    """Return what --output asks for: `DIR`, `-`, or `type=KIND,dest=PATH`. Raises InvalidRequest."""
    if not value:
        return _Output()
    if "=" not in value:
        return _Output(kind="tar", destination="-") if value == "-" else _Output(kind="local", destination=value)
    keys = dict(field.partition("=")[::2] for field in value.split(","))
    kind = keys.get("type", "local")
    if kind not in _OUTPUTS:
        raise InvalidRequest(f"output {value!r}: type {kind!r} is unknown", hint=f"there are {', '.join(_OUTPUTS)}")
    names = (keys["name"],) if keys.get("name") else ()
    if kind == "docker" and not keys.get("dest"):
        return _Output(names=names)  # to docker's own store, as `--load`: it is there
    if kind in ("image", "registry"):
        return _Output(
            names=names,
            pushes=kind == "registry" or _judge_bool(value, keys.get("push", "false")),
            insecure=_judge_bool(value, keys.get("registry.insecure", "false")))
    destination = keys.get("dest", "" if kind == "local" else "-")
    if not destination:
        raise InvalidRequest(f"output {value!r}: dest is required for local exporter")
    if kind == "oci" and not _judge_bool(value, keys.get("tar", "true")):
        if destination == "-":
            raise InvalidRequest(f"output {value!r}: a directory needs a dest")
        kind = "oci-dir"
    return _Output(kind=kind, destination=destination, names=names)


def _judge_bool(value: str, word: str) -> bool:
    if word not in ("true", "false"):
        raise InvalidRequest(f"output {value!r}: {word!r} is neither true nor false")
    return word == "true"
