"""What a build is asked for, what it asks of the engine, and whom it tells how it goes."""
from __future__ import annotations

from mydocker.base.record import Record

from .secrets import Secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from mydocker.image.progress import Progress as ImageProgress
    from mydocker.image.store import ResolvedImage

    class Transfers(ImageProgress, Protocol):
        """Progress of a pull or push: a step of its own, which begins with the first word and ends with `close`."""

        def close(self, error: str = "") -> None: ...

    class Step(Protocol):
        """Progress of one step."""

        def write(self, stream: str, data: bytes) -> None: ...
        def end(self, *, cached: bool = False, error: str = "") -> None: ...

    class Progress(Protocol):
        """Hears of the steps as they begin and end, from any thread."""

        def begin(self, name: str, text: str) -> Step: ...
        def transfer(self, verb: str, name: str) -> Transfers: ...
        def warn(self, text: str) -> None: ...

    class Runner(Protocol):
        """The engine, as a build needs it (engine/builds.py)."""

        def run(
            self, step: RunStep, upper_dir: str, write: Callable[[str, bytes], None], is_cancelled: Callable[[], bool],
        ) -> int: ...
        def resolve(self, name: str, *, platform: str, pull: bool) -> ResolvedImage: ...
        def judge_signal(self, word: str) -> None: ...


class BuildOptions(Record):
    """A judged build. `references` are canonical; `output` is (kind, destination), empty for the image store."""

    context: str
    dockerfile: str = ""
    references: tuple[str, ...] = ()
    build_args: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    target: str = ""
    platform: str = ""
    network: str = ""
    no_cache: bool = False
    pull: bool = False
    squash: bool = False
    secrets: Secrets = Secrets()
    output: tuple[str, str] = ("", "")
    add_hosts: tuple[str, ...] = ()
    epoch_ns: int | None = None


class HostMount(Record):
    """What the engine is to mount: a path of this machine at a target; no source for a tmpfs."""

    source: str
    target: str
    is_read_only: bool = False
    size_bytes: int = 0


class RunStep(Record):
    """A command to run on a stage's layers; what it writes is to be in the upper directory that goes with it."""

    layers: tuple[str, ...]
    config: dict[str, Any]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    user: str
    workdir: str
    network: str
    mounts: tuple[HostMount, ...] = ()
    script: str = ""  # what is to be at argv[0]


class Built(Record):
    """What came of a build: digests of manifest and config (the image id); both empty when it went elsewhere."""

    manifest_digest: str
    image_id: str
