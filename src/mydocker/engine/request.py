"""The one judge of user input: options as typed or as Python values -> ContainerConfig.

Nothing behind this module looks at user input again; nothing before it does. Unknown options, values
that make no sense and combinations that cannot be are InvalidRequest here, before anything is made.
"""
from __future__ import annotations

import os

from mydocker.base.errors import InvalidRequest
from mydocker.base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from mydocker.network.model import EndpointRequest

    from .isolation import Isolation
    from .ports import PortRequest

_PLAIN_NETWORKS = ("none", "host", "bridge", ["none"], ["host"], ["bridge"])
_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_REST = _NAME_FIRST | frozenset("_.-")
CPU_PERIOD_US = 100_000
DEFAULT_LOG_SIZE = 10_000_000
DEFAULT_LOG_FILES = 3
NETWORK_OPTIONS = frozenset((
    "network", "ip", "ip6", "mac_address", "network_alias", "dns", "dns_search", "dns_option", "add_host", "link", "publish",
    "publish_all", "expose",
))


class Volume(Record):
    """A host directory or file (`source`) seen at `target` inside, with extra mount options.

    A volume of the engine's is a volume_request.py `VolumeMount`.
    """

    source: str
    target: str
    options: tuple[str, ...] = ()


class ContainerConfig(Record):
    """What a container is to be, judged. Stored in its record; sizes in bytes, times in seconds.

    `console_size` is (rows, columns) of its terminal.
    """

    image: str
    argv: tuple[str, ...] = ()
    name: str = ""
    tty: bool = False
    interactive: bool = False
    console_size: tuple[int, int] | None = None
    rm: bool = False
    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    cpu_shares: int = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    volumes: tuple[Volume, ...] = ()
    volumes_from: tuple[tuple[str, str], ...] = ()
    """Containers (their names, then ids) whose volumes are seen here, too, with `ro` or nothing."""
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    hostname: str = ""
    network: str = "none"
    endpoints: tuple[EndpointRequest, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """Containers (their names, then ids) and what they are called here."""
    ports: tuple[PortRequest, ...] = ()
    publish_all: tuple[str, ...] = ()
    """The addresses on which every exposed port is published."""
    exposed: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    read_only: bool = False
    stop_signal: str = ""
    stop_timeout_s: float = 10.0
    log_max_bytes: int = DEFAULT_LOG_SIZE
    log_files: int = DEFAULT_LOG_FILES
    show: tuple[str, ...] = ()
    cgroup_parent: str = ""
    pull: str = "missing"
    """When the image comes from its registry: `always`, `missing`, `never`."""
    platform: str = ""
    """Of the image, as `linux/arm64`; this machine's by default."""
    insecure_registries: tuple[str, ...] = ()
    """Those that it may be pulled from without TLS or a good certificate."""
    runtime: str = ""
    """The path of an OCI runtime to use in place of our own."""
    isolation: Isolation | None = None
    """What few containers ask for; None for all defaults."""

    def to_document(self) -> dict[str, Any]:
        """Return the config as a JSON object."""
        document = self.as_dict()
        document["volumes"] = [volume.as_dict() for volume in self.volumes]
        document["labels"] = dict(self.labels)
        document["endpoints"] = [endpoint.as_dict() for endpoint in self.endpoints]
        document["ports"] = [port.as_dict() for port in self.ports]
        document["isolation"] = self.isolation.to_document() if self.isolation else {}
        return document


def judge(image: str, argv: Iterable[str], options: Mapping[str, Any]) -> ContainerConfig:
    """Return the judged configuration of a container. Raises InvalidRequest."""
    if not image:
        raise InvalidRequest("an image is needed", hint="see `mydocker images`")
    values: dict[str, Any] = {"image": image, "argv": judge_argv(argv)}
    environment: list[str] = []
    rare: dict[str, Any] = {"runtime": os.environ["MYDOCKER_RUNTIME"]} if os.environ.get("MYDOCKER_RUNTIME") else {}
    on_network: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or name in ("detach", "env", "env_file"):
            continue
        if name in NETWORK_OPTIONS:
            on_network[name] = value
            continue
        rule = RULES.get(name)
        if rule is None:
            rare[name] = value
            continue
        field, check = rule
        values[field] = check(value, name)
    if options.get("env_file"):
        from .env_files import read_env_files  # cold

        environment += read_env_files(options["env_file"])
    environment += judge_env(options.get("env"))
    values["env"] = tuple(environment)
    if values.pop("log_opt", None):
        from .log_options import judge_log_options  # cold

        values.update(judge_log_options(options["log_opt"]))
    _judge_network(on_network, values)
    if rare or values["network"].startswith("container:"):
        from .isolation import judge_isolation  # cold: most containers ask for none of it

        judge_isolation(rare, values)
    config = ContainerConfig(**values)
    _judge_together(config)
    return config


def _judge_network(options: dict[str, Any], values: dict[str, Any]) -> None:
    mode = options.get("network") or "bridge"
    if options.keys() <= {"network"} and mode in _PLAIN_NETWORKS:
        values["network"] = mode if isinstance(mode, str) else mode[0]
        if values["network"] == "bridge":
            from mydocker.network.model import EndpointRequest  # cold for exec

            values["endpoints"] = (EndpointRequest(network="bridge"),)
        return
    from .endpoints import judge_endpoints  # cold: it knows addresses

    judge_endpoints(options, values)


def _judge_together(config: ContainerConfig) -> None:
    if config.memory_swap_bytes and not config.memory_bytes:
        raise InvalidRequest("memory_swap needs memory, too", hint="add --memory")
    if 0 < config.memory_swap_bytes < config.memory_bytes:
        raise InvalidRequest("memory_swap is memory plus swap: it cannot be less than memory")
    targets = [volume.target for volume in config.volumes]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidRequest(f"volume: two of them would be at {target}")


def judge_argv(argv: Iterable[str]) -> tuple[str, ...]:
    """Return a command as a tuple; a single string is refused, it would be split into letters."""
    if isinstance(argv, (str, bytes)):
        raise InvalidRequest("the command must be a list of words, not one string")
    words = tuple(os.fspath(word) for word in argv)
    for word in words:
        if not isinstance(word, str) or "\0" in word:
            raise InvalidRequest(f"the command's word {word!r} is not text without NUL")
    return words


def judge_name(value: Any, what: str = "name") -> str:
    """Return a container's name. Raises InvalidRequest."""
    if not isinstance(value, str) or not is_name(value):
        raise InvalidRequest(
            f"{what} {value!r} is not a name", hint="use up to 128 letters, digits, '_', '.', '-', the first a letter or digit")
    return value


def is_name(text: str) -> bool:
    """Tell whether a text can be the name of a container (and so a file name of ours)."""
    return 0 < len(text) <= 128 and text[0] in _NAME_FIRST and all(letter in _NAME_REST for letter in text)


def judge_env(value: Any) -> list[str]:
    """Return `K=V` items of a mapping or of a list of `K=V` and `K` (taken from our own environment)."""
    if value is None:
        return []
    items = [f"{key}={item}" for key, item in value.items()] if hasattr(value, "items") else list(words(value, "env"))
    found = []
    for item in items:
        key, equals, _ = item.partition("=")
        if not key or "\0" in item:
            raise InvalidRequest(f"env {item!r} is not NAME=VALUE")
        if equals:
            found.append(item)
        elif key in os.environ:
            found.append(f"{key}={os.environ[key]}")
    return found


def words(value: Any, what: str) -> list[str]:
    """Return a list of texts; one text is a list of one, None is none. Raises InvalidRequest."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    words = list(value)
    if not all(isinstance(word, str) for word in words):
        raise InvalidRequest(f"{what} must be text")
    return words


def flag(value: Any, what: str) -> bool:
    """Return true or false, which nothing else stands for. Raises InvalidRequest."""
    if not isinstance(value, bool):
        raise InvalidRequest(f"{what} must be true or false")
    return value


def text_line(value: Any, what: str) -> str:
    """Return one line of text. Raises InvalidRequest."""
    if not isinstance(value, str) or "\0" in value or "\n" in value:
        raise InvalidRequest(f"{what} must be one line of text")
    return value


def whole_number(low: int, high: int) -> Callable[[Any, str], int]:
    """Return a check for a whole number in a range, given as a number or in decimal digits."""
    def check(value: Any, what: str) -> int:
        text = str(value).strip()
        is_number = text.isascii() and text.removeprefix("-").isdigit() and not isinstance(value, bool)
        if not is_number or not low <= int(text) <= high:
            raise InvalidRequest(f"{what} {value!r} is not a whole number from {low} to {high}")
        return int(text)

    return check


def judge_console_size(value: Any, what: str = "console_size") -> tuple[int, int]:
    """Return (rows, columns) of a terminal. Raises InvalidRequest."""
    try:
        rows, columns = value
    except (TypeError, ValueError):
        raise InvalidRequest(f"{what} must be a pair: rows, columns") from None
    return whole_number(0, 0xFFFF)(rows, what), whole_number(0, 0xFFFF)(columns, what)


def clean_path(path: str) -> str:
    """Return an absolute path in its one spelling; normpath alone leaves two slashes at the front, as POSIX has it."""
    return "/" + os.path.normpath(path).lstrip("/")


def refuse_at_proc(source: str, target: str, what: str) -> None:
    """Refuse anything but the machine's procfs at /proc: hidden paths, sysctls and labels count on it (CVE-2019-16884)."""
    if clean_path(target) == "/proc" and os.path.abspath(source) != "/proc":
        raise InvalidRequest(f"{what}: {source} cannot be mounted at /proc, because it is not of type proc")


def judge_labels(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    items = value.items() if hasattr(value, "items") else (word.partition("=")[::2] for word in words(value, what))
    labels = {text_line(key, what): text_line(text, what) for key, text in items}
    if "" in labels:
        raise InvalidRequest(f"{what}: a label needs a name")
    return tuple(labels.items())


def _later(name: str, module: str = "option_values") -> Callable[[Any, str], Any]:
    """Return a check that is imported when its option is given: each has few users."""
    def check(value: Any, what: str) -> Any:
        return getattr(__import__(f"mydocker.engine.{module}", None, None, (name,)), name)(value, what)

    return check


RULES: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "name": ("name", judge_name),
    "tty": ("tty", flag), "interactive": ("interactive", flag), "console_size": ("console_size", judge_console_size),
    "rm": ("rm", flag), "read_only": ("read_only", flag),
    "memory": ("memory_bytes", _later("judge_memory")), "memory_swap": ("memory_swap_bytes", _later("judge_memory_swap")),
    "cpu_shares": ("cpu_shares", whole_number(0, 262144)), "cpus": ("cpu_quota_us", _later("judge_cpus")),
    "cpuset_cpus": ("cpuset_cpus", _later("judge_cpu_list", "cpu_lists")),
    "cpuset_mems": ("cpuset_mems", _later("judge_cpu_list", "cpu_lists")),
    "pids_limit": ("pids_limit", whole_number(-1, 4194304)),
    "volume": ("volumes", _later("judge_volumes", "volume_request")),
    "workdir": ("workdir", _later("judge_absolute")), "user": ("user", _later("judge_user")),
    "hostname": ("hostname", _later("judge_hostname")), "label": ("labels", judge_labels),
    "entrypoint": ("entrypoint", _later("judge_entrypoint")), "stop_signal": ("stop_signal", _later("judge_signal_word")),
    "stop_timeout": ("stop_timeout_s", _later("judge_seconds")), "show": ("show", _later("judge_show")),
    "log_opt": ("log_opt", lambda value, what: value),
}
